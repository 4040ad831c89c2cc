"""What all sources of pictures to translate share: two sides of any depth and channels, ranges, a held-out part.

A batch is {"source": [B, Cs, Hs, Ws], "image": [B, C, H, W]}, on the device in [-1, 1].
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from lit_gan.cli import RANKS
from lit_gan.data.base import Batch
from lit_gan.data.crops import PairGather, Part, Range, Size, scaled
from lit_gan.data.decoded import check_share
from lit_gan.data.hugging_face import subset
from lit_gan.data.masks import Kind
from lit_gan.data.order import Integers, Order
from lit_gan.data.progress import say
from lit_gan.data.ragged import Listing, Pictures, pictures
from lit_gan.data.views import PictureView, Whole, by, refuse_uneven
from lit_gan.errors import UserError, listed


class PairData(PictureView):
    """A source of pictures to translate. A subclass lists both sides and, if sources are made of images, makes them."""

    unpaired: ClassVar[bool] = False

    def __init__(
        self,
        *,
        source_name: str,
        channels: int | None,
        source_channels: int | None = None,
        load_size: int | tuple[int, int] | None,
        load_side: int | None = None,
        nearest_sources: bool = False,
        crop_size: int | tuple[int, int] | None,
        flip: bool,
        turn: bool = False,
        mask: Kind | None = None,
        range: tuple[float, float] | None,
        source_range: tuple[float, float] | None = None,
        test: str,
        holdout: float,
        max_images: int | None,
        max_bad_share: float,
        batch_size: int,
        workers: int,
        scale: int = 1,
        settings: Sequence[object] = (),  # JSON; what else decides what a batch holds
    ) -> None:
        super().__init__(source_name=source_name, batch_size=batch_size, flip=flip, workers=workers)
        self.channels, self.source_channels = channels, source_channels
        if load_size is not None and load_side is not None:
            raise UserError(
                "data.load_size and data.load_side both say how to resize: give a size, or the shorter side"
            )
        if load_side is not None and load_side < 1:
            raise UserError(f"data.load_side={load_side} is no side; use pixels")
        self.load_size: Size | int | None = load_side or _size(load_size, "load_size")
        self.crop_size = _size(crop_size, "crop_size")
        self.nearest_sources = nearest_sources
        self.turn, self.mask, self.scale = turn, mask, scale
        self.given = {"image": range, "source": source_range}
        self.test, self.holdout, self.max_images = test, holdout, max_images
        self.max_bad_share = max_bad_share
        self.settings = list(settings)
        for name, count in (("channels", channels), ("source_channels", source_channels)):
            if count is not None and count < 1:
                raise UserError(f"data.{name}={count} is not a number of channels; use at least 1")
        if self.crop_size and any(side % scale for side in self.crop_size):
            better = max(self.crop_size[0] // scale, 1) * scale
            raise UserError(f"data.crop_size={crop_size} is no multiple of data.scale={scale}; use {better}")
        if self.crop_size and self.load_size and any(np.array(self.crop_size) > self.load_size):
            key = f"load_size={load_size}" if load_side is None else f"load_side={load_side}"
            raise UserError(f"data.crop_size={crop_size} is larger than data.{key}; use at most that")
        if test and holdout:
            raise UserError("data.test and data.holdout both say which images are held out; give one of them")
        if holdout < 0 or (holdout > 1 and holdout != int(holdout)):
            raise UserError(f"data.holdout={holdout:g} is no number of images, and no share below 1")
        self._train: Part | None = None
        self._held: Part | None = None

    @abstractmethod
    def _listings(self, *, test: bool) -> tuple[Listing | None, Listing]:
        """Sources (None: made of the images) and images; of paired data in the same order."""

    def _made(self, image: Tensor, batch: Batch) -> Tensor:
        """The sources in [-1, 1] of images in [-1, 1], where no files hold them; also of `word` and `mask` [B, ...]."""
        raise NotImplementedError(f"{type(self).__name__} does not say how a source is made")

    def prepare(self) -> None:
        if self._train is not None:
            return
        listed = self._listings(test=False)
        held = self._listings(test=True) if self.test else None
        if self.holdout:
            listed, held = self._divided(*listed)
        listed = None if listed[0] is None else self._fewer(listed[0]), self._fewer(listed[1])
        train = self._decode(*listed, self.load_size)
        if self.crop_size is None:
            refuse_uneven(self.source_name, train)
        self._ranges = {"image": self._range("image", train.image)}
        self._ranges["source"] = (
            self._ranges["image"] if train.source is None else self._range("source", train.source)
        )
        if held is not None:
            # as the papers test: at the size that was trained on, and not cut out of a larger one
            size = self.load_size and (self.crop_size or self.load_size)
            if isinstance(self.load_size, int) and isinstance(size, tuple):  # in proportion
                size = max(size)
            self._held = self._decode(*held, size)
            for ours, theirs in ((train.source, self._held.source), (train.image, self._held.image)):
                if ours is not None and theirs is not None:
                    self._check_alike(ours, theirs)
        self._train = train
        self._say_what_surprises()

    def _divided(
        self, source: Listing | None, image: Listing
    ) -> tuple[tuple[Listing | None, Listing], tuple[Listing | None, Listing]]:
        """The images to train on and those that are held out: a fixed choice."""

        def parts(listing: Listing) -> tuple[Listing, Listing]:
            total = len(listing.names)
            count = round(self.holdout * total) if self.holdout < 1 else int(self.holdout)
            if not 1 <= count < total:
                raise UserError(
                    f"data.holdout={self.holdout:g} leaves {total - count:,} of the {total:,} images of "
                    f"{listing.source_name} to train on and {count:,} to test; keep at least one on each side"
                )
            chosen = subset(total, count)
            assert chosen is not None  # fewer than there are
            return listing.chosen(np.setdiff1d(np.arange(total), chosen)), listing.chosen(chosen)

        train, held = parts(image)
        if source is None:
            return (None, train), (None, held)
        source_train, source_held = parts(source)
        return (source_train, train), (source_held, held)

    def _fewer(self, listing: Listing) -> Listing:
        """`data.max_images` of what is left to train on: of pairs, which are as many on both sides, the same on both."""
        places = subset(len(listing.names), self.max_images)
        return listing if places is None else listing.chosen(places)

    def _decode(self, source: Listing | None, image: Listing, size: Size | int | None) -> Part:
        images = pictures(image, channels=self.channels, size=size, max_bad_share=self.max_bad_share)
        if source is None:
            self._check_grids(images)
            return Part(None, images, True, self.scale)
        sources = pictures(
            source, channels=self.source_channels, size=size, nearest=self.nearest_sources, max_bad_share=self.max_bad_share
        )  # fmt: skip
        if self.unpaired:
            return Part(sources, images, False, self.scale)
        both, of_source, of_image = np.intersect1d(sources.places, images.places, return_indices=True)
        total = len(image.names)
        if len(both) < min(len(sources), len(images)):  # a pair has two sides or none
            bad = sources.skipped + images.skipped
            check_share(f"{self.source_name} (pairs)", bad, total, self.max_bad_share)
        if not len(both):
            raise UserError(f"no pair of {self.source_name} has two sides that decode ({sources.skipped[0]})")
        part = Part(sources.chosen(of_source), images.chosen(of_image), True, self.scale)
        assert part.source is not None
        unequal = np.flatnonzero((part.grids != part.source.sizes).any(axis=1))
        if len(unequal):
            pairs = [
                f"{part.image.names[i]}: source {by(part.source.sizes[i])}, image {by(part.image.sizes[i])}"
                for i in unequal
            ]
            times = (
                f"an image must be {self.scale} times its source"
                if self.scale > 1
                else "the two must be equal"
            )
            raise UserError(
                f"{len(unequal):,} of {len(both):,} pairs of {self.source_name} differ in height x width, and {times}: "
                + listed(pairs, "; ")
                + ("" if self.scale > 1 else "; repair them, or set data.load_size")
            )
        return part

    def _check_grids(self, images: Pictures) -> None:
        if small := [images.names[i] for i in np.flatnonzero((images.sizes < self.scale).any(axis=1))]:
            raise UserError(
                f"images of {self.source_name} are smaller than one pixel of their sources: {listed(small)}; leave them out"
            )

    def _check_alike(self, ours: Pictures, theirs: Pictures) -> None:
        if (ours.channels, ours.dtype) != (theirs.channels, theirs.dtype):
            raise UserError(
                f"the images held out have {theirs.channels} channels of {theirs.dtype.name}, those to train on "
                f"{ours.channels} of {ours.dtype.name} ({self.source_name}); give images of one kind"
            )

    def _range(self, side: str, found: Pictures) -> Range:
        """What becomes -1 and 1: of whole numbers what they can hold, of floats what was given or else measured."""
        key = "data.range" if side == "image" else "data.source_range"
        given = self.given[side]
        if given is not None:
            if found.dtype == np.uint8:
                raise UserError(f"{key} is for 16 bits and floats, and these are 8-bit images; leave it out")
            if not given[0] < given[1]:
                raise UserError(f"{key}={list(given)} is no range; the first value must be below the second")
            return float(given[0]), float(given[1])
        if found.dtype.kind == "u":
            return 0.0, float(np.iinfo(found.dtype).max)
        low, high = float(found.limits[:, 0].min()), float(found.limits[:, 1].max())
        if low == high:
            raise UserError(
                f"all values of {self.source_name} are {low:g}; check the files, or set {key}=[lo,hi]"
            )
        return low, high

    def _say_what_surprises(self) -> None:
        """Lines of the first rank: what was measured, lies outside, is padded, and what scores will read."""
        if next((os.environ[k] for k in RANKS if k in os.environ), "0") != "0":
            return
        train, held = self.part, self._held
        sides = [
            (side, "range" if side == "image" else "source_range", found)
            for part in (train, held)
            if part is not None
            for side, found in (("image", part.image), ("source", part.source))
            if found is not None
        ]
        for side, key, found in sides:
            low, high = self._ranges[side]
            what = f"{side}s of {self.source_name}:"
            if found.dtype.kind == "f" and self.given[side] is None and found in (train.image, train.source):
                say(
                    f"{what} {low:g} and {high:g}, the extremes measured, become -1 and 1; data.{key}=[lo,hi] "
                    "chooses others"
                )
            if (counts := _outside(found, (low, high))) is not None:
                say(
                    f"{what} {counts[0]:,} values in {counts[1]:,} of {len(found):,} images lie outside "
                    f"[{low:g}, {high:g}]; they are kept, beyond [-1, 1] (data.{key})"
                )
        if self.grid is not None:
            small = int((train.grids < self.grid).any(axis=1).sum())
            if train.source is not None and not train.paired:
                small += int((train.source.sizes < self.grid).any(axis=1).sum())
            if small:
                say(f"{small:,} images of {self.source_name} are smaller than data.crop_size={by(self.image_shape[1:])}: "
                    "what they lack is mirrored at their edges")  # fmt: skip
        if held is None:
            say(f"{self.source_name}: grids and scores read the images trained on; data.test=FOLDER or data.holdout=0.1 "
                "hold some out")  # fmt: skip

    @property
    def part(self) -> Part:
        """The pictures to train on."""
        if self._train is None:
            raise RuntimeError(f"{type(self).__name__}.prepare() has not been called")
        return self._train

    @property
    def grid(self) -> Size | None:
        if self.crop_size is None:
            return None
        return self.crop_size[0] // self.scale, self.crop_size[1] // self.scale

    @property
    def held_out(self) -> Whole:
        """The pictures for grids and scores: those of data.test or data.holdout, else those that are trained on."""
        return Whole(self, self.part if self._held is None else self._held)

    @property
    def image_range(self) -> Range:
        """The stored values that become -1 and 1."""
        self.prepare()
        return self._ranges["image"]

    @property
    def source_range(self) -> Range:
        self.prepare()
        return self._ranges["source"]

    @property
    def image_dtype(self) -> np.dtype[Any]:
        return self.part.image.dtype

    @property
    def source_dtype(self) -> np.dtype[Any]:
        return (self.part.source or self.part.image).dtype

    @property
    def blends_sources(self) -> bool:
        """Whether sources are resized by weighing pixels, which no class indices survive."""
        return self.load_size is not None and not self.nearest_sources

    @property
    def fingerprint(self) -> str:
        """A hash of pixels, sizes, ranges and of how sources and crops are made; independent of paths and machines."""
        return self.identity(self.part)

    def identity(self, part: Part) -> str:
        what = [part.fingerprint, self.load_size, self.crop_size, self.scale, self.mask, self.turn]
        text = json.dumps([*what, self._ranges["source"], self._ranges["image"], self.settings])
        return hashlib.sha256(text.encode()).hexdigest()

    def _check_batch_size(self) -> None:
        if self.batch_size < 1:  # more than there are images is no mistake where crops are trained on
            raise UserError(f"data.batch_size={self.batch_size} is not a number of images; use at least 1")

    def _gather(self, order: Order) -> Dataset[Batch]:
        return PairGather(self.part, self.grid, order.seed, flip=self.flip, turn=self.turn, mask=self.mask)

    def real_batch(self, indices: Sequence[int] | Integers | Tensor) -> Batch:
        """As `held_out.real_batch`, of the pictures to train on."""
        return Whole(self, self.part).real_batch(indices)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Stored numbers to float32 in [-1, 1] on the device, and the sources that are made there."""
        image = scaled(batch["image"], self._ranges["image"])
        if "source" in batch:
            return {"image": image, "source": scaled(batch["source"], self._ranges["source"])}
        return {"image": image, "source": self._made(image, batch)}

    def levels(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] at the levels that files of the images' depth can hold; floats as they are."""
        if self.image_dtype.kind == "f":
            return images
        low, high = self._ranges["image"]
        half = (high - low) / 2
        stored = ((images + 1) * half + low).round().clamp(0, np.iinfo(self.image_dtype).max)
        return (stored - low) / half - 1

    def state_dict(self) -> dict[str, Any]:
        """As the base's, with what `translate` needs to know of files: number types and ranges of both sides."""
        part = self.part
        sides = {
            "source": (self.source_shape, part.source or part.image),
            "image": (self.image_shape, part.image),
        }
        return super().state_dict() | {
            side: {
                "shape": list(shape),
                "dtype": found.dtype.name,
                "stored": found.stored,
                "range": list(self._ranges[side]),
                "alpha": found.alpha,
                "mask": side == "source" and part.source is None and self.mask is not None,
            }
            for side, (shape, found) in sides.items()
        }


def _outside(found: Pictures, limits: Range) -> tuple[int, int] | None:
    """How many values, and in how many pictures, lie outside; None if none does."""
    suspects = np.flatnonzero((found.limits[:, 0] < limits[0]) | (found.limits[:, 1] > limits[1]))
    counts = [int(((found[i] < limits[0]) | (found[i] > limits[1])).sum()) for i in suspects.tolist()]
    return (sum(counts), len(counts)) if counts else None


def _size(value: int | Size | None, key: str) -> Size | None:
    """A side, or height and width."""
    if value is None:
        return None
    height, width = (value, value) if isinstance(value, int) else value
    if min(height, width) < 1:
        raise UserError(f"data.{key}={value} is no size; use pixels, or [height,width]")
    return int(height), int(width)
