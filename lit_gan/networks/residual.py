"""Residual blocks of the ResNet GANs: WGAN-GP's (Gulrajani et al. 2017), and after it SNGAN's, SAGAN's and BigGAN's.

A resampling next to a 3x3 convolution is folded into the kernel: the same function with 4/9 of the arithmetic. With
`spectral`, every weight is normalised as it is, before that.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt

from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.conv import Conv2d, conv2d
from lit_gan.networks.spectral import spectral_norm

Norm = Callable[[int], nn.Module]  # makes the batch norm of so many maps; called with them and a condition


def init_uniform(weight: Tensor, *, gain: float) -> None:
    """Uniform, variance 2 gain² / (fan_in + fan_out): gain sqrt(2) around a ReLU (He), 1 else (Glorot)."""
    area = prod(weight.shape[2:])
    bound = gain * sqrt(3 * 2 / ((weight.shape[0] + weight.shape[1]) * area))
    nn.init.uniform_(weight, -bound, bound)


class Conv(Conv2d):
    """A convolution that keeps the size."""

    def __init__(
        self,
        w_in: int,
        w_out: int,
        kernel: int,
        *,
        gain: float = 1.0,
        bias: bool = True,
        spectral: bool = False,
    ) -> None:
        super().__init__(w_in, w_out, kernel, padding=kernel // 2, bias=bias)
        init_uniform(self.weight, gain=gain)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.spectral = spectral_norm(w_out, spectral)

    def forward(self, inputs: Tensor) -> Tensor:
        return conv2d(inputs, self.spectral(self.weight), self.bias, padding=self.kernel_size[0] // 2)


class UpConv(nn.ConvTranspose2d):
    """Nearest-neighbour doubling, then a 3x3 convolution, as one transposed convolution with a 4x4 kernel.

    `weight` [I, O, 3, 3] is that of the convolution, flipped in both directions.
    """

    def __init__(self, w_in: int, w_out: int, *, spectral: bool = False) -> None:
        super().__init__(w_in, w_out, 3)
        init_uniform(self.weight, gain=sqrt(2))
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.spectral = spectral_norm(w_out, spectral, axis=1)

    def forward(self, inputs: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight = self.spectral(self.weight)
        kernel = F.avg_pool2d(
            weight, 2, stride=1, padding=1, divisor_override=1
        )  # each tap over its 2x2 pixels
        return F.conv_transpose2d(inputs, kernel, self.bias, stride=2, padding=1)


class DownConv(Conv):
    """A 3x3 convolution, then the mean of 2x2 pixels, as one convolution with a 4x4 kernel."""

    def __init__(self, w_in: int, w_out: int, *, spectral: bool = False) -> None:
        super().__init__(w_in, w_out, 3, gain=sqrt(2), spectral=spectral)

    def forward(self, inputs: Tensor) -> Tensor:
        kernel = F.avg_pool2d(self.spectral(self.weight), 2, stride=1, padding=1)
        return conv2d(inputs, kernel, self.bias, stride=2, padding=1)


class UpBlock(nn.Module):
    """Norm, ReLU, doubling and 3x3, norm, ReLU, 3x3; beside it a 1x1 convolution."""

    def __init__(self, w_in: int, w_out: int, norm: Norm, *, spectral: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(w_in), norm(w_out)
        self.conv1 = UpConv(w_in, w_out, spectral=spectral)
        self.conv2 = Conv(w_out, w_out, 3, gain=sqrt(2), spectral=spectral)
        self.shortcut = Conv(w_in, w_out, 1, spectral=spectral)

    def forward(self, inputs: Tensor, condition: Tensor | None) -> Tensor:
        h: Tensor = self.conv1(F.relu(self.norm1(inputs, condition)))
        h = self.conv2(F.relu(self.norm2(h, condition)))
        # 1x1 before doubling: it commutes, at a quarter of the cost.
        shortcut: Tensor = F.interpolate(self.shortcut(inputs), scale_factor=2, mode="nearest")
        return shortcut + h


class FirstBlock(nn.Module):
    """3x3, ReLU, 3x3, mean-pool: no activation before the image. Beside it mean-pool, 1x1."""

    def __init__(self, channels: int, width: int, *, spectral: bool = False) -> None:
        super().__init__()
        self.conv1 = Conv(channels, width, 3, gain=sqrt(2), spectral=spectral)
        self.conv2 = DownConv(width, width, spectral=spectral)
        self.shortcut = Conv(channels, width, 1, spectral=spectral)

    def forward(self, inputs: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.relu(self.conv1(inputs)))
        shortcut: Tensor = self.shortcut(F.avg_pool2d(inputs, 2))
        return h + shortcut


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, mean-pool; beside it 1x1 and mean-pool, which commute.

    Between the 3x3 convolutions there are `hidden` maps, as many as come in unless given.
    """

    def __init__(self, w_in: int, w_out: int, *, hidden: int | None = None, spectral: bool = False) -> None:
        super().__init__()
        hidden = w_in if hidden is None else hidden
        self.conv1 = Conv(w_in, hidden, 3, gain=sqrt(2), spectral=spectral)
        self.conv2 = DownConv(hidden, w_out, spectral=spectral)
        self.shortcut = Conv(w_in, w_out, 1, spectral=spectral)

    def forward(self, inputs: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.relu(self.conv1(F.relu(inputs))))
        shortcut: Tensor = self.shortcut(F.avg_pool2d(inputs, 2))
        return h + shortcut


class Block(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, plus the input, through a 1x1 convolution where the number of maps changes."""

    def __init__(self, w_in: int, w_out: int, *, hidden: int | None = None, spectral: bool = False) -> None:
        super().__init__()
        hidden = w_in if hidden is None else hidden
        self.conv1 = Conv(w_in, hidden, 3, gain=sqrt(2), spectral=spectral)
        self.conv2 = Conv(hidden, w_out, 3, gain=sqrt(2), spectral=spectral)
        self.shortcut = Conv(w_in, w_out, 1, spectral=spectral) if w_in != w_out else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.relu(self.conv1(F.relu(inputs))))
        shortcut: Tensor = self.shortcut(inputs)
        return h + shortcut
