"""Resampling by two with the filter [1, 3, 3, 1] in each direction, the one of StyleGAN2 and of R3GAN.

Written with operations that are fast in channels_last on CPUs and GPUs alike, without kernels of our own:
polyphase form shows that bilinear interpolation *is* that filter, and that box averaging after [1, 2, 1] is
its adjoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.conv import conv2d


def up(images: Tensor) -> Tensor:
    """Twice the size, [B, C, H, W] -> [B, C, 2H, 2W]; constants stay, edges are continued, not darkened."""
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


class Blur(nn.Module):
    """A depthwise low-pass filter with zero padding: output side = side + 2 * padding + 1 - len(taps).

    `taps` are one row of the separable filter; they are normalised to sum `gain`.
    """

    kernel: Tensor

    def __init__(self, channels: int, taps: tuple[int, ...], *, padding: int, gain: float = 1.0) -> None:
        super().__init__()
        row = torch.tensor(taps, dtype=torch.float32)
        kernel = torch.outer(row, row) * (gain / row.sum() ** 2)
        # Not persistent: it is no state. Contiguous, not expanded: convolutions would copy it each time.
        self.register_buffer("kernel", kernel.repeat(channels, 1, 1, 1), persistent=False)  # [C, 1, k, k]
        self.padding = padding

    def forward(self, images: Tensor) -> Tensor:
        kernel = self.kernel.to(images.dtype)
        return conv2d(images, kernel, padding=self.padding, groups=len(kernel))


class Down(nn.Module):
    """Half the size, [B, C, H, W] -> [B, C, H/2, W/2]; in the interior a quarter of the adjoint of `up`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blur = Blur(channels, (1, 2, 1), padding=1)

    def forward(self, images: Tensor) -> Tensor:
        # One depthwise convolution of stride 2 would do, if its bfloat16 gradient were not very slow on CPUs.
        return F.avg_pool2d(self.blur(images), 2)
