"""What every transform's random draw is made of: who is transformed, and mirrored positions.

All randomness is torch's global stream, which the spine seeds in every step; nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Transform = Callable[[Tensor], Tensor]  # [B, C, H, W] -> the same; one draw serves several batches
Share = float | Tensor  # a probability; a scalar on the device where it adapts
Shape = tuple[int, int, int, int]


class Pipeline(Protocol):
    """Random transforms of images, drawn apart from being applied, so that one draw serves several batches."""

    def draw(self, shape: Shape, p: Share, device: torch.device) -> Transform:
        """A transform of images of `shape`, with parameters of its own for every sample; each acts with probability `p`.

        Differentiable at the images, twice. Computes in float32 or wider, and not under autocast.
        """
        ...


def struck(batch: int, p: Share, device: torch.device) -> Tensor:
    """Whether a transform acts, [B] bool: with probability `p`, for each sample by itself."""
    return torch.rand(batch, device=device) < p


def uniform(batch: int, low: float, high: float, device: torch.device) -> Tensor:
    """[B] in [low, high)."""
    return torch.rand(batch, device=device) * (high - low) + low


def log_normal(batch: int, deviation: float, device: torch.device) -> Tensor:
    """[B], whose logarithm to base 2 has mean 0 and this standard deviation."""
    return torch.exp2(torch.randn(batch, device=device) * deviation)


def per_sample(values: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1]."""
    return values[:, None, None, None]


def mirrored(index: Tensor, size: int) -> Tensor:
    """Positions anywhere as positions in [0, size): the row goes on as its mirror image, the edge pixel repeated."""
    index = index.remainder(2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def in_float(transform: Transform) -> Transform:
    """`transform` in float32 or wider, whatever the precision around it."""

    def exact(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return transform(images if images.dtype == torch.float64 else images.float())

    return exact


def one_after_another(parts: list[Transform]) -> Transform:
    """All of `parts`, the first one first."""

    def applied(images: Tensor) -> Tensor:
        for part in parts:
            images = part(images)
        return images

    return applied


def untouched(images: Tensor) -> Tensor:
    """No transform at all."""
    return images
