"""DCGAN: strided convolutions and batch norm in both players (Radford et al. 2016, arXiv:1511.06434).

The paper's guidelines: no pooling and no hidden fully connected layers, batch norm everywhere but at the
generator's output and the discriminator's input, ReLU in the generator with tanh at its end, LeakyReLU in the
discriminator, weights from N(0, 0.02). With another `loss` the same networks are LSGAN (arXiv:1611.04076) or
the hinge GAN (arXiv:1705.02894): see configs/arch/lsgan.yaml and hinge-dcgan.yaml.

Differs, as every later implementation does: kernels of 4 instead of 5 (no checkerboard), Gaussian z instead
of uniform. `width` 128 has the generator of the paper's figure 1. Of LSGAN and the hinge GAN these are the losses alone;
left out are LSGAN's network for 112 pixels (z of 1024, six transposed convolutions, 5x5 kernels in the discriminator)
and its one for thousands of classes, and the hinge GAN's RMSprop and ten generator steps to one of the discriminator.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.dcgan import Discriminator, Generator, init_normal
from lit_gan.settings import Optim


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
        real_logits, fake_logits = self.judge(batch["image"], fake)
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> Losses:
        return {"adversarial": self.loss.generator(self.kept(self.logits(self.shown(self.fakes(batch)))))}
