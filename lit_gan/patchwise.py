"""The adversarial game on patches: each logit of [B, 1, h, w] is a verdict of its own, and each loss their mean.

The discriminator's part is halved, which slows it down against the generator (Isola et al. 2017, section 3.3; Zhu et al.
2017, section 4). Or it is R3GAN's: relativistic pairs, of the patch of a real and the patch of a fake at the same place,
under R1 and R2 (Huang et al. 2024). A patch's penalty is that of its own logit; since the patches overlap it is had for
all together, as the squared gradient of the sum of the logits over their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lit_gan.losses import LOSSES, least_squares_generator, relativistic_discriminator, relativistic_generator
from lit_gan.module import AdversarialModule, Losses
from lit_gan.penalties import SLOPES, squared_norm

RELATIVE: Mapping[str, str] = {  # keys of `regularise` that the relativistic game has no use for: why
    **dict.fromkeys(SLOPES, "whose relativistic game has gradient penalties of its own"),
    "top_k": "whose relativistic game compares pairs",
}


class Verdict(NamedTuple):
    """What a discriminator's step finds."""

    real_logits: Tensor
    fake_logits: Tensor
    terms: Losses  # weighted; the first is "adversarial"


class PatchGame:
    """The losses named `name`: one of `LOSSES`, or "relativistic" with penalties of weight `gamma` / 2 each.

    Reals and fakes, of one shape, go through together; or `apart`, where a layer of the discriminator mixes samples, which
    the relativistic game does not admit.
    """

    def __init__(self, module: AdversarialModule, name: str, gamma: float, *, apart: bool = False) -> None:
        self.apart = apart
        self.relative, self.gamma = name == "relativistic", gamma
        self.loss = None if self.relative else LOSSES[name]
        if self.relative:  # of this game, not of the class
            module.relative = True  # type: ignore[misc]
            module.refuses = {**module.refuses, **RELATIVE}

    def discriminator(
        self, module: AdversarialModule, network: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
    ) -> Verdict:
        """How `network` judges `real` and `fake` [B, C, H, W] as they are shown, and what it loses."""
        if self.loss is not None:
            seen = module.shown(torch.cat([real, fake.to(real.dtype)]))
            real_logits, fake_logits = (
                (network(part) for part in seen.chunk(2)) if self.apart else network(seen).chunk(2)
            )
            half = 1.0 if self.loss.generator is least_squares_generator else 0.5  # halved already
            adversarial = half * self.loss.discriminator(real_logits, fake_logits)
            return Verdict(real_logits, fake_logits, {"adversarial": adversarial})
        with module.exact():
            images = torch.cat([real.detach().float(), fake.detach().float()]).requires_grad_()
            logits = network(torch.cat(module.shown_alike(*images.chunk(2))))
            r1, r2 = (squared_norm(logits, images) / logits[0].numel()).chunk(2)
        real_logits, fake_logits = logits.chunk(2)
        terms = {
            "adversarial": relativistic_discriminator(real_logits, fake_logits),
            "r1": self.gamma / 2 * r1.mean(),
            "r2": self.gamma / 2 * r2.mean(),
        }
        return Verdict(real_logits, fake_logits, terms)

    def generator(
        self, module: AdversarialModule, network: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
    ) -> Tensor:
        """What the maker of `fake` loses by the verdict of `network`, beside `real` where pairs count."""
        if self.loss is not None:
            double = (
                2.0 if self.loss.generator is least_squares_generator else 1.0
            )  # the papers do not halve it
            return double * self.loss.generator(module.kept(network(module.shown(fake))))
        real, fake = module.shown_alike(real.to(fake.dtype), fake)
        with torch.no_grad():
            real_logits = network(real)
        return relativistic_generator(real_logits, network(fake))
