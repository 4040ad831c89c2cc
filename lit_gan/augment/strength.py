"""How often transforms act: a schedule, or ADA's controller (Karras et al. 2020, arXiv:2006.06676, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lit_gan.errors import UserError
from lit_gan.schedules import cosine

State = dict[str, float]


class Scheduled(nn.Module):
    """p by half a cosine from `start` to `end` over `duration` images, `end` afterwards (R3GAN); equal ends: fixed."""

    def __init__(self, start: float, end: float, duration: int) -> None:
        super().__init__()
        self.start, self.end, self.duration = start, end, duration

    def p(self, images_seen: int) -> float:
        return float(cosine(images_seen, self.start, self.end, self.duration))

    def observe(self, real_logits: Tensor) -> None:
        """It does not depend on them."""

    def advance(self, images: int, images_seen: int, device: torch.device) -> dict[str, Tensor]:
        if self.start == self.end:
            return {}
        return {"p": torch.full((), self.p(images_seen), device=device)}

    def state(self) -> State:
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing to restore: it is a function of the images seen."""


class Adaptive(nn.Module):
    """p rises while the discriminator overfits, r_t = E[sign D(real)] above `target`, and falls while it does not.

    By the share of `duration` that was seen since, at every `interval`-th discriminator update; over all ranks. It stays
    on the device: nothing waits for it. Not in `state_dict`, so that a checkpoint's networks do not depend on it.
    """

    value: Tensor
    signs: Tensor

    def __init__(self, target: float, duration: int, interval: int) -> None:
        super().__init__()
        self.target, self.duration, self.interval = target, duration, interval
        self.register_buffer("value", torch.zeros(()), persistent=False)  # p
        self.register_buffer("signs", torch.zeros(()), persistent=False)  # their sum on this rank
        self.count = 0  # of logits over all ranks since p last moved; images and updates likewise
        self.images = 0
        self.updates = 0

    def p(self, images_seen: int) -> Tensor:
        return self.value

    def observe(self, real_logits: Tensor) -> None:
        """Remember which reals the discriminator took for real."""
        self.signs += real_logits.detach().sign().sum(dtype=torch.float32)
        self.count += real_logits.numel() * _world()

    def advance(self, images: int, images_seen: int, device: torch.device) -> dict[str, Tensor]:
        """After a discriminator update on `images`, over all ranks; returns p and r_t where p moves."""
        self.images += images
        self.updates += 1
        if self.updates % self.interval:
            return {}
        if not self.count:
            raise UserError("the variant tells nobody its real logits (`self.observe`): give augment.p")
        if _world() > 1:
            dist.all_reduce(self.signs)
        r_t = self.signs / self.count
        self.value += (r_t - self.target).sign() * (self.images / self.duration)
        self.value.clamp_(0, 1)
        self.signs.zero_()
        self.count = self.images = self.updates = 0
        return {"p": self.value.clone(), "r_t": r_t}

    def state(self) -> State:
        """What a resumed run needs; with several ranks all of them call it."""
        signs = self.signs.clone()
        if _world() > 1:
            dist.all_reduce(signs)
        return {
            "p": self.value.item(),
            "signs": signs.item(),
            "count": self.count,
            "images": self.images,
            "updates": self.updates,
        }

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from `state`; the sum over the ranks is with the first one."""
        first = _world() == 1 or dist.get_rank() == 0
        self.value.fill_(state["p"])
        self.signs.fill_(state["signs"] if first else 0.0)
        self.count, self.images, self.updates = (int(state[k]) for k in ("count", "images", "updates"))


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
