"""FID-infinity: nearer the truth than FID, and a function of the fakes' numbers alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_gan.metrics import InfiniteFID
from lit_gan.metrics.frechet import Statistics, covariance_root, frechet_distance
from metrics_helpers import normal64


def gaussian(mean: Tensor, cov: Tensor) -> Statistics:
    return Statistics(10**9, mean, cov, covariance_root(cov))


def infinity(real: Statistics, fake: Tensor, batch: int = 1000, order: Tensor | None = None) -> InfiniteFID:
    metric = InfiniteFID(fake.shape[1], len(fake))
    metric.set_real_statistics(real)
    numbers = torch.arange(len(fake)) if order is None else order
    for indices in numbers.split(batch):
        metric.update(fake[indices], real=False, indices=indices)
    return metric


def test_fid_infinity_is_nearer_the_distance_of_two_known_gaussians_than_fid_is():
    d, n = 32, 1600
    real = gaussian(torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64))
    scale, mean = torch.linspace(0.9, 1.1, d, dtype=torch.float64), 0.05 * torch.ones(d, dtype=torch.float64)
    truth = float(frechet_distance(real.mean, real.cov, mean, torch.diag(scale**2)))
    limits, fids = [], []

    for seed in range(8):
        metric = infinity(real, normal64(n, d, seed) * scale + mean)
        limits.append(float(metric.compute()) - truth)
        of_all = metric.statistics(real=False)
        fids.append(float(frechet_distance(real.mean, real.cov, of_all.mean, of_all.cov)) - truth)
        assert metric.values()["r2"] > 0.95
        assert metric.values()["slope"] / n == pytest.approx(fids[-1] - limits[-1], rel=0.2)

    assert np.mean(fids) > truth / 2
    assert abs(np.mean(limits)) < np.mean(fids) / 5
    assert np.mean(np.abs(limits)) < np.mean(np.abs(fids)) / 2


def test_fid_infinity_depends_neither_on_batches_nor_on_the_order_of_the_fakes():
    real = gaussian(torch.zeros(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64))
    fake = normal64(101, 6, seed=1)
    expected = infinity(real, fake).values()

    assert infinity(real, fake, batch=7).values() == pytest.approx(expected, rel=1e-9)
    backwards = torch.arange(101).flip(0)
    assert infinity(real, fake, batch=13, order=backwards).values() == pytest.approx(expected, rel=1e-9)


def test_fid_infinity_holds_sums_of_all_fakes():
    real, fake = normal64(60, 4), normal64(90, 4, seed=1) + 1
    metric = InfiniteFID(4, 90)
    metric.update(real, real=True)
    metric.update(fake, real=False, indices=torch.arange(90))

    parts = metric.statistics(real=False)

    assert parts.n == 90
    assert torch.allclose(parts.mean, fake.mean(0))
    assert torch.allclose(parts.cov, torch.cov(fake.T))
    blocks = metric.fake_n.view(4, -1).sum(1)
    assert float(blocks.min()) == 22
    assert float(blocks.max()) == 23


def test_fid_infinity_refuses_another_number_of_samples_and_fakes_without_numbers():
    metric = InfiniteFID(3, 20)
    metric.update(normal64(19, 3), real=True)
    metric.update(normal64(19, 3), real=False, indices=torch.arange(19))

    with pytest.raises(ValueError, match="expected 20 fake samples, got 19"):
        metric.compute()
    with pytest.raises(ValueError, match=r"a number each, indices \[1\], got none"):
        metric.update(normal64(1, 3), real=False)
    with pytest.raises(ValueError, match="samples must be at least 8, got 7"):
        InfiniteFID(3, 7)
