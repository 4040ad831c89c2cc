"""GAN: two multilayer perceptrons play a minimax game (Goodfellow et al. 2014, arXiv:1406.2661).

Both of the paper's generator losses: `minimax`, the value of the game, and `non_saturating`, which it
recommends. The defaults are its networks for MNIST: ReLU in the generator, maxout (arXiv:1302.4389) and
dropout in the discriminator. Points of the plane, image shape (2, 1, 1), work as well as images.

Differs: images are in [-1, 1] with tanh where the paper has [0, 1] with a sigmoid, the same up to the range
(points have a linear output); z is Gaussian, not uniform; Adam by default (the paper: `optim.name=sgd
optim.lr=0.1 optim.beta1=0.5`, both slowly annealed). Left out: the Parzen-window likelihood; what the official code
begins with, weights uniform in ±0.05 (generator) and ±0.005 (discriminator), output biases from the pixels' means.
"""

from __future__ import annotations

from math import prod
from typing import ClassVar, Literal

import torch
from torch import nn

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.logits import Logits
from lit_gan.networks.maxout import Maxout
from lit_gan.settings import Optim


class Generator(nn.Sequential):
    """[B, Z] -> [B, C, H, W]."""

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int, widths: list[int], *, batch_norm: bool
    ) -> None:
        layers: list[nn.Module] = []
        features = latent_dim
        for width in widths:
            layers.append(nn.Linear(features, width, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(nn.ReLU(inplace=True))
            features = width
        layers.append(nn.Linear(features, prod(image_shape)))
        if image_shape[1:] != (1, 1):
            layers.append(nn.Tanh())  # pixels are in [-1, 1]; points are anywhere
        super().__init__(*layers, nn.Unflatten(1, tuple(image_shape)))


class Discriminator(nn.Sequential):
    """[B, C, H, W] -> logits [B, 1]."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        widths: list[int],
        *,
        kind: Literal["maxout", "leaky"],
        pieces: int,
        dropout: float,
        input_dropout: float,
    ) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        features, rate = prod(image_shape), input_dropout
        for width in widths:
            if rate:
                layers.append(nn.Dropout(rate))
            if kind == "maxout":
                layers.append(Maxout(features, width, pieces))
            else:
                layers += [nn.Linear(features, width), nn.LeakyReLU(0.2, inplace=True)]
            features, rate = width, dropout
        if rate:
            layers.append(nn.Dropout(rate))
        super().__init__(*layers, Logits(features, 1))


class GAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=2e-4, beta1=0.5)
    mixes_samples: ClassVar[bool] = False

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 0,
        loss: Literal["minimax", "non_saturating"] = "minimax",  # what the generator minimises
        latent_dim: int = 100,
        widths: list[int] | None = None,  # units of the generator's hidden layers; null: 1200, 1200
        batch_norm: bool = False,  # in the generator
        discriminator: Literal["maxout", "leaky"] = "maxout",  # the units of its hidden layers
        d_widths: list[int] | None = None,  # units of its hidden layers; null: 240, 240
        pieces: int = 5,  # linear maps per maxout unit
        dropout: float = 0.5,  # before the discriminator's hidden layers but the first, and its output
        input_dropout: float = 0.2,
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        self.loss = LOSSES[loss]
        self.latent_dim = latent_dim
        self.generator = Generator(
            image_shape, latent_dim, [1200, 1200] if widths is None else widths, batch_norm=batch_norm
        )
        self.discriminator = Discriminator(
            image_shape,
            [240, 240] if d_widths is None else d_widths,
            kind=discriminator,
            pieces=pieces,
            dropout=dropout,
            input_dropout=input_dropout,
        )
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        real_logits, fake_logits = self.judge(batch["image"], fake)
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> Losses:
        return {"adversarial": self.loss.generator(self.kept(self.logits(self.shown(self.fakes(batch)))))}
