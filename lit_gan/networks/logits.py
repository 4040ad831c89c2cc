"""The last layer of a discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Logits(nn.Linear):
    """A linear layer in float32 also under autocast: bfloat16's 8 bits would quantise the logits."""

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())
