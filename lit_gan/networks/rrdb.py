"""RRDBNet: residual-in-residual dense blocks without batch norm (Wang et al. 2018, arXiv:1809.00219).

As ESRGAN and Real-ESRGAN use it: what a block adds is scaled by 0.2, the dense layers start at a tenth of He's
deviation, and the size is doubled by nearest neighbours and a convolution. Scales of 2 and 1 fold the pixels of the
source into channels first (Wang et al. 2021, arXiv:2107.10833), so that all the work is done at a quarter of the output.
"""

from __future__ import annotations

from math import log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.reach import Step, conv, reach_of

BETA = 0.2  # residual scaling
DENSE = 5  # convolutions of a dense block
BLOCKS = 3  # dense blocks of an RRDB


class DenseBlock(nn.Module):
    """x + 0.2 f(x), where each layer of f reads all that came before it; [B, C, H, W] -> the same."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        widths = [growth] * (DENSE - 1) + [width]
        self.layers = nn.ModuleList(
            nn.Conv2d(width + i * growth, w_out, 3, padding=1) for i, w_out in enumerate(widths)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight)
            with torch.no_grad():
                layer.weight *= 0.1
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        known = [inputs]
        for layer in self.layers[:-1]:
            known.append(F.leaky_relu(layer(torch.cat(known, dim=1)), 0.2))
        found: Tensor = self.layers[-1](torch.cat(known, dim=1))
        return inputs + BETA * found


class RRDB(nn.Module):
    """x + 0.2 of three dense blocks in a row."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(width, growth) for _ in range(BLOCKS)))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.blocks(inputs)
        return inputs + BETA * found


class RRDBNet(nn.Module):
    """[B, Cs, H, W] in [-1, 1] -> [B, C, scale H, scale W] around [-1, 1]; inside pixels are in [0, 1], as in the papers.

    `scale` is 1, 2, 4 or 8; H and W are multiples of `stride`.
    """

    def __init__(
        self, source_channels: int, channels: int, scale: int, *, width: int, blocks: int, growth: int
    ) -> None:
        super().__init__()
        self.stride = max(4 // scale, 1)
        doublings = int(log2(scale * self.stride))
        self.first = nn.Conv2d(source_channels * self.stride**2, width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)))
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.ups = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(doublings))
        self.smooth = nn.Conv2d(width, width, 3, padding=1)
        self.to_image = nn.Conv2d(width, channels, 3, padding=1)
        self.steps = [
            Step("down", self.stride),
            conv(2 + blocks * BLOCKS * DENSE),
            *[Step("up", 2), conv(1)] * doublings,
            conv(2),
        ]

    @property
    def reach(self) -> int:
        """In pixels of the source."""
        return reach_of(self.steps)

    def forward(self, source: Tensor) -> Tensor:
        pixels = (source + 1) / 2
        folded = F.pixel_unshuffle(pixels, self.stride) if self.stride > 1 else pixels
        features = self.first(folded)
        h = features + self.last(self.body(features))
        for up in self.ups:
            h = F.leaky_relu(up(F.interpolate(h, scale_factor=2, mode="nearest")), 0.2)
        made: Tensor = self.to_image(F.leaky_relu(self.smooth(h), 0.2))
        return made * 2 - 1
