"""Batch norms whose gain and shift depend on a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_gan.networks.condition import looked_up, looked_up_around_one
from lit_gan.networks.spectral import Linear


class ClassNorm(nn.BatchNorm2d):
    """Batch norm whose gain and shift are learned per class (Dumoulin 2017); plain where there are no classes.

    Labels that are vectors add up shifts, and what gains are above 1.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__(width, affine=num_classes == 0)
        if num_classes:
            self.gain = nn.Parameter(torch.ones(num_classes, width))
            self.shift = nn.Parameter(torch.zeros(num_classes, width))

    def forward(self, inputs: Tensor, label: Tensor | None = None) -> Tensor:
        normal = super().forward(inputs)
        if self.affine:
            return normal
        assert label is not None
        return modulated(normal, looked_up_around_one(label, self.gain), looked_up(label, self.shift))


class LinearNorm(nn.BatchNorm2d):
    """Batch norm whose gain 1 + Wc and shift Vc are linear in a condition c [B, F], with spectral norm (BigGAN)."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__(width, affine=False)
        self.gain = Linear(features, width, bias=False, spectral=True)
        self.shift = Linear(features, width, bias=False, spectral=True)

    def forward(self, inputs: Tensor, condition: Tensor | None = None) -> Tensor:
        normal = super().forward(inputs)
        assert condition is not None
        return modulated(normal, 1 + self.gain(condition).float(), self.shift(condition))


def modulated(normal: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Maps [B, C, H, W] times a gain plus a shift, both [B, C]."""
    gain, shift = gain[:, :, None, None], shift[:, :, None, None]
    return torch.addcmul(shift.to(normal.dtype), gain.to(normal.dtype), normal)
