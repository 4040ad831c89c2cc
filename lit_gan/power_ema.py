"""Averages whose length is chosen after training: power functions of time (Karras et al. 2024, arXiv:2312.02696).

An average with the profile p(tau) ~ tau^gamma, tau the images seen, always spans the same share of the training so far;
its relative width sigma_rel names it. Snapshots of two such averages, taken now and then, are enough to put together
the average of any other width, and at any stored time, by least squares between profiles. Time is counted in images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

WIDEST = 0.28  # relative widths that post-hoc reconstruction is for; 1 / sqrt(12) is a plain mean over all of training


class Profile(NamedTuple):
    """An average at time `t` (images seen) with exponent `gamma`."""

    t: float
    gamma: float


def width_of(gamma: float) -> float:
    """sigma_rel of an exponent: the profile's standard deviation over t."""
    return float((gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5))


@cache
def gamma_of(width: float) -> float:
    """The exponent of a relative width sigma_rel in (0, 0.28]: 0.05 has 16.97, 0.10 has 6.94."""
    if not 0 < width <= WIDEST:
        raise ValueError(f"a relative width of an average is above 0 and at most {WIDEST}, got {width}")
    inverse = width**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def weight_of_new(images_seen: float, images: float, gamma: float) -> float:
    """How far the average moves towards the weights after `images` more images, `images_seen` in all: 1 - beta."""
    return 1 - max(1 - images / images_seen, 0.0) ** (gamma + 1) if images_seen > 0 else 1.0


def inner_product(a: Profile, b: Profile) -> float:
    """The integral of two profiles' product over their common time."""
    ratio = a.t / b.t
    overlap = ratio ** (b.gamma if ratio < 1 else -a.gamma)
    product: float = (a.gamma + 1) * (b.gamma + 1) * overlap / ((a.gamma + b.gamma + 1) * max(a.t, b.t))
    return product


def coefficients(stored: Sequence[Profile], wanted: Profile) -> list[float]:
    """Of each stored average in the combination whose profile is nearest to `wanted`; they sum to 1.

    No stored time may be later than the wanted one, and one should be equal to it.
    """
    if not stored or max(profile.t for profile in stored) > wanted.t:
        raise ValueError(f"averages of times up to {wanted.t} are needed, got {[p.t for p in stored]}")
    products = np.array([[inner_product(a, b) for b in stored] for a in stored])
    targets = np.array([inner_product(a, wanted) for a in stored])
    # nearly equal profiles make it singular in float64: the least-squares solution of least norm is the tame one
    found = np.linalg.lstsq(products, targets, rcond=1e-14)[0]
    return [float(x) for x in found / found.sum()]
