"""What a run knows of the files on its two sides, and how their numbers become those of its networks.

Whole numbers are mapped by their type (or by `data.range`, where the run has one for that type), floats by the range that
the run was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_gan.data.conform import with_channels
from lit_gan.data.files import Picture

Hole = NDArray[np.bool_]  # [H, W]


@dataclass(frozen=True)
class Side:
    """Files of one side, as the run was trained on them; a tensor of it is [1, C, H, W], what was seen there in [-1, 1]."""

    channels: int  # C
    dtype: np.dtype[Any]
    limits: tuple[float, float]  # the values of that type that are -1 and 1
    stored: str = ""  # the number type of the files, where it is none of the three
    alpha: bool = False  # whether the last channel of the images is their alpha
    mask: bool = False  # whether one more comes after it: 1 where the image has a hole, else -1

    @classmethod
    def restored(cls, record: Mapping[str, Any]) -> Side:
        """As a checkpoint has it; where it does not say so yet, 2 or 4 channels of whole numbers end in alpha."""
        channels, dtype = int(record["shape"][0]), np.dtype(record["dtype"])
        mask = bool(record.get("mask", False))
        alpha = record.get("alpha", channels - mask in (2, 4) and dtype.kind == "u")
        low, high = record["range"]
        return cls(channels, dtype, (float(low), float(high)), str(record["stored"]), bool(alpha), mask)

    @property
    def ends_in_alpha(self) -> bool:
        return self.alpha and not self.mask

    def signed(self, picture: Picture, hole: Hole | None = None) -> Tensor:
        """The picture as a tensor; `ValueError` where it cannot be. `hole` is where a `mask` says 1, else alpha tells."""
        if self.mask:
            picture, hole = (picture, hole) if hole is not None else self.hole_in(picture)
            if hole.shape != picture.size:
                sizes = [" x ".join(map(str, size)) for size in (picture.size, hole.shape)]
                raise ValueError(f"has {sizes[0]} pixels and the mask {sizes[1]}: give a mask of its size")
        pixels = with_channels(picture, self.channels - self.mask)
        if self.dtype.kind == "u" and picture.stored and np.dtype(picture.stored).kind != "f":
            raise ValueError(
                f"holds {picture.stored}, and what of it is black and white this run, on {self.dtype.name}, does not know: "
                "save it as uint8 or uint16, or as floats from 0 to 1"
            )
        low, high = self.range_of(pixels.dtype)
        signed = (pixels.astype(np.float64) - low) * (2 / (high - low)) - 1
        if hole is not None:  # as data=inpainting makes it: grey in the hole
            inside = hole[..., None]
            signed = np.concatenate([np.where(inside, 0, signed), np.where(inside, 1, -1)], axis=2)
        return torch.from_numpy(signed.astype(np.float32)).permute(2, 0, 1)[None]

    def hole_in(self, picture: Picture) -> tuple[Picture, Hole]:
        """The picture without its alpha, and where that is below half; `ValueError` where it has none, or no hole."""
        pixels, alpha = picture.pixels, picture.alpha
        if alpha is None and pixels.shape[2] == self.channels:  # an array
            pixels, alpha = pixels[..., :-1], pixels[..., -1]
        how = "erase what is to be filled (alpha below half), or give --mask FILE, white in the hole"
        if alpha is None or self.alpha:
            raise ValueError(f"has no mask, which this run needs: {how}")
        hole: Hole = alpha < (np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1) / 2
        if not hole.any():
            raise ValueError(f"has no hole, which this run would fill: {how}")
        return replace(picture, pixels=pixels, alpha=None), hole

    def range_of(self, dtype: np.dtype[Any]) -> tuple[float, float]:
        """The values of a file of that number type that are -1 and 1 to the run."""
        if dtype.kind == "f" and self.dtype.kind == "u":
            return 0.0, 1.0  # floats to a run of whole numbers: as everybody writes images in floats
        if dtype.kind == "f" or dtype == self.dtype:
            return self.limits
        return 0.0, float(np.iinfo(dtype).max)


def hole_of(mask: Picture) -> Hole:
    """Where a picture of a mask is light."""
    light = with_channels(mask, 1)[..., 0]
    return light > (np.iinfo(light.dtype).max if light.dtype.kind == "u" else 1) / 2
