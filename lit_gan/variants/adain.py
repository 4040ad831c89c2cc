"""AdaIN: the style of any one image, in one pass (Huang & Belongie 2017, arXiv:1703.06868).

VGG-19 up to relu4_1, frozen, reads content (`source`) and style (`image`); adaptive instance normalisation gives every
map of the content the mean and the deviation of the style's, and a decoder, the encoder's mirror and the only network that
learns, makes an image of that. Encoded again, the image is to give what the decoder was given (`content`), and means and
deviations at relu1_1 to relu4_1 are to be the style's (`style`). `generate` takes on the style of `batch["style"]`, an
image of any size, by the share `alpha`.

The paper has no discriminator. Here a PatchGAN may judge what is made beside the style images (`adversarial_weight`); while
that is 0, its default, it rests: no loss of it is computed, and no term is called `adversarial`.

Differs: the encoder has torchvision's weights, which are not scaled to a mean activation of 1 as the authors' are, so that
`style_weight` is not quite theirs (it is padded by reflection, as theirs is); sides are padded by reflection to multiples
of 8, and cut back. Without VGG-19's weights nothing works. Left out: several styles at once, colours kept, masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lit_gan.errors import UserError
from lit_gan.module import AdversarialModule, Batch, Losses, Player
from lit_gan.networks.patch import PatchDiscriminator
from lit_gan.networks.translator import Conv
from lit_gan.networks.vgg import PerceptualFeatures
from lit_gan.patchwise import PatchGame
from lit_gan.penalties import SLOPES
from lit_gan.settings import Optim
from lit_gan.tiles import pad_to

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
DEEPEST = LAYERS[-1]
STRIDE = 8  # of the encoder
LEAST = 16  # pixels a side: a reflection at the last layer takes the second of two
WIDTHS = (
    (512, 256),
    (256, 256, 256, 256, 128),
    (128, 128, 64),
    (64, 64),
)  # of maps, from an eighth of the size on
EPS = 1e-5  # added to the variance


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the places of each map of [B, F, h, w], both [B, F, 1, 1] (eqs. 5 and 6)."""
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0, keepdim=True)
    return mean, (variance + EPS).sqrt()


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Maps `content` [B, F, h, w] with the means and deviations of `style` [B, F, h', w'], sample by sample (eq. 8)."""
    (mean, deviation), (its_mean, its_deviation) = moments(content), moments(style)
    return its_deviation * ((content - mean) / deviation) + its_mean


class Decoder(nn.Sequential):
    """Maps of relu4_1 [B, 512, h, w] -> images [B, C, 8h, 8w] around [-1, 1] in float32; no norm, and linear at the end."""

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for level, widths in enumerate(WIDTHS):
            if level:
                layers.append(nn.Upsample(scale_factor=2))  # nearest
            for w_in, w_out in pairwise(widths):
                layers += [Conv(w_in, w_out, 3), nn.ReLU()]
        super().__init__(*layers, Conv(WIDTHS[-1][-1], channels, 3))

    def forward(self, maps: Tensor) -> Tensor:
        h = maps
        for layer in self:
            h = layer(h)
        return h.float()


class AdaIN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=1e-4, beta1=0.9, beta2=0.999)
    translates: ClassVar[bool] = True
    takes_style: ClassVar[bool] = True
    mixes_samples: ClassVar[bool] = False
    refuses: Mapping[str, str] = dict.fromkeys(("z_consistency", "z_diversity"), "which has no z")

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        source_shape: tuple[int, int, int] = (3, 256, 256),
        num_classes: int = 0,
        content_weight: float = 1.0,
        style_weight: float = 10.0,  # lambda
        alpha: float = 1.0,  # of what is made after training: 1 the style alone, 0 the content as it was decoded
        lr_decay: float = 6.25e-6,  # the rate is divided by 1 + lr_decay * images; 5e-5 a step of 8
        vgg: str = "auto",  # file of VGG-19's weights, or auto: the known places
        adversarial_weight: float = 0.0,  # 0: the discriminator rests
        d_width: int = 64,  # of the discriminator's first layer
        field: Literal[1, 16, 34, 70, 142, 286] = 70,  # pixels a side of the patch that a logit sees
        adversarial: Literal["least_squares", "non_saturating", "hinge", "relativistic"] = "least_squares",
        gamma: float = 1.0,  # weight of R1 and of R2 of the relativistic game
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        check_shapes(image_shape, source_shape)
        if not 0 <= alpha <= 1:
            raise UserError(f"model.alpha={alpha:g} is no share of the style: take one from 0 to 1")
        self.needs, self.latent_dim, self.stride = ("source", "image"), 0, STRIDE
        self.content_weight, self.style_weight, self.alpha = content_weight, style_weight, alpha
        self.lr_decay, self.adversarial_weight = lr_decay, adversarial_weight
        self.encoder = PerceptualFeatures(LAYERS, vgg, required=True, reflect=True)
        self.game = PatchGame(self, adversarial, gamma)
        self.generator = Decoder(image_shape[0])
        self.discriminator = PatchDiscriminator(image_shape[0], d_width, field, "instance")
        if adversarial_weight:
            self.discriminator.check(image_shape, variant="adain")
        else:  # of this run, not of the class
            of_d = ("lecam", "consistency", "fake_consistency", "top_k", *SLOPES)
            rests = dict.fromkeys(of_d, "whose discriminator rests (model.adversarial_weight=0)")
            self.refuses = {**self.refuses, **rests}
        self._style_read: tuple[Tensor, int, Tensor] | None = None  # image, its version and its maps
        self.finish()

    @property
    def notes(self) -> list[str]:
        return [f"encoder: {self.encoder.about}"]

    def check_needs(self, keys: Iterable[str] | None = None) -> None:
        super().check_needs(keys)
        _ = self.encoder.network  # missing weights are not found out at the first step

    def discriminator_turn(self) -> bool:
        return self.adversarial_weight > 0

    def schedule(self, player: Player, optimizer: Optimizer) -> None:
        super().schedule(player, optimizer)
        for group in optimizer.param_groups:
            group["lr"] /= 1 + self.lr_decay * self.images_seen

    def encoded(self, images: Tensor) -> dict[str, Tensor]:
        """Maps of `images` [B, C, H, W], padded to whole strides, at each of LAYERS, in float32."""
        stride = STRIDE if min(images.shape[2:]) >= LEAST else LEAST
        return {name: maps.float() for name, maps in self.encoder(pad_to(images, stride)).items()}

    def fakes(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            style = self.encoded(batch["image"])[DEEPEST]
        return self._stylised(self.generator, batch["source"], style, 1.0)

    def generate(self, batch: Batch) -> Tensor:
        style = self._style_maps(batch["style"])
        made = self._stylised(self.sampler, batch["source"], style, self.alpha)
        return made.clamp(-1, 1) if self.clips else made

    def _style_maps(self, style: Tensor) -> Tensor:
        """The deepest maps of a style image; of the same one, as for all tiles of an image, they are made once."""
        read = self._style_read
        if read is None or read[0] is not style or read[1] != style._version:
            read = self._style_read = style, style._version, self.encoded(style)[DEEPEST]
        return read[2]

    def _stylised(self, decoder: nn.Module, source: Tensor, style: Tensor, alpha: float) -> Tensor:
        """[B, C, H, W] of a source [B, Cs, H, W] and the deepest maps of a style."""
        with torch.no_grad():
            content = self.encoded(source)[DEEPEST]
            target = adain(content, style)
        made: Tensor = decoder(torch.lerp(content, target, alpha))  # eq. 14
        return made[:, :, : source.shape[2], : source.shape[3]]

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)
        verdict = self.game.discriminator(self, self.discriminator, batch["image"], fake)
        self.observe(verdict.real_logits, verdict.fake_logits)
        return verdict.terms

    def generator_loss(self, batch: Batch) -> Losses:
        source, image = batch["source"], batch["image"]
        with torch.no_grad():
            style = self.encoded(image)
            target = adain(self.encoded(source)[DEEPEST], style[DEEPEST])  # t
        made = self.generator(target)
        found = self.encoded(made)
        terms: Losses = {}
        if self.adversarial_weight:
            fake = made[:, :, : source.shape[2], : source.shape[3]]
            terms["adversarial"] = self.adversarial_weight * self.game.generator(
                self, self.discriminator, image, fake
            )
        terms["content"] = self.content_weight * F.mse_loss(found[DEEPEST], target)
        terms["style"] = self.style_weight * style_loss(found, style)
        return terms


def style_loss(found: Mapping[str, Tensor], style: Mapping[str, Tensor]) -> Tensor:
    """Squared errors of means and of deviations, each the mean over maps, summed over LAYERS (eq. 13, squared)."""
    pairs = [(moments(found[name]), moments(style[name])) for name in LAYERS]
    return torch.stack(
        [F.mse_loss(a, b) for mine, its in pairs for a, b in zip(mine, its, strict=True)]
    ).sum()


def check_shapes(image_shape: tuple[int, int, int], source_shape: tuple[int, int, int]) -> None:
    """Raise a `UserError` where images or sources (C, H, W) are none that VGG-19 reads, or differ in size."""
    for side, shape in (("sources", source_shape), ("images", image_shape)):
        if shape[0] not in {1, 3, 4}:
            raise UserError(
                f"adain reads by VGG-19, which takes 1, 3 or 4 channels, and the {side} have {shape[0]}: convert them, or "
                "take arch=cyclegan"
            )
    if image_shape[1:] != source_shape[1:]:
        raise UserError(
            f"adain keeps the size of an image, and the sources have {source_shape[1]}x{source_shape[2]} pixels, the "
            f"images {image_shape[1]}x{image_shape[2]}: crop both alike (data.crop_size)"
        )
