"""The ResNets of WGAN-GP, SNGAN and SAGAN: a generator that doubles, a projection discriminator that halves."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.conv import channels_last
from lit_gan.networks.norm import ClassNorm
from lit_gan.networks.residual import Block, Conv, DownBlock, FirstBlock, UpBlock, init_uniform
from lit_gan.networks.self_attention import SelfAttention, place_of
from lit_gan.networks.shape import Pyramid
from lit_gan.networks.spectral import Embedding, Linear

SMALL = 32  # pixels up to which all layers of a network are of one width, as in the papers' CIFAR-10 networks


def is_small(base: Pyramid) -> bool:
    """Whether images of this pyramid take the papers' networks for CIFAR-10."""
    return max(base.size(base.stages)) <= SMALL


def generator_widths(base: Pyramid, width: int | None, max_width: int) -> list[int]:
    """Maps from the base grid up to the image: 256 each, or 64 at the image and twice as many at each halving."""
    if is_small(base):
        return [256 if width is None else width] * (base.stages + 1)
    outer = 64 if width is None else width
    return [min(outer << stage, max_width) for stage in reversed(range(base.stages + 1))]


def discriminator_widths(base: Pyramid, width: int | None, max_width: int) -> tuple[list[int], int]:
    """Maps behind each block, and how many of the blocks halve: 128 each, or 64 at first and then doubling.

    In small images two blocks more than halve and a larger last grid; else one, and a grid that cannot be halved above 3.
    """
    if is_small(base):
        halving = max(base.stages - 1, 1)
        return [128 if width is None else width] * (halving + 2), halving
    outer = 64 if width is None else width
    grid = (base.height, base.width)
    halving = base.stages + int(min(grid) > 4 and not any(side % 2 for side in grid))  # 48 px: 6x6, then 3x3
    return [min(outer << stage, max_width) for stage in range(halving + 1)], halving


class Generator(nn.Module):
    """[B, Z] (and labels [B]) -> [B, C, H, W] in [-1, 1].

    `widths` are the maps from the base grid up; with `attention`, self-attention at that side (see `place_of`).
    """

    def __init__(
        self,
        base: Pyramid,
        channels: int,
        latent_dim: int,
        widths: list[int],
        num_classes: int,
        *,
        spectral: bool = False,
        attention: int = 0,
    ) -> None:
        super().__init__()
        self.shape = (widths[0], base.height, base.width)
        self.project = Linear(latent_dim, prod(self.shape), spectral=spectral)
        init_uniform(self.project.weight, gain=1.0)
        nn.init.zeros_(self.project.bias)
        norm = partial(ClassNorm, num_classes=num_classes)
        self.blocks = nn.ModuleList(
            UpBlock(w_in, w_out, norm, spectral=spectral) for w_in, w_out in pairwise(widths)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_image = Conv(widths[-1], channels, 3, spectral=spectral)
        self.place = place_of(attention, [min(base.size(stage + 1)) for stage in range(base.stages)])
        if self.place is not None:
            self.attention = SelfAttention(widths[self.place + 1])

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        h = self.project(z).unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            h = block(h, label)
            if i == self.place:
                h = self.attention(h)
        return torch.tanh(self.to_image(F.relu(self.norm(h))))


class Discriminator(nn.Module):
    """[B, C, H, W] (and labels [B]) -> logits [B]; spectral norm in every layer, none that mixes samples.

    D(x, y) = w·h + b + e_y·h with h summed over places: the projection of Miyato & Koyama 2018 (arXiv:1802.05637).
    `halving` of the blocks halve. With `wide`, a block widens in its first convolution instead of its second.
    """

    def __init__(
        self,
        base: Pyramid,
        channels: int,
        widths: list[int],
        halving: int,
        num_classes: int,
        *,
        wide: bool = False,
        attention: int = 0,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = [FirstBlock(channels, widths[0], spectral=True)]
        for i, (w_in, w_out) in enumerate(pairwise(widths), start=1):
            kind: type[DownBlock] | type[Block] = DownBlock if i < halving else Block
            blocks.append(kind(w_in, w_out, hidden=w_out if wide else w_in, spectral=True))
        self.blocks = nn.ModuleList(blocks)
        side = min(base.size(base.stages))
        self.place = place_of(attention, [side >> min(i + 1, halving) for i in range(len(widths))])
        if self.place is not None:
            self.attention = SelfAttention(widths[self.place])
        self.head = Linear(widths[-1], 1, spectral=True)
        init_uniform(self.head.weight, gain=1.0)
        nn.init.zeros_(self.head.bias)
        self.embed = Embedding(num_classes, widths[-1], spectral=True) if num_classes else None
        if self.embed is not None:
            init_uniform(self.embed.weight, gain=1.0)

    def in_order(self) -> list[nn.Module]:
        """Its parts from the image to the logit."""
        parts = list(self.blocks)
        if self.place is not None:
            parts.insert(self.place + 1, self.attention)
        return [*parts, self.head, *([] if self.embed is None else [self.embed])]

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        h = channels_last(images)
        for i, block in enumerate(self.blocks):
            h = block(h)
            if i == self.place:
                h = self.attention(h)
        with torch.autocast(h.device.type, enabled=False):
            h = F.relu(h.float()).sum((2, 3))  # [B, F]
            logits: Tensor = self.head(h).squeeze(1)
            if self.embed is None:
                return logits
            assert label is not None
            projected: Tensor = (self.embed(label) * h).sum(1)
            return logits + projected
