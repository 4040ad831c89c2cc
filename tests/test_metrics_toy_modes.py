"""Modes, high-quality samples and KL of samplers that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lit_gan.metrics import ModeQuality
from metrics_helpers import normal


def grid() -> tuple[Tensor, float]:
    axis = torch.linspace(-0.8, 0.8, 5, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), 0.01


def modes(points: Tensor) -> tuple[float, float, float]:
    metric = ModeQuality(*grid())
    for part in points.split(999):
        metric.update(part)
    captured, share, kl = metric.compute()
    return float(captured), float(share), float(kl)


def test_a_perfect_sampler_captures_all_modes_and_is_of_high_quality():
    n = 5000
    chosen = torch.randint(25, (n,), generator=torch.Generator().manual_seed(0))

    captured, share, kl = modes(grid()[0][chosen] + grid()[1] * normal(n, 2))

    assert captured == 25
    assert share == pytest.approx(1 - math.exp(-4.5), abs=0.005)
    assert kl == pytest.approx(24 / (2 * n), rel=0.6)


def test_a_collapsed_sampler_captures_one_mode():
    captured, share, kl = modes(grid()[0][:1] + 0.1 * grid()[1] * normal(500, 2))

    assert (captured, share) == (1, 1)
    assert kl == pytest.approx(math.log(25))


def test_uniform_noise_captures_no_mode_though_it_hits_most_of_them():
    points = 2 * torch.rand(2500, 2, generator=torch.Generator().manual_seed(0)).double() - 1

    captured, share, kl = modes(points)

    assert captured == 0
    assert 0 < share < 0.03  # the discs of 3 sigma are 1.8 % of the square
    assert kl < 0.05
