"""R3GAN: a relativistic loss, two penalties, a plain modern network (Huang et al. 2024, arXiv:2501.05441).

Configuration E of the paper: the loss of relativistic pairs, R1 and R2 in every step, grouped residual blocks
without normalisation and with fixed-up initialisation, a learned basis at the lowest resolution, bilinear
resampling; learning rate (`optim.lr_schedule=cosine`), beta2, gamma and the EMA's half-life follow half a
cosine over `optim.decay_images` and stay, and without `decay_images` stand at their end from the beginning.
`conditional` embeds the label in both players.

Its augmentation, ADA's transforms with p on the same curve, is `augment.*` as configs/experiment/r3gan-cifar10.yaml
sets it. Differs: the two images of a pair are augmented alike, as in the authors' later R3GAN2, where the paper's code
draws for each by itself; doubling continues edges, where the official filter pads zeros; the discriminator step is in
float32 throughout, penalties and all. Written from the paper; any number of channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lit_gan.errors import UserError
from lit_gan.losses import relativistic_discriminator, relativistic_generator
from lit_gan.module import AdversarialModule, Batch, Losses, Player
from lit_gan.networks.conv import Conv2d, channels_last
from lit_gan.networks.resample import Down, up
from lit_gan.networks.shape import Pyramid, pyramid
from lit_gan.networks.spectral import Embedding
from lit_gan.penalties import OWN
from lit_gan.schedules import cosine
from lit_gan.settings import Optim

EXPANSION = 2  # of the grouped convolution over the block's width


def conv(w_in: int, w_out: int, kernel: int, *, gain: float, groups: int = 1, bias: bool = False) -> Conv2d:
    """A convolution that keeps the size, its weights from N(0, gain² / fan_in), its biases 0."""
    layer = Conv2d(w_in, w_out, kernel, padding=kernel // 2, groups=groups, bias=bias)
    nn.init.normal_(layer.weight, 0.0, gain / sqrt(w_in // groups * kernel**2))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(features: int, units: int) -> nn.Linear:
    """A linear layer without bias, its weights from N(0, 1 / fan_in)."""
    layer = nn.Linear(features, units, bias=False)
    nn.init.normal_(layer.weight, 0.0, 1 / sqrt(features))
    return layer


class Block(nn.Module):
    """x + 1x1(act(grouped 3x3(act(1x1(x))))), [B, C, H, W] -> the same; the identity before training.

    `total` blocks in the network: their branches start the smaller the more there are (Zhang et al. 2019,
    arXiv:1901.09321, with three layers per branch).
    """

    def __init__(self, width: int, group_width: int, total: int) -> None:
        super().__init__()
        inner = EXPANSION * width
        gain = sqrt(2 / (1 + 0.2**2)) * total ** (-1 / 4)
        self.expand = conv(width, inner, 1, gain=gain, bias=True)
        self.spread = conv(inner, inner, 3, gain=gain, groups=inner // group_width, bias=True)
        self.contract = conv(inner, width, 1, gain=0.0)

    def forward(self, inputs: Tensor) -> Tensor:
        h = F.leaky_relu(self.expand(inputs), 0.2)
        h = F.leaky_relu(self.spread(h), 0.2)
        contracted: Tensor = self.contract(h)
        return inputs + contracted


class UpStage(nn.Module):
    """Twice the size: a 1x1 where the width changes, then the filter."""

    def __init__(self, w_in: int, w_out: int) -> None:
        super().__init__()
        self.match = conv(w_in, w_out, 1, gain=1.0) if w_in != w_out else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        return up(self.match(inputs))


def down_stage(w_in: int, w_out: int) -> nn.Sequential:
    """Half the size: the filter, then a 1x1 where the width changes."""
    return nn.Sequential(Down(w_in), conv(w_in, w_out, 1, gain=1.0) if w_in != w_out else nn.Identity())


class Generator(nn.Module):
    """z [B, Z] (and labels [B]) -> images [B, C, H, W], around [-1, 1] but not bounded."""

    def __init__(
        self,
        base: Pyramid,
        channels: int,
        num_classes: int,
        latent_dim: int,
        widths: list[int],
        blocks: int,
        group_width: int,
    ) -> None:
        super().__init__()
        total = blocks * len(widths)
        self.embed = (
            class_embedding(num_classes, latent_dim, std=1 / sqrt(num_classes)) if num_classes else None
        )
        self.basis = nn.Parameter(torch.randn(widths[0], base.height, base.width))
        self.coefficients = linear(latent_dim * (2 if num_classes else 1), widths[0])
        layers: list[nn.Module] = []
        for stage, width in enumerate(widths):
            if stage:
                layers.append(UpStage(widths[stage - 1], width))
            layers += [Block(width, group_width, total) for _ in range(blocks)]
        self.body = nn.Sequential(*layers, conv(widths[-1], channels, 1, gain=1.0))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat([z, self.embed(label)], dim=1)
        coefficients: Tensor = self.coefficients(z)  # [B, C]
        h = coefficients[:, :, None, None] * self.basis.to(coefficients.dtype)
        images: Tensor = self.body(h.contiguous(memory_format=torch.channels_last))
        return images


class Discriminator(nn.Module):
    """The mirror image: [B, C, H, W] (and labels [B]) -> logits [B]. No layer mixes samples."""

    def __init__(
        self, base: Pyramid, channels: int, num_classes: int, widths: list[int], blocks: int, group_width: int
    ) -> None:
        super().__init__()
        total = blocks * len(widths)
        layers: list[nn.Module] = [conv(channels, widths[-1], 1, gain=1.0)]
        for stage in reversed(range(len(widths))):
            layers += [Block(widths[stage], group_width, total) for _ in range(blocks)]
            if stage:
                layers.append(down_stage(widths[stage], widths[stage - 1]))
        self.body = nn.Sequential(*layers)
        area = base.height * base.width
        self.basis = nn.Parameter(torch.randn(widths[0], base.height, base.width) / sqrt(area))
        self.head = linear(widths[0], widths[0] if num_classes else 1)
        self.embed: Embedding | None = None
        if num_classes:
            self.embed = class_embedding(num_classes, widths[0], std=1 / sqrt(num_classes * widths[0]))

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        h = self.body(channels_last(images))
        with torch.autocast(h.device.type, enabled=False):
            h = (h.float() * self.basis).sum((2, 3))  # a depthwise convolution over the whole grid: [B, C]
            out: Tensor = self.head(h)
            return out.squeeze(1) if self.embed is None else (out * self.embed(label)).sum(1)


def class_embedding(num_classes: int, features: int, *, std: float) -> Embedding:
    """A linear layer on one-hot labels, or on vectors, without bias."""
    embedding = Embedding(num_classes, features)
    nn.init.normal_(embedding.weight, 0.0, std)
    return embedding


class R3GAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=2e-4,
        beta1=0.0,
        beta2=0.9,
        lr_schedule="cosine",
        lr_end=0.25,
        decay_images=20_000_000,
        ema_half_life=5_000_000.0,
        ema_ramp=None,
    )
    fresh_reals_for_generator: ClassVar[bool] = True
    relative: ClassVar[bool] = True
    refuses: Mapping[str, str] = {
        **OWN,
        "top_k": "whose loss compares pairs",
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 0,
        conditional: bool = False,  # on the label
        latent_dim: int = 64,
        width: int = 768,  # maps of the lowest resolutions
        full_stages: int = 4,  # how many resolutions have them all; halved at each one above
        blocks: int = 2,  # per resolution
        group_width: int = 16,  # maps per group of the 3x3 convolutions, which have 2 x width
        gamma: float = 0.05,  # weight of R1 and of R2, at first
        gamma_end: float = 0.005,
        penalty: Literal["exact", "approx"] = "exact",  # of R1, R2: the gradient, or finite differences
        sigma: float = 0.01,  # noise of the finite differences
        beta2_end: float = 0.99,  # Adam's, at last; at first optim.beta2
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        classes = self.condition(conditional, num_classes)
        self.latent_dim = latent_dim
        self.gamma, self.gamma_end, self.beta2_end = gamma, gamma_end, beta2_end
        self.penalty, self.sigma = penalty, sigma
        base = pyramid(image_shape, variant="r3gan")
        widths = widths_of(base, width, full_stages, group_width)
        channels = image_shape[0]
        self.generator = Generator(base, channels, classes, latent_dim, widths, blocks, group_width)
        self.discriminator = Discriminator(base, channels, classes, widths, blocks, group_width)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        label = self.label(batch)
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        # One pass for reals and fakes, and one for both penalties: no layer mixes samples.
        both = torch.cat([label, label]) if label is not None else None
        logits, slopes = self.sloped(
            batch["image"], fake, label=both, penalty=self.penalty, sigma=self.sigma
        )  # [2B] each
        real_logits, fake_logits = logits.chunk(2)
        r1, r2 = slopes.chunk(2)
        self.observe(real_logits, fake_logits)
        weight = self.now(self.gamma, self.gamma_end) / 2
        return {
            "adversarial": relativistic_discriminator(real_logits, fake_logits),
            "r1": weight * r1.mean(),
            "r2": weight * r2.mean(),
        }

    def generator_loss(self, batch: Batch) -> Losses:
        label = self.label(batch)
        real, fake = self.shown_alike(batch["image"], self.fakes(batch))
        with torch.no_grad():
            real_logits = self.logits(real, label)
        fake_logits = self.logits(fake, label)
        return {"adversarial": relativistic_generator(real_logits, fake_logits)}

    def generate(self, batch: Batch) -> Tensor:
        fake: Tensor = self.sampler(batch["z"], self.label(batch))
        return fake.float().clamp(-1, 1)

    def now(self, start: float, end: float) -> float:
        """The value at this point of a schedule from `start` to `end`."""
        return cosine(self.images_seen, start, end, self.optim.decay_images or 0)

    def half_life(self) -> float:
        return min(super().half_life(), self.now(0.0, self.optim.ema_half_life))

    def schedule(self, player: Player, optimizer: Optimizer) -> None:
        super().schedule(player, optimizer)
        if self.optim.name == "adam":
            for group in optimizer.param_groups:
                group["betas"] = (self.optim.beta1, self.now(self.optim.beta2, self.beta2_end))


def widths_of(base: Pyramid, width: int, full_stages: int, group_width: int) -> list[int]:
    """Maps per resolution, from the base grid up: the paper's halve from 64 px on (FFHQ: 768 x4, 384, 192, 96).

    Never fewer than one group of the 3x3 convolutions needs, so that any image size has its networks.
    """
    least = max(group_width // EXPANSION, 1)
    if width < least or width % least:
        raise UserError(
            f"model.width={width}: whole groups of model.group_width={group_width} need a multiple of {least}"
        )
    halved = (width >> max(0, stage + 1 - full_stages) for stage in range(base.stages + 1))
    return [max(maps // least * least, least) for maps in halved]
