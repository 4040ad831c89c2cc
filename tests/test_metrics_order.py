"""Scores put known faults of generators of digits in their order: noise, dropped classes, ten images, copies.

Order and ratios, no absolute values: those belong to one extractor on one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_gan.metrics import Extractor, Score, build_extractor
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.reference import Reference
from lit_gan.sampling import latents
from metrics_helpers import Images, Replay, digits

REALS = 600  # of the 1198 that the extractor did not learn from; the fakes show the other 598
SCORES = ("fid", "kid", "is", "modes", "pr", "dc", "authenticity", "mifid")
FAKES = 290  # what five of ten classes leave of those: the number must not differ between scores
NOISE = (0.0, 0.1, 0.2, 0.4)  # standard deviation, of pixels in [0, 1]
DROPPED = (0, 1, 2, 3, 5)

Scores = dict[str, Score]


class Shown(Replay):
    """Shows the first FAKES of the allowed images once each, under noise that follows from z."""

    def __init__(self, data: Images, allowed: np.ndarray, noise: float) -> None:
        super().__init__(data, np.resize(allowed, FAKES), lambda images, z: images)
        self.latent_dim = 1 + int(np.prod(data.image_shape))
        self.noise = noise
        self.order = latents(0, range(FAKES), self.latent_dim)[:, 0].sort().values

    def generate(self, batch: dict[str, Tensor]) -> Tensor:
        chosen = self.allowed[torch.searchsorted(self.order, batch["z"][:, 0].contiguous()).numpy()]
        images = self.data.real_batch(chosen.tolist())["image"].float() / 127.5 - 1
        return (images + 2 * self.noise * batch["z"][:, 1:].reshape(images.shape)).clamp(-1, 1)


Scored = Callable[..., Scores]


@pytest.fixture(scope="module")
def world(cache: Path) -> tuple[Images, Extractor, np.ndarray, np.ndarray]:
    """Digits, the classifier, and a shuffled choice of reals and of unseen images."""
    data = digits()
    extractor = build_extractor("classifier", data=data)
    reals = Reference(data, extractor, reals=REALS, fakes=FAKES).indices
    generator = np.random.default_rng(0)
    unseen = generator.permutation(np.setdiff1d(extractor.reference, reals))
    return data, extractor, generator.permutation(reals), unseen


@pytest.fixture(scope="module")
def scored(world: tuple[Images, Extractor, np.ndarray, np.ndarray]) -> Scored:
    data, extractor, _, _ = world

    def scores(allowed: np.ndarray, noise: float = 0) -> Scores:
        module = Shown(data, allowed, noise)
        settings = {"metrics": SCORES, "extractor": extractor, "fakes": FAKES, "reals": REALS}
        return evaluate(module, data, **settings)

    return scores


@pytest.fixture(scope="module")
def noisy(world: tuple, scored: Scored) -> list[Scores]:
    return [scored(world[3], level) for level in NOISE]


@pytest.fixture(scope="module")
def dropped(world: tuple, scored: Scored) -> list[Scores]:
    """Scores of generators that never show the lowest digits."""
    data, _, _, unseen = world
    return [scored(unseen[data.labels[unseen] >= least]) for least in DROPPED]


@pytest.fixture(scope="module")
def copied(world: tuple, scored: Scored) -> Scores:
    return scored(world[2])


def series(scores: list[Scores], name: str, part: str | None = None) -> list[float]:
    return [s[name].value if part is None else s[name].parts[part] for s in scores]


def rises(values: list[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def falls(values: list[float]) -> bool:
    return rises(values[::-1])


@pytest.mark.parametrize("name", ["fid", "kid", "authenticity"])
def test_noise_raises(name: str, noisy: list[Scores]):
    assert rises(series(noisy, name))


@pytest.mark.parametrize(
    ("name", "part"), [("is", None), ("pr", "precision"), ("dc", "density"), ("dc", "coverage")]
)
def test_noise_lowers(name: str, part: str | None, noisy: list[Scores]):
    assert falls(series(noisy, name, part))


def test_noise_leaves_every_class_there(noisy: list[Scores]):
    assert set(series(noisy, "modes", "classes")) == {10}


@pytest.mark.parametrize(("name", "part"), [("fid", None), ("modes", "kl")])
def test_dropped_classes_raise(name: str, part: str | None, dropped: list[Scores]):
    assert rises(series(dropped, name, part))


def test_more_dropped_classes_raise_kid(dropped: list[Scores]):
    assert rises(series(dropped[::2], "kid"))  # one class more is within its spread at so few images


@pytest.mark.parametrize(("name", "part"), [("is", None), ("pr", "recall"), ("dc", "coverage")])
def test_dropped_classes_lower(name: str, part: str | None, dropped: list[Scores]):
    assert falls(series(dropped, name, part))


def test_dropped_classes_are_counted(dropped: list[Scores]):
    classes = series(dropped, "modes", "classes")

    assert classes[:2] == [10, 9]
    assert classes == sorted(classes, reverse=True)  # a few misread digits can keep a class alive
    assert classes[-1] <= 6


def test_dropped_classes_leave_precision_and_density_as_they_are(dropped: list[Scores]):
    for name, part in (("pr", "precision"), ("dc", "density")):
        values = series(dropped, name, part)
        assert max(values) - min(values) < 0.12
        assert min(values) > 0.85


def test_ten_images_over_and_over_are_precise_and_cover_nothing(world: tuple, scored: Scored):
    data, _, _, unseen = world
    one_of_each = np.array([unseen[data.labels[unseen] == label][0] for label in range(10)])

    scores = scored(one_of_each)

    assert scores["modes"].parts["classes"] == 10  # the histogram does not see it
    assert scores["pr"].parts["precision"] >= 0.9
    assert scores["pr"].parts["recall"] < 0.05
    assert scores["dc"].parts["coverage"] < 0.2
    assert scores["fid"].value > 4 * scores["fid"].floor


def test_copies_of_the_reals_have_the_best_fid_of_all(
    copied: Scores, noisy: list[Scores], dropped: list[Scores]
):
    others = series(noisy, "fid") + series(dropped, "fid")

    assert copied["fid"].value < 0.8 * min(others)
    assert copied["fid"].value < copied["fid"].floor
    for name, part in (("pr", "precision"), ("pr", "recall"), ("dc", "density"), ("dc", "coverage")):
        assert copied[name].parts[part] > 0.9  # none of these sees it


def test_copies_of_the_reals_are_told_by_authenticity_and_mifid(copied: Scores, noisy: list[Scores]):
    assert copied["authenticity"].value < 0.02
    assert 0.4 < noisy[0]["authenticity"].value < 0.7
    assert copied["mifid"].value > 1000 * copied["mifid"].floor
    assert noisy[0]["mifid"].value < 3 * noisy[0]["mifid"].floor


def test_the_floor_has_every_number_of_a_score(copied: Scores):
    for name in ("pr", "dc"):
        assert copied[name].floor_parts.keys() == copied[name].parts.keys()
        assert min(copied[name].floor_parts.values()) > 0.85
    assert copied["authenticity"].floor == pytest.approx(0.5, abs=0.1)
