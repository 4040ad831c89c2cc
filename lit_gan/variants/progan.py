"""ProGAN: both players grow from 4x4 pixels to the image (Karras et al. 2018, arXiv:1710.10196).

The networks of the paper's table 2 with everything around them: layers that fade in over so many images, reals that
fade along, equalized learning rates, pixel norm, the standard deviation over the minibatch, WGAN-GP with a drift term
and one critic step, an averaged generator, moments of Adam that start anew when a fade begins and when it ends.
`conditional` is the official code's: the label beside z, and an AC-GAN head (arXiv:1610.09585).

Left out: batches that shrink as the images grow (the batch is `data.batch_size` throughout; the paper has 16 up to 128
pixels, then 14, 6 and 3), and the rate's warm-up over the first 40,000 images of CelebA-HQ. The stages last 800,000
images each, as in the paper; the official code's default is 600,000. A resampling beside a 3x3 convolution is folded
into its kernel: the same function. Differs: fakes are labelled as the batch is; the deviation is over groups of 4
samples, as in the official code, where the paper's is over the minibatch.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lit_gan.losses import LOSSES, auxiliary
from lit_gan.module import AdversarialModule, Batch, Losses, Player
from lit_gan.networks.condition import as_vector
from lit_gan.networks.equalized import SQRT2, EqualizedConv, EqualizedUpConv, lrelu
from lit_gan.networks.growth import GrowingDiscriminator, Growth, Stage, blended, enlarged
from lit_gan.networks.mapping import normalised
from lit_gan.networks.shape import Pyramid, pyramid, widths_of
from lit_gan.penalties import OWN, interpolate, one_centred
from lit_gan.settings import Optim


def pixel_norm(features: Tensor) -> Tensor:
    """Each pixel of [B, C, H, W] to unit second moment over its maps (section 4.2); in float32."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    return (wide * (wide.square().mean(1, keepdim=True) + 1e-8).rsqrt()).to(features.dtype)


class Project(nn.Module):
    """z [B, Z] -> the base grid [B, C, H, W]: an equalized linear layer with one bias for each map."""

    def __init__(self, latent_dim: int, width: int, base: Pyramid) -> None:
        super().__init__()
        self.shape = (width, base.height, base.width)
        self.weight = nn.Parameter(torch.randn(prod(self.shape), latent_dim))
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight_scale = (
            SQRT2 / 4 / sqrt(latent_dim)
        )  # a quarter of the others' gain, as in the official code

    def forward(self, z: Tensor) -> Tensor:
        h = F.linear(z, self.weight * self.weight_scale).reshape(-1, *self.shape)
        biased: Tensor = h + self.bias.to(h.dtype)[:, None, None]
        return biased.contiguous(memory_format=torch.channels_last)


class Generator(nn.Module):
    """z [B, Z] (and labels [B]) -> images [B, C, H, W] in full size, around [-1, 1] but not bounded.

    It has the layers of all stages from the start; without a stage it is grown up.
    """

    def __init__(
        self, channels: int, base: Pyramid, *, num_classes: int, latent_dim: int, width: int, max_width: int
    ) -> None:
        super().__init__()
        widths = widths_of(base, width, max_width)
        self.num_classes = num_classes
        self.project = Project(latent_dim + num_classes, widths[0], base)
        self.convs = nn.ModuleList([EqualizedConv(widths[0], widths[0], 3, gain=SQRT2, bias_gain=1.0)])
        self.ups = nn.ModuleList()
        for stage in range(1, base.stages + 1):
            w_in, w_out = widths[stage - 1], widths[stage]
            self.ups.append(EqualizedUpConv(w_in, w_out, gain=SQRT2, bias_gain=1.0))
            self.convs.append(EqualizedConv(w_out, w_out, 3, gain=SQRT2, bias_gain=1.0))
        self.to_images = nn.ModuleList(EqualizedConv(maps, channels, 1) for maps in widths)

    def forward(
        self, z: Tensor, label: Tensor | None = None, stage: int | None = None, alpha: Tensor | None = None
    ) -> Tensor:
        last = len(self.ups)
        stage = last if stage is None else stage
        if label is not None:
            z = torch.cat([z, as_vector(label, self.num_classes).to(z.dtype)], dim=1)
        h = pixel_norm(lrelu(self.project(normalised(z))))
        h = before = pixel_norm(lrelu(self.convs[0](h)))
        for i in range(1, stage + 1):
            before = h
            h = pixel_norm(lrelu(self.ups[i - 1](h)))
            h = pixel_norm(lrelu(self.convs[i](h)))
        images: Tensor = self.to_images[stage](h)
        if alpha is not None:
            images = blended(enlarged(self.to_images[stage - 1](before), 1), images, alpha)
        return enlarged(images, last - stage)


