"""SAGAN: self-attention in both players (Zhang et al. 2019, arXiv:1805.08318).

Spectral norm in both players, hinge loss, class-conditional batch norm and projection, two time scales (TTUR: the
discriminator learns four times as fast as the generator, one step each), self-attention in one place of each network.
Without `conditional`, plain batch norm and no projection.

Above 32 pixels the networks for ImageNet at 128, 64 maps at the image and twice as many at each halving up to 1024;
attention where maps have 32 pixels, which is best in the paper's table. Up to 32 pixels those of SNGAN for CIFAR-10, with
attention at half the image's side in the generator and a quarter in the discriminator. Differs: the fakes' labels are the
batch's, where the paper's are uniform; reals and fakes go through the discriminator together; attention is that of the
authors' code, which the text simplifies (see `lit_gan.networks.self_attention`).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.residual import init_uniform
from lit_gan.networks.resnet import (
    Discriminator,
    Generator,
    discriminator_widths,
    generator_widths,
    is_small,
)
from lit_gan.networks.shape import pyramid
from lit_gan.settings import Optim


class SAGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=1e-4, d_lr=4e-4, beta1=0.0, beta2=0.9)
    mixes_samples: ClassVar[bool] = False

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 128, 128),
        num_classes: int = 0,
        conditional: bool = True,  # on the label: class-conditional batch norm and a projection
        latent_dim: int = 128,
        width: int
        | None = None,  # maps of the generator: of all layers up to 32 px (null: 256), else at the image (64)
        d_width: int
        | None = None,  # of the discriminator: of all layers up to 32 px (null: 128), else the first (64)
        max_width: int = 1024,  # above 32 px
        attention: int
        | None = None,  # side of the generator's maps that attend; null: 32, or half the image's; 0: none
        d_attention: int
        | None = None,  # the same of the discriminator; null: 32, or a quarter of the image's
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        classes = self.condition(conditional, num_classes)
        self.loss = LOSSES["hinge"]
        self.latent_dim = latent_dim
        base, channels = pyramid(image_shape, variant="sagan"), image_shape[0]
        small, side = is_small(base), min(image_shape[1:])
        if attention is None:
            attention = side // 2 if small else 32
        if d_attention is None:
            d_attention = side // 4 if small else 32
        widths = generator_widths(base, width, max_width)
        self.generator = Generator(
            base, channels, latent_dim, widths, classes, spectral=True, attention=attention
        ).apply(init_glorot)
        d_widths, halving = discriminator_widths(base, d_width, max_width)
        self.discriminator = Discriminator(
            base, channels, d_widths, halving, classes, wide=not small, attention=d_attention
        ).apply(init_glorot)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        real_logits, fake_logits = self.judge(batch["image"], fake, self.label(batch))
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> Losses:
        fake_logits = self.logits(self.shown(self.fakes(batch)), self.label(batch))
        return {"adversarial": self.loss.generator(self.kept(fake_logits))}


def init_glorot(layer: nn.Module) -> None:
    """Glorot uniform in every layer, also around the ReLUs."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
        init_uniform(layer.weight, gain=1.0)
