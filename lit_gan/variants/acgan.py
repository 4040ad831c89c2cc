"""AC-GAN: the discriminator also names the class (Odena et al. 2017, arXiv:1610.09585).

The paper's networks for CIFAR-10 (appendix A): noise and one-hot label are projected and go through 5x5 transposed
convolutions with batch norm; the discriminator is six 3x3 convolutions with LeakyReLU and dropout, all but the first with
batch norm, and two heads. It maximises L_S + L_C, the log-likelihoods of the source and of the class on reals and fakes
alike, the generator L_C - L_S.

At other sizes the generator halves its 384 maps at each doubling, and the discriminator has two convolutions a halving.
Of labels that are vectors L_C is the log-likelihood too (see `lit_gan.losses.auxiliary`).
Left out: one network for each ten classes, as the paper trains ImageNet; noise on the discriminator's activations.
Differs: the generator's loss is the one that does not saturate.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from lit_gan.losses import LOSSES, auxiliary
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.condition import as_vector
from lit_gan.networks.conv import channels_last
from lit_gan.networks.dcgan import init_normal
from lit_gan.networks.logits import Logits
from lit_gan.networks.shape import pyramid
from lit_gan.settings import Optim


class Generator(nn.Module):
    """z [B, Z] and labels [B] -> images [B, C, H, W] in [-1, 1]; `width` maps at the base grid, halved at each doubling."""

    def __init__(
        self, image_shape: tuple[int, int, int], num_classes: int, latent_dim: int, width: int
    ) -> None:
        super().__init__()
        base = pyramid(image_shape, variant="acgan")
        widths = [max(width >> stage, 1) for stage in range(base.stages)]  # e.g. 384, 192, 96
        self.num_classes = num_classes
        layers: list[nn.Module] = [
            nn.Linear(latent_dim + num_classes, width * base.height * base.width),
            nn.Unflatten(1, (width, base.height, base.width)),
            nn.ReLU(inplace=True),
        ]
        for w_in, w_out in pairwise(widths):
            layers += [double(w_in, w_out), nn.BatchNorm2d(w_out), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, double(widths[-1], image_shape[0]), nn.Tanh())

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        y = as_vector(label, self.num_classes).to(z.dtype)
        images: Tensor = self.body(torch.cat([z, y], dim=1))
        return images


def double(w_in: int, w_out: int) -> nn.ConvTranspose2d:
    """Twice the size by a 5x5 kernel."""
    return nn.ConvTranspose2d(w_in, w_out, 5, stride=2, padding=2, output_padding=1)


class Discriminator(nn.Module):
    """Images [B, C, H, W] -> [B, 1 + K]: the logit of the source, then those of the classes."""

    def __init__(
        self, image_shape: tuple[int, int, int], num_classes: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        base = pyramid(image_shape, variant="acgan")
        widths = [image_shape[0]] + [min(width << layer, 32 * width) for layer in range(2 * base.stages)]
        layers: list[nn.Module] = []
        for layer, (w_in, w_out) in enumerate(pairwise(widths)):
            layers.append(nn.Conv2d(w_in, w_out, 3, stride=1 if layer % 2 else 2, padding=1))
            if layer:
                layers.append(nn.BatchNorm2d(w_out))
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = Logits(widths[-1] * base.height * base.width, 1 + num_classes)

    def forward(self, images: Tensor) -> Tensor:
        verdict: Tensor = self.head(self.body(channels_last(images)))
        return verdict


class ACGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=2e-4, beta1=0.5)

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 0,
        conditional: bool = True,  # nothing else is this variant
        latent_dim: int = 100,
        width: int = 384,  # maps of the generator at the base grid
        d_width: int = 16,  # maps of the discriminator's first convolution
        dropout: float = 0.5,  # in the discriminator
        class_weight: float = 1.0,  # of L_C, in both players
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        if not conditional:
            raise ValueError("model.conditional=false is arch=dcgan: acgan is told the class")
        classes = self.condition(conditional, num_classes)
        self.loss = LOSSES["non_saturating"]
        self.latent_dim, self.class_weight = latent_dim, class_weight
        self.generator = Generator(image_shape, classes, latent_dim, width).apply(init_normal)
        self.discriminator = Discriminator(image_shape, classes, d_width, dropout).apply(init_normal)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        # Two passes: batch norm must not see a mixture of both.
        real, fake = self.discriminator(self.shown(batch["image"])), self.discriminator(self.shown(fake))
        label, kind = batch["label"], self.condition_kind
        named = auxiliary(real[:, 1:], label, kind) + auxiliary(fake[:, 1:], label, kind)
        self.observe(real[:, 0], fake[:, 0])
        return {
            "adversarial": self.loss.discriminator(real[:, 0], fake[:, 0]),
            "class": self.class_weight * named,
        }

    def generator_loss(self, batch: Batch) -> Losses:
        verdict = self.discriminator(self.shown(self.fakes(batch)))
        return {
            "adversarial": self.loss.generator(self.kept(verdict[:, 0])),
            "class": self.class_weight * auxiliary(verdict[:, 1:], batch["label"], self.condition_kind),
        }

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        verdict: Tensor = self.discriminator(images)
        return verdict[:, 0]
