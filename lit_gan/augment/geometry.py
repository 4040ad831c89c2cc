"""ADA's pixel blitting and general geometric transformations (Karras et al. 2020, arXiv:2006.06676, appendix B).

Every step is a 3x3 matrix in pixels from the image's centre, x to the right, y down; their product is carried
out as one warp, so that pixels are blended once. A sample that is only flipped, turned by 90 degrees or moved
by whole pixels has its pixels copied. What lies outside the image is its mirror image (the edge pixel repeated).
The warp looks up bilinearly in an image of twice the size: up and down by the orthonormal wavelet sym6, as
matrices that know the edge, so that a second derivative costs no more than the first.
"""

from __future__ import annotations

from functools import lru_cache
from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_gan.augment.draws import (
    Shape,
    Share,
    Transform,
    log_normal,
    mirrored,
    per_sample,
    struck,
    uniform,
)

SHIFT = 1 / 8  # of the side: the largest whole-pixel shift, and the standard deviation of fractional ones
SCALE = 0.2  # standard deviation of the logarithms to base 2
SYM6 = (  # least asymmetric, six vanishing moments (Daubechies 1992, table 6.3)
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
LEAN = 5.5 - sum(k * tap for k, tap in enumerate(SYM6)) / sqrt(2)  # its centre is not quite its middle
REACH = len(SYM6) // 2 - 1  # doubled pixels before a pixel that down-sampling needs


def blit(batch: int, p: Share, height: int, width: int, device: torch.device) -> Tensor:
    """x-flip, turn by 90 degrees, shift by whole pixels: where each output pixel comes from, [B, 3, 3]."""
    flip = torch.randint(0, 2, (batch,), device=device) * struck(batch, p, device)
    inverse = scaled(1.0 - 2.0 * flip, torch.ones(batch, device=device))
    turns = torch.randint(0, 4, (batch,), device=device) * struck(batch, p, device)
    inverse = inverse @ turned(-turns * (pi / 2)).round()
    acts = struck(batch, p, device)
    dx = (uniform(batch, -SHIFT, SHIFT, device) * width).round() * acts
    dy = (uniform(batch, -SHIFT, SHIFT, device) * height).round() * acts
    return inverse @ moved(-dx, -dy)


def general(batch: int, p: Share, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale, rotation, anisotropic scale, rotation, shift: where each output pixel comes from, and who is changed.

    [B, 3, 3] and bool [B]. Each rotation acts with probability p_rot, so that one of both does with probability `p`.
    """
    p_rot = 1 - (1 - p) ** 0.5
    acts = [struck(batch, share, device) for share in (p, p_rot, p, p_rot, p)]
    isotropic, before, anisotropic, after, shift = acts
    s = log_normal(batch, SCALE, device).where(isotropic, 1.0)
    inverse = scaled(1 / s, 1 / s)
    inverse = inverse @ turned(uniform(batch, -pi, pi, device) * before)
    s = log_normal(batch, SCALE, device).where(anisotropic, 1.0)
    inverse = inverse @ scaled(1 / s, s)
    inverse = inverse @ turned(uniform(batch, -pi, pi, device) * after)
    dx, dy = torch.randn(2, batch, device=device) * SHIFT * shift
    inverse = inverse @ moved(-dx * width, -dy * height)
    return inverse, torch.stack(acts).any(0)


def geometry(shape: Shape, blit_p: Share | None, general_p: Share | None, device: torch.device) -> Transform:
    """A draw of both groups, or of the one whose probability is given, for images of `shape`."""
    batch, _, height, width = shape
    copies = None if blit_p is None else blit(batch, blit_p, height, width, device)
    pixels = None if copies is None else pixel_index(copies, height, width)
    if general_p is None:
        return lambda images: images if pixels is None else copied(images, pixels)
    inverse, changed = general(batch, general_p, height, width, device)
    inverse = inverse if copies is None else copies @ inverse

    def applied(images: Tensor) -> Tensor:
        whole = images if pixels is None else copied(images, pixels)
        return torch.where(per_sample(changed), warped(images, inverse), whole)

    return applied


def scaled(x: Tensor, y: Tensor) -> Tensor:
    """Factors [B] -> [B, 3, 3]."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def turned(angle: Tensor) -> Tensor:
    """Radians [B] -> [B, 3, 3], from x towards y."""
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    rows = [cos, -sin, zero, sin, cos, zero, zero, zero, torch.ones_like(angle)]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def moved(dx: Tensor, dy: Tensor) -> Tensor:
    """Pixels [B] -> [B, 3, 3]."""
    zero, one = torch.zeros_like(dx), torch.ones_like(dx)
    return torch.stack([one, zero, dx, zero, one, dy, zero, zero, one], dim=1).view(-1, 3, 3)


def pixel_index(inverse: Tensor, height: int, width: int) -> Tensor:
    """Which pixel each output pixel is a copy of, [B, HW] in row-major order."""
    x = torch.arange(width, device=inverse.device) - (width - 1) / 2
    y = torch.arange(height, device=inverse.device)[:, None] - (height - 1) / 2
    m = inverse[:, :2, :, None, None]  # [B, 2, 3, 1, 1]
    places = m[:, :, 0] * x + m[:, :, 1] * y + m[:, :, 2]  # [B, 2, H, W]
    # whole numbers, or halves where an oblong image is turned: those go to the pixel after
    column = mirrored((places[:, 0] + width / 2).floor().long(), width)
    row = mirrored((places[:, 1] + height / 2).floor().long(), height)
    return (row * width + column).flatten(1)


def copied(images: Tensor, pixels: Tensor) -> Tensor:
    """[B, C, H, W] with each pixel the one that `pixels` [B, HW] names."""
    flat = images.flatten(2)
    return flat.gather(2, pixels[:, None].expand_as(flat)).view_as(images)


def warped(images: Tensor, inverse: Tensor) -> Tensor:
    """[B, C, H, W] with what lies at `inverse` [B, 3, 3] of each pixel."""
    height, width = images.shape[2:]
    (up_y, down_y), (up_x, down_x) = (resampling(n, images.device, images.dtype) for n in (height, width))
    large = up_y @ images @ up_x.T  # [B, C, 2H, 2W]
    seen = Lookup.apply(large, lookup_grid(inverse.to(images.dtype), height, width))
    small: Tensor = down_y @ seen @ down_x.T  # [B, C, H, W]
    return small


def lookup_grid(inverse: Tensor, height: int, width: int) -> Tensor:
    """Places in the doubled image, from -1 to 1 between its edges: [B, 2H + 10, 2W + 10, 2]."""

    def pixels(size: int) -> Tensor:  # of the doubled output and its margin, from its centre in single pixels
        doubled = torch.arange(-REACH, 2 * size + REACH, device=inverse.device, dtype=inverse.dtype)
        return (doubled + 0.5 + LEAN - size) / 2

    m = inverse[:, :2, :, None, None]
    places = m[:, :, 0] * pixels(width) + m[:, :, 1] * pixels(height)[:, None] + m[:, :, 2]  # [B, 2, Y, X]
    return torch.stack([(places[:, i] * 2 - LEAN) / size for i, size in enumerate((width, height))], dim=3)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what is kept must serve training too
def resampling(size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Up [2N, N], mirrored at the edges, and down [N, 2N + 10], from the doubled row with a margin of 5 on each side.

    sym6 is orthonormal: down after up is the identity.
    """
    taps = torch.tensor(SYM6, dtype=torch.float64)
    k = torch.arange(-REACH, size + REACH)[:, None]  # single pixels, and those outside that reach in
    large = 2 * k + torch.arange(len(SYM6)) - REACH  # the doubled pixels of each
    weight = taps.expand(large.shape)
    inside, within = (large >= 0) & (large < 2 * size), ((k >= 0) & (k < size)).expand(large.shape)
    single = k.expand(large.shape)
    up, down = taps.new_zeros(2 * size, size), taps.new_zeros(size, 2 * (size + REACH))
    up.index_put_((large[inside], mirrored(single, size)[inside]), sqrt(2) * weight[inside], accumulate=True)
    down[single[within], large[within] + REACH] = weight[within] / sqrt(2)
    return up.to(device, dtype), down.to(device, dtype)


class Lookup(torch.autograd.Function):
    """Bilinear, mirrored at the edges: images [B, C, H, W], grid [B, Y, X, 2] -> [B, C, Y, X].

    It is linear in the images, so its derivative is its adjoint, and the adjoint's is the lookup again; PyTorch
    has no second derivative of grid_sample. The grid gets none.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape
        return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grid,) = ctx.saved_tensors
        return LookupAdjoint.apply(gradients[0], grid, ctx.size), None


class LookupAdjoint(torch.autograd.Function):
    """What `Lookup` gathered, given back: [B, C, Y, X] -> [B, C, H, W] of `size`."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        images = gradient.new_zeros(()).expand(size)  # their values do not matter
        bilinear, reflection = 0, 2
        given: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient, images, grid, bilinear, reflection, False, (True, False)
        )[0]
        return given

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grid,) = ctx.saved_tensors
        return Lookup.apply(gradients[0], grid), None, None
