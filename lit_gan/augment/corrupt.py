"""ADA's image-space corruptions: band filter, noise, cutout (Karras et al. 2020, arXiv:2006.06676, appendix B)."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

import torch
from torch import Tensor

from lit_gan.augment.draws import Shape, Share, Transform, log_normal, mirrored, per_sample, struck, uniform

SYM2 = [tap / sqrt(32) for tap in (1 + sqrt(3), 3 + sqrt(3), 3 - sqrt(3), 1 - sqrt(3))]
BANDS = 4  # octaves, the lowest first: [0, π/8], [π/8, π/4], [π/4, π/2], [π/2, π]
LOWEST = 10  # the power of natural images in the lowest band, the others having 1: λ = [10, 1, 1, 1] / 13
AMPLIFY = 1.0  # standard deviation of the logarithm to base 2
NOISE = 0.1  # scale of the half-normal standard deviation
CUTOUT = 1 / 2  # of the side


def band_gains(batch: int, p: Share, device: torch.device) -> tuple[Tensor, Tensor]:
    """Gains g [B, 4] of the bands, and who is changed, bool [B]; each step keeps the expected power."""
    g = torch.ones(batch, BANDS, device=device)
    acts = [struck(batch, p, device) for _ in range(BANDS)]
    for band, act in enumerate(acts):
        t = torch.ones(batch, BANDS, device=device)
        t[:, band] = log_normal(batch, AMPLIFY, device)
        power = (t.square().sum(1) + (LOWEST - 1) * t[:, 0].square()) / (LOWEST + BANDS - 1)
        t = t / power.sqrt()[:, None]
        g = torch.where(act[:, None], g * t, g)
    return g, torch.stack(acts).any(0)


def bank() -> Tensor:
    """The four zero-phase band filters from sym2, [4, 43] float64; they sum to a unit impulse.

    low(z) = H(z) H(1/z) / 2 and high(z) likewise sum to 1, so the highest band is `high`, and what lies below it is
    the whole bank again, stretched to half the frequency, behind `low`.
    """
    h = torch.tensor(SYM2, dtype=torch.float64)
    low = _convolved(h, h.flip(0)) / 2
    signs = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)[: len(low)]
    high = -low * signs  # low(-z); the middle tap, of odd index, stays positive
    filters = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(BANDS - 1):
        stretched = filters.new_zeros(len(filters), 2 * filters.shape[1] - 1)
        stretched[:, ::2] = filters
        below = torch.stack([_convolved(row, low) for row in stretched])
        margin = (below.shape[1] - len(high)) // 2
        filters = torch.cat([below, torch.nn.functional.pad(high, (margin, margin))[None]])
    return filters


def _convolved(a: Tensor, b: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(a, (len(b) - 1, len(b) - 1))
    return padded.unfold(0, len(b), 1) @ b.flip(0)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def band_matrices(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The bank as it acts on a row of N pixels that goes on as its mirror image: [4, N, N]."""
    filters = bank()
    taps = filters.shape[1]
    at = torch.arange(size)[:, None].expand(-1, taps)  # [N, taps]
    source = mirrored(at + torch.arange(taps) - taps // 2, size)
    matrices = filters.new_zeros(BANDS, size, size)
    for matrix, row in zip(matrices, filters, strict=True):
        matrix.index_put_((at, source), row.expand(size, -1), accumulate=True)
    return matrices.to(device, dtype)


def filtered(shape: Shape, p: Share, device: torch.device) -> Transform:
    """A draw for images of `shape`: bands amplified, in both directions alike."""
    batch, _, height, width = shape
    gains, changed = band_gains(batch, p, device)

    def matrix(size: int, dtype: torch.dtype) -> Tensor:  # [B, 1, N, N]
        bands = band_matrices(size, device, dtype).flatten(1)
        return (gains.to(dtype) @ bands).view(batch, 1, size, size)

    def applied(images: Tensor) -> Tensor:
        seen = matrix(height, images.dtype) @ images @ matrix(width, images.dtype).mT
        return torch.where(per_sample(changed), seen, images)

    return applied


def noisy(shape: Shape, p: Share, device: torch.device) -> Transform:
    """A draw for images of `shape`: noise of every pixel and channel."""
    batch = shape[0]
    deviation = torch.randn(batch, device=device).abs() * NOISE * struck(batch, p, device)
    noise = torch.randn(shape, device=device) * per_sample(deviation)
    return lambda images: images + noise


def cut_out(shape: Shape, p: Share, device: torch.device) -> Transform:
    """A draw for images of `shape`: a rectangle of half the sides becomes 0."""
    batch, _, height, width = shape
    acts = struck(batch, p, device)

    def hidden(size: int) -> Tensor:  # [B, N]
        places = (torch.arange(size, device=device) + 0.5) / size
        return (places - uniform(batch, 0, 1, device)[:, None]).abs() < CUTOUT / 2

    hole = hidden(height)[:, None, :, None] & hidden(width)[:, None, None, :] & per_sample(acts)
    return lambda images: images.masked_fill(hole, 0.0)
