"""Real-ESRGAN: super-resolution of images that were degraded twice (Wang et al. 2021, arXiv:2107.10833).

ESRGAN's generator on what `data.degradation=real-esrgan` makes of the images (lit_gan/degradation.py), a U-Net with
spectral norm that judges every pixel, VGG19's features of five layers before their activations. The content loss is
against images under an unsharp mask, the discriminator sees them as they are. First L1 alone for `pretrain_images`
(Real-ESRNet, 10^6 steps of 48 in the code).

Where there are no weights of VGG19, or with `vgg=none`, errors of pixels and of their differences stand in, which the
results say. Differs: the optimisers go on from the first stage into the second; each image has degradations of its own,
so that no pool of pairs is needed; they act on the crops, up to their edges, where the code cuts 256 of 400 pixels
afterwards; reals and fakes go through the discriminator together, with one step of the power iteration.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.blur import sharpened
from lit_gan.errors import UserError
from lit_gan.module import Batch, Losses
from lit_gan.networks.conv import Conv2d, channels_last, conv2d
from lit_gan.networks.resample import up
from lit_gan.networks.rrdb import RRDBNet
from lit_gan.networks.spectral import SpectralNorm
from lit_gan.networks.vgg import PerceptualFeatures
from lit_gan.settings import Optim
from lit_gan.super_resolution import Rate, SuperResolver, in_unit

LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
SMALLEST = 8  # pixels a side that the discriminator can halve three times


class Spectral(Conv2d):
    """A convolution without bias under spectral norm."""

    def __init__(self, w_in: int, w_out: int, kernel: int = 3, *, stride: int = 1) -> None:
        super().__init__(w_in, w_out, kernel, stride=stride, padding=1, bias=False)
        self.spectral = SpectralNorm(w_out)

    def forward(self, inputs: Tensor) -> Tensor:
        return conv2d(inputs, self.spectral(self.weight), stride=self.stride[0], padding=1)


class Discriminator(nn.Module):
    """[B, C, H, W] -> logits [B, 1, H, W]: three halvings, three doublings, sums across. No layer mixes samples."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width << i for i in range(4)]
        self.first = Conv2d(channels, width, 3, padding=1)
        self.downs = nn.ModuleList(Spectral(widths[i], widths[i + 1], 4, stride=2) for i in range(3))
        self.ups = nn.ModuleList(Spectral(widths[i + 1], widths[i]) for i in reversed(range(3)))
        self.tail = nn.ModuleList(Spectral(width, width) for _ in range(2))
        self.head = Conv2d(width, 1, 3, padding=1)
        assert self.head.bias is not None
        nn.init.zeros_(
            self.head.bias
        )  # differences of logits, where they alone count, would leave it as it is

    def forward(self, images: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(channels_last(images)), 0.2)
        across = []
        for down in self.downs:
            across.append(h)
            h = F.leaky_relu(down(h), 0.2)
        for layer in self.ups:
            same = across.pop()
            larger = up(h)
            if larger.shape != same.shape:  # an odd side was halved
                larger = F.interpolate(h, same.shape[2:], mode="bilinear", align_corners=False)
            h = F.leaky_relu(layer(larger), 0.2) + same
        for layer in self.tail:
            h = F.leaky_relu(layer(h), 0.2)
        with torch.autocast(h.device.type, enabled=False):
            logits: Tensor = self.head(h.float())
        return logits


class RealESRGAN(SuperResolver):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=1e-4, beta1=0.9, beta2=0.99, ema_half_life=33_000.0, ema_ramp=None
    )
    mixes_samples: ClassVar[bool] = False

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        num_classes: int = 0,
        source_shape: tuple[int, int, int] = (3, 64, 64),
        width: int = 64,  # maps of the generator
        blocks: int = 23,  # RRDBs
        growth: int = 32,  # maps that each dense layer adds
        d_width: int = 64,  # maps of the discriminator at full size, doubled at each halving
        pretrain_images: int = 48_000_000,  # of the first stage, by L1 alone
        pretrain_lr: float = 2e-4,  # of the first stage
        adversarial: Literal["non_saturating", "relativistic"] = "non_saturating",  # relativistic: R3GAN's
        adversarial_weight: float = 0.1,
        gamma: float = 1.0,  # R1 and R2 have half of it each, with adversarial=relativistic
        content_weight: float = 1.0,
        l1_weight: float = 1.0,  # of pixels in [0, 1]
        sharpen: bool = True,  # the targets of the content loss, by an unsharp mask
        vgg: str = "auto",  # file of VGG19's weights, or auto: the known places, or none: without
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim, image_shape, source_shape, (1, 2, 4, 8))
        self.save_hyperparameters(logger=False)
        if min(image_shape[1:]) < SMALLEST:
            raise UserError(
                f"realesrgan judges images of at least {SMALLEST} pixels a side, not {image_shape[1]}x{image_shape[2]}: "
                "use larger ones"
            )
        self.adversarial, self.adversarial_weight, self.gamma = adversarial, adversarial_weight, gamma
        self.pretrain_images, self.content_weight, self.l1_weight = pretrain_images, content_weight, l1_weight
        self.sharpen = sharpen
        self.rates = (Rate(pretrain_lr, (), 1.0), Rate(None, (), 1.0))
        self.features = PerceptualFeatures(list(LAYERS), vgg, channels=image_shape[0])
        self.generator = RRDBNet(
            source_shape[0], image_shape[0], self.scale, width=width, blocks=blocks, growth=growth
        )
        self.stride, self.reach = self.generator.stride, self.generator.reach
        self.discriminator = Discriminator(image_shape[0], d_width)
        self.finish()

    def target(self, batch: Batch) -> Tensor:
        if not self.sharpen:
            return batch["image"]
        return sharpened(in_unit(batch["image"].float())) * 2 - 1

    def pixel_loss(self, images: Tensor, target: Tensor) -> Tensor:
        return (in_unit(images) - in_unit(target)).abs().mean()

    def content_terms(self, images: Tensor, target: Tensor) -> Losses:
        distance = self.features.distance(images, target, list(LAYERS.values()))
        return {
            "perceptual": self.content_weight * distance,
            "l1": self.l1_weight * self.pixel_loss(images, target),
        }
