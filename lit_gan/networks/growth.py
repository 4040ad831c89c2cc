"""Progressive growing: networks that begin small and fade in one doubling after another.

Karras et al. 2018, arXiv:1710.10196, section 2 and appendix A. As in the official code, images keep their full
size throughout: at a stage below the last, those of the generator and the reals are enlarged by repeating pixels,
and the discriminator pools them down again. So nothing around the networks has to know how far they have grown.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lit_gan.networks.conv import channels_last
from lit_gan.networks.equalized import SQRT2, EqualizedConv, EqualizedDownConv, EqualizedLinear, lrelu
from lit_gan.networks.minibatch import minibatch_std
from lit_gan.networks.resample import Blur
from lit_gan.networks.shape import Pyramid, widths_of

Player = Literal["d", "g"]
Stage = tuple[
    int, Tensor | None
]  # doublings of the base grid; the share alpha [] of the last, while it fades in


@dataclass(frozen=True)
class Growth:
    """When networks grow from `first` to `last` doublings of their base grid, in images seen.

    Each stage is trained for `stable` images, and the next one then fades in over `fade` images. With 0 and 0 nothing
    grows. `lr_factors`, by stage, multiply the learning rates; the last one holds on.
    """

    first: int
    last: int
    stable: int
    fade: int
    lr_factors: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"first_stage must be 0 to {self.last} for these images, got {self.first}")
        if self.stable < 0 or self.fade < 0:
            raise ValueError(f"stable_images and fade_images must be >= 0, got {self.stable} and {self.fade}")
        if not self.lr_factors or min(self.lr_factors) <= 0:
            raise ValueError(f"lr_factors must be one or more numbers > 0, got {list(self.lr_factors)}")

    def at(self, images_seen: int) -> tuple[int, float]:
        """The stage and its share alpha in (0, 1], 1 where nothing fades in."""
        period = self.stable + self.fade
        grown = images_seen // period if period else self.last
        if self.first + grown >= self.last:
            return self.last, 1.0
        faded = images_seen - grown * period - self.stable
        if faded <= 0:
            return self.first + grown, 1.0
        return self.first + grown + 1, faded / self.fade

    @property
    def grows(self) -> bool:
        """Whether training begins before the last stage."""
        return self.at(0) != (self.last, 1.0)

    def phase(self, images_seen: int) -> int:
        """A number that changes where a fade begins and where it ends, and nowhere else."""
        stage, alpha = self.at(images_seen)
        return 2 * stage - int(alpha < 1)

    def adjust(self, player: Player, optimizer: Optimizer, images_seen: int) -> None:
        """Before a step: the stage's learning rate, and in a new phase moments that start anew, as in the official code.

        What the last phase was is kept in the optimiser's groups, and so in checkpoints. Graphs of `torch.compile` go
        with the phase, or the last and longest one would find dynamo's eight places taken and run eagerly; the
        generator, which steps after its images are counted, is the first to enter a phase.
        """
        stage, phase = self.at(images_seen)[0], self.phase(images_seen)
        before = optimizer.param_groups[0].get("phase", phase)
        for group in optimizer.param_groups:
            group["phase"] = phase
            group["lr"] = group["lr"] * self.lr_factors[min(stage, len(self.lr_factors) - 1)]
        if phase != before:
            optimizer.state.clear()
            if player == "g" and "torch._dynamo" in sys.modules:
                torch.compiler.reset()

    def stage(self, images_seen: int, device: torch.device) -> Stage:
        """What the networks take: alpha as a tensor, which `torch.compile` need not know."""
        stage, alpha = self.at(images_seen)
        return stage, torch.full((), alpha, device=device) if alpha < 1 else None

    def shrunk(self, images: Tensor, stage: int, alpha: Tensor | None) -> Tensor:
        """Reals as the stage can show them, in full size: what fades in does so in them too."""
        seen = pooled(images, self.last - stage)
        if alpha is not None:
            seen = blended(enlarged(pooled(seen, 1), 1), seen, alpha)
        return enlarged(seen, self.last - stage)


def blended(old: Tensor, new: Tensor, alpha: Tensor) -> Tensor:
    """(1 - alpha) old + alpha new; exactly `old` at 0."""
    return torch.lerp(old.to(new.dtype), new, alpha.to(new.dtype))


def pooled(images: Tensor, halvings: int) -> Tensor:
    """[B, C, H, W] -> [B, C, H / 2**halvings, W / 2**halvings], means of squares."""
    return F.avg_pool2d(images, 1 << halvings) if halvings else images


def enlarged(images: Tensor, doublings: int) -> Tensor:
    """[B, C, H, W] -> [B, C, H * 2**doublings, W * 2**doublings], by repeating pixels."""
    return F.interpolate(images, scale_factor=1 << doublings, mode="nearest") if doublings else images


class Block(nn.Module):
    """Two 3x3 convolutions, the second halving: [B, I, H, W] -> [B, O, H/2, W/2]; blurred in between for StyleGAN."""

    def __init__(self, w_in: int, w_out: int, *, blur: bool) -> None:
        super().__init__()
        self.conv1 = EqualizedConv(w_in, w_in, 3, gain=SQRT2, bias_gain=1.0)
        self.blur = Blur(w_in, (1, 2, 1), padding=1) if blur else nn.Identity()
        self.conv2 = EqualizedDownConv(w_in, w_out, gain=SQRT2, bias_gain=1.0)

    def forward(self, inputs: Tensor) -> Tensor:
        return lrelu(self.conv2(self.blur(lrelu(self.conv1(inputs)))))


class GrowingDiscriminator(nn.Module):
    """[B, C, H, W] in full size -> [B, `outputs`]: the discriminator of ProGAN, and with `blur` that of StyleGAN.

    It has the layers of all stages from the start; without a stage it is grown up.
    """

    def __init__(
        self,
        channels: int,
        base: Pyramid,
        *,
        width: int,
        max_width: int,
        group: int,
        outputs: int = 1,
        blur: bool = False,
    ) -> None:
        super().__init__()
        widths = widths_of(base, width, max_width)
        self.from_images = nn.ModuleList(
            EqualizedConv(channels, maps, 1, gain=SQRT2, bias_gain=1.0) for maps in widths
        )
        # blocks[stage - 1] leads from a stage to the one before
        self.blocks = nn.ModuleList(Block(w_in, w_out, blur=blur) for w_out, w_in in pairwise(widths))
        self.group = group
        self.conv = EqualizedConv(widths[0] + 1, widths[0], 3, gain=SQRT2, bias_gain=1.0)
        self.dense = EqualizedLinear(
            widths[0] * base.height * base.width, widths[0], gain=SQRT2, bias_gain=1.0
        )
        self.head = EqualizedLinear(widths[0], outputs)

    def in_order(self) -> list[nn.Module]:
        """Its parts from the image to the logit, grown up."""
        return [self.from_images[-1], *reversed(self.blocks), self.conv, self.dense, self.head]

    def forward(self, images: Tensor, stage: int | None = None, alpha: Tensor | None = None) -> Tensor:
        last = len(self.blocks)
        stage = last if stage is None else stage
        seen = channels_last(pooled(images, last - stage))
        h = lrelu(self.from_images[stage](seen))
        for i in range(stage, 0, -1):
            h = self.blocks[i - 1](h)
            if i == stage and alpha is not None:
                h = blended(lrelu(self.from_images[stage - 1](pooled(seen, 1))), h, alpha)
        h = lrelu(self.conv(minibatch_std(h, self.group)))
        h = lrelu(self.dense(h.flatten(1)))
        with torch.autocast(h.device.type, enabled=False):
            scores: Tensor = self.head(h.to(self.head.weight.dtype))
        return scores
