"""Layers with an equalized learning rate (Karras et al. 2018, arXiv:1710.10196, section 4.1)."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.conv import conv2d

SQRT2 = sqrt(2)  # what a leaky ReLU takes from the second moment, about


def lrelu(inputs: Tensor) -> Tensor:
    """Leaky ReLU without its gain of sqrt(2): it is homogeneous, so the layer before can have the gain."""
    return F.leaky_relu(inputs, 0.2)


class EqualizedLinear(nn.Module):
    """A linear layer whose weights are stored at unit variance and scaled in use; Adam treats all alike.

    `lr_multiplier` slows it down further; `gain` multiplies the output, or with a `bias_gain` the product alone.
    """

    def __init__(
        self,
        features: int,
        units: int,
        *,
        bias: float = 0.0,
        gain: float = 1.0,
        bias_gain: float | None = None,  # None: gain
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((units,), bias / lr_multiplier))
        self.weight_scale = gain * lr_multiplier / sqrt(features)
        self.bias_scale = (gain if bias_gain is None else bias_gain) * lr_multiplier

    def forward(self, inputs: Tensor) -> Tensor:
        # Both scales ride along in the multiplication: no operation of their own.
        return torch.addmm(self.bias, inputs, self.weight.t(), beta=self.bias_scale, alpha=self.weight_scale)


class EqualizedConv(nn.Module):
    """A convolution with the same scaling; of stride 2 without padding."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        kernel: int,
        *,
        stride: int = 1,
        bias: bool = True,
        gain: float = 1.0,
        bias_gain: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(w_out, w_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(w_out)) if bias else None
        self.weight_scale = gain / sqrt(w_in * kernel**2)
        self.bias_scale = gain if bias_gain is None else bias_gain
        self.stride, self.padding = stride, kernel // 2 if stride == 1 else 0

    def forward(self, inputs: Tensor) -> Tensor:
        bias = self.bias if self.bias is None or self.bias_scale == 1 else self.bias * self.bias_scale
        return conv2d(inputs, self.weight * self.weight_scale, bias, stride=self.stride, padding=self.padding)


class EqualizedUpConv(EqualizedConv):
    """Nearest-neighbour doubling, then a 3x3 convolution, as one transposed convolution with a 4x4 kernel.

    `weight` [O, I, 3, 3] is that of the convolution, flipped in both directions.
    """

    def __init__(
        self, w_in: int, w_out: int, *, bias: bool = True, gain: float, bias_gain: float | None = None
    ) -> None:
        super().__init__(w_in, w_out, 3, bias=bias, gain=gain, bias_gain=bias_gain)

    def forward(self, inputs: Tensor) -> Tensor:
        taps = self.weight * self.weight_scale
        kernel = F.avg_pool2d(taps, 2, stride=1, padding=1, divisor_override=1)  # each over its 2x2 pixels
        bias = self.bias if self.bias is None or self.bias_scale == 1 else self.bias * self.bias_scale
        return F.conv_transpose2d(inputs, kernel.transpose(0, 1), bias, stride=2, padding=1)


class EqualizedDownConv(EqualizedConv):
    """A 3x3 convolution, then the mean of 2x2 pixels, then the bias, as one convolution with a 4x4 kernel."""

    def __init__(self, w_in: int, w_out: int, *, gain: float, bias_gain: float | None = None) -> None:
        super().__init__(w_in, w_out, 3, gain=gain, bias_gain=bias_gain)

    def forward(self, inputs: Tensor) -> Tensor:
        kernel = F.avg_pool2d(self.weight * self.weight_scale, 2, stride=1, padding=1)
        assert self.bias is not None
        return conv2d(inputs, kernel, self.bias * self.bias_scale, stride=2, padding=1)
