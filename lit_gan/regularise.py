"""The terms that `regularise.*` adds to a variant's own losses; all weights 0: none. See docs/regularisation.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lit_gan.augment.diffaugment import DiffAugment
from lit_gan.errors import UserError
from lit_gan.penalties import SLOPES, interpolate, one_centred
from lit_gan.players import Batch, Losses, Player
from lit_gan.regularisers import (
    difference,
    filters,
    highest,
    lecam,
    mirrored_at_random,
    orthogonality,
    perturbed,
)
from lit_gan.schedules import linear
from lit_gan.settings import Regularise

if TYPE_CHECKING:
    from lit_gan.module import AdversarialModule

OF_IMAGES = ("consistency", "fake_consistency")  # they shift what they compare
OFF = {"top_k": 1.0}  # the value of a key that asks for nothing, where it is not 0
KEYS = (
    "lecam", "consistency", "fake_consistency", "z_consistency", "z_diversity", *SLOPES, "orthogonal", "top_k",
)  # fmt: skip


class Anchors(nn.Module):
    """Moving averages of the logits of reals and of fakes over all ranks, [2]; they stay on the device.

    They move once in a discriminator update, after it, so that its micro-batches and all ranks see the same ones. The
    first update makes them and is judged by none. Not in `state_dict`: a checkpoint's networks do not depend on them.
    """

    value: Tensor
    sums: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("value", torch.zeros(2), persistent=False)  # a_R, a_F
        self.register_buffer(
            "sums", torch.zeros(2), persistent=False
        )  # of the means of this update's micro-batches
        self.parts = 0  # of this update
        self.updates = 0

    def observe(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Remember how reals and fakes were judged."""
        means = [logits.detach().float().mean() for logits in (real_logits, fake_logits)]
        self.sums += torch.stack(means)
        self.parts += 1

    def advance(self) -> None:
        """After a discriminator update; with several ranks all of them call it."""
        world = 1
        if dist.is_available() and dist.is_initialized():
            world = dist.get_world_size()
            dist.all_reduce(self.sums)
        mean = self.sums / (self.parts * world)
        self.value.lerp_(mean, 1 - self.decay if self.updates else 1.0)
        self.sums.zero_()
        self.parts = 0
        self.updates += 1


