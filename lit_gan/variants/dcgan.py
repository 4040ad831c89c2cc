"""DCGAN: strided convolutions and batch norm in both players (Radford et al. 2016, arXiv:1511.06434).

The paper's guidelines: no pooling and no hidden fully connected layers, batch norm everywhere but at the
generator's output and the discriminator's input, ReLU in the generator with tanh at its end, LeakyReLU in the
discriminator, weights from N(0, 0.02). With another `loss` the same networks are LSGAN (arXiv:1611.04076) or
the hinge GAN (arXiv:1705.02894): see configs/arch/lsgan.yaml and hinge-dcgan.yaml.

Differs, as every later implementation does: kernels of 4 instead of 5 (no checkerboard), Gaussian z instead
of uniform. `width` 128 has the generator of the paper's figure 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.conv import channels_last
from lit_gan.networks.logits import Logits
from lit_gan.networks.shape import pyramid
from lit_gan.settings import Optim


class Generator(nn.Sequential):
    """[B, Z] -> [B, C, H, W] in [-1, 1]; `width` maps below the image, twice as many at each halving."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: int) -> None:
        base = pyramid(image_shape, variant="dcgan")
        widths = [width << stage for stage in reversed(range(base.stages))]  # e.g. 256, 128, 64
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, widths[0] * base.height * base.width, bias=False),  # "project and reshape"
            nn.Unflatten(1, (widths[0], base.height, base.width)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        for w_in, w_out in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(w_in, w_out, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(w_out),
                nn.ReLU(inplace=True),
            ]
        to_image = nn.ConvTranspose2d(widths[-1], image_shape[0], 4, stride=2, padding=1, bias=False)
        super().__init__(*layers, to_image, nn.Tanh())


class Discriminator(nn.Sequential):
    """The mirror image: [B, C, H, W] -> logits [B, 1]."""

    def __init__(self, image_shape: tuple[int, int, int], width: int) -> None:
        base = pyramid(image_shape, variant="dcgan")
        widths = [width << stage for stage in range(base.stages)]
        layers: list[nn.Module] = [
            nn.Conv2d(image_shape[0], widths[0], 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for w_in, w_out in pairwise(widths):
            layers += [
                nn.Conv2d(w_in, w_out, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(w_out),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        super().__init__(*layers, nn.Flatten(), Logits(widths[-1] * base.height * base.width, 1, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        h = channels_last(images)
        for layer in self:
            h = layer(h)
        return h


def init_normal(layer: nn.Module) -> None:
    """Weights from N(0, 0.02), gains of batch norm from N(1, 0.02), shifts 0."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)


class DCGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=2e-4, beta1=0.5)

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 64, 64),
        num_classes: int = 0,
        loss: Literal["minimax", "non_saturating", "hinge", "least_squares"] = "non_saturating",
        latent_dim: int = 100,
        width: int = 64,  # maps of the outermost layers, doubled at each halving of the image
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        self.loss = LOSSES[loss]
        self.latent_dim = latent_dim
        self.generator = Generator(image_shape, latent_dim, width).apply(init_normal)
        self.discriminator = Discriminator(image_shape, width).apply(init_normal)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        # Two passes: batch norm must not see a mixture of both, or D could tell them apart by its statistics.
        real_logits, fake_logits = self.logits(self.shown(batch["image"])), self.logits(self.shown(fake))
        self.observe(real_logits, fake_logits)
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> Losses:
        return {"adversarial": self.loss.generator(self.logits(self.shown(self.fakes(batch))))}

    def fakes(self, batch: Batch) -> Tensor:
        fake: Tensor = self.generator(self.latents(batch))
        return fake

    def generate(self, batch: Batch) -> Tensor:
        fake: Tensor = self.sampler(batch["z"])
        return fake
