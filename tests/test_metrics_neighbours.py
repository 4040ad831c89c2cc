"""Metrics on nearest neighbours: analytic values, agreement with the definitions, and what cannot move them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_gan.metrics import (
    Authenticity,
    DensityCoverage,
    KernelDistance,
    MemorisationFID,
    PrecisionRecall,
    build_extractor,
    manifold,
    memorisation,
)
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.features import FeatureMetric
from lit_gan.metrics.memorisation import nearest_cosine_distances
from lit_gan.metrics.neighbours import ball_counts, mutual_membership, nearest, neighbour_radii
from metrics_helpers import Fake, distances, filled, noise, normal, numbers, radii, value

KINDS = [KernelDistance, PrecisionRecall, DensityCoverage, Authenticity, MemorisationFID]
TILES = [1, 7, 16, 2048]


@pytest.mark.parametrize("tile", TILES)
def test_tiles_give_what_all_distances_at_once_give(tile: int):
    x, y = normal(33), normal(21, seed=1)
    x_radii, y_radii = radii(x, 3), radii(y, 3)
    apart = distances(x, y)

    assert neighbour_radii(x, 3, tile).tolist() == pytest.approx(x_radii.tolist(), rel=1e-12)
    around, inside = ball_counts(y, torch.from_numpy(y_radii), x, tile)
    assert around.tolist() == (apart <= y_radii).sum(1).tolist()
    assert inside.tolist() == (apart <= y_radii).sum(0).tolist()
    x_in_y, y_in_x = mutual_membership(x, torch.from_numpy(x_radii)[None], y, torch.from_numpy(y_radii), tile)
    assert x_in_y.tolist() == (apart <= y_radii).any(1).tolist()
    assert y_in_x[0].tolist() == (apart <= x_radii[:, None]).any(0).tolist()
    distance, of_nearest = nearest(x, y, torch.from_numpy(y_radii), tile)
    assert distance.tolist() == pytest.approx(apart.min(1).tolist(), rel=1e-12)
    assert of_nearest.tolist() == y_radii[apart.argmin(1)].tolist()
    cosine = torch.cosine_similarity(x[:, None].double(), y[None].double(), dim=2).abs().amax(1)
    assert nearest_cosine_distances(x, y, tile).tolist() == pytest.approx((1 - cosine).tolist(), rel=1e-9)


@pytest.mark.parametrize("tile", TILES)
def test_a_point_is_not_its_own_neighbour_but_its_duplicate_is(tile: int):
    points = torch.tensor([[0.0], [0.0], [1.0], [3.0], [7.0]])

    assert neighbour_radii(points, 1, tile).tolist() == [0, 0, 1, 2, 4]
    assert neighbour_radii(points, 4, tile).tolist() == [7, 7, 6, 4, 7]


def test_copies_are_at_distance_zero_in_many_dimensions_far_from_the_origin():
    real = normal(40, d=2048) + 100

    assert nearest(real.flip(0), real, torch.zeros(40))[0].tolist() == [0] * 40
    assert neighbour_radii(torch.cat([real, real]), 1).tolist() == [0] * 80
    assert nearest_cosine_distances(real.flip(0), real).tolist() == [0] * 40


@pytest.mark.parametrize("tile", TILES)
def test_of_several_nearest_points_the_largest_value_counts(tile: int):
    points, values = torch.tensor([[0.0], [2.0], [2.0], [9.0]]), torch.tensor([1.0, 5.0, 3.0, 9.0])

    distance, found = nearest(torch.tensor([[1.0], [1.5]]), points, values, tile)

    assert (distance.tolist(), found.tolist()) == ([1, 0.5], [5, 5])


def test_too_few_points_have_no_neighbour():
    with pytest.raises(ValueError, match="neighbour number 3 needs at least 4 points, got 3"):
        neighbour_radii(normal(3), 3)


def test_a_set_has_precision_recall_and_coverage_one_against_itself():
    real = normal(100)

    assert value(PrecisionRecall, real, real.flip(0)) == (1, 1)
    assert value(DensityCoverage, real, real.flip(0)) == pytest.approx((6 / 5, 1))  # k neighbours and itself


@pytest.mark.parametrize("kind", [PrecisionRecall, DensityCoverage])
def test_sets_far_apart_have_nothing_in_common(kind: type[FeatureMetric]):
    assert value(kind, normal(50), normal(60, seed=1) + 100) == (0, 0)


def test_precision_stays_and_recall_falls_when_a_mode_is_missing():
    real = torch.cat([normal(100), normal(100, seed=1) + 50])

    precision, recall = value(PrecisionRecall, real, normal(200, seed=2))
    density, coverage = value(DensityCoverage, real, normal(200, seed=2))

    assert precision > 0.8
    assert recall < 0.5
    assert density == pytest.approx(1, abs=0.15)
    assert coverage == pytest.approx(0.5, abs=0.03)


def test_equal_distributions_have_density_one_and_the_coverage_that_theory_gives():
    found = [value(DensityCoverage, normal(500, seed=2 * i), normal(500, seed=2 * i + 1)) for i in range(4)]

    density, coverage = np.mean(found, axis=0)
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.01)


def test_an_outlier_lifts_precision_but_hardly_density():
    real = torch.cat([normal(300), 30 * normal(3, seed=1)])
    bad = normal(300, seed=2) + 8

    assert value(PrecisionRecall, real, bad)[0] > 0.9
    assert value(DensityCoverage, real, bad)[0] < 0.9


def test_precision_and_recall_equal_torch_fidelitys():
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, fake = normal(120), normal(90, seed=1, scale=1.3)

    settings = {"prc_neighborhood": 3, "prc_batch_size": 50, "save_cpu_ram": False, "verbose": False}
    theirs = prc_features_to_metric(fake.double(), real.double(), **settings)

    assert value(PrecisionRecall, real, fake) == pytest.approx((theirs["precision"], theirs["recall"]))


def test_density_and_coverage_equal_their_definition():
    real, fake = normal(120), normal(90, seed=1, scale=1.3)

    inside = distances(fake, real) < radii(real, 5)  # the authors' <; no copies, no difference

    assert value(DensityCoverage, real, fake) == pytest.approx(
        (inside.sum() / (5 * 90), inside.any(0).mean())
    )


def test_a_copy_of_a_repeated_real_lies_in_its_ball():
    real = torch.cat([torch.zeros(8, 8), normal(20) + 50])

    assert value(PrecisionRecall, real, real[:8])[0] == 1
    assert value(DensityCoverage, real, real[:1])[1] == pytest.approx(8 / 28)


@pytest.mark.parametrize("kind", KINDS)
def test_values_depend_neither_on_batches_nor_on_the_order_of_samples(kind: type[FeatureMetric]):
    real, fake = normal(70), normal(60, seed=1)
    expected = value(kind, real, fake)

    assert value(kind, real, fake, batch=7) == expected
    assert value(kind, real.flip(0), fake.flip(0), batch=11) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", [PrecisionRecall, DensityCoverage, Authenticity])
def test_order_does_not_matter_where_many_distances_are_equal(kind: type[FeatureMetric]):
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(0, 3, (60, 4), generator=generator).float() for _ in range(2))

    order = torch.randperm(60, generator=generator)

    assert value(kind, real[order], fake.flip(0)) == value(kind, real, fake)


@pytest.mark.parametrize("kind", KINDS)
def test_reals_from_the_cache_give_the_same_value_without_their_cost(
    kind: type[FeatureMetric], monkeypatch: pytest.MonkeyPatch
):
    real, fake = normal(70), normal(60, seed=1)
    expected = value(kind, real, fake)
    state = filled(kind, real, fake).real_state()
    monkeypatch.setattr(kind, "real_terms", lambda *_: pytest.fail("the reals' terms are computed again"))

    metric = kind(8)
    metric.set_real_state(state)
    for _ in range(2):
        metric.update(fake, real=False)
        assert numbers(metric) == expected
        metric.reset()
    with pytest.raises(ValueError, match="reals cannot be added"):
        metric.update(real, real=True)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_torchmetrics_metric_of_its_own(kind: type[FeatureMetric]):
    real, fake = normal(30), normal(20, seed=1)
    metric = filled(kind, real, fake)
    metric.update(torch.zeros(0, 8), real=False)
    expected = torch.as_tensor(metric.compute())

    copies = metric.clone(), pickle.loads(pickle.dumps(metric))
    metric.reset()

    for copy in copies:
        copy.update(torch.zeros(0, 8), real=False)
        assert torch.equal(torch.as_tensor(copy.compute()), expected)
    assert expected.dtype == torch.float64
    assert not metric.state_dict()
    metric.update(torch.zeros(0, 8), real=True)
    with pytest.raises(ValueError, match=r"needs \d real and \d fake samples, got 0 and 0"):
        metric.compute()
    with pytest.raises(ValueError, match=r"must be \[B, 8\], got \(3, 7\)"):
        metric.update(torch.zeros(3, 7), real=True)


@pytest.mark.parametrize("kind", KINDS)
def test_plot_gives_torchmetrics_a_number_or_numbers_by_name(
    kind: type[FeatureMetric], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torchmetrics.metric.plot_single_or_multi_val", lambda val, **_: (val, None))
    metric = filled(kind, normal(30), normal(20, seed=1))

    plotted, _ = metric.plot()

    if isinstance(plotted, dict):
        assert {name: float(number) for name, number in plotted.items()} == {
            name: metric.values()[name] for name in kind.parts[-2:]
        }
    else:
        assert float(plotted) == metric.values()["value"]


def test_the_value_of_precision_and_recall_is_their_harmonic_mean():
    metric = filled(PrecisionRecall, normal(50), normal(40, seed=1, scale=2))

    found = metric.values()

    assert found["value"] == pytest.approx(2 / (1 / found["precision"] + 1 / found["recall"]))
    assert filled(PrecisionRecall, normal(50), normal(40) + 99).values()["value"] == 0


def test_scores_say_their_k_and_never_meet_radii_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path))
    data = noise()
    names = ("pr", "dc", "authenticity", "mifid")
    settings = {"metrics": names, "extractor": build_extractor("pixels", data=data), "fakes": 50}

    first = evaluate(Fake(), data, **settings)
    counted = (manifold, "neighbour_radii"), (manifold, "radii_without"), (memorisation, "covariance_root")
    for where, function in counted:
        monkeypatch.setattr(where, function, _counted(getattr(where, function)))
    again = evaluate(Fake(), data, **settings)

    assert again == first
    assert [first[name].protocol.settings for name in names] == ["k=3", "k=5", "", "threshold=0.1"]
    assert manifold.neighbour_radii.calls == []
    assert manifold.radii_without.calls == [50]  # of the fakes, for recall
    assert memorisation.covariance_root.calls == []
    monkeypatch.setattr(DensityCoverage, "k_default", 7)
    other = evaluate(Fake(), data, **settings)["dc"]
    assert other.protocol.settings == "k=7"
    assert other.parts != first["dc"].parts
    monkeypatch.setattr(DensityCoverage, "k_default", 5)
    assert evaluate(Fake(), data, **settings)["dc"] == first["dc"]


def _counted(function):
    def counted(rows, *rest):
        counted.calls.append(len(rows))
        return function(rows, *rest)

    counted.calls = []
    return counted