class Regulariser(nn.Module):
    """What `regularise.*` asks for; `duration` is in how many images `top_k` is reached."""

    def __init__(self, chosen: Regularise, duration: int) -> None:
        super().__init__()
        self.chosen, self.duration = chosen, duration
        self.anchors = Anchors(chosen.lecam_decay) if chosen.lecam else None
        self.shift = DiffAugment({"translation": 1.0})
        self._verdict: tuple[Tensor, Tensor] | None = (
            None  # of the discriminator's step, until its terms are taken
        )

    def observe(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """How the discriminator judged, with its graph."""
        self._verdict = (real_logits, fake_logits)

    def kept(self, fake_logits: Tensor, images_seen: int) -> Tensor:
        """The logits that G learns from."""
        share = linear(images_seen, 1.0, self.chosen.top_k, self.duration)
        return highest(fake_logits, share) if self.chosen.top_k < 1 else fake_logits

    def terms(self, player: Player, module: AdversarialModule, batch: Batch) -> Losses:
        """Weighted terms of `player`'s loss beside the variant's own, which was computed on this batch just before."""
        if player == "g":
            return self._of_generator(module, batch)
        if self._verdict is None:
            raise UserError("the variant tells nobody its logits (`self.observe`): it cannot be regularised")
        (real_logits, fake_logits), self._verdict = self._verdict, None
        found: Losses = {}
        c = self.chosen
        if self.anchors is not None:
            if self.anchors.updates:
                found["lecam"] = c.lecam * lecam(real_logits, fake_logits, *self.anchors.value.clone())
            self.anchors.observe(real_logits, fake_logits)
        if c.consistency:
            real = module.reals(batch)
            known = real_logits if module.augment is None else None
            found["consistency"] = c.consistency * self._moved(module, batch, real, self.moved(real), known)
        slopes = module.d_updates % self.slope_interval == 0
        found.update(self._of_fakes(module, batch, slopes=slopes))
        if slopes and c.r1:
            found["r1"] = c.interval * c.r1 / 2 * self._squared_slope(module, batch, module.reals(batch))
        if slopes and c.dragan:
            with module.exact():
                around = perturbed(module.reals(batch))
                logits = module.logits(module.shown(around), module.label(batch))
                found["dragan"] = c.interval * c.dragan * one_centred(logits, around)
        return found

    @property
    def slope_interval(self) -> int:
        """Discriminator updates from one penalty of its slopes to the next; 1 where none is asked for."""
        return self.chosen.interval if any(getattr(self.chosen, key) for key in SLOPES) else 1

    def _squared_slope(self, module: AdversarialModule, batch: Batch, images: Tensor) -> Tensor:
        c = self.chosen
        logits, slopes = module.sloped(images, label=module.label(batch), penalty=c.penalty, sigma=c.sigma)
        return slopes.mean() / logits[0].numel()  # that of one logit, whatever the number of patches

    def moved(self, images: Tensor) -> Tensor:
        """T: [B, C, H, W] shifted by up to an eighth of the sides, and mirrored where `mirror` says so."""
        batch, channels, height, width = images.shape
        seen = self.shift.draw((batch, channels, height, width), 1.0, images.device)(images)
        return mirrored_at_random(seen) if self.chosen.mirror else seen

    def _moved(
        self, module: AdversarialModule, batch: Batch, still: Tensor, moved: Tensor, known: Tensor | None
    ) -> Tensor:
        """How differently D judges, in passes of their own: batch norm and minibatch_std must not mix them."""
        label = module.label(batch)
        a, b = module.shown_alike(still, moved)
        return difference(module.logits(a, label) if known is None else known, module.logits(b, label))

    def _of_fakes(self, module: AdversarialModule, batch: Batch, *, slopes: bool) -> Losses:
        c, found = self.chosen, Losses()
        slopes = slopes and bool(c.r2 or c.gradient_penalty)
        if not (c.fake_consistency or c.z_consistency or slopes):
            return found
        with torch.no_grad():
            z = module.latents(batch)
            fake = module.fakes({**batch, "z": z})
        if c.fake_consistency:
            term = self._moved(module, batch, fake, self.moved(fake), None)
            found["fake_consistency"] = c.fake_consistency * term
        if c.z_consistency:
            with torch.no_grad():
                near = module.fakes({**batch, "z": z + c.z_sigma * torch.randn_like(z)})
            found["z_consistency"] = c.z_consistency * self._moved(module, batch, fake, near, None)
        if slopes and c.r2:
            found["r2"] = c.interval * c.r2 / 2 * self._squared_slope(module, batch, fake)
        if slopes and c.gradient_penalty:
            with module.exact():
                between = interpolate(module.shown(module.reals(batch)).float(), module.shown(fake))
                term = one_centred(module.logits(between, module.label(batch)), between)
            found["gradient_penalty"] = c.interval * c.gradient_penalty * term
        return found

    def _of_generator(self, module: AdversarialModule, batch: Batch) -> Losses:
        c, found = self.chosen, Losses()
        if c.z_diversity:
            z = module.latents(batch)
            near = z + c.z_sigma * torch.randn_like(z)
            pair = (module.fakes({**batch, "z": noise}) for noise in (z, near))
            found["z_diversity"] = -c.z_diversity * difference(*pair)
        if c.orthogonal:
            products = [orthogonality(matrix) for matrix in filters(module.generator)]
            found["orthogonal"] = c.orthogonal * torch.stack(products).sum()
        return found

    def advance(self) -> None:
        """After a discriminator update."""
        if self.anchors is not None:
            self.anchors.advance()

    def state(self) -> dict[str, float]:
        """For the checkpoint."""
        if self.anchors is None:
            return {}
        real, fake = self.anchors.value.tolist()
        return {"real": real, "fake": fake, "updates": self.anchors.updates}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint's state; an empty one, of a run without, starts anew."""
        if self.anchors is not None and state:
            self.anchors.value.copy_(torch.tensor([state["real"], state["fake"]]))
            self.anchors.updates = int(state["updates"])


def build_regulariser(
    chosen: Regularise, module: AdversarialModule, *, image_shape: tuple[int, int, int], images: int
) -> Regulariser | None:
    """What `regularise.*` asks for in a run of `images`. Raises `UserError` for what the variant does not admit."""
    asked = [key for key in KEYS if getattr(chosen, key) != OFF.get(key, 0.0)]
    name = type(module).__name__
    for key in asked:
        if key in module.refuses:
            raise UserError(f"regularise.{key} is not for {name}, {module.refuses[key]}: leave it out")
        if key in OF_IMAGES and image_shape[1:] == (1, 1):
            raise UserError(f"regularise.{key} shifts images, and the data are points: leave it out")
    if chosen.top_k <= 0:
        raise UserError(
            f"regularise.top_k={chosen.top_k} must be above 0: it is the share of fakes that G learns from"
        )
    if chosen.penalty == "approx" and (chosen.r1 or chosen.r2):
        if any(isinstance(layer, nn.Dropout) and layer.p for layer in module.discriminator.modules()):
            raise UserError(
                f"regularise.penalty=approx compares two passes, and {name}'s discriminator draws dropout in each: use "
                "exact, or model.dropout=0"
            )
        if not chosen.sigma:
            raise UserError(
                "regularise.sigma=0 leaves nothing to compare: take 0.01, or regularise.penalty=exact"
            )
    if not asked:
        return None
    return Regulariser(chosen, images // 2 if chosen.top_k_images is None else chosen.top_k_images)
