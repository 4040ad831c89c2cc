"""Layers with an equalized learning rate (Karras et al. 2018, arXiv:1710.10196, section 4.1)."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from lit_gan.networks.conv import conv2d


class EqualizedLinear(nn.Module):
    """A linear layer whose weights are stored at unit variance and scaled in use; Adam treats all alike.

    `lr_multiplier` slows it down further; `gain` multiplies the output.
    """

    def __init__(
        self, features: int, units: int, *, bias: float = 0.0, gain: float = 1.0, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((units,), bias / lr_multiplier))
        self.weight_scale, self.bias_scale = gain * lr_multiplier / sqrt(features), gain * lr_multiplier

    def forward(self, inputs: Tensor) -> Tensor:
        # Both scales ride along in the multiplication: no operation of their own.
        return torch.addmm(self.bias, inputs, self.weight.t(), beta=self.bias_scale, alpha=self.weight_scale)


class EqualizedConv(nn.Module):
    """A convolution with the same scaling; of stride 2 without padding."""

    def __init__(
        self, w_in: int, w_out: int, kernel: int, *, stride: int = 1, bias: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(w_out, w_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(w_out)) if bias else None
        self.weight_scale, self.bias_scale = gain / sqrt(w_in * kernel**2), gain
        self.stride, self.padding = stride, kernel // 2 if stride == 1 else 0

    def forward(self, inputs: Tensor) -> Tensor:
        bias = self.bias if self.bias is None or self.bias_scale == 1 else self.bias * self.bias_scale
        return conv2d(inputs, self.weight * self.weight_scale, bias, stride=self.stride, padding=self.padding)
