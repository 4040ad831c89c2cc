"""cGAN: both perceptrons are told the class (Mirza & Osindero 2014, arXiv:1411.1784).

The paper's networks for MNIST: noise and label go through hidden layers of their own (200 and 1000 units) and one of
both (1200) to the image; in the discriminator image and label go through maxout layers of their own (240 and 50 units
of 5 pieces) and one of both (240 of 4). Dropout of a half in both players. The discriminator sees a fake with the label
that the generator was given.

Differs: images are in [-1, 1] with tanh where the paper has [0, 1] with a sigmoid, z is Gaussian where it is uniform,
Adam by default (the paper: `optim.name=sgd optim.lr=0.1 optim.beta1=0.5`, both slowly annealed), and the loss that does
not saturate. The generator's dropout is in training only. `batch_norm` in the generator is an addition, off by default.
Left out: the experiment on image tags.
"""

from __future__ import annotations

from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.condition import as_vector
from lit_gan.networks.logits import Logits
from lit_gan.networks.maxout import Maxout
from lit_gan.settings import Optim


class Generator(nn.Module):
    """z [B, Z] and labels [B] -> images [B, C, H, W] in [-1, 1]."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        latent_dim: int,
        z_width: int,
        label_width: int,
        width: int,
        dropout: float,
        *,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        self.num_classes, self.image_shape = num_classes, image_shape
        self.of_z = nn.Linear(latent_dim, z_width)
        self.of_label = nn.Linear(num_classes, label_width)
        self.norm = nn.BatchNorm1d(z_width + label_width) if batch_norm else nn.Identity()
        self.joint = nn.Linear(z_width + label_width, width)
        self.joint_norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.to_image = nn.Linear(width, prod(image_shape))
        self.dropout = nn.Dropout(dropout)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        y = as_vector(label, self.num_classes).to(z.dtype)
        h = F.relu(self.norm(torch.cat([self.of_z(z), self.of_label(y)], dim=1)))
        h = F.relu(self.joint_norm(self.joint(self.dropout(h))))
        return torch.tanh(self.to_image(self.dropout(h))).view(-1, *self.image_shape)


class Discriminator(nn.Module):
    """Images [B, C, H, W] and labels [B] -> logits [B, 1]."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        image_units: int,
        label_units: int,
        units: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.of_image = Maxout(prod(image_shape), image_units, 5)
        self.of_label = Maxout(num_classes, label_units, 5)
        self.joint = Maxout(image_units + label_units, units, 4)
        self.dropout = nn.Dropout(dropout)
        self.head = Logits(units, 1)

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        x = images.flatten(1)
        h = torch.cat(
            [self.of_image(x), self.of_label(as_vector(label, self.num_classes).to(x.dtype))], dim=1
        )
        h = self.joint(self.dropout(h))
        logits: Tensor = self.head(self.dropout(h))
        return logits


class CGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=2e-4, beta1=0.5)
    mixes_samples: ClassVar[bool] = False

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_classes: int = 0,
        conditional: bool = True,  # nothing else is this variant
        latent_dim: int = 100,
        z_width: int = 200,  # units of the noise alone
        label_width: int = 1000,  # of the label alone
        width: int = 1200,  # of both
        batch_norm: bool = False,  # in the generator; not in the paper
        d_image_units: int = 240,  # maxout units of the image alone
        d_label_units: int = 50,  # of the label alone
        d_units: int = 240,  # of both
        dropout: float = 0.5,  # in the discriminator
        g_dropout: float = 0.5,  # in the generator
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        if not conditional:
            raise ValueError("model.conditional=false is arch=gan: cgan is told the class")
        classes = self.condition(conditional, num_classes)
        self.loss = LOSSES["non_saturating"]
        self.latent_dim = latent_dim
        self.generator = Generator(
            image_shape, classes, latent_dim, z_width, label_width, width, g_dropout, batch_norm=batch_norm
        )
        self.discriminator = Discriminator(
            image_shape, classes, d_image_units, d_label_units, d_units, dropout
        )
        if g_dropout:  # of this run, not of the class
            self.refuses = dict.fromkeys(
                ("z_consistency", "z_diversity"), "whose generator draws dropout (model.g_dropout) beside z"
            )
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        real_logits, fake_logits = self.judge(batch["image"], fake, batch["label"])
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> Losses:
        fake_logits = self.logits(self.shown(self.fakes(batch)), batch["label"])
        return {"adversarial": self.loss.generator(self.kept(fake_logits))}
