"""DiffAugment: colour, translation and cutout of reals and fakes (Zhao et al. 2020, arXiv:2006.10738, section 3).

Colour is brightness within ±0.5, saturation within [0, 2] and contrast within [0.5, 1.5]; translation is by at most
an eighth of the side, with 0 beyond the edge; cutout sets a square of half the side, anywhere, to 0. Parameters are
uniform and of each sample. The alpha of four channels keeps its values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from lit_gan.augment.color import colours
from lit_gan.augment.draws import (
    Shape,
    Share,
    Transform,
    in_float,
    one_after_another,
    per_sample,
    struck,
    uniform,
    untouched,
)
from lit_gan.augment.geometry import copied

GROUPS = ("color", "translation", "cutout")
SHIFT = 1 / 8  # of the side
CUTOUT = 1 / 2  # of the side


class DiffAugment:
    """`policy`: which of `GROUPS`, and the share of `p` with which each acts; the paper's p is 1.

    `alpha`: whether the last of four channels is no colour.
    """

    def __init__(self, policy: Mapping[str, float], *, alpha: bool = True) -> None:
        self.policy = dict(policy)
        self.alpha = alpha

    def draw(self, shape: Shape, p: Share, device: torch.device) -> Transform:
        """See `Pipeline`."""
        if isinstance(p, float) and p == 0:
            return untouched
        draws: dict[str, Callable[..., Transform]] = {
            "color": partial(coloured, alpha=self.alpha),
            "translation": translated,
            "cutout": cut_out,
        }
        parts = [
            draws[group](shape, p * self.policy[group], device) for group in GROUPS if group in self.policy
        ]
        return in_float(one_after_another(parts))


def coloured(shape: Shape, p: Share, device: torch.device, *, alpha: bool = True) -> Transform:
    """Brightness, then saturation around each pixel's mean, then contrast around each image's mean."""
    batch, channels = shape[:2]
    acts, n = struck(batch, p, device), colours(channels, alpha=alpha)
    brightness, saturation, contrast = (
        per_sample(uniform(batch, low, high, device)) for low, high in ((-0.5, 0.5), (0.0, 2.0), (0.5, 1.5))
    )

    def applied(images: Tensor) -> Tensor:
        seen = images[:, :n] + brightness
        grey = seen.mean(1, keepdim=True)
        seen = grey + saturation * (seen - grey)
        level = seen.mean((1, 2, 3), keepdim=True)
        seen = torch.where(per_sample(acts), level + contrast * (seen - level), images[:, :n])
        return seen if n == channels else torch.cat([seen, images[:, n:]], dim=1)

    return applied


def translated(shape: Shape, p: Share, device: torch.device) -> Transform:
    """A whole number of pixels in each direction."""
    batch, _, height, width = shape
    acts = struck(batch, p, device)

    def source(size: int) -> Tensor:  # where each pixel comes from, perhaps outside: [B, N]
        largest = int(size * SHIFT + 0.5)
        shift = torch.randint(-largest, largest + 1, (batch,), device=device) * acts
        return torch.arange(size, device=device) - shift[:, None]

    rows, columns = source(height), source(width)
    outside = ((rows < 0) | (rows >= height))[:, None, :, None]
    outside = outside | ((columns < 0) | (columns >= width))[:, None, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    pixels = (rows[:, :, None] * width + columns[:, None]).flatten(1)
    return lambda images: copied(images, pixels).masked_fill(outside, 0.0)


def cut_out(shape: Shape, p: Share, device: torch.device) -> Transform:
    """The square's centre is anywhere in the image, so a part of it may lie outside."""
    batch, _, height, width = shape
    acts = struck(batch, p, device)

    def hidden(size: int) -> Tensor:  # [B, N]
        side = int(size * CUTOUT + 0.5)
        first = torch.randint(0, size + 1 - side % 2, (batch,), device=device) - side // 2
        places = torch.arange(size, device=device) - first[:, None]
        return (places >= 0) & (places < side)

    hole = hidden(height)[:, None, :, None] & hidden(width)[:, None, None, :] & per_sample(acts)
    return lambda images: images.masked_fill(hole, 0.0)
