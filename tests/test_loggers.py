"""Where numbers go: CSV, Weights & Biases and TensorBoard, with one x axis, and none of them can stop a run."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import Logger
from PIL import Image

from lit_gan.config import Config, compose
from lit_gan.loggers import (
    MetricsCSV,
    build_loggers,
    build_wandb,
    finish,
    log_everywhere,
    offline_reason,
    show_everywhere,
)
from lit_gan.resume import compose_run
from lit_gan.run import RunFolder
from lit_gan.train import train
from tiny import arguments, tiny_run
from wandb_records import records

NAMES = {"d/adversarial", "g/adversarial", "val/fid", "speed/images_per_second"}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


@pytest.fixture
def nobody(tmp_path, monkeypatch) -> None:
    """A person without an account, on a machine that has not been told anything."""
    for variable in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_csv_grows_by_appending(run):
    logger = MetricsCSV(run.metrics)
    log_everywhere([logger], {"d/adversarial": 1.0}, 1000)
    before, inode = run.metrics.read_bytes(), run.metrics.stat().st_ino

    log_everywhere([logger], {"d/adversarial": 0.5}, 2000)

    assert run.metrics.read_bytes() == before + b"2.0,0.5\n"
    assert run.metrics.stat().st_ino == inode


def test_csv_takes_a_new_name_as_a_new_column(run):
    logger = MetricsCSV(run.metrics)
    log_everywhere([logger], {"d/adversarial": 1.0}, 1000)
    log_everywhere([logger], {"val/fid": 9.0}, 1000)

    assert rows(run.metrics) == [
        {"kimg": "1.0", "d/adversarial": "1.0", "val/fid": ""},
        {"kimg": "1.0", "d/adversarial": "", "val/fid": "9.0"},
    ]


def test_resumed_csv_goes_on_below_the_rows_it_resumes_from(run):
    first = MetricsCSV(run.metrics)
    seen = [n for n in range(4, 40_000, 4) if n / 1000 * 1000 > n][:20]  # what comes back is not what went in
    for images in seen:
        log_everywhere([first], {"a": 1.0}, images)

    for images in reversed(seen):
        MetricsCSV(run.metrics, resumed_at=images)
        assert rows(run.metrics)[-1]["kimg"] == str(images / 1000)


@pytest.mark.parametrize("torn", ["0.1", "0.128,3", "0.12\0\0\0", "0.128,1.0", "\ufffd"])
def test_line_torn_by_a_crash_is_dropped_and_the_log_goes_on(torn, run):
    logger = MetricsCSV(run.metrics)
    log_everywhere([logger], {"a": 1.0}, 64)
    with run.metrics.open("a") as handle:
        handle.write(torn)

    resumed = MetricsCSV(run.metrics, resumed_at=128)
    log_everywhere([resumed], {"a": 2.0}, 192)
    log_everywhere([resumed], {"b": 3.0}, 256)

    assert [row["kimg"] for row in rows(run.metrics)] == ["0.064", "0.192", "0.256"]


def test_empty_or_foreign_csv_stops_nothing(run):
    for text in ("", "kimg\n", "x,y\n1,2\n", "\0\0"):
        run.metrics.write_text(text)
        log_everywhere([MetricsCSV(run.metrics, resumed_at=64)], {"a": 1.0}, 128)
        assert rows(run.metrics)[-1]["a"] == "1.0"


def history(folder: Path) -> list[dict[str, Any]]:
    """What was logged, by name."""
    found: list[dict[str, Any]] = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            found.append({})
            for item in record.history.item:
                name, *inside = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                found[-1][name] = {**found[-1].get(name, {}), inside[0]: value} if inside else value
    return found


def small(*more: str) -> Config:
    return compose(["arch=gan", "logger=wandb", "seed=3", "model.widths=[8]", *more])


@pytest.mark.usefixtures("nobody")
def test_without_a_key_wandb_goes_offline_with_one_line_that_says_how_to_sync(run, capsys):
    logger = build_wandb(small(), run)
    finish([logger], small(), run)

    out, err = capsys.readouterr()
    assert out.splitlines() == [line for line in out.splitlines() if line]
    assert len(out.splitlines()) == 1
    assert out.startswith("W&B is offline (no API key")
    synced = Path(out.split("`wandb sync ")[1].split("`")[0])
    assert list(synced.glob("*.wandb"))
    assert err == ""


@pytest.mark.usefixtures("nobody")
def test_wandb_holds_configuration_tags_names_and_the_x_axis(run):
    config, picture = small(), Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    loggers = [build_wandb(config, run)]
    for images in (1000, 2500):
        log_everywhere(loggers, dict.fromkeys(NAMES, 0.5), images)
    show_everywhere(loggers, "samples", picture, 2500)
    finish(loggers, config, run)

    found = list(records(run.path / "wandb"))
    started = next(r.run for r in found if r.WhichOneof("record_type") == "run")
    stored = {item.key: json.loads(item.value_json) for item in started.config.update}
    metrics = [r.metric for r in found if r.WhichOneof("record_type") == "metric"]
    logged = history(run.path / "wandb")

    assert set(started.tags) == {"gan", "digits", "seed3"}
    assert (started.project, started.display_name) == ("lit-gan", "run")
    assert stored["model"]["widths"] == [8]
    assert stored["data"]["source"] == "digits"
    assert [m.step_metric for m in metrics if m.glob_name == "*"] == ["kimg"]
    assert [entry["kimg"] for entry in logged] == [1.0, 2.5, 2.5]
    assert set(logged[0]) >= NAMES
    file = next((run.path / "wandb").glob(f"offline-run-*/files/{logged[2]['samples']['path']}"))
    assert np.array_equal(np.asarray(Image.open(file)), np.asarray(picture))


@pytest.mark.usefixtures("nobody")
def test_next_run_of_a_process_is_not_logged_into_the_one_before(tmp_path):
    for name in ("a", "b"):
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        loggers = [build_wandb(small(), run)]
        log_everywhere(loggers, {name: 1.0}, 1000)
        finish(loggers, small(), run)

    assert [set(e) & {"a", "b"} for e in history(tmp_path / "a" / "wandb")] == [{"a"}]
    assert [set(e) & {"a", "b"} for e in history(tmp_path / "b" / "wandb")] == [{"b"}]


@pytest.mark.usefixtures("nobody")
def test_resumed_run_keeps_its_identity(run):
    identities = []
    for _ in range(2):
        logger = build_wandb(small(), run)
        identities.append(logger.experiment.id)
        finish([logger], small(), run)

    assert identities[0] == identities[1] == (run.path / "wandb" / "run-id").read_text()


@pytest.mark.usefixtures("nobody")
def test_offline_for_a_reason(monkeypatch):
    assert "no API key" in (offline_reason() or "")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert offline_reason() == "127.0.0.1 cannot be reached"
    monkeypatch.setenv("http_proxy", "http://proxy:80")
    assert offline_reason() is None, "behind a proxy it may well be reached"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert offline_reason() == "WANDB_MODE"


@pytest.mark.usefixtures("nobody")
def test_key_of_wandb_login_is_found(tmp_path, monkeypatch):
    (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login user password " + "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")

    assert offline_reason() == "127.0.0.1 cannot be reached"


@pytest.mark.usefixtures("nobody")
def test_wandb_that_cannot_start_is_one_line_and_no_more(run, monkeypatch, capsys):
    import wandb

    def broken(**_: object) -> None:
        raise RuntimeError("no core\nand more")

    monkeypatch.setattr(wandb, "init", broken)

    assert build_loggers(small(), run) == []
    assert capsys.readouterr().err.splitlines() == ["W&B is off: no core"]


@pytest.mark.usefixtures("nobody")
def test_disabled_wandb_is_left_alone(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")

    assert build_wandb(small(), run) is None
    assert not (run.path / "wandb").exists()


def test_every_logger_of_a_run_has_the_same_names_over_kimg(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tiny_run(
        "dcgan", tmp_path, "logger=[csv,wandb,tensorboard]", "data.batch_size=500", "run.images=3000",
        "logger.every=2", "checkpoint.every_images=9000", "eval.metrics=[fid]", "metrics.extractor=pixels",
        "eval.images=20", "eval.at_start=true",
    )  # fmt: skip

    in_csv = rows(run / "metrics.csv")
    in_wandb = history(run / "wandb")
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    scalars = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
    assert set(in_csv[0]) >= NAMES
    assert set(scalars) == set(in_csv[0]) - {"kimg"}
    assert {name for e in in_wandb for name in e if name[0] != "_"} == {
        *in_csv[0],
        "samples",
        "samples_table",
    }
    losses = [(float(row["kimg"]), float(row["d/adversarial"])) for row in in_csv if row["d/adversarial"]]
    assert [kimg for kimg, _ in losses] == [1.0, 2.0, 3.0]
    assert [(e["kimg"], e["d/adversarial"]) for e in in_wandb if "d/adversarial" in e] == losses
    assert [event.step for event in scalars["d/adversarial"]] == [1, 2, 3]
    assert [event.step for event in scalars["val/fid"]] == [0, 3]
    assert len(events.Images("samples")) == 2
    shown = next(
        run.glob(
            f"wandb/offline-run-*/files/{[e for e in in_wandb if 'samples' in e][-1]['samples']['path']}"
        )
    )
    drawn = sorted((run / "samples").glob("*.png"))[-1]
    assert np.array_equal(np.asarray(Image.open(shown)), np.asarray(Image.open(drawn)))


def test_samples_of_the_end_are_a_table_in_wandb(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    run = tiny_run(
        "r3gan", tmp_path, "logger=[csv,wandb]", "model.conditional=true", "run.images=16", "samples.rows=3",
        "samples.columns=2", "samples.seed=5", "samples.every_images=8",
    )  # fmt: skip

    (logged,) = (entry for entry in history(run / "wandb") if "samples_table" in entry)
    (made,) = (r.artifact for r in records(run / "wandb") if r.WhichOneof("record_type") == "artifact")
    files = {entry.path: Path(entry.local_path) for entry in made.manifest.contents}
    table = json.loads(files["samples_table.table.json"].read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    sheet = np.asarray(Image.open(run / "samples" / "kimg000000.016.png"))
    tiles = [sheet[2 + y : 18 + y, 2 + x : 18 + x] for y in (0, 18, 36) for x in (0, 18)]
    assert table["columns"] == ["number", "seed", "label", "kimg", "image"]
    assert logged["kimg"] == 0.016
    assert [(r["number"], r["seed"], r["label"], r["kimg"]) for r in rows] == [
        (i, 5, str(i // 2), 0.016) for i in range(6)
    ]
    for row, tile in zip(rows, tiles, strict=True):
        assert np.array_equal(np.asarray(Image.open(files[row["image"]["path"]])), tile)
    assert all(file.is_relative_to(run) for file in files.values()), "what is to be uploaded lies in the run"
    assert "WANDB_DATA_DIR" not in os.environ


def test_points_of_the_plane_are_no_table(tmp_path):
    settings = [a for a in arguments("gan", "data=toy", "data.count=100") if "image_size" not in a]

    assert train(compose_run([*settings, "logger=wandb", "run.images=16", f"run.dir={tmp_path}"])) == 0

    (run,) = tmp_path.iterdir()
    assert {name for entry in history(run / "wandb") for name in entry} >= {"samples", "kimg"}
    assert not [entry for entry in history(run / "wandb") if "samples_table" in entry]


def summary(folder: Path) -> dict[str, Any]:
    """What was put into the summary of an offline run, the last value of each name."""
    found: dict[str, Any] = {}
    for record in records(folder):
        if record.WhichOneof("record_type") == "summary":
            found.update(
                {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update}
            )
    return found


@pytest.mark.parametrize(("metric", "better"), [("fid", -1), ("is", 1)])
def test_best_score_and_when_it_came_are_in_the_summary_of_wandb(metric: str, better: int, cache, tmp_path):
    run = tiny_run(
        "dcgan", tmp_path, "logger=wandb", "run.images=48", "eval.every_images=16", f"eval.metrics=[{metric}]",
        "metrics.extractor=classifier", "eval.images=20", "optim.lr=0.05", "checkpoint.keep=9",
    )  # fmt: skip

    made = json.loads((run / "results.json").read_text())["evaluations"]
    found = [(better * e["scores"][metric]["value"], e["images_seen"]) for e in made if e["images_seen"]]
    best, images = max(found)
    stored = summary(run / "wandb")
    assert (stored[f"best/{metric}"], stored["best/kimg"]) == (better * best, images / 1000)
    chosen = run / "checkpoints" / "best.ckpt"
    assert chosen.samefile(next(chosen.parent.glob(f"images-*{images}.ckpt")))
    rules = {
        r.metric.name: r.metric for r in records(run / "wandb") if r.WhichOneof("record_type") == "metric"
    }
    assert rules["val/fid"].summary.min
    assert rules["val/dc/coverage"].summary.max


class Broken(MetricsCSV):
    def log_metrics(self, *args: object, **kwargs: object) -> None:
        raise OSError("disk full")


def test_logger_that_raises_says_so_once_and_stops_nothing(run, capsys):
    logger, good = Broken(run.path / "broken.csv"), MetricsCSV(run.metrics)

    for images in (1000, 2000):
        log_everywhere([logger, good], {"a": 1.0}, images)

    assert capsys.readouterr().err == "Broken failed, training goes on: disk full\n"
    assert len(rows(run.metrics)) == 2


def test_run_ends_well_though_its_loggers_fail(tmp_path, monkeypatch, capsys):
    def made(config: Config, run: RunFolder, **keywords: int) -> list[Logger]:
        loggers = build_loggers(config, run, **keywords)
        monkeypatch.setattr(loggers[1].experiment, "log", fail)
        monkeypatch.setattr(loggers[1].experiment, "finish", fail)
        monkeypatch.setattr(loggers[2].experiment, "add_scalar", fail)
        monkeypatch.setattr(loggers[2].experiment, "flush", fail)
        return [Broken(run.path / "broken.csv"), *loggers[1:]]

    def fail(*args: object, **keywords: object) -> None:
        raise OSError("nothing goes")

    monkeypatch.setattr("lit_gan.train.build_loggers", made)
    run = tiny_run("gan", tmp_path, "run.images=24", "logger=[csv,wandb,tensorboard]")
    monkeypatch.undo()
    import wandb

    wandb.finish()

    assert (run / "checkpoints" / "last.ckpt").exists()
    said = capsys.readouterr().err
    assert said.count("training goes on") == 3
