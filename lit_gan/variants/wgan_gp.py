"""WGAN-GP: a critic held to slope 1 by a gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028).

The residual networks of the paper's CIFAR-10 experiments (appendix F), with everything around them: five critic steps
per generator step, a generator batch of twice the critic's, dequantised reals, a learning rate that falls linearly to 0
over 100,000 generator steps, no normalisation in the critic. `conditional` adds what its labelled rows have:
class-conditional batch norm in the generator and an AC-GAN head (arXiv:1610.09585) on the critic, on reals with weight 1
and on fakes with 0.1.

Other sizes than 32x32 keep the rule: the generator doubles from the base grid, the critic halves
once less, then two blocks. Left out: the paper's networks for 64 and 128 pixels and for text. Differs: the generator's
labels are the batch's, so that they follow the data's frequencies, where the paper's are uniform; with `augment` the
penalty lies between augmented images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from lit_gan.losses import LOSSES, auxiliary
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.conv import channels_last
from lit_gan.networks.logits import Logits
from lit_gan.networks.residual import Block, DownBlock, FirstBlock, init_uniform
from lit_gan.networks.resnet import Generator
from lit_gan.networks.shape import Pyramid, pyramid
from lit_gan.penalties import OWN, interpolate, one_centred
from lit_gan.settings import Optim


class Critic(nn.Sequential):
    """[B, C, H, W] -> [B, 1 + K]: the critic's value, then the logits of K classes, if any."""

    def __init__(self, base: Pyramid, channels: int, width: int, num_classes: int) -> None:
        downs = [DownBlock(width, width) for _ in range(base.stages - 2)]
        head = Logits(width, 1 + num_classes)
        init_uniform(head.weight[:1].detach(), gain=1.0)
        init_uniform(head.weight[1:].detach(), gain=1.0)
        nn.init.zeros_(head.bias)
        tail = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head]
        blocks = [FirstBlock(channels, width), *downs, Block(width, width), Block(width, width)]
        super().__init__(*blocks, *tail)

    def forward(self, images: Tensor) -> Tensor:
        h = channels_last(images)
        for layer in self:
            h = layer(h)
        return h


class WGANGP(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=2e-4,
        beta1=0.0,
        beta2=0.9,
        d_steps_per_g_step=5,
        lr_schedule="linear",
        decay_images=32_000_000,  # 100,000 generator steps x 5 x 64
    )
    relative: ClassVar[bool] = True
    dequantises: ClassVar[bool] = True
    refuses: Mapping[str, str] = OWN

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
        base, channels = pyramid(image_shape, variant="wgan-gp"), image_shape[0]
        self.generator = Generator(base, channels, latent_dim, [width] * (base.stages + 1), classes)
        self.discriminator = Critic(base, channels, width if d_width is None else d_width, classes)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        real = batch["image"]  # [B, C, H, W]
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
            terms["class"] = self.d_class_weight * auxiliary(
                real_scores[:, 1:], batch["label"], self.condition_kind
            )
        return terms

    def generator_loss(self, batch: Batch) -> Losses:
        z = torch.cat(
            [self.latents(batch), self.latents(batch)]
        )  # [2B, Z]: a generator batch of twice the critic's
        label = torch.cat([batch["label"]] * 2) if self.conditional else None
        scores = self.discriminator(self.shown(self.generator(z, label)))
        terms = {"adversarial": self.loss.generator(self.kept(scores[:, 0]))}
        if label is not None:
            terms["class"] = self.g_class_weight * auxiliary(scores[:, 1:], label, self.condition_kind)
        return terms

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        scores: Tensor = self.discriminator(images)
        return scores[:, 0]
