"""Stacks of grey images: what they are made of, how they are labelled, and that they are data like any other."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from lit_gan.data import build_data
from lit_gan.errors import UserError
from lit_gan.resume import compose_run
from lit_gan.train import train
from tiny import state, tiny_run


def stacked(count=600, **keywords):
    data = build_data("stacked", **{"image_size": 8, "count": count, **keywords})
    data.prepare()
    return data


def test_channels_are_the_parts_and_the_label_is_their_number():
    data = stacked()
    base, parts = data.base, data.parts

    assert (data.image_shape, data.size, data.num_classes) == ((3, 8, 8), 600, 1000)
    for channel in range(3):
        assert np.array_equal(data.images[..., channel], base.images[parts[:, channel], ..., 0])
    digits = base.labels[parts]
    assert data.labels.tolist() == [100 * a + 10 * b + c for a, b, c in digits]
    assert [data.class_names[label] for label in data.labels[:9]] == [f"{a}{b}{c}" for a, b, c in digits[:9]]


def test_stacks_are_drawn_evenly_and_independently():
    data = stacked(60_000)

    counts = np.bincount(data.parts.reshape(-1), minlength=1797)
    expected = 180_000 / 1797
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 == pytest.approx(1796, abs=5 * np.sqrt(2 * 1796))
    first = np.asarray(data.base.class_weights)
    even = np.einsum("a,b,c->abc", first, first, first).reshape(-1)
    kl = (data.class_weights * np.log(np.maximum(data.class_weights, 1e-12) / even)).sum()
    assert kl == pytest.approx(999 / (2 * 60_000), abs=5 * np.sqrt(2 * 999) / (2 * 60_000))


def test_fewer_stacks_are_the_first_of_more_and_another_seed_draws_others(tmp_path, monkeypatch):
    few, many, other = stacked(200), stacked(300), stacked(200, stacks_seed=1)

    assert np.array_equal(few.parts, many.parts[:200])
    assert np.mean(few.parts == other.parts) < 0.02
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "another machine"))
    assert stacked(200).fingerprint == few.fingerprint
    assert len({few.fingerprint, many.fingerprint, other.fingerprint}) == 3


def test_colour_parquet_is_stacked_in_grey(tmp_path):
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    images = [Image.new("RGB", (8, 8), colour) for colour in colours]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["red", "green", "blue"])}
    )
    table = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 2]}, features=features)
    table.to_parquet(str(tmp_path / "train.parquet"))

    data = stacked(50, base="hub", path=str(tmp_path), image_size=None)

    grey = np.array([int(np.asarray(image.convert("L"))[0, 0]) for image in images])
    assert data.num_classes == 27
    assert np.array_equal(data.images[:, 0, 0], grey[data.parts])
    assert data.class_names[5] == "red-green-blue"


@pytest.mark.parametrize(
    ("keywords", "line"),
    [
        ({"count": 0}, r"data\.count=0 .* use at least 1"),
        ({"path": "x"}, r"data\.path=x: .* use data\.base=hub"),
        ({"base": "hub"}, r"data\.path is not set"),
    ],
)
def test_what_cannot_be_stacked_is_one_line(keywords, line):
    with pytest.raises(UserError, match=line):
        stacked(**keywords)


def test_unlabelled_images_are_refused(tmp_path):
    features = datasets.Features({"image": datasets.Image()})
    table = datasets.Dataset.from_dict({"image": [Image.new("L", (8, 8))]}, features=features)
    table.to_parquet(str(tmp_path / "train.parquet"))

    with pytest.raises(UserError, match=r"labelled images of 2 to 20 classes, these have 0"):
        stacked(base="hub", path=str(tmp_path), image_size=None)


def test_run_on_stacks_is_scored_and_goes_on_bit_equal(tmp_path):
    run = tiny_run(
        "r3gan", tmp_path, "data=stacked-digits", "data.count=900", "model.conditional=true", "run.images=64",
        "data.batch_size=16", "checkpoint.every_images=32", "eval.metrics=[modes]", "eval.images=32",
    )  # fmt: skip
    ended = state(run)["state_dict"]

    assert train(compose_run([f"resume={run / 'checkpoints' / 'images-000000000032.ckpt'}"])) == 0

    resumed = state(run)["state_dict"]
    assert all(torch.equal(value, resumed[name]) for name, value in ended.items())
    assert "val/modes/seen" in (run / "metrics.csv").read_text().partition("\n")[0]
