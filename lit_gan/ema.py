"""Exponential moving average of a generator's weights, with its half-life in images.

A decay per step would change with the batch size and the number of GPUs; a half-life in images does not
(Karras et al. 2018, arXiv:1710.10196; the half-life and its ramp-up: Karras et al. 2020, arXiv:2006.06676).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """An averaged copy of `network`: always in eval mode, frozen, saved and restored with the module that holds it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> EMA:
        """Stay in eval mode: Lightning calls `train()` on every submodule."""
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module, *, images: int, half_life: float) -> None:
        """Move the average towards `network` after `images` more images; a half-life of 0 copies.

        Buffers (batch norm statistics, the mean w) are copied: they are averages already.
        """
        weight = 1 - 0.5 ** (images / half_life) if half_life > 0 else 1.0
        averaged: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averaged, list(network.parameters()), weight)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)


def ramped_half_life(half_life: float, images_seen: float, ramp: float | None) -> float:
    """`half_life`, but at most `ramp` of the images seen: early on, the average forgets the untrained weights."""
    return half_life if ramp is None else min(half_life, ramp * images_seen)
