"""The command line as a person meets it: every mistake is one line and exit code 2, every command does its work."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_gan.cli import main
from lit_gan.metrics.weights import KNOWN
from lit_gan.run import RunFolder
from tiny import arguments, said, state, tiny_run

SCORED = ["eval.metrics=[fid]", "metrics.extractor=pixels", "eval.images=40", "eval.at_start=true"]


@pytest.fixture(scope="module")
def runs(cache, tmp_path_factory) -> Path:
    """A folder of runs: an unconditional one with scores, and a conditional one that truncates."""
    folder = tmp_path_factory.mktemp("runs")
    plain = tiny_run("dcgan", folder / "plain", "run.images=32", "checkpoint.every_images=16", *SCORED)
    plain.rename(folder / "dcgan")
    styled = tiny_run("stylegan-lite", folder / "styled", "run.images=16", "model.conditional=true")
    styled.rename(folder / "stylegan")
    return folder


@pytest.fixture
def dcgan(runs, tmp_path) -> Path:
    """A copy to do things to."""
    return Path(shutil.copytree(runs / "dcgan", tmp_path / "dcgan"))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Unlabelled images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(np.full((16, 16, 3), i, dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def refuses(capsys, tmp_path):
    """Run a command that must fail as a user's mistake does; returns its line."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(a) for a in arguments]) == 2
        lines = said(capsys.readouterr().err)
        assert len(lines) == 1, lines
        assert lines[0].startswith("lit-gan: ")
        return lines[0]

    return call


@pytest.fixture
def train_refuses(refuses, tmp_path):
    def call(arch: str, *more: str) -> str:
        line = refuses("train", *arguments(arch, f"run.dir={tmp_path / 'out'}", *more))
        assert not list((tmp_path / "out").glob("*")), "nothing is left behind"
        return line

    return call


@pytest.mark.parametrize(
    ("argument", "code", "shown"),
    [("--help", 0, "Train, measure and sample"), ("train archh=gan", 2, "mean arch?")],
)
def test_help_and_typo_answer_at_once(argument, code, shown):
    """In no more than some times what importing the two libraries behind it takes (a quarter of a second in all)."""
    ratios = []
    while len(ratios) < 5 and (not ratios or min(ratios) > 2.5):
        libraries, _ = processor_seconds("-c", "import click, omegaconf")
        taken, answer = processor_seconds("-m", "lit_gan", *argument.split())
        ratios.append(taken / libraries)

    assert answer.returncode == code
    assert shown in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    assert min(ratios) <= 2.5


