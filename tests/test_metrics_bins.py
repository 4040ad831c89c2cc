"""NDB and JS: alpha for real against real, more for what is dropped."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lit_gan.metrics import BinDistance
from lit_gan.metrics.bins import Bins, different_bins, fit_bins, jensen_shannon
from metrics_helpers import both, normal64


def clusters(n: int, seed: int, dropped: int = 0) -> Tensor:
    """Even parts of 10 clusters, the last `dropped` of them missing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10 - dropped, (n,), generator=generator)
    return normal64(n, 8, seed + 100) + 6 * normal64(10, 8, 99)[labels]


def test_ndb_of_real_against_real_is_about_alpha_and_more_for_every_dropped_cluster():
    bins = fit_bins(clusters(4000, 0))
    ndb, js = [], []

    for dropped in (0, 1, 3):
        metric = BinDistance(8)
        metric.set_bins(bins)
        metric.update(clusters(3000, 1, dropped), real=False)
        values = metric.values()
        ndb.append(values["ndb"])
        js.append(values["js"])

    assert len(bins.counts) == 100
    assert ndb[0] <= 0.15
    assert ndb[2] > ndb[1] > 2 * ndb[0]
    assert ndb[2] > 0.5
    assert js[0] < js[1] < js[2] < math.log(2)


def test_bins_differ_by_a_two_proportion_test_with_the_pooled_error():
    real = torch.tensor([50.0, 50.0], dtype=torch.float64)

    def differ(fake: int) -> bool:
        return bool(different_bins(real, torch.tensor([float(fake), 100.0 - fake]).double())[0])

    assert not differ(63)  # |p - q| = .13 < 1.96 sqrt(.565 x .435 x .02) = .1374
    assert differ(64)  # .14 > .1372
    assert not different_bins(torch.tensor([9.0, 0.0]), torch.tensor([5.0, 0.0])).any()


def test_jensen_shannon_is_zero_of_equal_and_log_two_of_disjoint_histograms():
    one, other = torch.tensor([3.0, 1.0, 0.0]).double(), torch.tensor([0.0, 0.0, 7.0]).double()

    assert float(jensen_shannon(one, 5 * one)) == pytest.approx(0, abs=1e-12)
    assert float(jensen_shannon(one, other)) == pytest.approx(math.log(2))


def test_bins_do_not_depend_on_the_order_of_the_reals():
    rows = clusters(500, 0).float()
    shuffled = rows[torch.randperm(500, generator=torch.Generator().manual_seed(0))]

    one, other = fit_bins(rows), fit_bins(shuffled)

    assert torch.allclose(one.centres, other.centres, atol=1e-5)
    assert torch.equal(one.counts, other.counts)
    assert (len(one.counts), float(one.counts.sum())) == (25, 500)


def test_ndb_counts_fakes_as_they_come_once_the_bins_are_known():
    real, fake = clusters(400, 0), clusters(300, 1, dropped=2)
    kept = BinDistance(8)
    expected = both(kept, real, fake, batch=33)

    counting = BinDistance(8)
    counting.set_real_state(kept.real_state())
    for part in fake.split(41):
        counting.update(part, real=False)

    assert not counting.fake
    assert torch.allclose(torch.stack(counting.compute()), torch.stack(expected))
    with pytest.raises(ValueError, match="bins are set"):
        counting.update(real, real=True)


def test_fewer_than_two_reals_make_no_bins():
    with pytest.raises(ValueError, match="bins need 2 real samples, got 1"):
        fit_bins(torch.zeros(1, 3))
    metric = BinDistance(2)
    metric.update(torch.zeros(1, 2), real=False)
    with pytest.raises(ValueError, match="before the first update"):
        metric.set_bins(Bins(torch.zeros(2, 2), torch.ones(2)))
