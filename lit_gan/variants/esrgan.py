"""ESRGAN: dense residual networks without batch norm, judged relative to real images (Wang et al. 2018, arXiv:1809.00219).

RRDB-23, the relativistic average loss, VGG19's features at conv5_4 before the activation, a little L1; first L1 alone for
`pretrain_images` (10^6 steps in the paper) at twice the rate. Weights of the two stages are blended by `lit-gan blend`.

Where there are no weights of VGG19, or with `vgg=none`, errors of pixels and of their differences stand in, which the
results say. Differs: the optimisers go on from the first stage into the second; gradients go through both means of the
relativistic average, as the paper has it, where its code holds one of them still; x1, x2 and x8 beside x4, any number of
channels. With `adversarial=relativistic` the discriminator has no batch norm, through which no penalty is per sample.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from lit_gan.module import Losses
from lit_gan.networks.conv import Conv2d
from lit_gan.networks.pyramid import Pyramid
from lit_gan.networks.rrdb import RRDBNet
from lit_gan.networks.vgg import PerceptualFeatures
from lit_gan.settings import Optim
from lit_gan.super_resolution import Rate, SuperResolver, halvings, in_unit

STAGES = 5  # halvings of the discriminator, from 128 pixels to 4


class Discriminator(Pyramid):
    """VGG-128: [B, C, H, W] -> logits [B, 1]; fewer halvings where an image has not 64 pixels a side."""

    def __init__(
        self, image_shape: tuple[int, int, int], width: int, units: int, *, batch_norm: bool
    ) -> None:
        channels, height, width_of_image = image_shape
        stages = halvings(image_shape, STAGES)
        layers: list[nn.Module] = []
        w_in = channels
        for stage in range(max(stages, 1)):
            w_out = width << min(stage, 3)
            for kernel, stride in ((3, 1), (4, 2)) if stages else ((3, 1),):
                first = not layers
                norm = batch_norm and not first
                layers.append(Conv2d(w_in, w_out, kernel, stride=stride, padding=1, bias=not norm))
                layers += [*([nn.BatchNorm2d(w_out)] if norm else []), nn.LeakyReLU(0.2)]
                w_in = w_out
        area = (height >> stages) * (width_of_image >> stages)
        super().__init__(layers, w_in * area, units)


class ESRGAN(SuperResolver):
    optim_defaults: ClassVar[Optim] = Optim(lr=1e-4, beta1=0.9, beta2=0.999)

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 128, 128),
        num_classes: int = 0,
        source_shape: tuple[int, int, int] = (3, 32, 32),
        width: int = 64,  # maps of the generator
        blocks: int = 23,  # RRDBs
        growth: int = 32,  # maps that each dense layer adds
        d_width: int = 64,  # maps of the discriminator's first layer, doubled at three halvings
        d_units: int = 100,  # of its fully connected layer
        pretrain_images: int = 16_000_000,  # of the first stage, by L1 alone
        pretrain_lr: float = 2e-4,  # of the first stage
        pretrain_drop_images: int = 3_200_000,  # after each so many of which the rate is halved
        drop_images: list[int]
        | None = None,  # of the second, at which it is; null: 0.8, 1.6, 3.2, 4.8 million
        adversarial: Literal[
            "relativistic_average", "relativistic"
        ] = "relativistic_average",  # relativistic: R3GAN's pairs
        adversarial_weight: float = 5e-3,
        gamma: float = 1.0,  # R1 and R2 have half of it each, with adversarial=relativistic
        content_weight: float = 1.0,
        l1_weight: float = 1e-2,  # of pixels in [0, 1]
        vgg: str = "auto",  # file of VGG19's weights, or auto: the known places, or none: without
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim, image_shape, source_shape, (1, 2, 4, 8))
        self.save_hyperparameters(logger=False)
        self.adversarial, self.adversarial_weight, self.gamma = adversarial, adversarial_weight, gamma
        self.pretrain_images, self.content_weight, self.l1_weight = pretrain_images, content_weight, l1_weight
        drops = (800_000, 1_600_000, 3_200_000, 4_800_000) if drop_images is None else drop_images
        self.rates = (
            Rate(pretrain_lr, range(pretrain_drop_images, pretrain_images, pretrain_drop_images), 0.5),
            Rate(None, drops, 0.5),
        )
        self.features = PerceptualFeatures(["conv5_4"], vgg, channels=image_shape[0])
        self.generator = RRDBNet(
            source_shape[0], image_shape[0], self.scale, width=width, blocks=blocks, growth=growth
        )
        self.stride, self.reach = self.generator.stride, self.generator.reach
        self.discriminator = Discriminator(
            image_shape, d_width, d_units, batch_norm=adversarial != "relativistic"
        )
        self.finish()

    def pixel_loss(self, images: Tensor, target: Tensor) -> Tensor:
        return (in_unit(images) - in_unit(target)).abs().mean()

    def content_terms(self, images: Tensor, target: Tensor) -> Losses:
        return {
            "perceptual": self.content_weight * self.features.distance(images, target),
            "l1": self.l1_weight * self.pixel_loss(images, target),
        }
