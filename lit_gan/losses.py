"""Adversarial losses: pairs of pure functions of logits.

Convention: a discriminator gives logits of any shape, high means real; every function returns a scalar to
minimise, the mean over all logits, computed in float32 whatever the networks run in. No sigmoid stands in any
network: the log-likelihoods are written with softplus, which neither overflows nor saturates.

>>> import torch
>>> zeros = torch.zeros(4, 1)
>>> round(LOSSES["non_saturating"].discriminator(zeros, zeros).item(), 4)
1.3863
>>> LOSSES["hinge"].generator(torch.ones(2, 1, 3, 3)).item()
-1.0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import relu, softplus

if TYPE_CHECKING:
    from lit_gan.conditions import Kind


class AdversarialLoss(NamedTuple):
    """What each player minimises."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # (real_logits, fake_logits) -> scalar
    generator: Callable[[Tensor], Tensor]  # (fake_logits) -> scalar


def logistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Binary cross-entropy, -log D(x) - log(1 - D(G(z))) with D = sigmoid(logit) (Goodfellow 2014, eq. 1)."""
    return softplus(-real_logits.float()).mean() + softplus(fake_logits.float()).mean()


def minimax_generator(fake_logits: Tensor) -> Tensor:
    """log(1 - D(G(z))): the value of the game, flat where D is sure (Goodfellow et al. 2014, eq. 1)."""
    return -softplus(fake_logits.float()).mean()


def non_saturating_generator(fake_logits: Tensor) -> Tensor:
    """-log D(G(z)): the same fixed point, a strong gradient where D is sure (Goodfellow 2014, section 3)."""
    return softplus(-fake_logits.float()).mean()


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logits beyond a margin of 1 cost nothing (Lim & Ye 2017, arXiv:1705.02894)."""
    return relu(1 - real_logits.float()).mean() + relu(1 + fake_logits.float()).mean()


def wasserstein_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The difference of the critic's means, whose slope needs a bound (Arjovsky 2017, arXiv:1701.07875)."""
    return fake_logits.float().mean() - real_logits.float().mean()


def negative_mean_generator(fake_logits: Tensor) -> Tensor:
    """-D(G(z)): of the Wasserstein and of the hinge loss."""
    return -fake_logits.float().mean()


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Half the squared distance to 1 for reals, to 0 for fakes (Mao et al. 2017, arXiv:1611.04076, eq. 9)."""
    return 0.5 * ((real_logits.float() - 1).square().mean() + fake_logits.float().square().mean())


def least_squares_generator(fake_logits: Tensor) -> Tensor:
    """Half the squared distance to 1 (Mao et al. 2017, eq. 9: a = 0, b = c = 1)."""
    return 0.5 * (fake_logits.float() - 1).square().mean()


def auxiliary(scores: Tensor, label: Tensor, kind: Kind = "class") -> Tensor:
    """-log p(label | image) by `scores` [B, K], the mean over the batch: -L_C (Odena et al. 2017, section 4).

    Of a class [B] the cross-entropy. Of vectors [B, K], whose last entry is the 1 that all have and does not count: the
    sum of K - 1 binary cross-entropies of a multi-hot one; of a continuous one half the squared distance, which is the
    log-likelihood of Gaussians of deviation 1 but for a constant.
    """
    scores = scores.float()
    if kind == "class":
        return F.cross_entropy(scores, label)
    scores, values = scores[:, :-1], label[:, :-1].to(scores.dtype)
    if kind == "multi-hot":
        terms = F.binary_cross_entropy_with_logits(scores, values, reduction="none")
    else:
        terms = (scores - values).square() / 2
    return terms.sum(1).mean()


LOSSES: dict[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(logistic_discriminator, minimax_generator),
    "non_saturating": AdversarialLoss(logistic_discriminator, non_saturating_generator),
    "hinge": AdversarialLoss(hinge_discriminator, negative_mean_generator),
    "least_squares": AdversarialLoss(least_squares_discriminator, least_squares_generator),
    "wasserstein": AdversarialLoss(wasserstein_discriminator, negative_mean_generator),
}


def relativistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Each real above the fake it is paired with (RpGAN: Jolicoeur-Martineau 2018, arXiv:1807.00734).

    Both logits have one shape; pairs are those at the same place. Not in `LOSSES`: its generator reads the
    real logits too.
    """
    return softplus(fake_logits.float() - real_logits.float()).mean()


def relativistic_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Each fake above the real it is paired with; the counterpart of `relativistic_discriminator`."""
    return softplus(real_logits.float() - fake_logits.float()).mean()


def relativistic_average_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Reals above the mean fake, and fakes below the mean real (RaGAN: Jolicoeur-Martineau 2018, arXiv:1807.00734).

    The mean of the two cross-entropies, over the batch at hand: the factor 1/2 is that of ESRGAN's code.
    """
    real, fake = real_logits.float(), fake_logits.float()
    return (softplus(fake.mean() - real).mean() + softplus(fake - real.mean()).mean()) / 2


def relativistic_average_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Fakes above the mean real, and reals below the mean fake; the counterpart of the above."""
    return relativistic_average_discriminator(fake_logits, real_logits)
