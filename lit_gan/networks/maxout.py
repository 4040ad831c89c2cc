"""The hidden units of the first discriminators (Goodfellow et al. 2013, arXiv:1302.4389)."""

from __future__ import annotations

from torch import Tensor, nn


class Maxout(nn.Module):
    """The largest of `pieces` linear maps, per unit: [B, F] -> [B, units]."""

    def __init__(self, features: int, units: int, pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, units * pieces)
        self.shape = (units, pieces)

    def forward(self, inputs: Tensor) -> Tensor:
        values: Tensor = self.linear(inputs)
        return values.view(-1, *self.shape).amax(2)
