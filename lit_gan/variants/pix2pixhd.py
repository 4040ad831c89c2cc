"""pix2pixHD: large images from label maps, coarse to fine, judged at several scales (Wang et al. 2018, arXiv:1711.11585).

The global generator (four halvings, nine residual blocks) and with `enhancer` the local one around it, which works at the
full size where the global one sees every second pixel; two or three PatchGANs, each at half the size of the one before;
least squares, 10 x feature matching in all their layers, 10 x the distance in VGG-19's. Instance norm without gain and
shift throughout. Staged as in the paper: train without enhancer at half the size, begin the next run with that
(`run.start_from`), and leave the global part as it is for `fix_global_images`.

`labels=N` makes N maps of a source of one channel, whose 8-bit values are class indices (0 to N - 1; other values, as 255
for "void", belong to none); `data.nearest_sources` resizes such maps. Without it a source is an image, colours for
labels too. Without VGG-19's weights the third term compares pixels and gradients, and says so (`perceptual.about`).

Left out: the maps of instance boundaries, and the encoder for several outputs. `adversarial=relativistic` is R3GAN's game
(arXiv:2501.05441) at every scale, of patches at the same place, with R1 and R2 by patch as in pix2pix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.losses import LOSSES, relativistic_discriminator, relativistic_generator
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.conv import channels_last
from lit_gan.networks.patch import PatchDiscriminator, init_normal
from lit_gan.networks.translator import Block, Conv
from lit_gan.networks.vgg import PerceptualFeatures
from lit_gan.patchwise import RELATIVE
from lit_gan.penalties import squared_norm
from lit_gan.settings import Optim

VGG = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}
LOCAL_BLOCKS = 3


def stage(conv: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(conv, nn.InstanceNorm2d(width), nn.ReLU())


def down(width: int) -> nn.Sequential:
    """[B, C, H, W] -> [B, 2C, H / 2, W / 2]."""
    return stage(nn.Conv2d(width, 2 * width, 3, 2, 1), 2 * width)


def up(width: int) -> nn.Sequential:
    """[B, C, H, W] -> [B, C / 2, 2H, 2W]."""
    return stage(nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1), width // 2)


def halved(images: Tensor) -> Tensor:
    """Means of 3 x 3 pixels, of those inside the image, around every second one."""
    return F.avg_pool2d(images, 3, 2, 1, count_include_pad=False)


class Global(nn.Sequential):
    """Sources [B, Cs, H, W] -> maps [B, `width`, H, W]; sides are multiples of 2**downs, and twice that at least."""

    def __init__(self, channels: int, width: int, downs: int, blocks: int) -> None:
        inner = width << downs
        super().__init__(
            stage(Conv(channels, width, 7), width),
            *(down(width << level) for level in range(downs)),
            *(Block(inner) for _ in range(blocks)),
            *(up(inner >> level) for level in range(downs)),
        )


class Local(nn.Module):
    """A source and the global maps [B, `width`, H / 2, W / 2] of its half -> maps [B, `width` / 2, H, W]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.front = nn.Sequential(stage(Conv(channels, width // 2, 7), width // 2), down(width // 2))
        self.back = nn.Sequential(*(Block(width) for _ in range(LOCAL_BLOCKS)), up(width))

    def forward(self, source: Tensor, coarse: Tensor) -> Tensor:
        maps: Tensor = self.back(self.front(source) + coarse)
        return maps


class CoarseToFine(nn.Module):
    """Sources [B, Cs, H, W] -> images [B, C, H, W] in [-1, 1] in float32."""

    def __init__(
        self, channels: int, channels_out: int, width: int, downs: int, blocks: int, enhancer: bool
    ) -> None:
        super().__init__()
        self.coarse = Global(channels, width, downs, blocks)
        self.fine = Local(channels, width) if enhancer else None
        self.head = Conv(width // 2 if enhancer else width, channels_out, 7)
        self.apply(init_normal)

    def forward(self, source: Tensor, fixed: bool = False) -> Tensor:
        """`fixed` keeps the gradient out of the global part."""
        source = channels_last(source)
        if self.fine is None:
            maps = self.coarse(source)
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not fixed):
                coarse = self.coarse(halved(source))
            maps = self.fine(source, coarse)
        return torch.tanh(self.head(maps).float())


class MultiScale(nn.Module):
    """Images [B, C, H, W] -> for each scale what `PatchDiscriminator.features` gives, the logits last; fine to coarse."""

    def __init__(self, channels: int, width: int, field: int, scales: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(channels, width, field, "instance", padding=2) for _ in range(scales)
        )

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        found = []
        for number, network in enumerate(self.scales):
            assert isinstance(network, PatchDiscriminator)
            images = halved(images) if number else images
            found.append(network.features(images))
        return found


class Pix2PixHD(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=2e-4, beta1=0.5, beta2=0.999)
    translates: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = True
    mixes_samples: ClassVar[bool] = False
    refuses: Mapping[str, str] = {
        **dict.fromkeys(
            ("fake_consistency", "r2", "gradient_penalty"), "whose fakes are judged beside their sources"
        ),
        "z_consistency": "which has no noise",
        "z_diversity": "which has no noise",
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 512, 1024),
        num_classes: int = 0,
        source_shape: tuple[int, int, int] = (3, 512, 1024),
        labels: int = 0,  # classes, where the source is one channel of their indices; 0: it is an image
        width: int = 64,  # maps of the global generator at its full size; half of them in the enhancer
        d_width: int = 64,  # of the first layer of each discriminator
        downs: int = 4,  # halvings of the global generator
        blocks: int = 9,  # of it, at the smallest size
        enhancer: bool = False,  # the local one around it
        fix_global_images: int = 0,  # images over which the enhancer learns alone
        scales: int = 2,  # discriminators; 3 for images of 1024 pixels
        field: Literal[16, 34, 70, 142, 286] = 70,  # pixels a side of the patch that a logit sees
        match_weight: float = 10.0,  # lambda, of feature matching
        vgg_weight: float = 10.0,  # of the distance in VGG-19's features
        vgg: str = "auto",  # its weights: a file, auto or none
        adversarial: Literal["least_squares", "relativistic"] = "least_squares",
        gamma: float = 1.0,  # of R1 and R2, if relativistic
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        self.needs, self.latent_dim = ("source", "image"), 0
        self.labels, self.fix_global_images = labels, fix_global_images
        self.reads_indices = labels > 0
        self.match_weight, self.vgg_weight, self.gamma = match_weight, vgg_weight, gamma
        self.relativistic = adversarial == "relativistic"
        if self.relativistic:
            self.relative = True  # type: ignore[misc]  # of this game, not of the class
            self.refuses = {**self.refuses, **RELATIVE}
        if fix_global_images and not enhancer:
            raise UserError(
                f"model.fix_global_images={fix_global_images} leaves nothing to train without the enhancer: set "
                "model.enhancer=true, or leave it at 0"
            )
        self.stride = 2 ** (downs + enhancer)
        self.least_side = max(2 * self.stride, 8)  # at the smallest size a reflection has a pixel to take
        check_shapes(image_shape, source_shape, self.stride, self.least_side)
        if min(image_shape[1:]) <= 2 ** (scales - 1):  # an instance norm needs two pixels
            raise UserError(
                f"model.scales={scales} leaves one pixel of images of {image_shape[1]}x{image_shape[2]}: set fewer"
            )
        if labels and source_shape[0] != 1:
            raise UserError(
                f"model.labels={labels}: class indices are a source of 1 channel, these have {source_shape[0]}; set "
                "model.labels=0 for colours"
            )
        channels, channels_out = labels or source_shape[0], image_shape[0]
        self.perceptual = PerceptualFeatures(tuple(VGG), vgg, channels=channels_out)
        self.generator = CoarseToFine(channels, channels_out, width, downs, blocks, enhancer)
        self.discriminator = MultiScale(channels + channels_out, d_width, field, scales)
        self.finish()

    @property
    def notes(self) -> list[str]:
        return [f"perceptual loss: {self.perceptual.about}"] if self.perceptual is not None else []

    def known(self, batch: Batch) -> Tensor:
        """What both players see of the sources: [B, Cs, H, W], or with `labels` one-hot maps [B, N, H, W] of 0 and 1."""
        source = batch["source"]
        if not self.labels:
            return source
        index = ((source.float() + 1) * 127.5).round()  # [B, 1, H, W], the bytes that they were
        classes = torch.arange(self.labels, device=source.device, dtype=index.dtype)
        return (index == classes[:, None, None]).to(source.dtype)

    def fakes(self, batch: Batch) -> Tensor:
        fixed = self.images_seen < self.fix_global_images
        fake: Tensor = self.generator(self.known(batch), fixed)  # [B, C, H, W]
        return fake

    def generate(self, batch: Batch) -> Tensor:
        fake: Tensor = self.sampler(self.known(batch))
        return fake

    def reals(self, batch: Batch) -> Tensor:
        return torch.cat([self.known(batch), batch["image"]], dim=1)

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        return flat(self.discriminator(images))

    def discriminator_loss(self, batch: Batch) -> Losses:
        real = self.reals(batch)
        with torch.no_grad():
            fake = torch.cat([self.known(batch), self.fakes(batch)], dim=1)
        if self.relativistic:
            return self._relativistic(real, fake)
        verdicts = self.discriminator(self.shown(torch.cat([real, fake.to(real.dtype)])))
        self.observe(*flat(verdicts).chunk(2))
        loss = LOSSES["least_squares"].discriminator  # halved already
        return {"adversarial": total([loss(*features[-1].chunk(2)) for features in verdicts])}

    def _relativistic(self, real: Tensor, fake: Tensor) -> Losses:
        """Each scale is a discriminator of its own, under its own penalties."""
        with self.exact():
            images = torch.cat([real.detach().float(), fake.detach().float()]).requires_grad_()
            verdicts = self.discriminator(torch.cat(self.shown_alike(*images.chunk(2))))
            slopes = [squared_norm(v[-1], images) / v[-1][0].numel() for v in verdicts]  # [2B] each
        self.observe(*flat(verdicts).chunk(2))
        r1, r2 = torch.stack(slopes).sum(0).chunk(2)
        return {
            "adversarial": total([relativistic_discriminator(*v[-1].chunk(2)) for v in verdicts]),
            "r1": self.gamma / 2 * r1.mean(),
            "r2": self.gamma / 2 * r2.mean(),
        }

    def generator_loss(self, batch: Batch) -> Losses:
        fake = self.fakes(batch)
        pair = torch.cat([self.known(batch), fake], dim=1)
        real, pair = self.shown_alike(self.reals(batch), pair)
        with torch.no_grad():
            of_real = self.discriminator(real)
        of_fake = self.discriminator(pair)
        terms = {}
        if self.relativistic:
            terms["adversarial"] = total(
                [relativistic_generator(a[-1], b[-1]) for a, b in zip(of_real, of_fake, strict=True)]
            )
        else:  # not halved in the paper
            loss = LOSSES["least_squares"].generator
            terms["adversarial"] = 2 * total([loss(self.kept(features[-1])) for features in of_fake])
        if self.match_weight:
            terms["match"] = self.match_weight * matching(of_fake, of_real)
        if self.vgg_weight:
            distance = self.perceptual.distance(fake, batch["image"], list(VGG.values()))
            terms["perceptual"] = self.vgg_weight * distance
        return terms


def total(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()


def flat(verdicts: list[list[Tensor]]) -> Tensor:
    """The logits of all scales, [B, N]."""
    return torch.cat([features[-1].flatten(1) for features in verdicts], dim=1)


def matching(of_fake: list[list[Tensor]], of_real: list[list[Tensor]]) -> Tensor:
    """L1 of the discriminators' features, all layers but the logits: the mean over scales of 4 times the mean over layers.

    With the papers' patch of 70 pixels, which has four such layers, it is their sum (section 3.2, eq. 4, as published code
    weighs it).
    """
    scales = []
    for fake, real in zip(of_fake, of_real, strict=True):
        layers = [F.l1_loss(a.float(), b.float()) for a, b in zip(fake[:-1], real[:-1], strict=True)]
        scales.append(4 * torch.stack(layers).mean())
    return torch.stack(scales).mean()


def check_shapes(
    image_shape: tuple[int, int, int], source_shape: tuple[int, int, int], stride: int, least: int
) -> None:
    """Raise a `UserError` where images or sources (C, H, W) are not of a size to translate."""
    _, height, width = image_shape
    if image_shape[1:] != source_shape[1:]:
        raise UserError(
            f"pix2pixhd keeps the size of an image, and the sources have {source_shape[1]}x{source_shape[2]} pixels, the "
            f"images {height}x{width}: crop both alike (data.crop_size)"
        )
    if height % stride or width % stride or min(height, width) < least:
        raise UserError(
            f"pix2pixhd cannot make images of {height}x{width} pixels: both sides must be multiples of {stride} and at "
            f"least {least}; crop them (data.crop_size), or set fewer model.downs"
        )
