"""SNGAN: a discriminator held to slope 1 by spectral normalisation (Miyato et al. 2018, arXiv:1802.05957).

The residual networks of the paper with everything around them: spectral norm in all layers of the discriminator and in
none of the generator, hinge loss, five discriminator steps per generator step (n_dis), a generator batch of twice the
discriminator's, dequantised reals, both learning rates falling linearly to 0 over 100,000 generator steps. `conditional`
adds class-conditional batch norm in the generator and the projection discriminator (Miyato & Koyama 2018,
arXiv:1802.05637).

Images up to 32 pixels have the networks for CIFAR-10, 256 maps in every layer of the generator and 128 in the
discriminator; larger ones those for STL-10 (48) and ImageNet (128), 64 maps at the image and twice as many at each
halving up to 1024. Left out: the plain convolutional networks of the paper. Differs: the fakes' labels are the batch's, so
that they follow the data's frequencies, where the paper's are uniform; reals and fakes go through the discriminator
together, with one step of the power iteration.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.resnet import Discriminator, Generator, discriminator_widths, generator_widths
from lit_gan.networks.shape import pyramid
from lit_gan.settings import Optim


class SNGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=2e-4,
        beta1=0.0,
        beta2=0.9,
        d_steps_per_g_step=5,
        lr_schedule="linear",
        decay_images=32_000_000,  # 100,000 generator steps x 5 x 64
    )
    mixes_samples: ClassVar[bool] = False
    dequantises: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 0,
        conditional: bool = False,  # on the label: class-conditional batch norm and a projection
        latent_dim: int = 128,
        width: int
        | None = None,  # maps of the generator: of all layers up to 32 px (null: 256), else at the image (64)
        d_width: int
        | None = None,  # of the discriminator: of all layers up to 32 px (null: 128), else the first (64)
        max_width: int = 1024,  # above 32 px
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        classes = self.condition(conditional, num_classes)
        self.loss = LOSSES["hinge"]
        self.latent_dim = latent_dim
        base, channels = pyramid(image_shape, variant="sngan"), image_shape[0]
        widths = generator_widths(base, width, max_width)
        self.generator = Generator(base, channels, latent_dim, widths, classes)
        d_widths, halving = discriminator_widths(base, d_width, max_width)
        self.discriminator = Discriminator(base, channels, d_widths, halving, classes)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        real_logits, fake_logits = self.judge(batch["image"], fake, self.label(batch))
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> Losses:
        z = torch.cat([self.latents(batch), self.latents(batch)])  # [2B, Z]: twice the discriminator's batch
        label = torch.cat([batch["label"]] * 2) if self.conditional else None
        fake_logits = self.logits(self.shown(self.generator(z, label)), label)
        return {"adversarial": self.loss.generator(self.kept(fake_logits))}
