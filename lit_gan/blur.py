"""Blur kernels of the degradations of Real-ESRGAN (Wang et al. 2021, arXiv:2107.10833, section 3.1 and appendix A).

A kernel is [K, K] with odd K, sums to 1, and is made on the CPU in float64: a few hundred numbers.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Shape = Literal["gaussian", "generalized", "plateau"]

SHARPENING = 51, 8.0  # taps and deviation of the unsharp mask: OpenCV's for a radius of 50


def bell(
    size: int,
    sigma_x: float,
    sigma_y: float,
    angle: float = 0.0,
    *,
    shape: Shape = "gaussian",
    beta: float = 1.0,
) -> Tensor:
    """A bell with deviations `sigma_x`, `sigma_y` in pixels along axes turned by `angle`, sampled at the pixels.

    With q = x^T S^-1 x: exp(-q / 2), generalized exp(-q^beta / 2), plateau 1 / (1 + q^beta). Of the first, S is the
    covariance.
    """
    at = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    q = (along / sigma_x).square() + (across / sigma_y).square()
    power = q if shape == "gaussian" else q**beta
    kernel = 1 / (1 + power) if shape == "plateau" else torch.exp(-power / 2)
    return kernel / kernel.sum()


def sinc(size: int, cutoff: float) -> Tensor:
    """The circular low-pass with `cutoff` in radians a pixel, cut off at the kernel's edge: it rings.

    w J1(w r) / (2 pi r), and w² / (4 pi) at its centre (eq. 6).
    """
    at = torch.arange(size, dtype=torch.float64) - size // 2
    r = torch.hypot(at[:, None], at[None, :])
    centre = r == 0
    r = r.masked_fill(centre, 1.0)
    kernel: Tensor = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    kernel = kernel.masked_fill(centre, cutoff**2 / (4 * math.pi))
    return kernel / kernel.sum()


def filtered(images: Tensor, kernel: Tensor) -> Tensor:
    """Images [B, C, H, W] under one kernel [K, K'], mirrored at the edges where they are large enough, else continued."""
    rows, columns = kernel.shape
    pad = (columns // 2, columns // 2, rows // 2, rows // 2)
    mirror = images.shape[2] > rows // 2 and images.shape[3] > columns // 2
    planes = images.flatten(0, 1)[:, None]
    planes = F.pad(planes, pad, mode="reflect" if mirror else "replicate")
    return F.conv2d(planes, kernel.to(images)[None, None]).view(images.shape)


@torch.no_grad()
def sharpened(images: Tensor, *, weight: float = 0.5, threshold: float = 10.0) -> Tensor:
    """Images in [0, 1] under an unsharp mask, where they differ from their blur by more than `threshold` grey levels.

    The edge of that region is blurred too, so that it does not show (section 3.4).
    """
    taps, sigma = SHARPENING
    line = bell(taps, sigma, sigma)[taps // 2]
    line = line / line.sum()

    def soft(planes: Tensor) -> Tensor:
        return filtered(filtered(planes, line[None, :]), line[:, None])

    details = images - soft(images)
    where = soft((details.abs() * 255 > threshold).to(images.dtype))
    return where * (images + weight * details).clamp(0, 1) + (1 - where) * images
