"""What the variants of super-resolution share: two stages, a content loss, and the adversarial game on what they made.

A run begins with `pretrain_images` images of the pixel loss alone, in which the discriminator rests, and goes on with all
terms. The papers do the two in separate runs, with new optimisers; `run.start_from` with `pretrain_images=0` does that.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from lit_gan.errors import UserError
from lit_gan.losses import (
    LOSSES,
    relativistic_average_discriminator,
    relativistic_average_generator,
    relativistic_discriminator,
    relativistic_generator,
)
from lit_gan.module import AdversarialModule, Batch, Losses, Player
from lit_gan.networks.vgg import PerceptualFeatures
from lit_gan.penalties import SLOPES

Shape = tuple[int, int, int]

RELATIVE: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "relativistic_average": (relativistic_average_discriminator, relativistic_average_generator),
    "relativistic": (relativistic_discriminator, relativistic_generator),  # R3GAN's, with its penalties
}
REFUSED: Mapping[str, str] = {
    "z_consistency": "which has no z",
    "z_diversity": "which has no z",
}
REFUSED_WITH_PAIRS: Mapping[str, str] = {
    **dict.fromkeys(SLOPES, "whose relativistic pairs have gradient penalties of their own"),
    "top_k": "whose loss compares pairs",
}


class Rate(NamedTuple):
    """The learning rate of a stage: `start` times `factor` at each of the images in `drops`, counted from its beginning."""

    start: float | None  # None: optim.lr, and optim.d_lr
    drops: Sequence[int]
    factor: float

    def share(self, images: int, lr: float) -> float:
        """What the optimiser's own rate is multiplied by, where that of the generator is `lr`."""
        start = 1.0 if self.start is None else self.start / lr
        return start * self.factor ** sum(images >= at for at in self.drops)


class SuperResolver(AdversarialModule):
    """A translator whose output is `scale` times its input; `content_terms` and `pixel_loss` make it a variant.

    `images` of the losses are [B, C, H, W] around [-1, 1].
    """

    translates: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = True
    refuses: Mapping[str, str] = REFUSED

    adversarial: str  # "non_saturating", or a name of RELATIVE
    adversarial_weight: float
    gamma: float  # R1 and R2 have half of it each, with adversarial="relativistic"
    pretrain_images: int
    rates: tuple[Rate, Rate]  # of the two stages
    features: PerceptualFeatures  # of the content loss

    def __init__(
        self,
        optim: Mapping[str, Any] | None,
        image_shape: Shape,
        source_shape: Shape,
        scales: tuple[int, ...],
    ) -> None:
        super().__init__(optim)
        self.latent_dim = 0
        self.needs = ("source", "image")
        self.scale = scale_of(image_shape, source_shape, scales)

    def finish(self) -> None:
        if self.adversarial in RELATIVE:
            self.relative = True  # type: ignore[misc]  # by its settings, not by its class
            self.refuses = {**self.refuses, **REFUSED_WITH_PAIRS}
        super().finish()

    @property
    def notes(self) -> list[str]:
        return [f"content loss: {self.features.about}"]

    # -- what a variant gives ---------------------------------------------------------------------------------------

    @abstractmethod
    def pixel_loss(self, images: Tensor, target: Tensor) -> Tensor:
        """The only loss of the first stage, a scalar."""

    @abstractmethod
    def content_terms(self, images: Tensor, target: Tensor) -> Losses:
        """What the generator loses beside the adversarial term, weighted."""

    def target(self, batch: Batch) -> Tensor:
        """What the content loss compares with."""
        return batch["image"]

    # -- the stages -------------------------------------------------------------------------------------------------

    def discriminator_turn(self) -> bool:
        return self.images_seen >= self.pretrain_images

    def pretraining(self) -> bool:
        """Whether the generator's step is of the first stage: as the discriminator's of the same trainer step was."""
        return max(self.images_seen - self.images_per_step, 0) < self.pretrain_images

    def schedule(self, player: Player, optimizer: Optimizer) -> None:
        super().schedule(player, optimizer)
        first = player == "g" and self.pretraining()
        images = self.images_seen - (0 if first else self.pretrain_images)
        for group in optimizer.param_groups:
            group["lr"] *= self.rates[0 if first else 1].share(images, self.optim.lr)

    # -- the players ------------------------------------------------------------------------------------------------

    def fakes(self, batch: Batch) -> Tensor:
        made: Tensor = self.generator(batch["source"])
        return made

    def generate(self, batch: Batch) -> Tensor:
        made: Tensor = self.sampler(batch["source"])
        return made.float().clamp(-1, 1) if self.clips else made.float()

    def discriminator_loss(self, batch: Batch) -> Losses:
        real = batch["image"]
        with torch.no_grad():
            fake = self.fakes(batch)
        if self.adversarial == "relativistic":
            return self._penalised(real, fake)
        real_logits, fake_logits = self.judge(real, fake)
        loss = RELATIVE.get(self.adversarial, LOSSES["non_saturating"])[0]
        return {"adversarial": loss(real_logits, fake_logits)}

    def _penalised(self, real: Tensor, fake: Tensor) -> Losses:
        """Pairs under R1 and R2; of a map of logits a penalty is that of one, had as the sum's slope over their number."""
        logits, slopes = self.sloped(real, fake)
        real_logits, fake_logits = logits.chunk(2)
        self.observe(real_logits, fake_logits)
        r1, r2 = (slopes / logits[0].numel()).chunk(2)
        return {
            "adversarial": relativistic_discriminator(real_logits, fake_logits),
            "r1": self.gamma / 2 * r1.mean(),
            "r2": self.gamma / 2 * r2.mean(),
        }

    def generator_loss(self, batch: Batch) -> Losses:
        fake, target = self.fakes(batch), self.target(batch)
        if self.pretraining():
            return {"pixel": self.pixel_loss(fake.float(), target)}
        adversarial = self.adversarial_weight * self._deceiving(batch["image"], fake)
        return {"adversarial": adversarial, **self.content_terms(fake.float(), target)}

    def _deceiving(self, real: Tensor, fake: Tensor) -> Tensor:
        if self.adversarial not in RELATIVE:
            return LOSSES["non_saturating"].generator(self.kept(self.logits(self.shown(fake))))
        real, fake = self.shown_alike(real.to(fake.dtype), fake)
        with torch.no_grad():
            real_logits = self.logits(real)
        return RELATIVE[self.adversarial][1](real_logits, self.logits(fake))


def scale_of(image_shape: Shape, source_shape: Shape, scales: tuple[int, ...]) -> int:
    """The sides of the images over those of their sources, one of `scales`; a `UserError` where it is none."""
    (_, height, width), (_, rows, columns) = image_shape, source_shape
    scale = height // rows
    if scale not in scales or (height, width) != (rows * scale, columns * scale):
        raise UserError(
            f"sources of {rows}x{columns} pixels and images of {height}x{width}: the sides must be "
            f"{', '.join(map(str, scales))} times as long; set data.scale, and data.crop_size to a multiple of it"
        )
    return scale


def halvings(image_shape: Shape, most: int) -> int:
    """How often a discriminator halves images: at most so often, and to 2 pixels a side, since batch norm needs some."""
    side = min(image_shape[1:])
    return max(min(most, side.bit_length() - 2), 0)


def in_unit(images: Tensor) -> Tensor:
    """Images in [-1, 1] as the papers have them, in [0, 1]."""
    return (images + 1) / 2
