"""ADA's pipeline of 18 transforms (Karras et al. 2020, arXiv:2006.06676, appendix B), a group at a time.

The same draw for reals and fakes where they are compared; differentiable twice, so that R1 can be taken at the
images before it. No compiled extension. Differs: samples of which no resampling is asked are copied, bit for bit;
edges are mirrored with the edge pixel repeated; other channels than RGB have colours of their own (see color.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from lit_gan.augment.color import coloured
from lit_gan.augment.corrupt import cut_out, filtered, noisy
from lit_gan.augment.draws import Shape, Share, Transform, in_float, one_after_another, untouched
from lit_gan.augment.geometry import geometry

GROUPS = ("blit", "geom", "color", "filter", "noise", "cutout")


class ADA:
    """`policy`: the groups, and the share of `p` with which the transforms of each act.

    `alpha`: whether the last of four channels is no colour.
    """

    def __init__(self, policy: Mapping[str, float], *, alpha: bool = True) -> None:
        self.policy = dict(policy)
        self.alpha = alpha

    def draw(self, shape: Shape, p: Share, device: torch.device) -> Transform:
        """See `Pipeline`; at p = 0 images stay as they are, bit for bit."""
        if isinstance(p, float) and p == 0:
            return untouched
        share = {group: p * factor for group, factor in self.policy.items()}
        draws: dict[str, Callable[..., Transform]] = {
            "color": partial(coloured, alpha=self.alpha),
            "filter": filtered,
            "noise": noisy,
            "cutout": cut_out,
        }
        parts: list[Transform] = []
        with torch.autocast(device.type, enabled=False):  # matrices in bfloat16 would miss by pixels
            if "blit" in share or "geom" in share:
                parts.append(geometry(shape, share.get("blit"), share.get("geom"), device))
            parts += [draw(shape, share[group], device) for group, draw in draws.items() if group in share]
        return in_float(one_after_another(parts))
