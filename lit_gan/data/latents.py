"""Latents of a user-named autoencoder that `lit-gan encode` wrote; the images behind them stay the reals of every score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_gan.autoencoder import Decoder, Scaling
from lit_gan.data import build_data
from lit_gan.data.base import Batch, Gather, ImageData, gather
from lit_gan.data.decoded import Images
from lit_gan.data.order import Integers, Order, words
from lit_gan.errors import UserError

FORMAT = 1  # of the folder
RECORD, MEANS, DEVIATIONS = "latents.json", "latents.npy", "deviations.npy"
BOUNDED_SCALE = 4.0  # standard deviations; 6 in 100,000 numbers of a normal distribution are beyond
_POSTERIOR = 0  # the stream of the posterior's noise, below those of the flips and cycles


class GatherLatents(Gather):
    """As `Gather`, of latents as the autoencoder has them: float16 means, or float32 draws from the posterior.

    Rows [N, h, w, c]; where there are 2N, row N + i is of image i mirrored. A batch's draws are a function of the seed and
    of its first position.
    """

    def __init__(
        self,
        content: Images,
        order: Order,
        *,
        flip: bool,
        means: NDArray[np.float16],
        deviations: NDArray[np.float16] | None,
    ) -> None:
        super().__init__(content, order, flip=flip)
        self.means, self.deviations = means, deviations

    def __getitems__(self, positions: Integers) -> Batch:
        indices, flips = self.order(positions)
        rows = indices + len(self.images) * flips if self.flip else indices
        batch = gather(self.means, None, rows)  # [B, c, h, w]
        if self.labels is not None:
            batch["label"] = torch.from_numpy(self.labels[indices])
        if self.deviations is not None:
            mean, deviation = batch["image"].float(), gather(self.deviations, None, rows)["image"].float()
            word = int(words(self.order.seed, _POSTERIOR, positions[:1])[0])
            generator = torch.Generator().manual_seed(word % 2**32)
            batch["image"] = mean + deviation * torch.randn(mean.shape, generator=generator)
        return batch

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for key in ("means", "deviations"):
            if isinstance(array := state[key], np.memmap):
                state[key] = str(array.filename)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for key in ("means", "deviations"):
            if isinstance(path := state[key], str):
                setattr(self, key, np.load(path, mmap_mode="r"))


class Latents(ImageData):
    """Latents in a folder of `lit-gan encode`, each channel with mean 0; what is scored and shown are images.

    `images`, `image_shape`, `real_batch`, labels and `fingerprint` are those of the images that were encoded, so that
    scores compare with those of any other run on them; the autoencoder's own loss is part of the score. Batches for
    training hold the latents, of shape `train_shape`.
    """

    def __init__(
        self,
        *,
        path: str = "",  # the folder that `lit-gan encode` wrote
        reals: str = "",  # where the images that were encoded lie now, if they moved
        autoencoder: str = "",  # where the autoencoder lies now, if it moved
        scale: float
        | None = None,  # standard deviations of latents that 1 is; null: 1 (gat), or 4 for archs that end at 1
        flip: bool = False,  # mirror half of the images; needs latents of both
        batch_size: int = 64,  # images per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        super().__init__(source_name=path, batch_size=batch_size, flip=flip, workers=workers)
        if scale is not None and scale <= 0:
            raise UserError(
                f"data.scale={scale} is not a number of standard deviations; leave it out, or use 1"
            )
        self.path, self.reals, self.autoencoder = path, reals, autoencoder
        self.scale = scale
        self.record: dict[str, Any] = {}
        self.deviations: NDArray[np.float16] | None = None

    def _load(self) -> Images:
        if not self.path:
            raise UserError(
                "data.path is not set: encode images by `lit-gan encode AUTOENCODER data=... --out FOLDER`, then give "
                "data.path=FOLDER"
            )
        folder = Path(self.path).expanduser()
        self.record = read_record(folder)
        if self.flip and not self.record["flip"]:
            raise UserError(
                f"data.flip=true: {self.path} holds no latents of mirrored images, and mirrored latents are none: encode "
                "with data.flip=true, or train without"
            )
        keywords = dict(self.record["data"])
        if self.reals:
            keywords["path"] = self.reals
        base = build_data(keywords.pop("source"), **keywords)
        try:
            content = base._load()
        except UserError as error:
            raise UserError(
                f"the images behind {self.path}: {error}; if they moved, data.reals=PATH"
            ) from error
        if content.fingerprint != self.record["fingerprint"]:
            raise UserError(
                f"the images behind {self.path} are others now than those that were encoded ({base.source_name}, "
                f"fingerprint {content.fingerprint[:12]}, it was {self.record['fingerprint'][:12]}): bring them back, give "
                "data.reals=PATH, or encode anew"
            )
        self.means = _mapped(folder / MEANS, self.record)
        self.deviations = _mapped(folder / DEVIATIONS, self.record) if self.record["posterior"] else None
        self._scale_for(bounded=False)
        self.condition = base.condition
        return content

    @property
    def train_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.means.shape
        return channels, height, width

    def decoder(self, *, bounded: bool) -> Decoder:
        self._scale_for(bounded)
        kept = ("key", "autoencoder", "kind", "sha256", "image_shape", "mean", "deviation")
        about = {key: self.record[key] for key in kept}
        return Decoder({**about, "scale": self.scaling.scale}, self.autoencoder)

    def _scale_for(self, bounded: bool) -> None:
        self.bounded = bounded
        scale = self.scale or (BOUNDED_SCALE if bounded else 1.0)
        self.scaling = Scaling(self.record["mean"], self.record["deviation"], scale)

    def latent_batch(self, indices: Sequence[int] | Integers) -> Tensor:
        """The means of latents `indices` [B, c, h, w] as networks see them, unmirrored, on the CPU."""
        rows = np.asarray(indices, dtype=np.int64)
        return self.scaling.scaled(gather(self.means, None, rows)["image"])

    def _gather(self, order: Order) -> Gather:
        return GatherLatents(
            self.content, order, flip=self.flip, means=self.means, deviations=self.deviations
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Float32 of mean 0, within [-1, 1] where the variant's own are, on the device."""
        latents = self.scaling.scaled(batch["image"])
        return {**batch, "image": latents.clamp(-1, 1) if self.bounded else latents}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "latents": self.record["key"], "scale": self.scaling.scale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        theirs, ours = (
            (state_dict.get("latents"), state_dict.get("scale")),
            (
                self.record["key"],
                self.scaling.scale,
            ),
        )
        if theirs != ours:
            raise UserError(
                f"the checkpoint was trained on latents {str(theirs[0])[:12]} at data.scale={theirs[1]}, {self.path} holds "
                f"{ours[0][:12]} at {ours[1]:g}: resume with the same latents, or start a new run"
            )


def read_record(folder: Path) -> dict[str, Any]:
    """What `latents.json` says; a `UserError` where there are no finished latents."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise UserError(f"{folder / RECORD} has format {record['format']}, not {FORMAT}: encode anew")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if folder.with_name(f"{folder.name}.partial").exists() and not folder.exists():
            raise UserError(f"{folder} is not finished: give the same `lit-gan encode` again") from error
        raise UserError(
            f"{folder} holds no latents ({RECORD}: {getattr(error, 'strerror', None) or 'not a record of lit-gan'}): make "
            "them by `lit-gan encode AUTOENCODER data=... --out FOLDER`"
        ) from error
    return dict(record)


def _mapped(path: Path, record: dict[str, Any]) -> NDArray[np.float16]:
    channels, height, width = record["latent_shape"]
    shape = (record["count"] * (2 if record["flip"] else 1), height, width, channels)
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: {getattr(error, 'strerror', None) or 'torn'}; remove its folder and encode anew"
        ) from error
    if found.shape != shape or found.dtype != np.float16:
        raise UserError(
            f"{path} holds {found.dtype} {found.shape}, {RECORD} says float16 {shape}: remove its folder and encode anew"
        )
    mapped: NDArray[np.float16] = found
    return mapped
