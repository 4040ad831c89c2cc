"""Pixels as features: average-pooled to at most 16 a side; float points (the toy data) as they are.

Needs nothing and shows noise and colour casts well, dropped classes hardly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gan.errors import UserError
from lit_gan.metrics.extractors import Extractor

if TYPE_CHECKING:
    from lit_gan.metrics.extractors import Source

SIDE = 16


class Pixels(Extractor):
    """[B, C, H, W] -> [B, C * h * w] in [-1, 1], h = ceil(H / ceil(H / 16))."""

    name = "pixels"
    resize = f"area to at most {SIDE}"

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.grid = pooled(height, SIDE), pooled(width, SIDE)
        self.dim = channels * self.grid[0] * self.grid[1]

    @classmethod
    def build(
        cls, *, data: Source, weights: str | None, weights_sha256: str | None, device: torch.device
    ) -> Pixels:
        if weights is not None:
            raise UserError(f"metrics.weights={weights}: the extractor 'pixels' has no weights; leave it out")
        return cls(data.image_shape)

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        if images.dtype == torch.uint8:
            images = images.float() / 127.5 - 1
        return F.adaptive_avg_pool2d(images.float(), self.grid).flatten(1), None


def pooled(side: int, largest: int) -> int:
    """`side` divided by the smallest whole number that brings it to at most `largest`, rounded up."""
    return -(-side // -(-side // largest))
