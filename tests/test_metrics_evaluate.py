"""`evaluate`: the same scores for every batch size, nothing global touched, statistics cached and never
mistaken."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_gan.errors import NonFiniteError, UserError
from lit_gan.metrics import FrechetDistance, Score, build_extractor, log_values
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.reference import Reference
from lit_gan.sampling import inference, labels, latents, sampling_batch, to_uint8
from metrics_helpers import Fake, Images, Replay, digits, noise, processes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def scores(
    data: Images, module: Fake | None = None, metrics: tuple[str, ...] = ("fid", "kid"), **settings
) -> dict:
    extractor = build_extractor("pixels", data=data)
    given = {"fakes": 53, "batch_size": 16, **settings}
    return evaluate(module or Fake(data.image_shape), data, metrics=metrics, extractor=extractor, **given)


def test_fid_is_that_of_the_features_of_reals_and_fakes():
    data, module = noise(), Fake()
    extractor = build_extractor("pixels", data=data)

    score = scores(data, module)["fid"]

    metric = FrechetDistance(extractor.dim)
    metric.update(extractor(data.real_batch(list(range(97)))["image"])[0], real=True)
    with inference(module):
        fakes = module.generate(sampling_batch(module, 0, range(53), 3, data.class_weights))
    metric.update(extractor(to_uint8(fakes))[0], real=False)
    assert score.value == pytest.approx(float(metric.compute()), rel=1e-9)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_scores_do_not_depend_on_the_batch_size(batch_size: int):
    expected, got = scores(noise()), scores(noise(), batch_size=batch_size)

    for name in expected:
        assert got[name].value == pytest.approx(expected[name].value, rel=1e-7)
        assert got[name].floor == pytest.approx(expected[name].floor, rel=1e-7)


def test_scores_depend_on_the_seed():
    assert scores(noise(), seed=1)["fid"].value != scores(noise())["fid"].value


def test_fakes_are_a_function_of_seed_and_index():
    together = latents(3, range(10), 20)

    assert torch.equal(latents(3, [7], 20)[0], together[7])
    assert torch.equal(latents(3, range(1, 10, 3), 20), together[1::3])
    assert not torch.equal(latents(4, [7], 20)[0], together[7])
    assert len(torch.unique(latents(0, range(5000), 2), dim=0)) == 5000


def test_latents_are_standard_normal_and_uncorrelated():
    z = latents(0, range(4000), 16).double()

    assert abs(float(z.mean())) < 4 / (4000 * 16) ** 0.5
    assert float((torch.cov(z.T) - torch.eye(16)).abs().max()) < 0.1
    assert abs(float((z[:-1] * z[1:]).mean())) < 4 / (4000 * 16) ** 0.5


def test_labels_follow_the_class_weights_and_never_an_empty_class():
    drawn = labels(0, range(4000), 4, [1, 0, 3, 0])

    counts = torch.bincount(drawn, minlength=4)
    assert counts[1] == counts[3] == 0
    assert float(counts[2]) / 4000 == pytest.approx(0.75, abs=0.03)
    assert torch.equal(labels(0, [17], 4, [1, 0, 3, 0]), drawn[17:18])


def test_a_label_or_truncation_that_cannot_be_is_the_users_error():
    with pytest.raises(UserError, match="label 3 cannot be sampled: labels are 0 to 2"):
        sampling_batch(Fake(), 0, [0], 3, label=3)
    with pytest.raises(UserError, match="has no truncation"):
        sampling_batch(Fake(), 0, [0], truncation=0.7)
    assert sampling_batch(Fake(), 0, [0, 1], 3, label=2)["label"].tolist() == [2, 2]


def test_to_uint8_rounds_and_clamps_in_float32():
    levels = torch.arange(256, dtype=torch.uint8)

    assert torch.equal(to_uint8(levels.float() / 127.5 - 1), levels)
    assert to_uint8(torch.tensor([-1.01, 1.01])).tolist() == [0, 255]


def test_evaluate_leaves_the_random_streams_and_the_modes_alone():
    module = Fake().train()
    module.frozen = torch.nn.Dropout().eval()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    scores(noise(), module)

    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]
    assert module.training
    assert module.dropout.training
    assert not module.frozen.training


def test_the_protocol_says_how_the_score_was_made_and_survives_json():
    score = scores(noise())["fid"]

    assert Score.from_dict(json.loads(json.dumps(score.to_dict()))) == score
    assert (score.protocol.metric, score.protocol.extractor, score.protocol.weights) == (
        "fid",
        "pixels",
        "none",
    )
    assert (score.protocol.reals, score.protocol.fakes, score.protocol.reference) == (97, 53, "all")
    assert (score.protocol.quantisation, score.protocol.data) == ("uint8, rounded", "noise-0-97")
    assert dataclasses.replace(score.protocol, seed=1) != score.protocol


def test_the_floor_is_between_two_disjoint_halves_of_the_reals():
    data = noise()
    score = scores(data)["fid"]
    reference = Reference(data, build_extractor("pixels", data=data), reals=None, fakes=53)

    first, second = (
        np.flatnonzero((reference.number >= 0) & (reference.in_second == side)) for side in (False, True)
    )
    features = build_extractor("pixels", data=data)(data.real_batch(list(range(97)))["image"])[0]
    metric = FrechetDistance(features.shape[1])
    metric.update(features[first], real=True)
    metric.update(features[second], real=False)

    assert score.floor_images == 48 == len(first) == len(second)
    assert not set(first) & set(second)
    assert score.floor == pytest.approx(float(metric.compute()), rel=1e-9)
    assert scores(data, fakes=20)["fid"].floor_images == 20


def test_fewer_reals_are_a_part_of_the_protocol():
    score = scores(noise(), reals=50)["fid"]

    assert (score.protocol.reals, score.protocol.reference) == (50, "50 of all")


def test_toy_points_are_neither_quantised_nor_squeezed():
    points = np.random.default_rng(0).normal(size=(200, 1, 1, 2)).astype(np.float32) * 4
    data = Images(points, None, 0, "toy")
    module = Replay(data, np.arange(200), lambda images, z: images)
    module.generate = lambda batch: 4 * batch["z"][:, :2].reshape(-1, 2, 1, 1)  # type: ignore[method-assign]

    score = scores(data, module, fakes=2000, batch_size=500)["fid"]

    assert score.protocol.quantisation == "none"
    assert score.value < 2 * score.floor + 0.5


def test_real_statistics_are_taken_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    data = noise()
    first = scores(data)
    reads = []
    monkeypatch.setattr(data, "real_batch", lambda indices: reads.append(indices))

    again = scores(data)

    assert not reads
    assert again == first
    assert not caplog.records


def test_other_data_extractors_and_numbers_never_meet_the_cached_statistics():
    data, other = noise(), noise(seed=1)
    scores(data)

    after = scores(other)
    fresh = scores(other, reals=60)

    assert after["fid"].value != scores(data)["fid"].value
    assert fresh["fid"].value != after["fid"].value


def test_an_entry_under_another_ones_name_is_not_believed(cache: Path, caplog: pytest.LogCaptureFixture):
    truth = scores(noise())
    other = {path.stat().st_mtime_ns: path for path in cache.glob("statistics/*.npz")}
    names = set(cache.glob("statistics/*.npz"))
    scores(noise(seed=1))
    foreign = [path for path in cache.glob("statistics/*.npz") if path not in names]
    for path in other.values():
        path.write_bytes(foreign[0].read_bytes())

    assert scores(noise()) == truth
    assert "describes something else" in caplog.text


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_a_damaged_entry_is_made_anew(cache: Path, caplog: pytest.LogCaptureFixture, damage: str):
    truth = scores(noise())
    for path in cache.glob("statistics/*.npz"):
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        path.write_bytes({"torn": raw[: len(raw) // 2], "flipped": raw, "empty": b""}[damage])

    assert scores(noise()) == truth
    assert "made anew" in caplog.text
    caplog.clear()
    assert scores(noise()) == truth
    assert not caplog.records


def test_a_cache_that_cannot_be_written_costs_a_warning_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    truth = scores(noise())
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "file"))

    assert scores(noise()) == truth
    assert "LIT_GAN_CACHE" in caplog.text


def _scored_elsewhere(cache: Path) -> tuple[dict, list[str]]:
    os.environ["LIT_GAN_CACHE"] = str(cache)
    torch.set_num_threads(1)
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("lit_gan").addHandler(handler)
    return scores(noise(1500)), heard


def test_two_processes_at_once_agree_on_one_entry(cache: Path):
    with processes(2) as pool:
        one, two = pool.map(_scored_elsewhere, [cache, cache])

    assert one[0] == two[0]
    assert one[1] == two[1] == []
    assert len(list(cache.glob("statistics/*.npz"))) == 4  # fid and kid, each with its floor
    assert not list(cache.glob("statistics/*.tmp"))


def test_images_with_nan_are_an_error_not_a_score():
    module = Fake()
    module.weight.data[0, 0] = torch.nan

    with pytest.raises(NonFiniteError, match="53 of 53 images with NaN"):
        scores(noise(), module)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ("fdi",)}, "no metric is called 'fdi'; did you mean fid?"),
        ({"metrics": ("is",)}, "use metrics.extractor=classifier or inception"),
        ({"metrics": ("modes",)}, "needs an extractor that knows the data's own classes"),
        ({"fakes": 1}, "eval.images=1: a score needs at least 2 fakes"),
    ],
)
def test_what_cannot_be_scored_is_the_users_error(settings: dict, message: str):
    with pytest.raises(UserError) as error:
        scores(noise(), **settings)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_should_stop_is_asked_before_every_batch_and_leaves_the_cache_usable():
    asked = []

    def stop() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt

    module = Fake().train()
    with pytest.raises(KeyboardInterrupt):
        scores(noise(), module, should_stop=stop)

    assert module.training
    assert scores(noise(), module)["fid"].value > 0


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Images, object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_GAN_CACHE", str(tmp_path_factory.mktemp("classifier")))
        data = digits()
        return data, build_extractor("classifier", data=data)


def test_scores_order_noise_and_dropped_classes_on_digits(known: tuple[Images, object]):
    data, extractor = known
    unchanged = np.setdiff1d(np.arange(data.size), extractor.reference)  # unseen by the reference

    def with_noise(level: float):
        def change(images: Tensor, z: Tensor) -> Tensor:
            pixels = z.repeat(1, images[0].numel() // z.shape[1] + 1)[:, : images[0].numel()]
            return (images + level * pixels.reshape(images.shape)).clamp(-1, 1)

        return change

    def score(allowed: np.ndarray, level: float) -> dict[str, Score]:
        module = Replay(data, allowed, with_noise(level))
        return evaluate(module, data, metrics=("fid", "kid", "is", "modes"), extractor=extractor, fakes=500)

    clean = score(unchanged, 0)
    noisy = [score(unchanged, level) for level in (0.2, 0.5)]
    dropped = [score(unchanged[data.labels[unchanged] >= least], 0) for least in (1, 3, 6)]

    for name in ("fid", "kid"):
        assert clean[name].value < noisy[0][name].value < noisy[1][name].value
        assert clean[name].value < dropped[0][name].value < dropped[1][name].value < dropped[2][name].value
    assert clean["is"].value > dropped[0]["is"].value > dropped[1]["is"].value > dropped[2]["is"].value
    assert [entry["modes"].parts["classes"] for entry in (clean, *dropped)] == [10, 9, 7, 4]
    assert (
        clean["modes"].parts["kl"] < 0.05 < dropped[0]["modes"].parts["kl"] < dropped[2]["modes"].parts["kl"]
    )
    assert clean["modes"].floor_parts["kl"] < 0.05
    assert clean["is"].floor > 8
    assert set(log_values(clean)) == {"fid", "kid", "is", "modes/classes", "modes/kl", "modes/seen"}
    assert clean["fid"].protocol.reference == f"{len(extractor.reference)} of 1797 unseen by the extractor"
