"""What JPEG does to images, as tensors on their own device: colour, blocks, rounded coefficients, and back.

Not torchvision's encoder and decoder, which would take every image from the GPU to the CPU and back; there is no entropy
coding, since it loses nothing. Tables, their scaling by quality, and smooth chroma are those of libjpeg (ITU-T T.81,
annex K; 4:2:0), so that the result is Pillow's to rounding. No gradients.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF


@torch.no_grad()
def compressed(images: Tensor, quality: Tensor) -> Tensor:
    """Images [B, C, H, W] in [0, 1], clamped, as they come back from JPEG of `quality` [B] in [1, 100].

    Three channels are colours, with chroma at half the size; others are grey images, each of its own.
    """
    height, width = images.shape[2:]
    levels = (images.float().clamp(0, 1) * 255).round()
    pad = (0, -width % (2 * BLOCK), 0, -height % (2 * BLOCK))
    levels = F.pad(levels, pad, mode="replicate")
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).to(levels)
    if images.shape[1] != 3:
        return _cut(_coded(levels - 128, LUMINANCE, scale) + 128, height, width)
    matrix = levels.new_tensor(TO_YCC)
    colours = torch.einsum("kc,bchw->bkhw", matrix, levels).round()
    y, chroma = colours[:, :1], colours[:, 1:]
    y = _coded(y - 128, LUMINANCE, scale) + 128
    small = _coded(F.avg_pool2d(chroma, 2).round(), CHROMINANCE, scale)
    chroma = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False).round()
    return _cut(
        torch.einsum("ck,bkhw->bchw", torch.linalg.inv(matrix), torch.cat([y, chroma], 1)), height, width
    )


def _cut(levels: Tensor, height: int, width: int) -> Tensor:
    return levels[..., :height, :width].round().clamp(0, 255) / 255


def _coded(planes: Tensor, table: tuple[tuple[int, ...], ...], scale: Tensor) -> Tensor:
    """Planes [B, K, H, W] around 0 after quantisation of their blocks' coefficients; in whole levels of 8 bits."""
    batch, maps, height, width = planes.shape
    steps = ((planes.new_tensor(table) * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)  # [B, 8, 8]
    steps = steps[:, None, None, :, None, :]
    cosines = planes.new_tensor(_cosines())
    blocks = planes.view(batch, maps, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    found = torch.einsum("ui,bkyixj,vj->bkyuxv", cosines, blocks, cosines)
    kept = (found / steps).round() * steps
    back = torch.einsum("ui,bkyuxv,vj->bkyixj", cosines, kept, cosines)
    return back.reshape(planes.shape).round().clamp(-128, 127)


@cache
def _cosines() -> list[list[float]]:
    """The orthonormal discrete cosine transform of eight numbers, a row for each frequency."""
    return [
        [
            math.sqrt((2 if u else 1) / BLOCK) * math.cos((2 * i + 1) * u * math.pi / (2 * BLOCK))
            for i in range(BLOCK)
        ]
        for u in range(BLOCK)
    ]
