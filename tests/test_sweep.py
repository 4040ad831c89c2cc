"""A sweep: every combination is checked before anything starts, and nothing that was computed is lost or done twice."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from lit_gan import sweep as module
from lit_gan.cli import main
from lit_gan.config import compose
from lit_gan.errors import UserError
from lit_gan.grid import axes_name, cells_of, parse_axes, split
from lit_gan.slots import slots_for, visible_gpus
from lit_gan.sweep import plan
from tiny import COMMON, TINY, TRAINED, largest_difference, said, state, tiny_run

TINY_DCGAN = ["arch=dcgan", *TINY["dcgan"], "data.image_size=16", *COMMON]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,1,2", ["0", "1", "2"]),
        ("[16],[32,64]", ["[16]", "[32,64]"]),
        ("[[1,2],[3,4]],{a: 1, b: 2}", ["[[1,2],[3,4]]", "{a: 1, b: 2}"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("one", ["one"]),
    ],
)
def test_values_are_cut_at_commas_outside_brackets_and_quotes(text, values):
    assert split(text) == values


def test_seeds_may_be_a_range():
    (axis,) = parse_axes(["seed=0-3,9"])

    assert axis.values == ("0", "1", "2", "3", "9")
    assert parse_axes(["data.path=2020-2021"])[0].values == ("2020-2021",), "elsewhere it may be a name"


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ([], "needs axes"),
        (["seed"], "'seed' is no axis"),
        (["=1,2"], "is no axis"),
        (["seed="], "empty value"),
        (["seed=0,,1"], "empty value"),
        (["seed=0,1,0"], "seed has 0 twice"),
        (["seed=0-2,1"], "seed has 1 twice"),
        (["seed=4-0"], "counts down"),
        (["seed=0,1", "seed=2"], "seed is given twice"),
        (["data=toy", "data.name=digits"], "data.name is given twice"),
        (["model.widths=[16,[32]"], "is not closed"),
        (["run.name=a,b"], "run.name is set by the sweep itself"),
        (["resume=auto"], "resume is set by the sweep itself"),
        (["data.path=a/b,a-b"], "would both be called"),
    ],
)
def test_mistake_in_the_grid_is_one_line(grid, words):
    with pytest.raises(UserError, match="--grid") as error:
        cells_of(parse_axes(grid))

    assert words in str(error.value)


def test_cells_are_all_combinations_under_names_that_a_person_can_read():
    axes = parse_axes(
        ["arch=dcgan,mine.yaml", "optim.lr=1e-4", "eval.metrics=[]", "model.widths=[16,32]", "seed=0,1"]
    )

    cells = cells_of(axes)

    names = [
        f"{arch}-lr1e-4-metricsempty-widths16-32-seed{seed}" for arch in ("dcgan", "mine") for seed in (0, 1)
    ]
    assert [cell.name for cell in cells] == names
    assert cells[1].overrides == (
        "arch=dcgan", "optim.lr=1e-4", "eval.metrics=[]", "model.widths=[16,32]", "seed=1",
    )  # fmt: skip
    assert axes_name(axes) == "arch-lr-metrics-widths-seed"


def test_axes_with_the_same_last_word_keep_their_sections():
    cells = cells_of(parse_axes(["seed=1", "samples.seed=2"]))

    assert cells[0].name == "seed1-samples.seed2"


@pytest.fixture
def refuses(capsys, tmp_path):
    """Run a sweep that must be refused before anything starts; returns the line."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        assert main(["sweep", *map(str, arguments)]) == 2
        lines = said(capsys.readouterr().err)
        assert len(lines) == 1, lines
        return lines[0]

    return call