def processor_seconds(*arguments: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Of a child, in place of its time by the clock, since others use this machine; and what it answered."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, answer


def test_nothing_heavy_is_imported_before_the_work_begins():
    code = """if True:
        import sys
        from lit_gan.cli import main
        for arguments in (["--help"], ["list"], ["config", "arch=r3gan"], ["train", "arch=x"], ["eval", "x"],
                          ["sample", "x"], ["compare", "x"], ["dashboard", "x"],
                          ["sweep", "--grid", "arch=x"], ["train", "resume=x"], ["train", "optim.lr=-1"]):
            main(arguments)
        print({"torch", "lightning", "numpy", "wandb", "datasets", "rich"} & set(sys.modules), file=sys.stderr)
        """
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stderr.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trian", ("unknown command 'trian'", "did you mean `lit-gan train`?")),
        ("train arch=styleggan2", ("unknown arch 'styleggan2'", "arch=stylegan2?")),
        ("train optim.lrate=1", ("unknown key 'optim.lrate'",)),
        ("train run.images=many", ("run.images = 'many' is not an integer",)),
        ("train --fast", ("No such option",)),
        ("train resume=runs/none", ("no run or checkpoint 'runs/none'",)),
        ("config run.images", ("not of the form key=value",)),
        ("list cats", ("nothing to list called 'cats'", "archs")),
        ("eval nowhere", ("no run or checkpoint 'nowhere'",)),
        ("eval /", ("/ is not a run",)),
        ("sample nowhere", ("no run or checkpoint 'nowhere'",)),
        ("sample", ("Missing argument 'RUN'",)),
        ("sample x -n 0", ("0 is not in the range",)),
        ("sample x --label three", ("'three' is neither a class nor numbers",)),
        ("compare nowhere", ("nowhere does not exist",)),
        ("compare --format pdf", ("'pdf' is not one of",)),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(command, words, refuses):
    line = refuses(*command.split())

    for word in words:
        assert word in line


def test_missing_folder(train_refuses, tmp_path):
    assert "does not exist" in train_refuses("dcgan", "data=folder", f"data.path={tmp_path / 'none'}")


def test_folder_that_is_not_named(train_refuses):
    assert "data.path is not set" in train_refuses("dcgan", "data=folder")


def test_empty_folder(train_refuses, tmp_path):
    (tmp_path / "empty").mkdir()

    assert "holds no images" in train_refuses("dcgan", "data=folder", f"data.path={tmp_path / 'empty'}")


def test_conditional_arch_on_unlabelled_data(train_refuses, photos):
    line = train_refuses("r3gan", "data=folder", f"data.path={photos}", "model.conditional=true")

    assert "label" in line


def test_classifier_as_extractor_of_unlabelled_data(train_refuses, photos):
    line = train_refuses(
        "dcgan", "data=folder", f"data.path={photos}", "eval.metrics=[fid]", "metrics.extractor=classifier"
    )

    assert "metrics.extractor=classifier" in line
    assert "metrics.extractor=inception" in line


def test_batch_larger_than_the_data(train_refuses):
    assert "larger than the 1797 images" in train_refuses("dcgan", "data.batch_size=2000")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is asked for")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_gpu_where_there_is_none(accelerator, train_refuses):
    line = train_refuses("dcgan", f"trainer.accelerator={accelerator}")

    assert "no GPU" in line
    assert "trainer.accelerator=cpu" in line


@pytest.mark.parametrize("precision", ["16-mixed", "16", "fp16"])
def test_fp16_is_refused_with_a_reason(precision, train_refuses):
    line = train_refuses("dcgan", f"trainer.precision={precision}")

    assert "overflows" in line
    assert "bf16-mixed" in line


@pytest.mark.parametrize("more", [("trainer.devices=2", "data.batch_size=9"), ("optim.accumulate=3",)])
def test_batch_that_cannot_be_shared(more, train_refuses):
    assert "cannot be shared" in train_refuses("dcgan", *more)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("eval.metrics=[fidd]",), "no metric is called 'fidd'; did you mean fid?"),
        (("eval.metrics=[fid]", "metrics.extractor=inceptoin"), "did you mean inception?"),
        (("eval.metrics=[is]", "metrics.extractor=pixels"), "needs an extractor that classifies"),
        (("eval.metrics=[fid]", "metrics.extractor=pixels", "eval.images=1"), "at least 2 fakes"),
        (("model.width=0",), "check model"),
        (("data.image_size=6",), "image_size"),
    ],
)
def test_what_cannot_be_scored_or_built_is_said_before_the_training(more, words, train_refuses):
    assert words in train_refuses("dcgan", *more)


