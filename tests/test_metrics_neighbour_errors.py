"""Standard errors of the metrics on nearest neighbours: groups of fakes left out in turn, and the spread they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_gan.metrics import Authenticity, DensityCoverage, MemorisationFID, PrecisionRecall
from lit_gan.metrics.features import FeatureMetric
from lit_gan.metrics.spread import GROUPS, group_of, jackknife
from metrics_helpers import filled, normal

KINDS = [PrecisionRecall, DensityCoverage, Authenticity, MemorisationFID]


def values(kind: type[FeatureMetric], real: Tensor, fake: Tensor, *, errors: bool) -> dict[str, float]:
    metric = filled(kind, real, fake)
    metric.errors = errors
    return metric.values()


def crowded(n: int, seed: int) -> Tensor:
    """Many equal distances, and duplicates in every group."""
    return torch.randint(0, 3, (n, 8), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fakes", [20, 83])
@pytest.mark.parametrize(
    "draw", [lambda n, seed: normal(n, seed=seed, scale=1 + seed / 4), crowded], ids=["normal", "ties"]
)
def test_errors_are_the_jackknife_of_metrics_that_never_saw_a_group(
    kind: type[FeatureMetric], fakes: int, draw
):
    real, fake = draw(70, 0), draw(fakes, 1)
    group = group_of(torch.arange(fakes), fakes)

    found = values(kind, real, fake, errors=True)

    left = [values(kind, real, fake[group != g], errors=False) for g in range(GROUPS)]
    whole = values(kind, real, fake, errors=False)
    assert {name: found[name] for name in whole} == pytest.approx(whole, rel=1e-12)
    expected = {
        "error" if name == "value" else f"{name}/error": float(
            jackknife(torch.tensor([one[name] for one in left], dtype=torch.float64))
        )
        for name in whole
    }
    assert found == pytest.approx({**whole, **expected}, rel=1e-9, abs=1e-12)
    assert set(found) == set(kind.parts)


def test_a_group_whose_fakes_are_all_near_one_another_leaves_the_others_their_radii():
    """Without it some fakes' nearest others are all gone, more than are kept beside the k nearest."""
    real = normal(60)
    fake = torch.cat([normal(40, seed=1) * 0.01, normal(360, seed=2)])  # the first group lies together
    fake[40] = 0

    found = values(PrecisionRecall, real, fake, errors=True)

    group = group_of(torch.arange(400), 400)
    left = [values(PrecisionRecall, real, fake[group != g], errors=False)["recall"] for g in range(GROUPS)]
    assert found["recall/error"] == pytest.approx(float(jackknife(torch.tensor(left, dtype=torch.float64))))


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_is_the_spread_over_other_fakes_of_the_same_generator(kind: type[FeatureMetric]):
    real = normal(400, d=4)

    def fakes(seed: int) -> Tensor:
        """Each is a real made smaller, or drawn anew, by chance."""
        generator = torch.Generator().manual_seed(1000 + seed)
        near = 0.95 * real[torch.randint(0, 400, (300,), generator=generator)]
        coin = torch.rand(300, 1, generator=generator) < 0.5
        return torch.where(coin, near, 1.2 * torch.randn(300, 4, generator=generator))

    draws = [values(kind, real, fakes(seed), errors=True) for seed in range(40)]

    for error in (name for name in kind.parts if name.endswith("error")):
        part = "value" if error == "error" else error.removesuffix("/error")
        ratio = np.mean([draw[error] for draw in draws]) / np.std([draw[part] for draw in draws], ddof=1)
        # Many fakes near a real count as one, which is no mean: a jackknife errs upwards there (Efron & Stein 1981).
        saturated = part in ("recall", "coverage") or (part == "value" and kind in KINDS[:2])
        assert 0.7 < ratio < (2.2 if saturated else 1.4), part


@pytest.mark.parametrize("kind", KINDS)
def test_few_fakes_have_no_error(kind: type[FeatureMetric]):
    assert not [name for name in values(kind, normal(40), normal(19, seed=1), errors=True) if "error" in name]


def test_fakes_that_leave_no_kth_neighbour_have_no_error_of_recall():
    metric = PrecisionRecall(8, k=18)
    metric.errors = True
    metric.update(normal(40), real=True)
    metric.update(normal(20, seed=1), real=False)  # 18 are left without a group, and 19 are needed

    assert metric.values().keys() == {"value", "precision", "recall"}
