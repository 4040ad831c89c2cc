"""Standard errors: what leaving groups out really gives, and how far scores spread over other fakes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_gan.metrics import CMMD, BinDistance, ClassCoverage, ClassFID, InfiniteFID, ModeQuality
from lit_gan.metrics.bins import Bins, fit_bins
from lit_gan.metrics.frechet import Statistics
from lit_gan.metrics.infinity import BLOCKS
from lit_gan.metrics.per_class import rows_distance
from lit_gan.metrics.spread import GROUPS, group_of, groups_of, jackknife
from lit_gan.metrics.sums import EvaluationMetric
from metrics_helpers import normal64

N, D, K = 400, 5, 4
CENTRES = 3 * normal64(K, D, seed=7)
REALS = CENTRES[torch.arange(1000) % K] + normal64(1000, D, seed=8)
BINS = fit_bins(REALS)


def fakes(seed: int, n: int = N, weights: tuple[float, ...] = (4, 3, 2, 1), scale: float = 1.3) -> Tensor:
    """Of a generator that has the modes in unequal shares, and too wide."""
    generator = torch.Generator().manual_seed(1000 + seed)
    chosen = torch.multinomial(
        torch.tensor(weights, dtype=torch.float64), n, replacement=True, generator=generator
    )
    return CENTRES[chosen] + scale * torch.randn(n, D, generator=generator, dtype=torch.float64)


def nearest(points: Tensor) -> Tensor:
    return torch.cdist(points, CENTRES).argmin(1)


def coverage(n: int) -> ClassCoverage:
    metric = ClassCoverage(K, groups=groups_of(n), samples=n)
    metric.update(-torch.cdist(REALS, CENTRES), real=True)
    return metric


def bins(n: int) -> BinDistance:
    metric = BinDistance(D, groups=groups_of(n), samples=n)
    metric.set_bins(BINS)
    return metric


def modes(n: int) -> ModeQuality:
    return ModeQuality(CENTRES, 1.0, groups=groups_of(n), samples=n)


def cmmd(n: int) -> CMMD:
    metric = CMMD(D)
    metric.set_real_features(REALS[:200])
    return metric


def infinity(n: int) -> InfiniteFID:
    metric = InfiniteFID(D, n)
    metric.set_real_statistics(Statistics(1000, REALS.mean(0), torch.cov(REALS.T)))
    return metric


def class_fid(n: int) -> ClassFID:
    metric = ClassFID(D, K)
    metric.set_real_features(REALS, torch.arange(1000) % K)
    return metric


def values(
    make: Callable[[int], EvaluationMetric], points: Tensor, *, batch: int = 64, errors: bool = True
) -> dict[str, float]:
    metric = make(len(points))
    metric.errors = errors
    logits = -torch.cdist(points, CENTRES)
    for numbers in torch.arange(len(points)).split(batch):
        if isinstance(metric, ClassFID):
            metric.add_labelled(points[numbers], nearest(points[numbers]), numbers, real=False)
        else:
            metric.add(points[numbers], logits[numbers], numbers, real=False)
    return metric.values()


ALL = [coverage, bins, modes, cmmd, infinity, class_fid]


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (coverage, ("kl",)),
        (bins, ("value", "js")),
        (modes, ("high_quality", "kl")),
        (cmmd, ("value",)),
        (infinity, ("value",)),
        (class_fid, ("value", "worst")),
    ],
)
def test_error_is_the_spread_over_other_fakes_of_the_same_generator(make, parts):
    found = [values(make, fakes(seed)) for seed in range(60)]

    for part in parts:
        spread = np.std([each[part] for each in found], ddof=1)
        name = "error" if part == "value" else f"{part}/error"
        error = np.sqrt(np.mean([each[name] ** 2 for each in found]))
        assert error == pytest.approx(spread, rel=0.35), (part, error / spread)


@pytest.mark.parametrize(("make", "part"), [(coverage, "classes"), (modes, "modes")])
def test_error_of_a_count_is_right_on_average_at_its_threshold_and_zero_far_from_it(make, part):
    rare = (100.0, 100.0, 100.0, 300 / 39) if make is coverage else (400.0, 400.0, 400.0, 62.0)
    at = [values(make, fakes(seed, weights=rare, scale=0.9)) for seed in range(150)]
    far = values(make, fakes(0, weights=(1, 1, 1, 1), scale=0.5))

    assert 0.2 < np.mean([each[part] == K for each in at]) < 0.8
    error = np.sqrt(np.mean([each["error"] ** 2 for each in at]))
    assert error == pytest.approx(np.std([each[part] for each in at]), rel=0.35)
    assert far["error"] == far[f"{part}/error"] < 1e-3


@pytest.mark.parametrize("make", [coverage, modes, bins])
def test_error_of_counts_is_that_of_leaving_groups_out(make):
    points = fakes(0)
    group = group_of(torch.arange(N), N)

    found = values(make, points)

    left = [values(make, points[group != number]) for number in range(GROUPS)]
    for part in {coverage: ("kl",), modes: ("high_quality", "kl"), bins: ("js",)}[make]:
        expected = jackknife(torch.tensor([each[part] for each in left], dtype=torch.float64))
        assert found[f"{part}/error"] == pytest.approx(float(expected), rel=1e-9)


def test_error_of_cmmd_is_that_of_leaving_each_fake_out():
    points = fakes(0, n=40)

    found = values(cmmd, points)

    left = [values(cmmd, points[torch.arange(40) != i])["value"] for i in range(40)]
    assert found["error"] == pytest.approx(
        float(jackknife(torch.tensor(left, dtype=torch.float64))), rel=1e-6
    )


@pytest.mark.parametrize(("n", "m"), [(90, 70), (30, 70), (70, 30), (12, 15)])
def test_error_within_classes_is_that_of_leaving_groups_of_the_class_out(n: int, m: int):
    real, fake = normal64(2 * n, 40), 1.2 * normal64(2 * m, 40, seed=1)
    metric = ClassFID(40, 2)
    metric.errors = True
    metric.update(real, torch.arange(2 * n) % 2, real=True)
    backwards = torch.arange(2 * m).flip(0)
    metric.update(fake[backwards], backwards % 2, real=False, indices=backwards)

    found = metric.values()

    expected = []
    for label in range(2):
        ours, theirs = real[label::2].float(), fake[label::2].float()
        group = group_of(torch.arange(m), m)
        left = [rows_distance(ours, theirs[group != number]) for number in range(GROUPS)]
        expected.append(float(jackknife(torch.stack(left))))
    assert found["worst/error"] == pytest.approx(expected[int(found["worst_class"])], rel=1e-5)
    assert found["error"] == found["mean/error"] == pytest.approx(np.hypot(*expected) / 2, rel=1e-5)


def test_classes_that_would_take_too_long_have_no_error(monkeypatch):
    monkeypatch.setattr("lit_gan.metrics.per_class.AFFORDABLE", K * D**3 - 1)
    without = values(class_fid, fakes(0))
    monkeypatch.setattr("lit_gan.metrics.per_class.AFFORDABLE", K * D**3)

    assert not [name for name in without if "error" in name]
    assert without.items() <= values(class_fid, fakes(0)).items()


def test_fid_infinity_without_a_cell_is_that_of_its_other_fakes():
    points = fakes(0, n=80)
    metric = infinity(80)
    for numbers in torch.arange(80).split(9):
        metric.add(points[numbers], None, numbers, real=False)
    kept = metric.cell_of != 3  # the second half of the second block
    alone = InfiniteFID(D, 80)
    alone.set_real_statistics(metric.statistics(real=True))
    alone.update(points[kept], real=False, indices=torch.arange(80)[kept])
    alone.samples = 70

    real = metric.real_with_root()
    left = metric._fit({**metric._distances(real), **metric._distances(real, 3)}, 3)

    assert BLOCKS * metric.cells == 8
    distances = alone._distances(real)
    weights = torch.tensor([2.0, 1.0, 2.0, 2.0], dtype=torch.float64) / 7
    quarters = (weights * torch.stack([distances[block, 1][1] for block in range(4)])).sum()
    halves = (3 * distances[0, 2][1] + 4 * distances[2, 2][1]) / 7
    whole = distances[0, 4][1]
    assert float(left[0]) == pytest.approx(float(whole + (halves - quarters) / 2), rel=1e-9)


def test_errors_of_fid_infinity_are_too_large_rather_than_too_small_for_a_perfect_generator():
    found = [values(infinity, fakes(seed, n=240, weights=(1, 1, 1, 1), scale=1)) for seed in range(60)]

    for part in ("limit", "slope"):
        error = np.sqrt(np.mean([each[f"{part}/error"] ** 2 for each in found]))
        assert 0.9 < error / np.std([each[part] for each in found]) < 2


@pytest.mark.parametrize("make", ALL)
def test_values_and_errors_do_not_depend_on_batches(make):
    points = fakes(0)

    assert values(make, points, batch=7) == pytest.approx(values(make, points, batch=400), rel=1e-9)


@pytest.mark.parametrize("make", ALL)
def test_errors_are_given_when_asked_for_and_for_twenty_fakes_at_least(make):
    few = fakes(0, n=19, weights=(1, 0, 0, 0), scale=0.5)
    enough = fakes(0, n=20, weights=(1, 0, 0, 0), scale=0.5)

    assert {name for name in values(make, enough) if "error" in name} == {
        name for name in type(make(20)).parts if "error" in name
    }
    assert not [name for name in values(make, enough, errors=False) if "error" in name]
    assert not [name for name in values(make, few) if "error" in name]


@pytest.mark.parametrize("make", [coverage, modes, bins])
def test_groups_need_numbers(make):
    metric = make(40)
    what = torch.zeros(2, K if make is coverage else D, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"need a number each, indices \[2\], got none"):
        metric.update(what, *(() if make is modes else (False,)))
    with pytest.raises(ValueError, match="at least 2 samples each"):
        type(metric)(*((CENTRES, 1.0) if make is modes else (K,)), groups=10, samples=19)


def test_bins_made_at_the_end_have_the_errors_of_bins_that_were_known():
    points = fakes(0)
    known = values(partial(_with_bins, bins=BINS), points)

    assert values(partial(_with_bins, bins=None), points) == pytest.approx(known, rel=1e-9)


def _with_bins(n: int, bins: Bins | None) -> BinDistance:
    metric = BinDistance(D, groups=GROUPS, samples=n)
    if bins is None:
        metric.update(REALS, real=True)
    else:
        metric.set_bins(
            Bins(
                *(each.clone() for each in (fit_bins(REALS.float()).centres, fit_bins(REALS.float()).counts))
            )
        )
    return metric
