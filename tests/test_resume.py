"""No run is lost: a run that is killed, interrupted or torn goes on and ends where the unbroken one ends, bit for bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import processes
from lit_gan.callbacks.signals import StopOnSignal
from lit_gan.checkpoints import defect, newest_whole
from lit_gan.config import compose
from lit_gan.errors import UserError
from lit_gan.resume import compose_run
from lit_gan.run import RunFolder
from lit_gan.train import train
from tiny import ARCHS, TRAINED, arguments, largest_difference, state, tiny_run


def trained(run: Path) -> dict[str, object]:
    checkpoint = state(run)
    counters = {key: checkpoint["lit_gan"][key] for key in ("images_seen", "d_updates")}
    return {**{key: checkpoint[key] for key in TRAINED}, **counters}


def resume(run: Path, *more: str) -> None:
    assert train(compose_run([f"resume={run}", *more])) == 0


def broken_at(run: Path, images: int, folder: Path) -> Path:
    """A copy of `run` as a kill after the checkpoint at `images` would have left it."""
    copy = folder / "broken"
    shutil.copytree(run, copy)
    keep = copy / "checkpoints" / f"images-{images:012d}.ckpt"
    for path in (copy / "checkpoints").glob("*.ckpt"):
        if path != keep:
            path.unlink()
    return copy


@pytest.mark.parametrize("arch", ARCHS)
def test_resumed_run_ends_exactly_where_the_unbroken_one_does(arch, tmp_path):
    per_step = 8 * compose(arguments(arch)).get("optim.d_steps_per_g_step")
    straight = tiny_run(
        arch, tmp_path, f"run.images={6 * per_step}", f"checkpoint.every_images={per_step}", "checkpoint.keep=9",
        "optim.ema_half_life=20",
    )  # fmt: skip
    broken = broken_at(straight, 3 * per_step, tmp_path)

    resume(broken)

    assert largest_difference(trained(straight), trained(broken)) == 0


@pytest.mark.parametrize(("images", "workers"), [(1792, 0), (1792, 2), (2048, 2)])
def test_resume_is_exact_with_workers_and_at_the_end_of_an_epoch(images, workers, tmp_path):
    settings = ["data.batch_size=256", f"data.workers={workers}", "run.images=2304", "checkpoint.keep=99"]
    straight = tiny_run("dcgan", tmp_path, *settings, "checkpoint.every_images=256")
    broken = broken_at(
        straight, images, tmp_path
    )  # the digits are 1,797: before and after the end of the first cycle

    resume(broken)

    assert largest_difference(trained(straight), trained(broken)) == 0


def test_evaluating_does_not_change_the_training(tmp_path):
    looked = tiny_run(
        "stylegan-lite", tmp_path / "a", "run.images=64", "eval.metrics=[fid,kid,is,modes]", "eval.images=50",
        "eval.every_images=16", "eval.at_start=true",
    )  # fmt: skip
    blind = tiny_run("stylegan-lite", tmp_path / "b", "run.images=64")

    assert largest_difference(trained(looked), trained(blind)) == 0
    assert len(json.loads((looked / "results.json").read_text())["evaluations"]) == 5


def newest(run: Path) -> int:
    return max(
        (int(p.stem.removeprefix("images-")) for p in run.glob("checkpoints/images-*.ckpt")), default=-1
    )


def test_run_killed_ten_times_ends_equal_to_the_unbroken_one(tmp_path):
    settings = ["run.images=4000", "checkpoint.every_images=64", "optim.ema_half_life=200"]
    straight = tiny_run("dcgan", tmp_path / "straight", *settings)
    args = arguments("dcgan", *settings, f"run.dir={tmp_path / 'killed'}", "run.name=run", "resume=auto")
    killed = tmp_path / "killed" / "run"
    chance = random.Random()  # another moment in every run of this test

    reached = []
    for _ in range(10):
        before, process = newest(killed), processes.start(args)
        deadline = time.monotonic() + 60
        while newest(killed) == before and process.exitcode is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        reached.append(newest(killed))
    process = processes.start(args)
    process.join(120)

    assert process.exitcode == 0
    assert reached == sorted(set(reached)), "every sitting must have come further"
    assert reached[-1] < 4000
    assert largest_difference(trained(straight), trained(killed)) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_a_run_after_a_checkpoint_that_goes_on_exactly(number, code, tmp_path):
    args = arguments(
        "dcgan", "run.images=1600", f"run.dir={tmp_path}", "run.name=run", "checkpoint.every_images=160"
    )
    process = processes.start(args, log=tmp_path / "log")
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(60)

    assert process.exitcode == code
    stopped = state(tmp_path / "run")["lit_gan"]["images_seen"]
    assert 0 < stopped < 1600
    assert f"Stopped by {number.name}" in (tmp_path / "log").read_text()
    resume(tmp_path / "run")
    straight = tiny_run("dcgan", tmp_path / "straight", "run.images=1600", "checkpoint.every_images=160")
    assert largest_difference(trained(straight), trained(tmp_path / "run")) == 0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tiny_run("gan", tmp_path, "run.images=48", "checkpoint.every_images=16", "checkpoint.keep=3")


def test_torn_checkpoint_is_named_and_the_one_before_it_taken(run, capsys):
    newest = run / "checkpoints" / "images-000000000048.ckpt"
    content = newest.read_bytes()
    newest.unlink()
    newest.write_bytes(content[: len(content) // 2])
    (run / "checkpoints" / "last.ckpt").unlink()

    path = newest_whole(RunFolder(run))

    assert path.name == "images-000000000032.ckpt"
    assert "images-000000000048.ckpt is torn" in capsys.readouterr().err


def test_flipped_byte_in_a_checkpoint_is_found(run):
    newest = run / "checkpoints" / "last.ckpt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    copy = run / "copy.ckpt"
    copy.write_bytes(content)

    assert defect(newest) is None
    assert (defect(copy) or "").startswith("torn")


def test_foreign_checkpoint_is_named_and_runs_no_code(run, capsys):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (run / "pwned",))

    foreign = run / "checkpoints" / "images-000000000099.ckpt"
    torch.save({"state_dict": Evil()}, foreign)
    path = newest_whole(RunFolder(run))

    assert path.name in ("last.ckpt", "images-000000000048.ckpt")
    assert "images-000000000099.ckpt is foreign" in capsys.readouterr().err
    assert not (run / "pwned").exists()


def test_no_whole_checkpoint_is_one_clear_line(run):
    for path in (run / "checkpoints").glob("*.ckpt"):
        path.unlink()

    with pytest.raises(UserError, match="no whole checkpoint"):
        newest_whole(RunFolder(run))


def test_last_and_the_newest_few_are_kept(run):
    names = sorted(p.name for p in (run / "checkpoints").iterdir())

    assert names == [*(f"images-{n:012d}.ckpt" for n in (16, 32, 48)), "last.ckpt"]


def test_budget_can_be_raised_and_the_log_goes_on_without_gaps_or_repeats(run):
    resume(run, "run.images=96")

    lines = (run / "metrics.csv").read_text().splitlines()
    kimg = [float(line.split(",")[0]) for line in lines[1:]]
    assert kimg == sorted(set(kimg))
    assert kimg[-1] == 0.096


def test_finished_run_says_that_nothing_is_left(run, capsys):
    resume(run)

    assert "nothing left to do" in capsys.readouterr().out


def test_resume_on_other_data_is_refused(run):
    with pytest.raises(UserError, match="fingerprint"):
        resume(run, "data.channels=3", "run.images=96")


def test_settings_given_at_resume_take_effect(run):
    resume(run, "run.images=64", "optim.lr=0.123", "optim.lr_schedule=constant")

    assert state(run)["optimizer_states"][1]["param_groups"][0]["lr"] == 0.123


def test_going_on_from_an_older_checkpoint_abandons_the_newer_ones(run):
    older = run / "checkpoints" / "images-000000000016.ckpt"

    assert train(compose_run([f"resume={older}", "run.images=32"])) == 0

    assert newest_whole(RunFolder(run)).name == "images-000000000032.ckpt"
    assert state(run)["lit_gan"]["images_seen"] == 32
    assert (run / "checkpoints" / "images-000000000048.abandoned").exists()


@pytest.mark.parametrize("batch", [4, 16])
def test_run_that_goes_on_with_another_batch_size_ends_at_its_budget(batch, run):
    resume(run, "run.images=96", f"data.batch_size={batch}", "eval.metrics=[fid]", "eval.images=50")

    results = json.loads((run / "results.json").read_text())
    assert state(run)["lit_gan"]["images_seen"] == 96
    assert [e["images_seen"] for e in results["evaluations"]] == [96]


def test_evaluation_that_a_kill_prevented_is_made_when_the_run_is_resumed(tmp_path, capsys):
    run = tiny_run("gan", tmp_path, "run.images=32", "eval.metrics=[fid]", "eval.images=50")
    (run / "results.json").unlink()
    (run / "checkpoints" / "best.ckpt").unlink()

    resume(run)

    (evaluation,) = json.loads((run / "results.json").read_text())["evaluations"]
    assert (evaluation["images_seen"], evaluation["source"]) == (32, "training")
    assert (run / "checkpoints" / "best.ckpt").exists()


def test_run_is_not_trained_by_two_processes_at_once(run):
    with FileLock(run / ".lock"), pytest.raises(UserError, match="is being trained by another process"):
        resume(run, "run.images=96")


def test_second_sigterm_does_not_cut_the_checkpoint_short():
    stop = StopOnSignal()
    stop.install()
    try:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
    finally:
        stop.restore()
