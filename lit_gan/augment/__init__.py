"""What the discriminator is shown instead of the images themselves, for small data: DiffAugment, ADA, APA.

The variant never knows: the spine's `shown` and `shown_alike` draw a transform, and APA puts fakes among the reals
before the variant sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lit_gan.augment import ada, diffaugment
from lit_gan.augment.ada import ADA
from lit_gan.augment.diffaugment import DiffAugment
from lit_gan.augment.draws import Pipeline, Transform, per_sample, struck, untouched
from lit_gan.augment.strength import Adaptive, Scheduled, State
from lit_gan.errors import UserError
from lit_gan.settings import Augment

Batch = dict[str, Tensor]
BUNDLES: dict[str, tuple[str, ...]] = {  # of ADA's groups, as its paper calls them
    "bg": ("blit", "geom"),
    "bgc": ("blit", "geom", "color"),
    "bgcf": ("blit", "geom", "color", "filter"),
    "bgcfn": ("blit", "geom", "color", "filter", "noise"),
    "bgcfnc": ada.GROUPS,
}


class Augmenter(nn.Module):
    """A pipeline of transforms, or pseudo reals, and how strong they are now."""

    def __init__(
        self, strength: Scheduled | Adaptive, *, pipeline: Pipeline | None = None, pseudo: bool = False
    ) -> None:
        super().__init__()
        self.strength = strength
        self.pipeline = pipeline
        self.pseudo = pseudo

    def draw(self, images: Tensor, *, images_seen: int) -> Transform:
        """A transform for batches like `images` [B, C, H, W]; differentiable."""
        if self.pipeline is None:
            return untouched
        batch, channels, height, width = images.shape
        p = self.strength.p(images_seen)
        return self.pipeline.draw((batch, channels, height, width), p, images.device)

    def deceive(self, batch: Batch, key: str, fakes: Callable[[Batch], Tensor], *, images_seen: int) -> Batch:
        """The discriminator's batch; with APA each real is a fake with probability p.

        Jiang et al. 2021, arXiv:2111.06849.
        """
        if not self.pseudo:
            return batch
        real = batch[key]
        with torch.no_grad():
            fake = fakes(batch).to(real.dtype)
        pseudo = struck(len(real), self.strength.p(images_seen), real.device)
        return {**batch, key: torch.where(per_sample(pseudo), fake, real)}

    def observe(self, real_logits: Tensor) -> None:
        """How the discriminator judged reals."""
        self.strength.observe(real_logits)

    def advance(self, images: int, *, images_seen: int, device: torch.device) -> dict[str, Tensor]:
        """After a discriminator update on `images`, over all ranks; returns what is to be logged."""
        return self.strength.advance(images, images_seen, device)

    def state(self) -> State:
        """For the checkpoint; with several ranks all of them call it."""
        return self.strength.state()

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint's state; an empty one, of a run without, starts anew."""
        if state:
            self.strength.restore(state)


def build_augmenter(
    chosen: Augment, *, image_shape: tuple[int, int, int], duration: int | None, alpha: bool = True
) -> Augmenter | None:
    """What `augment.*` asks for; `duration` is `optim.decay_images`, `alpha` whether four channels are RGBA.

    Raises `UserError` for what cannot be.
    """
    if chosen.name == "none":
        return None
    if image_shape[1:] == (1, 1):
        raise UserError(f"augment.name={chosen.name} is for images, and the data are points: use none")
    strength = _strength(chosen, duration)
    if chosen.name == "apa":
        if chosen.policy is not None:
            raise UserError("augment.policy is of ada and diffaugment: apa has no transforms")
        return Augmenter(strength, pseudo=True)
    if chosen.name == "ada":
        policy = _policy(chosen, ["bgc"], ada.GROUPS, BUNDLES)
        return Augmenter(strength, pipeline=ADA(policy, alpha=alpha))
    policy = _policy(chosen, list(diffaugment.GROUPS), diffaugment.GROUPS, {})
    return Augmenter(strength, pipeline=DiffAugment(policy, alpha=alpha))


def _strength(chosen: Augment, duration: int | None) -> Scheduled | Adaptive:
    p = 1.0 if chosen.p is None and chosen.name == "diffaugment" else chosen.p
    if p is None and chosen.p_end is None:
        return Adaptive(chosen.target, chosen.images, chosen.interval)
    if p is None:
        raise UserError(f"augment.p_end={chosen.p_end} needs the p to start from: give augment.p, such as 0")
    return Scheduled(p, p if chosen.p_end is None else chosen.p_end, duration or 0)


def _policy(
    chosen: Augment, default: list[str], groups: tuple[str, ...], bundles: Mapping[str, tuple[str, ...]]
) -> dict[str, float]:
    """Groups and their shares of p, from entries such as `color` and `color:0.5`."""
    policy: dict[str, float] = {}
    for entry in default if chosen.policy is None else chosen.policy:
        name, colon, text = entry.partition(":")
        members = bundles.get(name, (name,))
        if not set(members) <= set(groups):
            raise UserError(
                f"augment.policy: {chosen.name} has no '{name}'; there are {', '.join([*groups, *bundles])}"
            )
        try:
            share = float(text) if colon else 1.0
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UserError(f"augment.policy: {entry} must be {name} or {name}:SHARE, a share from 0 to 1")
        policy.update(dict.fromkeys(members, share))
    return policy
