"""WGAN-GP: a critic held to slope 1 by a gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028).

The residual networks of the paper's CIFAR-10 experiments (appendix F), with everything around them: five
critic steps per generator step, a generator batch of twice the critic's, dequantised reals, no normalisation
in the critic. `conditional` adds what its labelled rows have: class-conditional batch norm in the generator
and an AC-GAN head (arXiv:1610.09585) on the critic, on reals with weight 1 and on fakes with 0.1.

A resampling next to a 3x3 convolution is folded into the kernel: the same function with 4/9 of the
arithmetic. Other sizes than 32x32 keep the rule: the generator doubles from the base grid, the critic halves
once less, then two blocks. Differs: the generator's labels are the batch's, so that they follow the data's
frequencies, where the paper's are uniform.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.conv import Conv2d, channels_last, conv2d
from lit_gan.networks.logits import Logits
from lit_gan.networks.shape import pyramid
from lit_gan.penalties import interpolate, one_centred
from lit_gan.settings import Optim


def init_uniform(weight: Tensor, *, gain: float) -> None:
    """Uniform, variance 2 gain² / (fan_in + fan_out): gain sqrt(2) around a ReLU (He), 1 else (Glorot)."""
    area = prod(weight.shape[2:])
    bound = gain * sqrt(3 * 2 / ((weight.shape[0] + weight.shape[1]) * area))
    nn.init.uniform_(weight, -bound, bound)


class Conv(Conv2d):
    """A convolution with bias that keeps the size."""

    def __init__(self, w_in: int, w_out: int, kernel: int, *, gain: float = 1.0) -> None:
        super().__init__(w_in, w_out, kernel, padding=kernel // 2)
        init_uniform(self.weight, gain=gain)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]


class UpConv(Conv):
    """Nearest-neighbour doubling, then a 3x3 convolution, as one transposed convolution with a 4x4 kernel.

    `weight` [I, O, 3, 3] is that of the convolution, flipped in both directions.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, gain=sqrt(2))

    def forward(self, inputs: Tensor) -> Tensor:
        kernel = F.avg_pool2d(
            self.weight, 2, stride=1, padding=1, divisor_override=1
        )  # each tap over its 2x2 pixels
        return F.conv_transpose2d(inputs, kernel, self.bias, stride=2, padding=1)


class DownConv(Conv):
    """A 3x3 convolution, then the mean of 2x2 pixels, as one convolution with a 4x4 kernel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, gain=sqrt(2))

    def forward(self, inputs: Tensor) -> Tensor:
        kernel = F.avg_pool2d(self.weight, 2, stride=1, padding=1)
        return conv2d(inputs, kernel, self.bias, stride=2, padding=1)


class ClassNorm(nn.BatchNorm2d):
    """Batch norm whose gain and shift are learned per class; plain where there are no classes."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__(width, affine=num_classes == 0)
        if num_classes:
            self.gain = nn.Parameter(torch.ones(num_classes, width))
            self.shift = nn.Parameter(torch.zeros(num_classes, width))

    def forward(self, inputs: Tensor, label: Tensor | None = None) -> Tensor:
        normal = super().forward(inputs)
        if self.affine:
            return normal
        assert label is not None
        gain, shift = self.gain[label, :, None, None], self.shift[label, :, None, None]  # [B, C, 1, 1]
        return torch.addcmul(shift.to(normal.dtype), gain.to(normal.dtype), normal)


class UpBlock(nn.Module):
    """Norm, ReLU, doubling and 3x3, norm, ReLU, 3x3; beside it a 1x1 convolution."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ClassNorm(width, num_classes), ClassNorm(width, num_classes)
        self.conv1, self.conv2 = UpConv(width), Conv(width, width, 3, gain=sqrt(2))
        self.shortcut = Conv(width, width, 1)

    def forward(self, inputs: Tensor, label: Tensor | None) -> Tensor:
        h: Tensor = self.conv1(F.relu(self.norm1(inputs, label)))
        h = self.conv2(F.relu(self.norm2(h, label)))
        # 1x1 before doubling: it commutes, at a quarter of the cost.
        shortcut: Tensor = F.interpolate(self.shortcut(inputs), scale_factor=2, mode="nearest")
        return shortcut + h


class Generator(nn.Module):
    """[B, Z] (and labels [B]) -> [B, C, H, W] in [-1, 1]."""

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int, width: int, num_classes: int
    ) -> None:
        super().__init__()
        base = pyramid(image_shape, variant="wgan-gp")
        self.shape = (width, base.height, base.width)
        self.project = nn.Linear(latent_dim, prod(self.shape))
        init_uniform(self.project.weight, gain=1.0)
        nn.init.zeros_(self.project.bias)
        self.blocks = nn.ModuleList(UpBlock(width, num_classes) for _ in range(base.stages))
        self.norm = nn.BatchNorm2d(width)
        self.to_image = Conv(width, image_shape[0], 3)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        h = self.project(z).unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            h = block(h, label)
        return torch.tanh(self.to_image(F.relu(self.norm(h))))


class FirstBlock(nn.Module):
    """3x3, ReLU, 3x3, mean-pool: no activation before the image. Beside it mean-pool, 1x1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(channels, width, 3, gain=sqrt(2)), DownConv(width)
        self.shortcut = Conv(channels, width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.relu(self.conv1(inputs)))
        shortcut: Tensor = self.shortcut(F.avg_pool2d(inputs, 2))
        return h + shortcut


class DownBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, mean-pool; beside it 1x1 and mean-pool, which commute."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(width, width, 3, gain=sqrt(2)), DownConv(width)
        self.shortcut = Conv(width, width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.relu(self.conv1(F.relu(inputs))))
        shortcut: Tensor = self.shortcut(F.avg_pool2d(inputs, 2))
        return h + shortcut


class Block(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(width, width, 3, gain=sqrt(2)), Conv(width, width, 3, gain=sqrt(2))

    def forward(self, inputs: Tensor) -> Tensor:
        h: Tensor = self.conv2(F.relu(self.conv1(F.relu(inputs))))
        return h + inputs


class Critic(nn.Sequential):
    """[B, C, H, W] -> [B, 1 + K]: the critic's value, then the logits of K classes, if any."""

    def __init__(self, image_shape: tuple[int, int, int], width: int, num_classes: int) -> None:
        base = pyramid(image_shape, variant="wgan-gp")
        downs = [DownBlock(width) for _ in range(base.stages - 2)]
        head = Logits(width, 1 + num_classes)
        init_uniform(head.weight[:1].detach(), gain=1.0)
        init_uniform(head.weight[1:].detach(), gain=1.0)
        nn.init.zeros_(head.bias)
        tail = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head]
        super().__init__(FirstBlock(image_shape[0], width), *downs, Block(width), Block(width), *tail)

    def forward(self, images: Tensor) -> Tensor:
        h = channels_last(images)
        for layer in self:
            h = layer(h)
        return h


class WGANGP(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=2e-4, beta1=0.0, beta2=0.9, d_steps_per_g_step=5)
    relative: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 0,
        conditional: bool = False,  # on the label: class-conditional batch norm and an AC-GAN head
        latent_dim: int = 128,
        width: int = 128,  # maps of every layer of the generator
        d_width: int | None = None,  # of the critic; null: width
        gp_weight: float = 10.0,  # lambda
        d_class_weight: float = 1.0,  # cross-entropy of reals in the critic's loss
        g_class_weight: float = 0.1,  # cross-entropy of fakes in the generator's loss
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        classes = self.condition(conditional, num_classes)
        self.loss = LOSSES["wasserstein"]
        self.latent_dim = latent_dim
        self.gp_weight, self.d_class_weight, self.g_class_weight = gp_weight, d_class_weight, g_class_weight
        self.generator = Generator(image_shape, latent_dim, width, classes)
        self.discriminator = Critic(image_shape, width if d_width is None else d_width, classes)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        real = dequantised(batch["image"])  # [B, C, H, W]
        with torch.no_grad():
            fake = self.fakes(batch).to(real.dtype)
        seen = self.shown(torch.cat([real, fake]))
        real_scores, fake_scores = self.discriminator(seen).chunk(2)  # no norm: one pass for both
        self.observe(real_scores[:, 0], fake_scores[:, 0])
        terms = {"adversarial": self.loss.discriminator(real_scores[:, 0], fake_scores[:, 0])}
        x_hat = interpolate(*seen.chunk(2))
        with self.exact():
            terms["gradient_penalty"] = self.gp_weight * one_centred(self.discriminator(x_hat)[:, 0], x_hat)
        if self.conditional:
            terms["class"] = self.d_class_weight * F.cross_entropy(real_scores[:, 1:].float(), batch["label"])
        return terms

    def generator_loss(self, batch: Batch) -> Losses:
        z = torch.cat(
            [self.latents(batch), self.latents(batch)]
        )  # [2B, Z]: a generator batch of twice the critic's
        label = batch["label"].repeat(2) if self.conditional else None
        scores = self.discriminator(self.shown(self.generator(z, label)))
        terms = {"adversarial": self.loss.generator(scores[:, 0])}
        if label is not None:
            terms["class"] = self.g_class_weight * F.cross_entropy(scores[:, 1:].float(), label)
        return terms

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        scores: Tensor = self.discriminator(images)
        return scores[:, 0]

    def fakes(self, batch: Batch) -> Tensor:
        fake: Tensor = self.generator(self.latents(batch), self.label(batch))
        return fake

    def generate(self, batch: Batch) -> Tensor:
        fake: Tensor = self.sampler(batch["z"], self.label(batch))
        return fake


def dequantised(real: Tensor) -> Tensor:
    """Images of 256 levels in [-1, 1] plus uniform noise one level wide, still in [-1, 1]."""
    return (real * 255 - 1) / 256 + torch.rand_like(real) / 128
