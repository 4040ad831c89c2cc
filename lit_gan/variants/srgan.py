"""SRGAN: super-resolution whose details a discriminator asks for (Ledig et al. 2017, arXiv:1609.04802).

SRResNet, residual blocks with batch norm at the size of the source and pixel shuffle to x2, x4 or x8; first by the mean
squared error alone, then by VGG19's features (conv5_4 after its activation) and the adversarial loss. The run does both:
`pretrain_images` are those of the first stage, 10^6 steps in the paper.

Where there are no weights of VGG19, or with `vgg=none`, errors of pixels and of their differences stand in with weight
1, which the results say. Differs: the optimisers go on from the first stage into the second; any number of channels. With
`adversarial=relativistic` the discriminator has no batch norm, through which no penalty is per sample. Left out: the
content losses at conv2_2 and of the error alone (SRGAN-VGG22, SRGAN-MSE).
"""

from __future__ import annotations

from math import log2
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.module import Losses
from lit_gan.networks.conv import Conv2d
from lit_gan.networks.pyramid import Pyramid
from lit_gan.networks.reach import Step, conv, reach_of
from lit_gan.networks.vgg import PerceptualFeatures
from lit_gan.settings import Optim
from lit_gan.super_resolution import Rate, SuperResolver, halvings

EDGE = 9  # kernel of the first and the last layer


class Block(nn.Module):
    """x + BN(conv(PReLU(BN(conv(x))))), [B, C, H, W] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.body(inputs)
        return inputs + found


class SRResNet(nn.Module):
    """[B, Cs, H, W] in [-1, 1] -> [B, C, scale H, scale W] around [-1, 1]; it reads the source in [0, 1]."""

    def __init__(self, source_channels: int, channels: int, scale: int, *, width: int, blocks: int) -> None:
        super().__init__()
        doublings = int(log2(scale))
        self.first = nn.Sequential(nn.Conv2d(source_channels, width, EDGE, padding=EDGE // 2), nn.PReLU())
        self.body = nn.Sequential(
            *(Block(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )
        ups: list[nn.Module] = []
        for _ in range(doublings):
            ups += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.ups = nn.Sequential(*ups)
        self.to_image = nn.Conv2d(width, channels, EDGE, padding=EDGE // 2)
        self.steps = [
            conv(EDGE // 2 + 2 * blocks + 1),
            *[conv(1), Step("up", 2)] * doublings,
            conv(EDGE // 2),
        ]

    @property
    def reach(self) -> int:
        """In pixels of the source."""
        return reach_of(self.steps)

    def forward(self, source: Tensor) -> Tensor:
        features = self.first((source + 1) / 2)
        made: Tensor = self.to_image(self.ups(features + self.body(features)))
        return made


class Discriminator(Pyramid):
    """[B, C, H, W] -> logits [B, 1]: pairs of convolutions, the second of which halves, four pairs from 24 pixels on."""

    def __init__(
        self, image_shape: tuple[int, int, int], width: int, units: int, *, batch_norm: bool
    ) -> None:
        channels, height, width_of_image = image_shape
        stages = halvings(image_shape, 4)
        layers: list[nn.Module] = []
        w_in = channels
        for stage in range(max(stages, 1)):
            w_out = width << stage
            for stride in (1, 2) if stages else (1,):
                layers.append(Conv2d(w_in, w_out, 3, stride=stride, padding=1))
                if batch_norm and w_in != channels:
                    layers.append(nn.BatchNorm2d(w_out))
                layers.append(nn.LeakyReLU(0.2))
                w_in = w_out
        area = -(-height // 2**stages) * -(-width_of_image // 2**stages)  # rounded up at every halving
        super().__init__(layers, w_in * area, units)


class SRGAN(SuperResolver):
    optim_defaults: ClassVar[Optim] = Optim(lr=1e-4, beta1=0.9, beta2=0.999)

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 96, 96),
        num_classes: int = 0,
        source_shape: tuple[int, int, int] = (3, 24, 24),
        width: int = 64,  # maps of the generator
        blocks: int = 16,  # residual blocks
        d_width: int = 64,  # maps of the discriminator's first layer, doubled at each halving
        d_units: int = 1024,  # of its fully connected layer
        pretrain_images: int = 16_000_000,  # of the first stage, by the squared error alone
        pretrain_lr: float = 1e-4,  # of the first stage
        drop_images: int = 1_600_000,  # of the second, after which the rate is a tenth
        adversarial: Literal["non_saturating", "relativistic"] = "non_saturating",  # relativistic: R3GAN's
        adversarial_weight: float = 1e-3,
        gamma: float = 1.0,  # R1 and R2 have half of it each, with adversarial=relativistic
        content_weight: float = 0.00615,  # 1 / 12.75²: the paper divides the features by 12.75
        vgg: str = "auto",  # file of VGG19's weights, or auto: the known places, or none: without
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim, image_shape, source_shape, (2, 4, 8))
        self.save_hyperparameters(logger=False)
        self.adversarial, self.adversarial_weight, self.gamma = adversarial, adversarial_weight, gamma
        self.pretrain_images, self.content_weight = pretrain_images, content_weight
        self.rates = (Rate(pretrain_lr, (), 1.0), Rate(None, (drop_images,), 0.1))
        self.features = PerceptualFeatures(["relu5_4"], vgg, channels=image_shape[0])
        self.generator = SRResNet(source_shape[0], image_shape[0], self.scale, width=width, blocks=blocks)
        self.reach = self.generator.reach
        self.discriminator = Discriminator(
            image_shape, d_width, d_units, batch_norm=adversarial != "relativistic"
        )
        self.finish()

    def pixel_loss(self, images: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(images, target)

    def content_terms(self, images: Tensor, target: Tensor) -> Losses:
        weight = self.content_weight if self.features.network is not None else 1.0
        return {"perceptual": weight * self.features.distance(images, target, norm="l2")}
