"""Exponential moving average of a generator's weights, with its half-life in images.

A decay per step would change with the batch size and the number of GPUs; a half-life in images does not
(Karras et al. 2018, arXiv:1710.10196; the half-life and its ramp-up: Karras et al. 2020, arXiv:2006.06676). Averages
whose length is chosen after training: power_ema.py.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """An averaged copy of `network`: always in eval mode, frozen, saved and restored with the module that holds it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._places: tuple[nn.Module, tuple[Places, Places], tuple[Places, Places]] | None = None

    def train(self, mode: bool = True) -> EMA:
        """Stay in eval mode: Lightning calls `train()` on every submodule."""
        return super().train(False)

    def update(self, network: nn.Module, *, images: int, half_life: float) -> None:
        """Move the average towards `network` after `images` more images; a half-life of 0 copies."""
        self.move(network, 1 - 0.5 ** (images / half_life) if half_life > 0 else 1.0)

    @torch.no_grad()
    def move(self, network: nn.Module, weight: float) -> None:
        """Move the average by the share `weight` in [0, 1] of the way to `network`.

        Buffers (batch norm statistics, the mean w) are copied: they are averages already. `network` must not gain or lose
        modules from one call to the next.
        """
        if self._places is None or self._places[0] is not network:
            self._places = network, _places(self.network), _places(network)
        _, (mine, my_buffers), (theirs, their_buffers) = self._places
        torch._foreach_lerp_([of[name] for of, name in mine], [of[name] for of, name in theirs], weight)
        for (of, name), (of_theirs, their_name) in zip(my_buffers, their_buffers, strict=True):
            of[name].copy_(of_theirs[their_name])


Places = list[
    tuple[dict[str, Tensor], str]
]  # the dictionary of a module that holds a tensor, and its name there


def _places(network: nn.Module) -> tuple[Places, Places]:
    """Where the parameters and the buffers are kept, each tensor once.

    To walk over the modules takes longer than to average; the tensors themselves must not be kept, since a buffer may be
    replaced at any time.
    """
    seen: set[int] = set()
    parameters: Places = []
    buffers: Places = []
    for module in network.modules():
        for places, tensors in ((parameters, module._parameters), (buffers, module._buffers)):
            for name, tensor in tensors.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    places.append((cast("dict[str, Tensor]", tensors), name))
    return parameters, buffers


def ramped_half_life(half_life: float, images_seen: float, ramp: float | None) -> float:
    """`half_life`, but at most `ramp` of the images seen: early on, the average forgets the untrained weights."""
    return half_life if ramp is None else min(half_life, ramp * images_seen)
