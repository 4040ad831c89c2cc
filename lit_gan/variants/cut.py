"""CUT: translation one way without pairs, by contrast of patches (Park et al. 2020, arXiv:2007.15651).

One generator with filters at its halvings and doublings, one PatchGAN that halves by a filter too, least squares, and in
place of a way back PatchNCE: what the generator's first half makes of a place in the translation must be nearer to what it
makes of the same place in the source than to 255 other places there. `identity` asks the same of the target domain's own
images. FastCUT is configs/arch/fastcut.yaml: a greater weight, no identity, and sources mirrored at random, whose
translations must match the sources as they were (`flip_equivariance`).

The features are of five taps, called by name; the first are the image's own pixels, as the paper has it, where the authors'
code reads them with the border that the first convolution adds. Since one first half reads both, sources and images have
equal numbers of channels. Left out: the single-image version (SinCUT). Differs: the discriminator's fakes are made anew,
of sources that are not mirrored; the sources' features are those of the pass that made the translation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.patch import PatchDiscriminator
from lit_gan.networks.translator import LEAST, STRIDE, Halve, Translator, blocks_for, check_shapes
from lit_gan.patchwise import PatchGame
from lit_gan.settings import Optim


def patch_nce(queries: Tensor, keys: Tensor, tau: float) -> Tensor:
    """Mean cross-entropy of finding each query's own key among all keys of its sample, both [B, N, F] of length 1.

    Log N where all are equal; towards 0 where each query is its key and the keys are far apart (section 3.2, eq. 3).
    The other samples of the batch are not asked.
    """
    logits = queries.float() @ keys.float().transpose(1, 2) / tau  # [B, N, N]
    own = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    return F.cross_entropy(logits.flatten(0, 1), own.flatten())


class Contrasting(nn.Module):
    """A translator and a head of two layers for each of `taps`: maps there -> `features` numbers of length 1."""

    def __init__(self, translator: Translator, taps: Sequence[str], features: int) -> None:
        super().__init__()
        self.translator, self.taps = translator, tuple(taps)
        self.heads = nn.ModuleDict(
            {
                tap: nn.Sequential(
                    nn.Linear(translator.maps[tap], features), nn.ReLU(), nn.Linear(features, features)
                )
                for tap in taps
            }
        )

    def forward(self, images: Tensor, *, whole: bool = True) -> list[Tensor]:
        """The maps [B, C', h, w] of `images` at each tap, and then, where `whole`, their translation."""
        h, found = self.translator.encode(images, self.taps, whole=whole)
        return [*found, self.translator.decode(h)] if whole else found

    def project(self, tap: str, maps: Tensor, places: Tensor) -> Tensor:
        """What the head of `tap` makes of `maps` [B, C', h, w] at `places` [N] of h x w: [B, N, F] in float32."""
        with torch.autocast(maps.device.type, enabled=False):
            chosen = maps.float().flatten(2).index_select(2, places).transpose(1, 2)  # [B, N, C']
            features: Tensor = self.heads[tap](chosen)
            # 1e-7, as the authors have it: where all units are off, a smaller one would blow the bias's gradient up.
            length = torch.linalg.vector_norm(features, dim=2, keepdim=True)
            return features.div(length + 1e-7)


class CUT(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=2e-4,
        beta1=0.5,
        lr_schedule="linear",
        decay_start_images=266_800,  # 200 epochs of horse2zebra, and another 200
        decay_images=266_800,
    )
    translates: ClassVar[bool] = True
    mixes_samples: ClassVar[bool] = False
    refuses: Mapping[str, str] = dict.fromkeys(("z_consistency", "z_diversity"), "which has no z")

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        source_shape: tuple[int, int, int] = (3, 256, 256),
        num_classes: int = 0,
        width: int = 64,  # maps of the generator at the image
        d_width: int | None = None,  # of the discriminator's first layer; null: width
        blocks: int | None = 9,  # residual blocks; null: 6 for images below 256 pixels, 9 from there on
        field: int = 70,  # side of the discriminator's patch in pixels, without its filters: 1, 16, 34, 70, 142, 286
        taps: list[str]
        | None = None,  # where patches are compared; null: input, down1, down2, block1, and the middle block
        places: int = 256,  # that are compared, at each tap
        features: int = 256,  # of a place, that the heads make
        tau: float = 0.07,  # temperature
        nce_weight: float = 1.0,  # lambda_X; FastCUT: 10
        identity: bool = True,  # PatchNCE of the target domain's images too, and the mean of both
        flip_equivariance: bool = False,  # every second source is translated mirrored
        adversarial: Literal["least_squares", "non_saturating", "hinge", "relativistic"] = "least_squares",
        gamma: float = 1.0,  # weight of R1 and of R2 of the relativistic game
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        check_shapes(image_shape, source_shape, variant="cut")
        channels = image_shape[0]
        if channels != source_shape[0]:
            raise UserError(
                f"cut compares images with sources by one network, and sources have {source_shape[0]} channels, images "
                f"{channels}: make them equal, or take arch=cyclegan"
            )
        self.needs = ("source", "image")
        self.latent_dim = 0
        self.stride, self.least_side = STRIDE, LEAST
        self.places, self.tau, self.nce_weight = places, tau, nce_weight
        self.identity, self.flip_equivariance = identity, flip_equivariance
        self.game = PatchGame(self, adversarial, gamma)
        blocks = blocks_for(image_shape, blocks)
        translator = Translator(channels, channels, width, blocks, antialias=True)
        if taps is None:
            taps = list(dict.fromkeys(["input", "down1", "down2", "block1", f"block{(blocks + 1) // 2}"]))
        if not taps or len(set(taps)) < len(taps) or not set(taps) <= set(translator.maps):
            raise UserError(f"model.taps={taps}: name different ones of {', '.join(translator.maps)}")
        self.generator = Contrasting(translator, taps, features)
        self.discriminator = PatchDiscriminator(
            channels, width if d_width is None else d_width, field, "instance"
        )
        self.discriminator.check(image_shape, variant="cut")
        halve_by_filter(self.discriminator)
        self.generator.apply(init_xavier)
        self.discriminator.apply(init_xavier)
        self.finish()

    def fakes(self, batch: Batch) -> Tensor:
        fake: Tensor = self.generator(batch["source"])[-1]
        return fake

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)
        verdict = self.game.discriminator(self, self.discriminator, batch["image"], fake)
        self.observe(verdict.real_logits, verdict.fake_logits)
        return verdict.terms

    def generator_loss(self, batch: Batch) -> Losses:
        source, image = batch["source"], batch["image"]
        mirrored = None
        if self.flip_equivariance:
            mirrored = torch.rand(len(source), 1, 1, 1, device=source.device) < 0.5
            source = torch.where(mirrored, source.flip(3), source)
        *keys, fake = self.generator(source)
        if mirrored is not None:
            with torch.no_grad():
                keys = self.generator(batch["source"], whole=False)
        weight = self.nce_weight / 2 if self.identity else self.nce_weight
        terms = {
            "adversarial": self.game.generator(self, self.discriminator, image, fake),
            "nce": weight * self.contrast(fake, keys, mirrored),
        }
        if self.identity:
            *keys, same = self.generator(image)
            terms["identity"] = weight * self.contrast(same, keys)
        return terms

    def contrast(self, fake: Tensor, keys: Sequence[Tensor], mirrored: Tensor | None = None) -> Tensor:
        """PatchNCE of translations [B, C, H, W] against the sources' maps `keys`, the mean over the taps.

        Where `mirrored` [B, 1, 1, 1] says so, the translation is of the mirrored source. No gradient goes to the keys.
        """
        losses = []
        player = cast("Contrasting", self.generator)
        queries = player(fake, whole=False)
        for tap, query, key in zip(player.taps, queries, keys, strict=True):
            if mirrored is not None:
                query = torch.where(mirrored, query.flip(3), query)
            places = torch.randperm(query[0, 0].numel(), device=query.device)[: self.places]
            with torch.no_grad():
                known = player.project(tap, key, places)
            losses.append(patch_nce(player.project(tap, query, places), known, self.tau))
        return torch.stack(losses).mean()

    def generate(self, batch: Batch) -> Tensor:
        image: Tensor = self.sampler(batch["source"])[-1]
        return image


def halve_by_filter(discriminator: PatchDiscriminator) -> None:
    """Let the layers that halve keep the size and a filter do it after them, at the same sizes and parameters."""
    for layer in discriminator.layers:
        parts = cast("nn.Sequential", layer)
        conv = cast("nn.Conv2d", parts[0])
        if conv.stride == (2, 2):
            conv.stride = (1, 1)
            parts.append(Halve())


def init_xavier(layer: nn.Module) -> None:
    """Weights from N(0, 0.02² * 2 / (fan_in + fan_out)), biases 0, as the authors' code has them."""
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_normal_(layer.weight, gain=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
