"""Self-attention over the places of a feature map (Zhang et al. 2019, arXiv:1805.08318, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.residual import Conv


class SelfAttention(nn.Module):
    """x + gamma o, [B, C, H, W] -> the same, the identity before training; all 1x1 convolutions with spectral norm.

    As in the authors' code, which the text simplifies: C/8 maps for queries and keys, C/2 for values, and keys and
    values of 2x2 pooled maps. The products are not divided by the root of their length.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow, half = max(width // 8, 1), max(width // 2, 1)
        self.query = Conv(width, narrow, 1, bias=False, spectral=True)  # theta, or f
        self.key = Conv(width, narrow, 1, bias=False, spectral=True)  # phi, or g
        self.value = Conv(width, half, 1, bias=False, spectral=True)  # h
        self.out = Conv(half, width, 1, bias=False, spectral=True)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        query = self.query(inputs).flatten(2)  # [B, C/8, HW]
        key = F.max_pool2d(self.key(inputs), 2).flatten(2)  # [B, C/8, HW/4]
        value = F.max_pool2d(self.value(inputs), 2).flatten(2)  # [B, C/2, HW/4]
        beta = torch.softmax(query.transpose(1, 2) @ key, dim=2)  # [B, HW, HW/4], each row sums to 1
        attended = (value @ beta.transpose(1, 2).to(value.dtype)).reshape(len(inputs), -1, *inputs.shape[2:])
        o: Tensor = self.out(attended.contiguous(memory_format=torch.channels_last))
        return torch.addcmul(inputs, self.gamma.to(o.dtype), o)


def place_of(attention: int, sides: list[int]) -> int | None:
    """Behind which layer attention comes: the first whose maps have the largest side up to `attention` pixels.

    `sides` are the shorter sides behind each layer; where all are larger, the smallest. 0 is no attention.
    """
    if not attention:
        return None
    return sides.index(max((side for side in sides if side <= attention), default=min(sides)))
