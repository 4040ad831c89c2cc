"""pix2pix: images translated by a U-Net, judged patch by patch beside their sources (Isola et al. 2017, arXiv:1611.07004).

Encoder and decoder with kernels of 4 and stride 2 down to one pixel, what the encoder found joined on at every size;
PatchGAN of 1, 16, 70 or 286 pixels on source and image together; cross-entropy, halved for the discriminator, and 100 x L1.
The noise is dropout in the decoder's first three layers and stays on in `generate`, with masks that are functions of z;
`model.sample_dropout=false` turns it off. Batch norm in `generate` uses each image's own statistics: the paper's tests have
one image in a batch.

The stages follow from the size of the crops, 8 for 256 pixels, fewer for smaller ones. Whether skips are joined before or
after the encoder's LeakyReLU makes no difference: the decoder's ReLU comes next. All three noisy layers are the paper's,
the innermost included; the PyTorch port leaves that one out and takes one more. Left out: z as an input, which the paper
found ignored. `adversarial=relativistic` is R3GAN's game (arXiv:2501.05441), of the patches of a real and of its
translation at the same place: see patchwise.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.conv import channels_last
from lit_gan.networks.patch import PatchDiscriminator, init_normal
from lit_gan.patchwise import PatchGame
from lit_gan.settings import Optim

MOST_STAGES = 8
NOISY = 3  # layers of the decoder with dropout, from the innermost on


class ImageNorm(nn.BatchNorm2d):
    """Batch norm by the batch's statistics in training, by each image's own in inference; none are kept."""

    def __init__(self, width: int) -> None:
        super().__init__(width, track_running_stats=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            return super().forward(inputs)
        return F.instance_norm(inputs, weight=self.weight, bias=self.bias, eps=self.eps)


class UNet(nn.Module):
    """Sources [B, Cs, H, W], sides multiples of 2**stages -> images [B, C, H, W] in [-1, 1] in float32.

    `width` maps at half the size, twice as many at each halving, at most 8 x `width`. In eval mode there is dropout only
    with `masks`, see there.
    """

    def __init__(
        self,
        channels: int,
        channels_out: int,
        width: int,
        stages: int,
        norm: Literal["batch", "instance"],
        dropout: float,
    ) -> None:
        super().__init__()
        kind, bias = (ImageNorm, False) if norm == "batch" else (nn.InstanceNorm2d, True)
        widths = [width * min(2**stage, 8) for stage in range(stages)]  # e.g. 64, 128, 256, 512, 512, ...
        self.dropout, self.stages = dropout, stages
        self.downs, self.down_norms = nn.ModuleList(), nn.ModuleList()
        for stage, w_out in enumerate(widths):
            w_in = widths[stage - 1] if stage else channels
            self.downs.append(nn.Conv2d(w_in, w_out, 4, 2, 1, bias=bias))
            plain = stage in (0, stages - 1)  # one pixel has no variance
            self.down_norms.append(nn.Identity() if plain else kind(w_out))
        self.ups, self.up_norms = nn.ModuleList(), nn.ModuleList()
        for stage in reversed(range(1, stages)):
            w_in = widths[stage] * (1 if stage == stages - 1 else 2)
            self.ups.append(nn.ConvTranspose2d(w_in, widths[stage - 1], 4, 2, 1, bias=bias))
            self.up_norms.append(kind(widths[stage - 1]))
        self.head = nn.ConvTranspose2d(2 * width, channels_out, 4, 2, 1)
        self.noisy = min(NOISY, stages - 1)
        self.noisy_maps = widths[-2 : -2 - self.noisy : -1]
        self.apply(init_normal)

    def forward(self, source: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        h, kept = channels_last(source), []
        for stage, (down, norm) in enumerate(zip(self.downs, self.down_norms, strict=True)):
            h = norm(down(F.leaky_relu(h, 0.2) if stage else h))
            kept.append(h)
        kept.pop()
        for layer, (up, norm) in enumerate(zip(self.ups, self.up_norms, strict=True)):
            h = norm(up(F.relu(h)))
            if masks is not None and layer < self.noisy:
                h = h * masks[layer]
            elif layer < self.noisy:
                h = F.dropout(h, self.dropout, self.training)
            h = torch.cat([h, kept.pop()], dim=1)
        return torch.tanh(self.head(F.relu(h)).float())

    def masks(self, z: Tensor, height: int, width: int) -> list[Tensor]:
        """Factors [B, C, h, w], 0 or 1 / (1 - dropout), for each noisy layer where the image is `height` x `width`.

        Row b is a function of z[b, 0] alone, on any device.
        """
        seeds = z[:, 0].float().cpu().view(torch.int32).tolist()
        streams = [torch.Generator().manual_seed(seed & 0xFFFFFFFF) for seed in seeds]
        found = []
        for layer, maps in enumerate(self.noisy_maps):
            shape = (maps, height >> (self.stages - 1 - layer), width >> (self.stages - 1 - layer))
            drawn = torch.stack([torch.rand(shape, generator=stream) for stream in streams])
            found.append((drawn >= self.dropout).float().div(1 - self.dropout).to(z.device))
        return found


class Pix2Pix(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(lr=2e-4, beta1=0.5, beta2=0.999)
    translates: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = True
    refuses: Mapping[str, str] = {
        **dict.fromkeys(
            ("fake_consistency", "r2", "gradient_penalty"), "whose fakes are judged beside their sources"
        ),
        "z_consistency": "whose noise is dropout",
        "z_diversity": "whose noise is dropout",
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        num_classes: int = 0,
        source_shape: tuple[int, int, int] = (3, 256, 256),
        width: int = 64,  # maps of the U-Net at half the size
        d_width: int | None = None,  # of the discriminator's first layer; null: width
        stages: int
        | None = None,  # halvings of the U-Net; null: as many as the crops admit, 8 for 256 pixels
        norm: Literal["batch", "instance"] = "batch",
        d_norm: Literal["batch", "instance", "none"] | None = None,  # null: norm; instance if relativistic
        dropout: float = 0.5,  # in three layers of the decoder
        sample_dropout: bool = True,  # in generate too, by z
        field: Literal[1, 16, 34, 70, 142, 286] = 70,  # pixels a side of the patch that a logit sees
        l1_weight: float = 100.0,  # lambda
        adversarial: Literal["non_saturating", "relativistic"] = "non_saturating",
        gamma: float = 1.0,  # of R1 and R2, if relativistic
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        self.needs = ("source", "image")
        if not 0 <= dropout < 1:
            raise UserError(f"model.dropout={dropout}: the share of maps left out is in [0, 1)")
        self.sample_dropout = sample_dropout and dropout > 0
        self.latent_dim = int(self.sample_dropout)
        self.l1_weight = l1_weight
        stages = stages_for(image_shape, source_shape, stages)
        self.stride = 2**stages
        channels, channels_out = source_shape[0], image_shape[0]
        relativistic = adversarial == "relativistic"
        d_norm = d_norm or ("instance" if relativistic else norm)
        if relativistic and d_norm == "batch":
            raise UserError(
                "model.d_norm=batch mixes samples, and model.adversarial=relativistic has penalties that are of "
                "each: set model.d_norm=instance or none"
            )
        self.game = PatchGame(self, adversarial, gamma, apart=d_norm == "batch")
        self.generator = UNet(channels, channels_out, width, stages, norm, dropout)
        self.discriminator = PatchDiscriminator(channels + channels_out, d_width or width, field, d_norm)
        self.discriminator.check(image_shape, variant="pix2pix")
        self.finish()

    def fakes(self, batch: Batch) -> Tensor:
        fake: Tensor = self.generator(batch["source"])  # [B, C, H, W]
        return fake

    def generate(self, batch: Batch) -> Tensor:
        source, masks = batch["source"], None
        if self.sample_dropout:
            assert isinstance(self.generator, UNet)
            masks = self.generator.masks(batch["z"].to(source.device), *source.shape[2:])
        fake: Tensor = self.sampler(source, masks)
        return fake

    def reals(self, batch: Batch) -> Tensor:
        return torch.cat([batch["source"], batch["image"]], dim=1)  # [B, Cs + C, H, W]

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = torch.cat([batch["source"], self.fakes(batch)], dim=1)
        verdict = self.game.discriminator(self, self.discriminator, self.reals(batch), fake)
        self.observe(verdict.real_logits, verdict.fake_logits)
        return verdict.terms

    def generator_loss(self, batch: Batch) -> Losses:
        fake = self.fakes(batch)
        pair = torch.cat([batch["source"], fake], dim=1)
        return {
            "adversarial": self.game.generator(self, self.discriminator, self.reals(batch), pair),
            "l1": self.l1_weight * F.l1_loss(fake, batch["image"].float()),
        }


def stages_for(
    image_shape: tuple[int, int, int], source_shape: tuple[int, int, int], stages: int | None
) -> int:
    """The halvings of a U-Net for crops of this shape: `stages`, or where that is None all that the sides admit, up to 8.

    Raises a `UserError` where the sides do not fit.
    """
    if image_shape[1:] != source_shape[1:]:
        raise UserError(
            f"pix2pix keeps the size of an image, and the sources have {source_shape[1]}x{source_shape[2]} pixels, the "
            f"images {image_shape[1]}x{image_shape[2]}: crop both alike (data.crop_size)"
        )
    _, height, width = image_shape
    possible = 0
    while possible < MOST_STAGES and not (height % 2 ** (possible + 1) or width % 2 ** (possible + 1)):
        possible += 1
    wanted = possible if stages is None else stages
    if not 2 <= wanted <= possible:
        asked = "two halvings at least" if stages is None else f"model.stages={stages}"
        raise UserError(
            f"pix2pix for images of {height}x{width} pixels: {asked} cannot be, the sides can be halved {possible} times; "
            "crop them to multiples of a power of two (data.crop_size=256)"
        )
    return wanted