class ProGAN(AdversarialModule):
    relative: ClassVar[bool] = True
    optim_defaults: ClassVar[Optim] = Optim(
        lr=1e-3, beta1=0.0, beta2=0.99, ema_half_life=11_000.0, ema_ramp=None
    )  # the average: 0.999 per batch of 16
    refuses: Mapping[str, str] = OWN

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 1024, 1024),
        num_classes: int = 0,
        conditional: bool = False,  # on the label
        latent_dim: int = 512,
        width: int = 16,  # maps at the resolution of the image, doubled at each halving
        max_width: int = 512,
        first_stage: int = 0,  # doublings of the base grid, 4x4, that training begins with
        stable_images: int = 800_000,  # that each stage is trained on
        fade_images: int = 800_000,  # over which the next one fades in; 0 and 0: nothing grows
        lr_factors: list[float] | None = None,  # of the learning rate, by stage; the last one holds on
        gp_weight: float = 10.0,  # lambda
        gp_target: float = 1.0,  # gamma: the slope that the penalty asks for
        drift_weight: float = 0.001,  # epsilon_drift
        class_weight: float = 1.0,  # of the AC-GAN terms
        minibatch_group: int = 4,  # samples that the discriminator compares; the paper: the whole batch
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        classes = self.condition(conditional, num_classes)
        if gp_target <= 0:
            raise ValueError(f"gp_target must be > 0, got {gp_target}")
        self.loss = LOSSES["wasserstein"]
        self.latent_dim = latent_dim
        self.gp_weight, self.gp_target, self.drift_weight = gp_weight, gp_target, drift_weight
        self.class_weight = class_weight
        base = pyramid(image_shape, variant="progan")
        self.growth = Growth(first_stage, base.stages, stable_images, fade_images, lr_factors or (1.0,))
        self.generator = Generator(
            image_shape[0], base, num_classes=classes, latent_dim=latent_dim, width=width, max_width=max_width
        )
        self.discriminator = GrowingDiscriminator(
            image_shape[0], base, width=width, max_width=max_width, group=minibatch_group, outputs=1 + classes
        )
        self.grows = self.growth.grows
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        stage = self.stage()
        real = self.reals(batch)  # [B, C, H, W]
        with torch.no_grad():
            fake = self.fakes(batch).to(real.dtype)
        real, fake = self.shown(real), self.shown(fake)
        # Real and fake in passes of their own: minibatch_std must not compare them with each other.
        real_scores, fake_scores = self.discriminator(real, *stage), self.discriminator(fake, *stage)
        self.observe(real_scores[:, 0], fake_scores[:, 0])
        terms = {"adversarial": self.loss.discriminator(real_scores[:, 0], fake_scores[:, 0])}
        x_hat = interpolate(real, fake)
        with self.exact():
            # lambda (|gradient| - gamma)² / gamma²: of logits over gamma, with target 1.
            logits = self.discriminator(x_hat, *stage)[:, 0] / self.gp_target
            terms["gradient_penalty"] = self.gp_weight * one_centred(logits, x_hat)
        terms["drift"] = self.drift_weight * real_scores[:, 0].float().square().mean()
        if self.conditional:
            both, label = torch.cat([real_scores, fake_scores]), torch.cat([batch["label"]] * 2)
            # x 2: the sum of both means
            terms["class"] = 2 * self.class_weight * auxiliary(both[:, 1:], label, self.condition_kind)
        return terms

    def generator_loss(self, batch: Batch) -> Losses:
        scores = self.discriminator(self.shown(self.fakes(batch)), *self.stage())
        terms = {"adversarial": self.loss.generator(self.kept(scores[:, 0]))}
        if self.conditional:
            terms["class"] = self.class_weight * auxiliary(scores[:, 1:], batch["label"], self.condition_kind)
        return terms

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        scores: Tensor = self.discriminator(images, *self.stage())
        return scores[:, 0]

    def reals(self, batch: Batch) -> Tensor:
        return self.growth.shrunk(super().reals(batch), *self.stage())

    def fakes(self, batch: Batch) -> Tensor:
        fake: Tensor = self.generator(self.latents(batch), self.label(batch), *self.stage())
        return fake

    def generate(self, batch: Batch) -> Tensor:
        fake: Tensor = self.sampler(batch["z"], self.label(batch), *self.stage())
        return fake.float().clamp(-1, 1)

    def stage(self) -> Stage:
        """How far the networks have grown by now."""
        return self.growth.stage(self.images_seen, self.device)

    def schedule(self, player: Player, optimizer: Optimizer) -> None:
        super().schedule(player, optimizer)
        self.growth.adjust(player, optimizer, self.images_seen)