def test_missing_inception_weights_are_said_at_once(train_refuses, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    nowhere = replace(KNOWN["inception"], url="http://127.0.0.1:9/weights.pth")
    monkeypatch.setitem(KNOWN, "inception", nowhere)
    start = time.perf_counter()

    line = train_refuses("dcgan", "eval.metrics=[fid]", "metrics.extractor=inception")

    assert "metrics.weights=PATH" in line
    assert str(tmp_path / "cache" / "weights") in line
    assert time.perf_counter() - start < 10


def test_run_folder_that_exists(refuses, runs):
    line = refuses("train", *arguments("dcgan", f"run.dir={runs}", "run.name=dcgan"))

    assert f"run folder {runs / 'dcgan'} exists" in line
    assert "resume=" in line


def test_folder_of_runs_that_is_a_file(refuses, tmp_path):
    (tmp_path / "file").touch()

    assert "is a file" in refuses("train", *arguments("dcgan", f"run.dir={tmp_path / 'file'}"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_of_runs_that_may_not_be_written(refuses, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)

    assert "no permission" in refuses("train", *arguments("dcgan", f"run.dir={tmp_path / 'locked' / 'runs'}"))


def test_resuming_as_another_arch_or_data(refuses, dcgan):
    for other in ("arch=gan", "data=toy", "variant=gan", "experiment=gan-cifar10"):
        key, _, value = other.partition("=")
        for command in (("train", f"resume={dcgan}"), ("eval", dcgan)):
            line = refuses(*command, other)
            assert f"not {value}: leave {'data.name' if key == 'data' else key} out" in line


def test_what_the_run_is_may_be_said_again(dcgan, capsys):
    assert main(["train", f"resume={dcgan}", "arch=dcgan", "data=digits"]) == 0
    assert "nothing left to do" in capsys.readouterr().out


def test_checkpoint_of_another_arch(refuses, runs, dcgan):
    for path in (dcgan / "checkpoints").iterdir():
        path.unlink()
    shutil.copy(runs / "stylegan" / "checkpoints" / "last.ckpt", dcgan / "checkpoints" / "last.ckpt")

    for command in (("train", f"resume={dcgan}", "run.images=64"), ("eval", dcgan), ("sample", dcgan)):
        assert "other networks" in refuses(*command)


def test_checkpoint_of_other_widths(refuses, dcgan):
    for command in (("train", f"resume={dcgan}", "run.images=64"), ("eval", dcgan)):
        assert "leave model.*" in refuses(*command, "model.width=8")


def test_evaluating_at_another_size(refuses, dcgan):
    assert "leave data.image_size" in refuses("eval", dcgan, "data.image_size=32")


def test_only_checkpoint_is_torn(refuses, dcgan):
    last = dcgan / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    for path in (dcgan / "checkpoints").iterdir():
        path.unlink()
    last.write_bytes(content[:1000])

    for command in (("train", f"resume={dcgan}", "run.images=64"), ("eval", dcgan), ("sample", dcgan)):
        line = refuses(*command)
        assert "last.ckpt is torn" in line
        assert "no whole checkpoint" in line


def test_results_that_are_no_results(refuses, dcgan):
    for text in ("{", "[]", "{}"):
        (dcgan / "results.json").write_text(text)
        assert "results.json" in refuses("eval", dcgan, *SCORED)


def test_eval_without_a_metric_or_with_an_unknown_one(refuses, dcgan):
    assert "eval.metrics is empty" in refuses("eval", dcgan, "eval.metrics=[]")
    assert "did you mean fid?" in refuses("eval", dcgan, "eval.metrics=[fib]")


def test_sample_of_what_the_variant_cannot(refuses, runs, tmp_path):
    plain, styled, out = runs / "dcgan", runs / "stylegan", ("--out", tmp_path / "out")

    assert "DCGAN has no truncation" in refuses("sample", plain, "--truncation", 0.5, *out)
    assert "takes no label" in refuses("sample", plain, "--label", 3, *out)
    assert "labels are 0 to 9" in refuses("sample", styled, "--label", 10, *out)
    assert "labels are 0 to 9" in refuses("sample", styled, "--label", -1, *out)
    (tmp_path / "out").touch()
    assert "is a file" in refuses("sample", styled, *out)


def test_bare_command_shows_the_help(capsys):
    assert main([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_config_shows_values_and_their_places(capsys):
    assert main(["config", "arch=r3gan", "seed=5"]) == 0

    out = capsys.readouterr().out
    assert "# configs/arch/r3gan.yaml" in out
    assert any(line.split() == ["seed", "=", "5", "#", "command", "line"] for line in out.splitlines())


def test_config_of_a_run_shows_where_it_comes_from(runs, capsys):
    assert main(["config", f"resume={runs / 'dcgan'}"]) == 0
    assert f"# {runs / 'dcgan' / 'config.yaml'}" in capsys.readouterr().out


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("0*.png"))])


def test_samples_are_the_same_whatever_the_batch_size(runs, tmp_path):
    for size in (1, 3, 64):
        out = ("--out", str(tmp_path / str(size)))
        command = ["sample", str(runs / "stylegan"), "-n", "7", "--seed", "5", "--batch-size", str(size)]
        assert main([*command, *out]) == 0

    more = ["sample", str(runs / "stylegan"), "-n", "40", "--seed", "5", "--out", str(tmp_path / "more")]
    assert main(more) == 0
    one, three, many = (pixels(tmp_path / name) for name in ("1", "3", "64"))
    assert one.shape == (7, 16, 16)
    assert np.array_equal(one, three)
    assert np.array_equal(one, many)
    assert np.array_equal(one, pixels(tmp_path / "more")[:7])
    assert Image.open(tmp_path / "1" / "grid.png").size == (3 * 18 + 2, 3 * 18 + 2)


def test_samples_lie_in_the_run_unless_told_otherwise(dcgan, capsys):
    assert main(["sample", str(dcgan), "-n", "3", "--seed", "9"]) == 0

    assert len(list((dcgan / "samples" / "seed9").glob("0*.png"))) == 3
    assert f"{dcgan}/samples/seed9/grid.png" in capsys.readouterr().out


def test_sample_takes_a_checkpoint_file_a_label_and_a_truncation(runs, tmp_path):
    checkpoint = str(runs / "stylegan" / "checkpoints" / "last.ckpt")

    def drawn(name: str, *more: str) -> np.ndarray:
        assert main(["sample", checkpoint, "-n", "4", "--out", str(tmp_path / name), *more]) == 0
        return pixels(tmp_path / name)

    mean = drawn("mean", "--truncation", "0", "--label", "3")
    assert len(np.unique(mean, axis=0)) == 1, "no truncation above 0 is left: the class's mean image"
    assert not np.array_equal(drawn("three", "--label", "3"), drawn("four", "--label", "4"))


def test_eval_adds_scores_with_their_protocol_and_prints_a_table(dcgan, capsys):
    before = RunFolder(dcgan).read_results()["evaluations"]

    for images in (30, 50, 50):
        assert main(["eval", str(dcgan), f"eval.images={images}", "metrics.real_images=500"]) == 0
    out = capsys.readouterr().out

    added = RunFolder(dcgan).read_results()["evaluations"][len(before) :]
    made = [e for e in RunFolder(dcgan).read_results()["evaluations"] if e["source"] == "eval of best.ckpt"]
    assert added
    assert [e["scores"]["fid"]["protocol"]["fakes"] for e in made] == [30, 50], (
        "the same again replaces itself"
    )
    assert {e["scores"]["fid"]["protocol"]["reals"] for e in made} == {500}
    assert "metric" in out
    assert "50 fakes" in out
    assert f"added to {dcgan / 'results.json'}" in out


def test_eval_at_the_protocol_of_the_training_repeats_its_score(dcgan):
    assert main(["eval", str(dcgan / "checkpoints" / "last.ckpt")]) == 0

    scores = {
        e["source"]: e["scores"]["fid"]["value"] for e in RunFolder(dcgan).read_results()["evaluations"]
    }
    assert scores["eval of last.ckpt"] == pytest.approx(scores["training"], rel=1e-6)


def test_own_arch_by_path_trains_into_a_folder_named_after_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("variant: dcgan\nmodel: {width: 4}\n")

    assert main(["train", *arguments("dcgan", f"run.dir={tmp_path / 'runs'}", "run.images=8"),
                 f"arch={tmp_path / 'mine.yaml'}"]) == 0  # fmt: skip

    assert (tmp_path / "runs" / "mine-digits-1" / "checkpoints" / "last.ckpt").exists()
    assert main(["train", f"resume={tmp_path / 'runs' / 'mine-digits-1'}", "run.images=16"]) == 0
    assert state(tmp_path / "runs" / "mine-digits-1")["lit_gan"]["images_seen"] == 16


def test_compare_names_runs_without_scores_and_takes_runs_or_folders(runs, capsys):
    assert main(["compare", str(runs), str(runs / "dcgan")]) == 0

    out = capsys.readouterr().out
    assert f"without a score: {runs / 'stylegan'}" in out
    assert len([line for line in out.splitlines() if line.startswith("| dcgan")]) == 1
