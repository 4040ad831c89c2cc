"""FID within classes: it sees what FID over all of them does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lit_gan.metrics import ClassFID, FrechetDistance
from lit_gan.metrics.per_class import rows_distance
from metrics_helpers import both, normal64


def labelled(n: int = 300, d: int = 5, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Classes that lie 4 apart."""
    labels = torch.arange(n) % classes
    return normal64(n, d, seed) + 4 * labels[:, None], labels


def class_fid(real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor], classes: int = 3) -> ClassFID:
    metric = ClassFID(real[0].shape[1], classes)
    metric.update(*real, real=True)
    for features, labels in zip(fake[0].split(17), fake[1].split(17), strict=True):
        metric.update(features, labels, real=False)
    return metric


def test_class_fid_of_a_set_with_itself_is_zero():
    values = class_fid(labelled(), labelled()).values()

    assert values["value"] == pytest.approx(0, abs=1e-6)
    assert values["skipped"] == 0


def test_labels_swapped_between_two_classes_are_seen_by_class_fid_alone():
    features, labels = labelled()
    swapped = torch.tensor([1, 0, 2])[labels]

    values = class_fid((features, labels), (features, swapped)).values()

    assert float(both(FrechetDistance(5), features, features)) == pytest.approx(0, abs=1e-9)
    assert values["worst"] == pytest.approx(5 * 4**2, rel=0.1)
    assert values["mean"] == pytest.approx(2 / 3 * 5 * 4**2, rel=0.1)
    assert values["worst_class"] in (0, 1)


def test_class_fid_is_the_mean_of_the_classes_own_fids():
    real, fake = labelled(), labelled(200, seed=1)

    mean, distances = class_fid(real, fake).compute()

    for label in range(3):
        ours, theirs = (features[labels == label].float() for features, labels in (real, fake))
        expected = float(both(FrechetDistance(5), ours, theirs))
        assert float(distances[label]) == pytest.approx(expected, rel=1e-8)
    assert float(mean) == pytest.approx(float(distances.mean()))


@pytest.mark.parametrize(("n", "m"), [(15, 20), (20, 15), (12, 90), (90, 80)])
def test_the_distance_of_rows_is_fid_of_any_numbers_of_them(n: int, m: int):
    x, y = normal64(n, 40), 0.5 + normal64(m, 40, seed=1)

    assert float(rows_distance(x, y)) == pytest.approx(float(both(FrechetDistance(40), x, y)), rel=1e-7)


def test_class_fid_skips_classes_of_too_few_samples_and_says_how_many():
    features, labels = labelled(90)
    few = torch.cat([torch.nonzero(labels != 2)[:, 0], torch.nonzero(labels == 2)[:9, 0]])

    metric = class_fid((features, labels), (features[few], labels[few]))

    assert metric.compute()[1].isnan().tolist() == [False, False, True]
    assert metric.values()["skipped"] == 1
    assert metric.values()["worst_class"] in (0, 1)
    nothing = class_fid((features, labels), (features[:9], labels[:9]))
    assert nothing.values() == {"skipped": 3}
    with pytest.raises(ValueError, match="no class has 10 real and 10 fake samples"):
        nothing.compute()
