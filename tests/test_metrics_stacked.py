"""Scores on stacked digits: each channel read alone, by a classifier that has seen no part of the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lit_gan.data import build_data
from lit_gan.metrics import ClassCoverage, build_extractor
from lit_gan.metrics.evaluate import evaluate
from metrics_helpers import Replay


@pytest.fixture(scope="module")
def stacks(cache):
    data = build_data("stacked", image_size=16, count=6000)
    data.prepare()
    return data, build_extractor("classifier", data=data)


def test_logits_are_the_outer_sum_of_the_channels_and_features_lie_side_by_side(stacks):
    data, extractor = stacks
    single = build_extractor("classifier", data=data.base)
    images = data.real_batch([3, 1, 4, 1])["image"]

    features, logits = extractor(images)

    one = [single(images[:, channel, None]) for channel in range(3)]
    a, b, c = (channel_logits.log_softmax(1) for _, channel_logits in one)
    outer = a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]
    assert (extractor.dim, extractor.num_logits) == (192, 1000)
    assert torch.allclose(logits, outer.reshape(4, 1000), atol=1e-5)
    assert torch.allclose(features, torch.cat([f for f, _ in one], 1), atol=1e-6)
    assert torch.allclose(logits.exp().sum(1), torch.ones(4))
    assert [part.shape for part in extractor(images[:0])] == [(0, 192), (0, 1000)]


def test_reference_holds_no_image_that_the_classifier_learnt_from_and_all_other_stacks(stacks):
    data, extractor = stacks
    learnt = np.setdiff1d(np.arange(1797), extractor.single.reference)

    touched = np.isin(data.parts, learnt).any(1)

    assert len(learnt) == 599
    assert np.array_equal(np.flatnonzero(~touched), extractor.reference)
    assert len(extractor.reference) / 6000 == pytest.approx((2 / 3) ** 3, abs=0.03)


def test_stacks_are_read_as_well_as_three_digits(stacks):
    data, extractor = stacks

    read = extractor(data.real_batch(extractor.reference)["image"])[1].argmax(1).numpy()

    right = (read == data.labels[extractor.reference]).mean()
    assert right == pytest.approx(extractor.single.accuracy**3, abs=0.02)
    assert right > 0.9


def test_classifier_of_the_base_serves_the_stacks(stacks, tmp_path, monkeypatch):
    data, extractor = stacks
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path))

    single = build_extractor("classifier", data=data.base)
    monkeypatch.setattr("lit_gan.metrics.classifier._learn", lambda data: pytest.fail("learns again"))
    again = build_extractor("classifier", data=data)

    assert again.weights_hash == single.weights_hash == extractor.weights_hash


@pytest.mark.parametrize("n", [26_000, 2560])
def test_perfect_sampler_sees_the_modes_and_has_the_divergence_that_theory_gives(n):
    metric = ClassCoverage(1000)
    metric.update(torch.eye(1000), real=True)
    drawn = torch.randint(1000, (n,), generator=torch.Generator().manual_seed(0))
    for part in drawn.split(1300):
        metric.update(torch.nn.functional.one_hot(part, 1000).float(), real=False)

    values = metric.values()

    assert values["seen"] == pytest.approx(1000 * (1 - (1 - 1 / 1000) ** n), abs=25)
    if n == 26_000:
        assert values["seen"] == values["classes"] == 1000
        assert values["kl"] == pytest.approx(999 / (2 * n), abs=4 * math.sqrt(2 * 999) / (2 * n))


def test_one_fake_is_seen_where_a_share_is_asked_for_classes():
    metric = ClassCoverage(10)
    metric.update(torch.eye(10), real=True)
    metric.update(torch.eye(10)[[0] * 198 + [1, 2]], real=False)

    values = metric.values()

    assert (values["seen"], values["classes"]) == (3, 1)


def test_dropped_modes_are_missed(stacks):
    data, extractor = stacks
    unseen = extractor.reference
    zeros = unseen[data.labels[unseen] < 100]  # whose first channel is a 0

    def scores(allowed: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
        shown = Replay(data, allowed, lambda images, z: images)
        found = evaluate(shown, data, metrics=["fid", "modes"], extractor=extractor, fakes=1000)
        return found["modes"].parts, {"fid": found["fid"].value}

    all_, all_fid = scores(unseen)
    few, few_fid = scores(zeros)

    misread = 1000 * (1 - extractor.single.accuracy**3)
    assert 50 < few["classes"] <= 100 + misread
    assert few["classes"] == few["seen"], "one of 1000 fakes is more than a share of 0.1 / 1000"
    assert all_["seen"] > 400
    assert few["kl"] > all_["kl"] + math.log(10) / 2
    assert few_fid["fid"] > 5 * all_fid["fid"]
