"""CMMD on features: analytic values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lit_gan.metrics import CMMD
from lit_gan.metrics.cmmd import gap_sums
from metrics_helpers import both, normal64


def cmmd(real: Tensor, fake: Tensor, batch: int = 1000) -> float:
    return float(both(CMMD(real.shape[1]), real, fake, batch))


def test_cmmd_of_a_set_with_itself_is_zero():
    assert cmmd(normal64(60, 8), normal64(60, 8)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("angle", [1e-3, 0.7, math.pi])
def test_cmmd_of_two_point_masses_follows_from_their_distance(angle: float):
    one = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(5, 1)
    other = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64).repeat(3, 1)
    distance = 2 * math.sin(angle / 2)

    assert cmmd(one, other) == pytest.approx(2000 * (1 - math.exp(-(distance**2) / 200)), rel=1e-4)


def test_cmmd_equals_the_biased_means_of_the_kernel_of_normalised_features():
    real, fake = normal64(21, 5).float(), 0.3 + normal64(17, 5, seed=1).float()

    def mean(a: Tensor, b: Tensor) -> float:
        a, b = (rows.double() / rows.double().norm(dim=1, keepdim=True) for rows in (a, b))
        return float((-(a[:, None] - b[None]).square().sum(2) / 200).exp().mean())

    expected = 1000 * (mean(real, real) + mean(fake, fake) - 2 * mean(real, fake))
    assert cmmd(real, fake) == pytest.approx(expected, rel=1e-8)


def test_cmmd_depends_neither_on_the_features_length_nor_on_tiles_or_batches():
    real, fake = normal64(50, 6), normal64(41, 6, seed=1) + 0.2
    expected = cmmd(real, fake)

    assert cmmd(7 * real, 0.1 * fake) == pytest.approx(expected, rel=1e-5)
    assert cmmd(real, fake, batch=7) == pytest.approx(expected, rel=1e-12)
    assert float(gap_sums(real, fake, tile=7).sum()) == pytest.approx(
        float(gap_sums(fake, real).sum()), rel=1e-12
    )
