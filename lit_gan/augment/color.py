"""ADA's colour transformations as one matrix (Karras et al. 2020, arXiv:2006.06676, appendix B).

In RGB they are the paper's: brightness, contrast, luma flip, hue and saturation compose to one 4x4 matrix. Images
of N channels have luma along (1, ..., 1), saturation scales what is orthogonal to it, and hue turns a plane that
is orthogonal to it: with three channels the only one, with more one drawn for each sample, with fewer none. One
channel has brightness, contrast and luma flip left. Four channels are RGBA, as everywhere in lit-gan: A is kept.
"""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lit_gan.augment.draws import Shape, Share, Transform, log_normal, per_sample, struck, uniform

BRIGHTNESS = 0.2  # standard deviation; images are in [-1, 1]
CONTRAST, SATURATION = 0.5, 1.0  # standard deviations of the logarithms to base 2


def colours(channels: int, *, alpha: bool = True) -> int:
    """How many of the channels, the first ones, are colours; four are RGBA but for latents, `alpha` False."""
    return 3 if channels == 4 and alpha else channels


def color(batch: int, p: Share, n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices [B, N, N], offsets [B, N, 1], and who is changed, bool [B], for `n` colour channels."""
    acts = [struck(batch, p, device) for _ in range(5)]
    brightness, contrast, luma_flip, hue, saturation = acts
    one = torch.eye(n, device=device)
    luma = torch.full((n, n), 1 / n, device=device)  # v vᵀ, the projection onto luma
    offset = (torch.randn(batch, device=device) * BRIGHTNESS * brightness)[:, None, None].expand(-1, n, 1)
    c = log_normal(batch, CONTRAST, device).where(contrast, 1.0)[:, None, None]
    i = (torch.randint(0, 2, (batch,), device=device) * luma_flip)[:, None, None]
    matrix = (one - 2 * luma * i) @ (one * c)
    if n >= 3:
        matrix = hue_turns(n, uniform(batch, -pi, pi, device) * hue) @ matrix
    if n >= 2:
        s = log_normal(batch, SATURATION, device).where(saturation, 1.0)[:, None, None]
        matrix = (luma + (one - luma) * s) @ matrix
    return matrix, matrix @ offset, torch.stack(acts).any(0)


def hue_turns(n: int, angle: Tensor) -> Tensor:
    """Rotations by `angle` [B] in a plane orthogonal to luma, [B, N, N]."""
    batch = len(angle)
    if n == 3:
        third = torch.arange(3, device=angle.device).expand(batch, -1) * (2 * pi / 3)
        a, b = torch.cos(third) * sqrt(2 / 3), torch.sin(third) * sqrt(2 / 3)  # orthonormal, [B, N]
    else:
        a, b = (d - d.mean(1, keepdim=True) for d in torch.randn(2, batch, n, device=angle.device))
        a = normalize(a)
        b = normalize(b - a * (a * b).sum(1, keepdim=True))
    keep, swap = (torch.cos(angle) - 1)[:, None, None], torch.sin(angle)[:, None, None]
    within = torch.einsum("bi,bj->bij", a, a) + torch.einsum("bi,bj->bij", b, b)
    turn = torch.einsum("bi,bj->bij", b, a) - torch.einsum("bi,bj->bij", a, b)
    return torch.eye(n, device=angle.device) + keep * within + swap * turn


def coloured(shape: Shape, p: Share, device: torch.device, *, alpha: bool = True) -> Transform:
    """A draw for images of `shape`."""
    batch, channels = shape[:2]
    n = colours(channels, alpha=alpha)
    matrix, offset, changed = color(batch, p, n, device)

    def applied(images: Tensor) -> Tensor:
        seen = images[:, :n]
        flat = torch.baddbmm(offset.to(images.dtype), matrix.to(images.dtype), seen.flatten(2))
        seen = torch.where(per_sample(changed), flat.view_as(seen), seen)
        return seen if n == channels else torch.cat([seen, images[:, n:]], dim=1)

    return applied
