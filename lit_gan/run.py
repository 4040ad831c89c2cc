"""A run's folder: config.yaml, metrics.csv, results.json, checkpoints/, samples/. Without importing torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_gan.errors import UserError

BY_TRAINING = ("training", "final")  # sources of evaluations that a run makes itself


@dataclass(frozen=True)
class RunFolder:
    """The places of one run; `results.json` holds every evaluation with its protocol."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def averages(self) -> Path:
        return self.path / "averages"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def picture(self, images_seen: int, what: str = "") -> Path:
        """Where the grid of samples lies that was drawn at `images_seen`, or the picture of `what`."""
        return self.samples / f"{what and what + '-'}kimg{images_seen / 1000:010.3f}.png"

    def read_results(self) -> dict[str, Any]:
        """What `results.json` holds; an empty record where there is none."""
        try:
            loaded = json.loads(self.results.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"evaluations": []}
        except ValueError:
            raise UserError(
                f"{self.results}: not a JSON file; move it away to go on without its scores"
            ) from None
        if not isinstance(loaded, dict) or not isinstance(loaded.get("evaluations"), list):
            raise UserError(
                f"{self.results}: holds no list of evaluations; move it away to go on without its scores"
            )
        return loaded

    def record(self, evaluation: dict[str, Any], **about: Any) -> dict[str, Any]:
        """Add an evaluation to `results.json`, in place of one of the same checkpoint and protocol; returns all.

        Training makes one evaluation a checkpoint, so there a newer one takes the older one's place in any case.
        """
        results = {**self.read_results(), **about}
        kept = [e for e in results["evaluations"] if _identity(e) != _identity(evaluation)]
        results["evaluations"] = sorted([*kept, evaluation], key=lambda e: (e["images_seen"], e["source"]))
        write_text(self.results, json.dumps(results, indent=1) + "\n")
        return results

    def note(self, **about: Any) -> None:
        """Write facts about the run into `results.json`, beside its evaluations."""
        write_text(self.results, json.dumps({**self.read_results(), **about}, indent=1) + "\n")

    def was_evaluated(self, images_seen: int) -> bool:
        """Whether training has scored the checkpoint at `images_seen`; its last word on the budget's is "training" too."""
        return any(
            e["images_seen"] == images_seen and e["source"] == "training"
            for e in self.read_results()["evaluations"]
        )

    def forget_after(self, images_seen: int) -> None:
        """Drop evaluations of training made after `images_seen`: the resumed run makes them again."""
        if not self.results.exists():
            return
        results = self.read_results()
        results["evaluations"] = [
            e
            for e in results["evaluations"]
            if e["images_seen"] <= images_seen or e["source"] not in BY_TRAINING
        ]
        write_text(self.results, json.dumps(results, indent=1) + "\n")


def _identity(evaluation: dict[str, Any]) -> tuple[object, ...]:
    protocols = {name: score["protocol"] for name, score in evaluation["scores"].items()}
    source = evaluation["source"]
    return evaluation["images_seen"], source, None if source in BY_TRAINING else protocols


def write_text(path: Path, text: str) -> None:
    """Replace a file at once, or not at all."""
    replace(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, bring it to the disk, and put it in place of `path` in one move."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_free(parent: Path, name: str | None, *, reuse: bool = False) -> None:
    """Raise a `UserError` if a run of this name exists; with `reuse`, only if it has come as far as a checkpoint."""
    for folder in (parent, *parent.parents):
        if folder.exists():
            if not folder.is_dir():
                raise UserError(f"run.dir={parent}: {folder} is a file; give a folder")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise UserError(f"run.dir={parent}: no permission to write in {folder}; give another folder")
            break
    if name is None or not (parent / name).exists():
        return
    if not reuse or any((parent / name / "checkpoints").glob("*.ckpt")):
        path = parent / name
        raise UserError(
            f"run folder {path} exists: go on with it by resume={path}, or choose another run.name"
        )


def new_run(parent: Path, name: str | None, prefix: str, *, reuse: bool = False) -> RunFolder:
    """Create the folder of a new run: `name`, which must be free, or `prefix` and the first free number."""
    if name is not None:
        check_free(parent, name, reuse=reuse)
        path = parent / name
        path.mkdir(parents=True, exist_ok=True)
        return RunFolder(path)
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / f"{prefix}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return RunFolder(path)


def newest_run(parent: Path) -> RunFolder | None:
    """The run whose last checkpoint is the newest; None where no run has one."""
    files = [f for f in parent.glob("*/checkpoints/*.ckpt") if (f.parent.parent / "config.yaml").exists()]
    return RunFolder(max(files, key=lambda f: f.stat().st_mtime_ns).parent.parent) if files else None


def runs_in(path: Path) -> list[RunFolder]:
    """The run at `path`, or the runs in it and in its folders that are no runs, such as sweeps: no deeper than that."""
    if RunFolder(path).config.is_file():
        return [RunFolder(path)]
    found = []
    for folder in sorted(path.glob("[!.]*/"), key=natural):
        inside = (
            [folder] if RunFolder(folder).config.is_file() else sorted(folder.glob("[!.]*/"), key=natural)
        )
        found += [RunFolder(each) for each in inside if RunFolder(each).config.is_file()]
    return found


def natural(text: object) -> list[tuple[bool, int, str]]:
    """A key that sorts run-9 before run-10."""
    return [
        (part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in re.split(r"([0-9]+)", str(text))
    ]
