"""The most suspicious fakes: found by number, with the right reals beside them, also in the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_gan.callbacks import evaluation
from lit_gan.cli import main
from lit_gan.metrics import Authenticity, Score, build_extractor
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.gallery import Gallery
from lit_gan.pictures import suspects
from lit_gan.run import RunFolder
from metrics_helpers import Fake, Images, distances, filled, noise, normal, radii
from tiny import tiny_run

COPIED = [40, 3, 77]  # reals that are among the fakes


def copies(data: Images, count: int = 50) -> Images:
    """Noise of its own, but for the first three images, which are reals."""
    shown = noise(count, seed=1)
    shown.images[:3] = data.images[COPIED]
    return shown


def scored(module: object, data: Images, **settings: int) -> Score:
    extractor = build_extractor("pixels", data=data)
    return evaluate(module, data, metrics=["authenticity"], extractor=extractor, **settings)["authenticity"]


def test_findings_are_the_fakes_with_the_smallest_quotient_and_their_nearest_reals():
    real, fake = normal(60), normal(50, seed=1)
    apart, own = distances(fake, real), radii(real, 1)
    quotient = apart.min(1) / own[apart.argmin(1)]

    _, found = filled(Authenticity, real, fake).result()

    assert [one["fake"] for one in found] == np.argsort(quotient)[:8].tolist()
    for one in found:
        assert one["reals"] == np.argsort(apart[one["fake"]])[:5].tolist()
        assert one["distances"] == pytest.approx(np.sort(apart[one["fake"]])[:5].tolist())
        assert one["own"] == pytest.approx(own[one["reals"][0]])


def test_findings_of_equal_suspicion_come_by_number_and_few_samples_give_few():
    real = normal(30).repeat(2, 1)
    fake = torch.cat([normal(1, seed=1), real[4:12]])

    _, found = filled(Authenticity, real, fake).result()
    _, few = filled(Authenticity, real[:3], fake[:2]).result()

    assert [one["fake"] for one in found] == list(range(1, 9))  # copies of reals that are there twice
    assert [one["reals"][:2] for one in found] == [[i, i + 30] for i in range(4, 12)]
    assert [one["own"] for one in found] == [0] * 8
    assert [len(one["reals"]) for one in few] == [3, 3]


def test_copies_come_first_with_the_right_reals_beside_them_in_the_picture():
    data = noise(97)
    gallery = Gallery(copies(data))

    score = scored(gallery, data, fakes=50)
    sheet = np.asarray(suspects(gallery, data, {"authenticity": score}, 0))

    first = score.findings[:3]
    assert {one["fake"] for one in first} == set(np.flatnonzero(gallery.chosen < 3))
    assert [one["fake"] for one in first] == sorted(one["fake"] for one in first)
    assert [one["reals"][0] for one in first] == [COPIED[gallery.chosen[one["fake"]]] for one in first]
    assert [one["distances"][0] for one in first] == [0, 0, 0]
    assert sheet.shape == (8 * 10 + 2, 6 * 10 + 2)
    for row, one in enumerate(score.findings):
        fake, *reals = (sheet[10 * row + 2 :, 10 * column + 2 :][:8, :8] for column in range(6))
        assert np.array_equal(fake, gallery.data.images[gallery.chosen[one["fake"]], :, :, 0])
        assert np.array_equal(reals, data.images[one["reals"], :, :, 0])


def test_reals_are_told_by_their_place_in_the_data_when_only_some_are_taken():
    data = noise(97)
    score = scored(Gallery(data), data, fakes=97, reals=40)

    gallery = Gallery(data)
    for one in score.findings:
        assert one["distances"][0] == 0
        assert one["reals"][0] == gallery.chosen[one["fake"]]


def test_a_generators_fakes_are_drawn_again_from_their_numbers():
    data, module = noise(97), Fake()
    score = scored(module, data, fakes=60, seed=5, batch_size=7)
    made = []
    original = module.generate
    module.generate = lambda batch: made.append((batch, original(batch))) or made[-1][1]
    scored(module, data, fakes=60, seed=5, batch_size=60)

    images = made[0][1][[one["fake"] for one in score.findings]]
    sheet = np.asarray(suspects(module, data, {"authenticity": score}, 5))

    expected = (images * 127.5 + 127.5).round().clamp(0, 255).numpy()[:, 0]
    for row, image in enumerate(expected):
        assert np.abs(sheet[10 * row + 2 :, 2:][:8, :8].astype(float) - image).max() <= 1


def test_findings_survive_results_json():
    score = scored(Fake(), noise(97), fakes=30)

    assert len(score.findings) == 8
    assert Score.from_dict(json.loads(json.dumps(score.to_dict()))) == score
    older = {key: value for key, value in score.to_dict().items() if key != "findings"}
    assert Score.from_dict(older).findings == []


def test_eval_of_a_folder_writes_the_picture_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, count, seed in (("real", 40, 0), ("fake", 30, 1)):
        (tmp_path / name).mkdir()
        for i, image in enumerate(noise(count, (3, 8, 8), seed).images):
            Image.fromarray(image).save(tmp_path / name / f"{i:03d}.png")
    (tmp_path / "fake" / "007.png").write_bytes((tmp_path / "real" / "011.png").read_bytes())

    code = main(["eval", str(tmp_path / "fake"), "--against", str(tmp_path / "real"), "--metrics", "authenticity,fid",
                 "metrics.extractor=pixels", "data.image_size=8", f"run.dir={tmp_path / 'runs'}"])  # fmt: skip

    out = capsys.readouterr().out
    run = RunFolder(tmp_path / "runs" / "eval-fake-1")
    path = run.picture(0, "neighbours")
    (made,) = run.read_results()["evaluations"]
    sheet = np.asarray(Image.open(path))
    assert code == 0
    assert f"with these: {path}" in out
    assert made["scores"]["authenticity"]["findings"][0]["reals"][0] == 11
    assert made["scores"]["fid"]["findings"] == []
    assert np.array_equal(sheet[2:10, 2:10], np.asarray(Image.open(tmp_path / "real" / "011.png")))
    assert np.array_equal(sheet[2:10, 2:10], sheet[2:10, 12:20])
    assert main(["compare", str(tmp_path / "runs"), "--metric", "authenticity", "--format", "csv"]) == 0
    assert "authenticity" in capsys.readouterr().out


def test_training_shows_the_picture_at_the_end_and_eval_draws_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    shown = []
    monkeypatch.setattr(evaluation, "show_everywhere", lambda loggers, *what: shown.append(what))
    scored = ["eval.metrics=[authenticity]", "metrics.extractor=pixels", "eval.images=600", "eval.max_share=1e-9",
              "eval.every_images=16"]  # fmt: skip

    run = RunFolder(tiny_run("dcgan", tmp_path, "run.images=32", *scored))

    path = run.picture(32, "neighbours")
    (picture,) = run.samples.glob("neighbours*")
    assert picture == path
    assert [(name, seen) for name, _, seen in shown] == [("neighbours", 32)]  # with all fakes, and only then
    assert f"Samples:    {run.picture(32)}" in capsys.readouterr().out
    before = np.asarray(Image.open(path))
    path.unlink()
    assert main(["eval", str(run.checkpoints / "last.ckpt")]) == 0
    assert (
        np.abs(np.asarray(Image.open(path)).astype(int) - before).max() <= 1
    )  # other batches may round otherwise


def test_points_have_findings_and_no_picture(tmp_path: Path):
    given = ["arch=gan", "data=toy", "data.batch_size=8", "run.images=16", f"run.dir={tmp_path}", "run.name=run",
             "trainer.accelerator=cpu", "trainer.progress=false", "logger=csv", "eval.at_start=false",
             "eval.metrics=[authenticity]", "metrics.extractor=pixels", "metrics.real_images=200",
             "eval.images=50"]  # fmt: skip

    assert main(["train", *given]) == 0

    run = RunFolder(tmp_path / "run")
    (made,) = run.read_results()["evaluations"]
    assert len(made["scores"]["authenticity"]["findings"]) == 8
    assert not list(run.samples.glob("neighbours*"))
