"""`lit-gan eval` over folders of images and other data, protocols by name, and the time that evaluations may take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_gan.callbacks.evaluation import FEWEST, affordable
from lit_gan.cli import main
from lit_gan.config import compose, names, preset
from lit_gan.errors import UserError
from lit_gan.metrics import METRICS, build_extractor
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.gallery import Gallery
from lit_gan.run import RunFolder
from metrics_helpers import noise
from tiny import said, tiny_run


def images(folder: Path, count: int, seed: int, shape: tuple[int, ...] = (16, 16, 3)) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture
def refuses(capsys):
    def call(*given: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in given]) == 2
        lines = said(capsys.readouterr().err)
        assert len(lines) == 1, lines
        return lines[0]

    return call


def score_of(folder: Path, metric: str = "fid") -> dict:
    (evaluation,) = RunFolder(folder).read_results()["evaluations"]
    return evaluation["scores"][metric]


def test_gallery_shows_every_image_once_and_unchanged():
    data = noise(30)
    gallery = Gallery(data)
    shown = gallery.generate({"index": torch.arange(30)})

    assert len(gallery) == 30
    assert not gallery.seeded
    assert sorted(gallery.chosen) == list(range(30))
    assert list(gallery.chosen) != list(range(30)), (
        "sorted files would put a class into each group of an error"
    )
    assert torch.equal(
        (shown * 127.5 + 127.5).round().to(torch.uint8), data.real_batch(gallery.chosen)["image"]
    )


def test_gallery_takes_a_seeded_part_and_refuses_more_than_there_is():
    data = noise(30)
    few, again, other = Gallery(data, 10, seed=1), Gallery(data, 10, seed=1), Gallery(data, 10, seed=2)

    assert len(set(few.chosen)) == 10
    assert few.seeded
    assert np.array_equal(few.chosen, again.chosen)
    assert not np.array_equal(few.chosen, other.chosen)
    with pytest.raises(UserError, match="31 fakes are asked for and the folder holds 30 images"):
        Gallery(data, 31)


def test_the_data_in_place_of_a_generator_have_distance_zero():
    data = noise(60)
    scores = evaluate(
        Gallery(data), data, metrics=["fid"], extractor=build_extractor("pixels", data=data), fakes=60
    )

    assert scores["fid"].value == pytest.approx(0, abs=1e-9)
    assert scores["fid"].protocol.seed is None
    assert scores.seconds > 0


def test_folder_is_scored_against_a_folder(tmp_path, capsys):
    real = images(tmp_path / "real", 40, seed=0)
    near, far = images(tmp_path / "near", 50, seed=1), images(tmp_path / "far", 50, seed=2)
    for path in far.iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 4).save(path)
    common = [
        "--against",
        str(real),
        "--metrics",
        "fid,kid",
        "metrics.extractor=pixels",
        f"run.dir={tmp_path / 'runs'}",
    ]

    assert main(["eval", str(near), *common]) == 0
    assert main(["eval", str(far), *common]) == 0
    out = capsys.readouterr().out

    near_run, far_run = tmp_path / "runs" / "eval-near-1", tmp_path / "runs" / "eval-far-1"
    assert score_of(near_run)["value"] < score_of(far_run)["value"] / 2
    assert score_of(near_run)["protocol"]["fakes"] == 50
    assert score_of(near_run)["protocol"]["reals"] == 40
    assert score_of(near_run)["error"] > 0
    assert "kid" in RunFolder(near_run).read_results()["evaluations"][0]["scores"]
    assert f"50 images of {near} against {real}" in out
    assert main(["compare", str(tmp_path / "runs")]) == 0
    table = capsys.readouterr().out
    assert "near" in table
    assert "far" in table


def test_images_of_another_size_and_colour_are_brought_to_the_references(tmp_path):
    fakes = images(tmp_path / "fakes", 30, seed=0, shape=(20, 24, 3))

    code = main(["eval", str(fakes), "--against", "digits", "--metrics", "fid", "metrics.extractor=pixels",
                 f"run.dir={tmp_path / 'runs'}"])  # fmt: skip

    assert code == 0
    assert score_of(tmp_path / "runs" / "eval-fakes-1")["protocol"]["reals"] == 1797


def test_run_is_scored_against_other_data(tmp_path):
    run = tiny_run("dcgan", tmp_path / "runs", "run.images=16")
    real = images(tmp_path / "real", 40, seed=0, shape=(16, 16))

    code = main(
        [
            "eval",
            str(run),
            "--against",
            str(real),
            "--metrics",
            "fid",
            "metrics.extractor=pixels",
            "eval.images=30",
        ]
    )

    assert code == 0
    protocol = score_of(run)["protocol"]
    assert (protocol["reals"], protocol["fakes"]) == (40, 30)


def test_mistakes_in_sources_and_protocols(refuses, tmp_path):
    folder = images(tmp_path / "some", 4, seed=0)
    run = tiny_run("dcgan", tmp_path / "runs", "run.images=8")

    assert "against what" in refuses("eval", folder)
    assert "no run or checkpoint" in refuses("sample", "nowhere")
    assert "'nowhere' is neither data (" in refuses("eval", "nowhere", "--against", folder)
    assert "'nowhere' is neither data (" in refuses("eval", run, "--against", "nowhere")
    assert "is a run, not images" in refuses("eval", folder, "--against", run)
    assert "did you mean protocol=clean?" in refuses(
        "eval", folder, "--against", folder, "--protocol", "claen"
    )
    assert "did you mean fid?" in refuses("eval", folder, "--against", folder, "--metrics", "fidd")
    assert "9 fakes are asked for" in refuses(
        "eval", folder, "--against", folder, "--metrics", "fid", "metrics.extractor=pixels", "eval.images=9"
    )


def test_every_protocol_composes_over_every_data():
    assert {"clean", "studiogan", "stylegan"} <= set(names("protocol"))
    for name in names("protocol"):
        for data in names("data"):
            config = compose([f"data={data}", *preset("protocol", name), "eval.images=9"])
            assert config.get("metrics.extractor") == "inception"
            assert config.get("metrics.resize") == ("clean" if name == "clean" else "legacy")
            assert config.get("eval.images") == 9, "what stands on the command line wins"
            assert set(config.get("eval.metrics")) <= set(METRICS)


@pytest.mark.parametrize(
    ("cost", "seconds", "fakes"),
    [(0.001, 10.0, 5000), (0.001, 4.9, 2000), (0.001, 0.5, 500), (0.01, 0.1, FEWEST), (0.0, 0.0, 5000)],
)
def test_evaluations_have_as_many_fakes_as_their_time_allows(cost, seconds, fakes):
    assert affordable(5000, cost, seconds) == fakes


def test_evaluations_on_the_way_keep_to_their_share_and_the_last_uses_all(tmp_path, capsys):
    scored = ["eval.metrics=[fid]", "metrics.extractor=pixels", "eval.at_start=true", "eval.images=600",
              "eval.max_share=1e-9", "eval.every_images=16"]  # fmt: skip
    run = tiny_run("dcgan", tmp_path, "run.images=48", *scored)
    out = capsys.readouterr().out

    made = [(e["images_seen"], e["source"], e["scores"]["fid"]["protocol"]["fakes"])
            for e in RunFolder(run).read_results()["evaluations"]]  # fmt: skip
    assert made == [
        (0, "training", 600), (16, "training", FEWEST), (32, "training", FEWEST), (48, "final", 600),
        (48, "training", FEWEST),
    ]  # fmt: skip
    assert f"evaluations on the way use {FEWEST} fakes, since 600 would take" in out
    assert "With all 600 fakes, at the end:" in out
    assert (run / "checkpoints" / "best.ckpt").exists()

    assert main(["train", f"resume={run}", "run.images=80"]) == 0
    later = [(e["images_seen"], e["source"], e["scores"]["fid"]["protocol"]["fakes"])
             for e in RunFolder(run).read_results()["evaluations"] if e["images_seen"] > 48]  # fmt: skip
    assert later == [(64, "training", FEWEST), (80, "final", 600), (80, "training", FEWEST)]


def test_evaluations_keep_to_their_share_without_one_before_the_first_step(tmp_path):
    scored = ["eval.metrics=[fid]", "metrics.extractor=pixels", "eval.at_start=false", "eval.images=600",
              "eval.max_share=1e-9", "eval.every_images=16"]  # fmt: skip
    run = tiny_run("dcgan", tmp_path, "run.images=32", *scored)

    made = [(e["images_seen"], e["source"], e["scores"]["fid"]["protocol"]["fakes"])
            for e in RunFolder(run).read_results()["evaluations"]]  # fmt: skip
    assert made == [(16, "training", FEWEST), (32, "final", 600), (32, "training", FEWEST)]


def test_evaluations_on_the_way_have_what_their_metrics_need(cache, tmp_path):
    few = [
        "data.kind=grid",
        "data.count=1000",
        "data.batch_size=8",
        "model.widths=[8]",
        "run.images=32",
        "logger=[]",
    ]
    scored = ["eval.at_start=false", "eval.images=2000", "eval.max_share=1e-9", "eval.every_images=16"]
    machine = ["trainer.accelerator=cpu", "trainer.progress=false", f"run.dir={tmp_path}", "run.name=run"]
    assert main(["train", "arch=gan", "data=toy", *few, *scored, *machine]) == 0

    made = [(e["images_seen"], e["scores"]["toy-modes"]["protocol"]["fakes"])
            for e in RunFolder(tmp_path / "run").read_results()["evaluations"]]  # fmt: skip
    assert made == [(16, 500), (32, 2000), (32, 500)], "25 modes need 20 each"


def test_evaluations_that_fit_into_their_share_are_whole(tmp_path):
    scored = ["eval.metrics=[fid]", "metrics.extractor=pixels", "eval.images=30", "eval.max_share=1e9",
              "eval.every_images=16"]  # fmt: skip
    run = tiny_run("dcgan", tmp_path, "run.images=32", *scored)

    made = RunFolder(run).read_results()["evaluations"]
    assert [(e["source"], e["scores"]["fid"]["protocol"]["fakes"]) for e in made] == [("training", 30)] * 2