def test_typo_in_a_late_cell_is_found_before_the_first_starts(refuses, tmp_path):
    line = refuses(
        f"run.dir={tmp_path / 'runs'}", "--grid", "arch=dcgan,wgan-gp,r3gan,styleggan2", "seed=0,1"
    )

    assert "cell styleggan2-seed0: unknown arch 'styleggan2': did you mean arch=stylegan2?" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optim.lrate=1", "--grid", "seed=0,1"], "cell seed0: command line: unknown key 'optim.lrate'"),
        (["seed=0", "--grid", "seed=0,1"], "seed is given before --grid and in it"),
        (["data.name=toy", "--grid", "data=digits"], "data is given before --grid and in it"),
        (["nothing", "--grid", "seed=0,1"], "unknown experiment 'nothing'"),
        (["nothing.yaml", "--grid", "seed=0,1"], "nothing.yaml: no such file"),
        (["gan-cifar10", "dcgan-cifar10", "--grid", "seed=0"], "two experiments"),
        (["run.name=a", "--grid", "seed=0"], "run.name is set by the sweep itself"),
        (["--grid", "seed=0", "--name", "a/b"], "a name, not a path"),
        (["--grid", "seed=0", "--jobs", "0"], "0 is not in the range"),
        (["--grid", "seed=0", "--gpus", "0,0"], "name each GPU once"),
        (["trainer.accelerator=cpu", "--grid", "seed=0", "--gpus", "0"], "uses none"),
        (["trainer.devices=2", "--grid", "seed=0", "--gpus", "0"], "the sweep has 1 GPU(s)"),
        ([], "--grid needs axes"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(arguments, words, refuses, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert words in refuses(*arguments)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_the_line_of_the_documentation_makes_nine_cells(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("experiment.yaml").write_text("# mine\ndata: {name: digits, image_size: 16}\nrun: {images: 4000}\n")
    planned = []
    monkeypatch.setattr(module, "run_sweep", lambda sweep, **machine: planned.append((sweep, machine)))
    line = "sweep experiment.yaml --grid arch=dcgan,wgan-gp,r3gan seed=0,1,2"

    assert main([*line.split(), "--jobs", "2"]) == 0
    assert main(line.replace("--grid ", "--jobs 2 --grid=").split()) == 0

    (sweep, machine), same = planned
    assert same == (sweep, machine)
    assert machine == {"gpus": None, "jobs": 2}
    assert sweep.folder == Path("runs/experiment-by-arch-seed")
    assert [cell.name for cell in sweep.cells][::4] == ["dcgan-seed0", "wgan-gp-seed1", "r3gan-seed2"]
    assert len(sweep.cells) == 9
    assert {config.get("run.images") for config in sweep.cells.values()} == {4000}


FAKE = """if True:
    import pathlib, signal, sys, time
    place, steps = pathlib.Path(sys.argv[1]), sys.argv[2:]

    def save(images):
        (place / "checkpoints").mkdir(parents=True, exist_ok=True)
        (place / "config.yaml").write_text("arch: gan\\nseed: 0\\ndata: {name: digits}\\n")
        (place / "checkpoints" / f"images-{images:012d}.ckpt").touch()

    def stop(number, frame):
        save(8)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(*sys.argv[1:], flush=True)
    place.mkdir(exist_ok=True)
    if "fails" in place.name:
        print("lit-gan: it went wrong", file=sys.stderr)
        sys.exit(2)
    if "waits" in place.name and "resume" not in steps[0]:
        (place.parent / "waiting").touch()
        time.sleep(240)
    save(16)
    """


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Runs that are none: quick, and named after what they do. Returns what sweeps over them, in a folder of its own."""
    real = module.command
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "check_buildable", lambda *_: None)
    monkeypatch.setattr(
        module, "command",
        lambda sweep, cell: [sys.executable, "-c", FAKE, str(sweep.run(cell).path), *real(sweep, cell)[4:]],
    )  # fmt: skip

    def sweep(*values: str, base: tuple[str, ...] = (), more: tuple[str, ...] = ()) -> int:
        axis = f"logger.wandb.project={','.join(values)}"  # any text will do
        return main(
            ["sweep", "run.images=16", "eval.metrics=[]", *base, "--grid", axis, "--name", "s", *more]
        )

    return sweep


def entries() -> dict[str, dict[str, object]]:
    record = json.loads(Path("runs/s/sweep.json").read_text())
    return {cell["name"].removeprefix("project"): cell for cell in record["cells"]}


def test_cell_that_fails_is_named_and_the_others_go_on(fake, capsys):
    assert fake("a", "fails", "b") == 1

    out = capsys.readouterr().out.splitlines()
    assert "[2/3] projectfails failed after 0.0 min: lit-gan: it went wrong" in out
    assert "[3/3] projectb finished after 0.0 min" in out
    assert out[-1] == "failed: projectfails: lit-gan: it went wrong; log: runs/s/projectfails.log"
    assert {name: cell["status"] for name, cell in entries().items()} == {
        "a": "finished", "fails": "failed", "b": "finished",
    }  # fmt: skip


def test_same_command_again_does_what_is_left_and_a_wider_grid_adds(fake, capsys):
    assert fake("a", "fails") == 1
    capsys.readouterr()

    assert fake("b", "a") == 0

    out = capsys.readouterr().out
    assert "sweep runs/s: 2 cells, 1 finished, 1 to start; 1 at a time" in out
    assert "projecta started" not in out
    assert set(entries()) == {"a", "fails", "b"}, "what is not of this grid is kept"
    assert fake("a", "b") == 0
    assert "started" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "sent", "code"),
    [(signal.SIGTERM, "15", 143), (signal.SIGINT, "2", 130), (signal.SIGHUP, "15", 129)],
)
def test_signal_reaches_the_runs_and_they_are_waited_for(number, sent, code, fake, capsys):
    def interrupt() -> None:
        deadline = time.monotonic() + 120  # of a busy machine
        while not Path("runs/s/waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    # a shell starts what is in the background with SIGINT ignored, and nohup with SIGHUP
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert fake("waits", "b") == code
    finally:
        signal.signal(number, before)
    thread.join()

    out = capsys.readouterr().out
    assert "[1/2] projectwaits interrupted" in out
    assert "projectb started" not in out
    assert "2 of 2 cells are left; the same command again goes on" in out
    assert list(Path("runs/s/projectwaits/checkpoints").iterdir())
    assert fake("waits", "b") == 0
    log = Path("runs/s/projectwaits.log").read_text().splitlines()
    assert log[-1].split()[1:] == ["resume=runs/s/projectwaits"]
    assert "1 to go on with, 1 to start" in capsys.readouterr().out


def test_several_run_at_a_time(fake, tmp_path, capsys):
    assert fake("a", "b", "c", more=("--jobs", "3")) == 0

    events = [line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert events == ["started;"] * 3 + ["finished"] * 3


def test_other_settings_under_the_same_name_are_refused_with_what_differs(fake, refuses, capsys):
    assert fake("a", base=("optim.lr=0.1",)) == 0
    capsys.readouterr()

    assert fake("a", base=("optim.lr=0.2", "optim.beta1=0")) == 2

    line = capsys.readouterr().err
    assert "optim.beta1 was not set and is now 0" in line
    assert "optim.lr was 0.1 and is now 0.2" in line
    assert "another --name" in line


def test_experiment_that_was_edited_is_refused(fake, capsys, tmp_path):
    experiment = tmp_path / "mine.yaml"
    experiment.write_text("optim: {lr: 0.1}\n")
    assert fake("a", base=(str(experiment),)) == 0
    experiment.write_text("optim: {lr: 0.3}\n")

    assert fake("a", "b", base=(str(experiment),)) == 2

    assert "optim.lr was 0.1 and is now 0.3" in capsys.readouterr().err


def test_run_of_somebody_else_in_the_folder_is_left_alone(fake, capsys):
    place = Path("runs/s/projecta")
    (place / "checkpoints").mkdir(parents=True)
    (place / "config.yaml").touch()
    (place / "checkpoints" / "images-000000000016.ckpt").touch()

    assert fake("a") == 2

    assert "is a run that is not of this sweep" in capsys.readouterr().err
    Path("runs/s/config.yaml").touch()
    assert fake("a") == 2
    assert "runs/s is a run" in capsys.readouterr().err


def test_order_of_the_axes_does_not_matter(fake, monkeypatch, capsys):
    swept = ["run.images=16", "eval.metrics=[]", "--name", "s", "--grid"]
    assert main(["sweep", *swept, "arch=gan,dcgan", "seed=0,1"]) == 0
    capsys.readouterr()

    assert main(["sweep", *swept, "seed=1,0", "arch=dcgan,gan"]) == 0

    assert "4 cells, 4 finished" in capsys.readouterr().out


def test_record_that_is_none_is_refused(fake, capsys):
    Path("runs/s").mkdir(parents=True)
    for text in ("", "[]", '{"cells": [{"what": 1}], "base": {}}'):
        Path("runs/s/sweep.json").write_text(text)
        assert fake("a") == 2
        assert "runs/s/sweep.json: not the record of a sweep" in capsys.readouterr().err


def test_sweep_is_not_run_by_two_processes_at_once(fake, capsys):
    assert fake("a") == 0
    capsys.readouterr()
    with FileLock("runs/s/.lock"):
        assert fake("a", "b") == 2

    assert "is being swept by another process" in capsys.readouterr().err


def test_run_that_outlived_its_sweep_is_waited_for(fake, capsys):
    assert fake("a", "fails") == 1
    capsys.readouterr()
    with FileLock("runs/s/projectfails/.lock"):
        assert fake("a", "fails") == 2

    assert "runs/s/projectfails is being trained by another process" in capsys.readouterr().err


def test_every_gpu_has_one_run_and_several_devices_make_a_group(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def visible(gpus: str | None, jobs: int | None, *arguments: str) -> list[str | None]:
        slots = slots_for(gpus, jobs, [compose(arguments)])
        return [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots]

    assert visible(None, None) == ["4", "5", "6"]
    assert visible("0,2", None) == ["0", "2"]
    assert visible("0,2", 4) == ["0", "2", "0", "2"]
    assert visible("0,1,2,3", None, "trainer.devices=2") == ["0,1", "2,3"]
    assert visible(None, None, "trainer.devices=auto") == ["4,5,6"]
    assert visible(None, 2, "trainer.accelerator=cpu") == [None, None]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible(None, None) == [None]
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert slots_for(None, 2, [compose([])]) == [{"OMP_NUM_THREADS": "4"}] * 2


def test_gpus_are_asked_of_the_driver(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name))
    driver = tmp_path / "nvidia-smi"
    driver.write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho '  MIG 1g Device 0'\necho 'GPU 1: A (UUID: GPU-2)'\n"
    )
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    assert visible_gpus() == ["0", "1"]


def test_wandb_file_gives_its_agents_the_cells_of_the_sweep(tmp_path, monkeypatch, capsys):
    from wandb.sdk.launch.sweeps import utils

    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("run: {images: 4000}\n")
    grid = [
        "arch=gan",
        "model.widths=[16],[32,64]",
        "optim.lr=0.001,1e-4",
        "seed=0,1",
        "eval.at_start=false,true",
    ]

    assert (
        main(["sweep", "mine.yaml", "logger.wandb.entity=us", "--name", "s", "--grid", *grid, "--wandb"]) == 0
    )

    out = capsys.readouterr().out.splitlines()
    assert out[0] == "wandb sweep runs/s/wandb.yaml"
    assert out[1].startswith("wandb agent us/lit-gan/ID")
    assert [path.name for path in Path("runs/s").iterdir()] == ["wandb.yaml"], "nothing has run"
    config = utils.load_sweep_config("runs/s/wandb.yaml")
    assert config is not None
    assert (config["method"], config["project"], config["metric"]["name"]) == ("grid", "lit-gan", "best/fid")
    parameters = {key: each["values"] for key, each in config["parameters"].items()}
    assert (parameters["seed"], parameters["optim.lr"]) == ([0, 1], [0.001, 0.0001]), "W&B can sort numbers"
    sweep = plan(["mine.yaml", "logger.wandb.entity=us"], grid, "s")
    for i, (cell, wanted) in enumerate(sweep.cells.items()):
        chosen = dict(
            zip(
                parameters,
                [values[(i // n) % len(values)] for values, n in _strides(parameters)],
                strict=True,
            )
        )
        line = agent_line(config["command"], chosen)
        assert line[:3] == ["/usr/bin/env", "lit-gan", "train"]
        made = compose(line[3:])
        assert {**made.values, "run": None} == {**wanted.values, "run": None}, cell.name
        assert made.get("run.dir") == "runs/s"


def _strides(parameters: dict[str, list[object]]) -> list[tuple[list[object], int]]:
    """Every axis's values, and how many cells have the same one in a row."""
    found, stride = [], 1
    for values in reversed(list(parameters.values())):
        found.append((values, stride))
        stride *= len(values)
    return found[::-1]


def agent_line(command: list[str], chosen: dict[str, object]) -> list[str]:
    """What a W&B agent runs, by its own macros."""
    from wandb.sdk.launch.sweeps import utils

    macros = utils.create_sweep_command_args(
        {"args": {key: {"value": value} for key, value in chosen.items()}}
    )
    macros["env"] = ["/usr/bin/env"]
    return [word for part in utils.create_sweep_command(list(command))
            for word in (macros[part[2:-1]] if part.startswith("${") else [part])]  # fmt: skip


def test_wandb_file_of_runs_that_would_not_log_there_is_refused(refuses, tmp_path):
    line = refuses(f"run.dir={tmp_path}", "logger=csv", "--grid", "seed=0,1", "--wandb")

    assert "cell seed0 has logger=[csv]" in line
    assert not list(tmp_path.iterdir())


def first_kill(folder: Path, cell: str) -> None:
    """SIGKILL to the run of `cell` after its first checkpoint, as a machine that runs out of memory does."""
    deadline = time.monotonic() + 90
    while not list(folder.glob(f"{cell}/checkpoints/images-*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    cells = json.loads((folder / "sweep.json").read_text())["cells"]
    os.kill(next(entry["pid"] for entry in cells if entry["name"] == cell), signal.SIGKILL)


def test_killed_run_is_resumed_and_ends_equal_to_one_that_was_never_broken(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in this process: more threads add in another order
    settings = ["run.images=2000", "checkpoint.every_images=200", "eval.metrics=[fid]", "metrics.extractor=pixels",
                "eval.images=40"]  # fmt: skip
    line = [
        "sweep",
        *TINY_DCGAN,
        *settings,
        f"run.dir={tmp_path}",
        "--name",
        "s",
        "--jobs",
        "2",
        "--grid",
        "seed=1,2",
    ]
    killer = threading.Thread(target=first_kill, args=(tmp_path / "s", "seed1"))
    killer.start()

    assert main(line) == 1
    killer.join()
    first = capsys.readouterr().out
    assert main(line) == 0
    second = capsys.readouterr().out
    start = time.monotonic()
    assert main(line) == 0
    third = capsys.readouterr().out

    assert "[1/2] seed1 failed" in first
    assert "killed by SIGKILL" in first
    assert "[2/2] seed2 finished" in first
    assert "2 cells, 1 finished, 1 to go on with" in second
    assert "best FID" in second
    assert "seed2 started" not in second
    assert "2 cells, 2 finished" in third
    assert "started" not in third
    assert time.monotonic() - start < 10
    (row,) = [row for row in third.splitlines() if row.startswith("| dcgan")]
    assert row.split("|")[2].strip() == "2", "the seeds share a row"
    assert (tmp_path / "s" / "compare.html").stat().st_size > 1000
    straight = tiny_run("dcgan", tmp_path / "straight", *settings, "seed=1")
    swept = tmp_path / "s" / "seed1"
    assert largest_difference(*({key: state(run)[key] for key in TRAINED} for run in (straight, swept))) == 0


def test_what_cannot_be_built_is_said_before_anything_starts(refuses, tmp_path):
    line = refuses(
        *TINY_DCGAN,
        "eval.metrics=[fid]",
        f"run.dir={tmp_path}",
        "--grid",
        "metrics.extractor=pixels,pixel",
        "seed=0,1",
    )

    assert (
        "cell extractorpixel-seed0: metrics.extractor=pixel: no such extractor; did you mean pixels?" in line
    )
    assert not list(tmp_path.iterdir())
