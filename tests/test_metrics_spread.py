"""The jackknife, and the numbers by which metrics keep samples in order."""

from __future__ import annotations

import pytest
import torch

from lit_gan.metrics import KernelDistance
from lit_gan.metrics.spread import GROUPS, group_of, jackknife


def test_the_jackknife_of_a_mean_is_the_error_of_the_mean_of_the_groups():
    groups = torch.randn(GROUPS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left = (groups.sum(0) - groups) / (GROUPS - 1)

    torch.testing.assert_close(jackknife(left), groups.std(0) / GROUPS**0.5)


def test_one_group_has_no_jackknife():
    with pytest.raises(ValueError, match="2 groups, got 1"):
        jackknife(torch.zeros(1))


def test_groups_are_equal_give_or_take_one_and_of_consecutive_numbers():
    groups = group_of(torch.arange(37), 37)

    assert groups.diff().min() == 0
    assert set(torch.bincount(groups, minlength=GROUPS).tolist()) <= {3, 4}


def test_samples_are_in_the_order_of_their_numbers_however_they_come():
    fakes = torch.randn(6, 2)
    metric = KernelDistance(2)
    for numbers in ([4, 0], [], [5, 1, 3], [2]):
        metric.update(fakes[numbers], real=False, indices=torch.tensor(numbers, dtype=torch.int64))

    assert torch.equal(metric.fakes(), fakes)


def test_without_numbers_samples_follow_one_another():
    fakes = torch.randn(5, 2)
    metric = KernelDistance(2)
    metric.update(fakes[:2], real=False)
    metric.update(fakes[2:], real=False)

    assert torch.equal(metric.fakes(), fakes)


def test_a_wrong_number_of_numbers_is_refused():
    with pytest.raises(ValueError, match=r"indices must be \[2\], got \(3,\)"):
        KernelDistance(2).update(torch.zeros(2, 2), real=False, indices=torch.arange(3))
