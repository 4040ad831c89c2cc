"""What is known of pictures to translate, and the whole ones that grids and scores read."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_gan.data.base import Batch, ImageData
from lit_gan.data.crops import Part, Range, Size, held_words, holes, scaled, window
from lit_gan.data.files import Pixels
from lit_gan.data.order import Integers
from lit_gan.errors import UserError

if TYPE_CHECKING:
    from lit_gan.data.pairs import PairData


class PictureView(ImageData):
    """What is known of the two sides of `part`, a view of which batches are made."""

    @property
    @abstractmethod
    def part(self) -> Part:
        """The pictures that are shown."""

    @property
    @abstractmethod
    def grid(self) -> Size | None:
        """The crop in pixels of the source; None for wholes."""

    @property
    def images(self) -> NDArray[Any]:
        """All images one after the other, flat, as stored: their number type, mostly; memory-mapped."""
        return self.part.image.flat

    @property
    def labels(self) -> Integers | None:
        return None

    @property
    def size(self) -> int:
        """Images; of unpaired data those of the target domain."""
        return len(self.part.image)

    @property
    def source_size(self) -> int:
        return self.size if self.part.source is None else len(self.part.source)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image in a batch."""
        height, width = self.grid or self.part.grids[0]
        return self.part.image.channels, int(height) * self.part.scale, int(width) * self.part.scale

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a source in a batch."""
        source = self.part.source
        height, width = self.grid or (self.part.grids[0] if source is None else source.sizes[0])
        return (self.made_channels() if source is None else source.channels), int(height), int(width)

    def made_channels(self) -> int:
        """The channels of sources that are made of images."""
        return self.part.image.channels

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def class_weights(self) -> list[float] | None:
        return None

    @property
    def keys(self) -> tuple[str, ...]:
        return ("image", "source")

    @property
    def skipped(self) -> list[str]:
        part = self.part
        return ([] if part.source is None else part.source.skipped) + part.image.skipped

    @property
    def names(self) -> list[str] | None:
        """The images' files, as paths below their folder."""
        return self.part.image.names


class Whole(PictureView):
    """Pictures for grids and scores: whole where all have one size, on both sides, else the centre of the size trained on.

    `size` counts images; sources are taken modulo `source_size`, which differs for unpaired data alone.
    """

    def __init__(self, data: PairData, part: Part) -> None:
        super().__init__(source_name=data.source_name, batch_size=data.batch_size, flip=False, workers=0)
        self.data, self._part = data, part
        self._grid = None if part.even else data.grid
        if self._grid is None:
            refuse_uneven(data.source_name, part)

    def prepare(self) -> None:
        """Nothing: the data are prepared."""

    @property
    def part(self) -> Part:
        return self._part

    @property
    def grid(self) -> Size | None:
        return self._grid

    def made_channels(self) -> int:
        return self.data.made_channels()

    @property
    def image_range(self) -> Range:
        """The stored values that became -1 and 1."""
        return self.data.image_range

    def levels(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] at the levels that files of the images' depth can hold; floats as they are."""
        return self.data.levels(images)

    @property
    def scale(self) -> int:
        """Sides of an image over those of its source."""
        return self.part.scale

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"whole {self.data.identity(self.part)}".encode()).hexdigest()

    @property
    def source_names(self) -> list[str]:
        return (self.part.source or self.part.image).names

    def real_batch(self, indices: Sequence[int] | Integers | Tensor) -> Batch:
        """`image` as stored where it has 8 bits, else float32 in [-1, 1]; `source` float32 in [-1, 1]; on the CPU."""
        return self._batch(np.asarray(indices, dtype=np.int64), self._grid)

    def sources_at(self, indices: Sequence[int]) -> Tensor:
        """Sources [B, Cs, Hs, Ws] float32 in [-1, 1] on the CPU, also where there are more of them than images."""
        source, numbers = self.part.source, list(indices)
        if source is None or self.part.paired:
            return self.real_batch(numbers)["source"]
        raw = torch.from_numpy(np.stack([window(source[i], self._grid, (0.5, 0.5)) for i in numbers]))
        return scaled(raw.permute(0, 3, 1, 2), self.data.source_range)

    def whole(self, index: int) -> Batch:
        """Picture `index` alone, [1, C, H, W], whole whatever its size; as `real_batch`."""
        return self._batch(np.array([index], dtype=np.int64), None)

    def _batch(self, indices: Integers, crop: Size | None) -> Batch:
        part, data, centre, numbers = self.part, self.data, (0.5, 0.5), indices.tolist()

        def stack(pieces: list[Pixels]) -> Tensor:
            return torch.from_numpy(np.stack(pieces)).permute(0, 3, 1, 2)

        raw = {
            "image": stack([window(part.image[i], crop, centre, part.scale, part.mirror) for i in numbers])
        }
        if part.source is not None:
            raw["source"] = stack(
                [window(part.source[i % self.source_size], crop, centre, 1, part.mirror) for i in numbers]
            )
        else:
            drawn = held_words(indices)
            raw["word"] = torch.from_numpy(drawn.view(np.int64))
            if data.mask is not None:
                raw["mask"] = holes(drawn, (raw["image"].shape[2], raw["image"].shape[3]), data.mask)
        batch = data.on_after_batch_transfer(raw)
        return batch | {"image": raw["image"]} if part.image.dtype == np.uint8 else batch


def refuse_uneven(name: str, part: Part) -> None:
    """UserError if pictures differ in size, as wholes in one batch, or beside those made of them, must not."""
    sides = [(part.image, part.grids)] + (
        [(part.source, part.source.sizes)] if part.source is not None else []
    )
    for side, grids in sides:
        if (grids == grids[0]).all():
            continue
        other = int(np.flatnonzero((grids != grids[0]).any(axis=1))[0])
        raise UserError(
            f"the images of {name} differ in height x width ({side.names[0]} is {by(side.sizes[0])}, "
            f"{side.names[other]} {by(side.sizes[other])}): set data.crop_size, and data.load_size to resize them"
        )
    if part.source is not None and not part.even:
        raise UserError(
            f"the two domains of {name} differ in height x width (sources are {by(part.source.sizes[0])}, images "
            f"{by(part.image.sizes[0])}): set data.crop_size, and data.load_size to resize them"
        )


def by(size: Sequence[int] | Integers) -> str:
    return f"{size[0]} x {size[1]}"
