"""What a run knows of the files on its two sides, and how their numbers become those of its networks.

Whole numbers are mapped by their type (or by `data.range`, where the run has one for that type), floats by the range that
the run was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_gan.data.conform import with_channels
from lit_gan.data.files import Picture


def signed_of(picture: Picture, side: Mapping[str, Any]) -> Tensor:
    """The picture as [1, C, H, W] of that side, what it was trained on in [-1, 1]; `ValueError` where it cannot be."""
    pixels = with_channels(picture, int(side["shape"][0]))
    low, high = range_of(pixels.dtype, side)
    signed = (pixels.astype(np.float64) - low) * (2 / (high - low)) - 1
    return torch.from_numpy(signed.astype(np.float32)).permute(2, 0, 1)[None]


def range_of(dtype: np.dtype[Any], side: Mapping[str, Any]) -> tuple[float, float]:
    """The values of a file of that number type that are -1 and 1 to the run."""
    if dtype.kind == "f" or dtype.name == side["dtype"]:
        low, high = side["range"]
        if dtype.kind == "f" and np.dtype(side["dtype"]).kind == "u":
            low, high = 0.0, 1.0  # floats to a run of whole numbers: as everybody writes images in floats
        return float(low), float(high)
    return 0.0, float(np.iinfo(dtype).max)
