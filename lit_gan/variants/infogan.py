"""InfoGAN: part of the noise is a code that can be read off the image (Chen et al. 2016, arXiv:1606.03657).

The paper's networks for MNIST (appendix C.1): 62 numbers of noise, a categorical code of ten values and two continuous
ones in [-1, 1]. A head Q on the discriminator's trunk guesses the code of a fake; the bound L_I on their mutual
information, the log-likelihood of the true code, is maximised by the generator, by Q and by the trunk. Nobody gives a
label: on digits the categorical code finds the digits by itself, and the continuous ones slant and width.

z [B, 62 + 1 + 2] is normal, so that sampling is like everybody's: its last entries become codes by their quantile.
Left out: the networks and codes for SVHN, CelebA, faces and chairs. Differs: z is Gaussian where the paper's noise is
uniform.
"""

from __future__ import annotations

import math
from math import prod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lit_gan.errors import UserError
from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.conv import channels_last
from lit_gan.networks.dcgan import init_normal
from lit_gan.networks.logits import Logits
from lit_gan.settings import Optim

SLOPE = 0.1  # of the paper's leaky ReLU


class Codes(NamedTuple):
    """What a fake is made of: noise [B, N], categories [B] and continuous codes [B, M] in [-1, 1]."""

    noise: Tensor
    category: Tensor
    continuous: Tensor


def codes_of(z: Tensor, categories: int, continuous: int) -> Codes:
    """Normal z [B, N + 1 + M] as noise, an evenly drawn category and evenly drawn numbers in [-1, 1]."""
    noise, last, rest = z[:, : -1 - continuous], z[:, -1 - continuous], z[:, z.shape[1] - continuous :]
    share = torch.special.ndtr(last.float())  # uniform on [0, 1]
    category = (share * categories).long().clamp(max=categories - 1)
    return Codes(noise, category, 2 * torch.special.ndtr(rest) - 1)


class Generator(nn.Module):
    """z [B, Z] -> images [B, C, H, W] in [-1, 1]."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        categories: int,
        continuous: int,
        width: int,
        dense: int,
    ) -> None:
        super().__init__()
        channels, height, across = image_shape
        self.categories, self.continuous = categories, continuous
        grid = (2 * width, height // 4, across // 4)
        self.body = nn.Sequential(
            *normal(nn.Linear(latent_dim - 1 + categories, dense)),
            nn.ReLU(inplace=True),
            *normal(nn.Linear(dense, prod(grid))),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, grid),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        codes = codes_of(z, self.categories, self.continuous)
        one_hot = F.one_hot(codes.category, self.categories).to(z.dtype)
        images: Tensor = self.body(torch.cat([codes.noise, one_hot, codes.continuous], dim=1))
        return images


def normal(layer: nn.Linear) -> tuple[nn.Linear, nn.BatchNorm1d]:
    return layer, nn.BatchNorm1d(layer.out_features)


class Discriminator(nn.Module):
    """Images [B, C, H, W] -> logits [B] and what Q reads of them, [B, dense]."""

    def __init__(self, image_shape: tuple[int, int, int], width: int, dense: int) -> None:
        super().__init__()
        channels, height, across = image_shape
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Flatten(),
            *normal(nn.Linear(2 * width * (height // 4) * (across // 4), dense)),
            nn.LeakyReLU(SLOPE),  # Q and the head both read it
        )
        self.head = Logits(dense, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(channels_last(images))
        return self.head(features).squeeze(1), features


class Q(nn.Module):
    """Features [B, dense] -> logits of the categories [B, K], means and log deviations [B, M] of the continuous codes."""

    def __init__(self, dense: int, categories: int, continuous: int, units: int) -> None:
        super().__init__()
        self.sizes = [categories, continuous, continuous]
        self.layers = nn.Sequential(*normal(nn.Linear(dense, units)), nn.LeakyReLU(SLOPE, inplace=True))
        self.head = Logits(units, sum(self.sizes))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        category, mean, log_std = self.head(self.layers(features)).split(self.sizes, dim=1)
        return category, mean, log_std


class InfoGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=1e-3, d_lr=2e-4, beta1=0.5)

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        num_classes: int = 0,
        latent_dim: int = 62,  # noise, beside the codes
        categories: int = 10,  # values of the categorical code
        continuous: int = 2,  # continuous codes
        width: int = 64,  # maps of the outermost convolutions
        dense: int = 1024,  # units of the fully connected layers
        q_units: int = 128,  # of Q's hidden layer
        category_weight: float = 1.0,  # lambda, of the categorical code's part of L_I
        continuous_weight: float = 0.1,  # of the continuous codes' part
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        _, height, across = image_shape
        if height % 4 or across % 4:
            raise UserError(
                f"infogan cannot make images of {height}x{across} pixels: both sides must be multiples of 4; set "
                "data.image_size=32, or another"
            )
        if categories < 2 or continuous < 1:
            raise ValueError(
                f"model.categories={categories} must be 2 or more, model.continuous={continuous} 1 or more"
            )
        self.loss = LOSSES["non_saturating"]
        self.latent_dim = latent_dim + 1 + continuous
        self.categories, self.continuous = categories, continuous
        self.category_weight, self.continuous_weight = category_weight, continuous_weight
        self.generator = Generator(image_shape, self.latent_dim, categories, continuous, width, dense).apply(
            init_normal
        )
        self.discriminator = Discriminator(image_shape, width, dense).apply(init_normal)
        self.q = Q(dense, categories, continuous, q_units).apply(init_normal)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        z = self.latents(batch)
        with torch.no_grad():
            fake = self.generator(z)  # [B, C, H, W]
        real_logits = self.logits(self.shown(batch["image"]))
        fake_logits, features = self.discriminator(self.shown(fake))
        self.observe(real_logits, fake_logits)
        return {
            "adversarial": self.loss.discriminator(real_logits, fake_logits),
            **self.information(features, z),
        }

    def generator_loss(self, batch: Batch) -> Losses:
        z = self.latents(batch)
        logits, features = self.discriminator(self.shown(self.generator(z)))
        return {"adversarial": self.loss.generator(self.kept(logits)), **self.information(features, z)}

    def information(self, features: Tensor, z: Tensor) -> Losses:
        """-L_I up to a constant: how badly Q guesses the codes of z [B, Z] from the features [B, dense] of its images."""
        codes = codes_of(z, self.categories, self.continuous)
        category, mean, log_std = self.q(features)
        surprise = (
            log_std + 0.5 * ((codes.continuous - mean) / log_std.exp()).square() + 0.5 * math.log(2 * math.pi)
        )
        return {
            "category": self.category_weight * F.cross_entropy(category, codes.category),
            "continuous": self.continuous_weight * surprise.sum(1).mean(),
        }

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        verdict: Tensor = self.discriminator(images)[0]
        return verdict

    def configure_optimizers(self) -> list[Optimizer]:
        of_generator = [*self.generator.parameters(), *self.q.parameters()]
        return [
            self.make_optimizer(
                self.discriminator.parameters(),
                self.optim.d_lr or self.optim.lr,
                lazy_interval=self.slope_interval,
            ),
            self.make_optimizer(of_generator, self.optim.lr),
        ]
