"""`lit-gan sweep`: every combination of some values, a run each, in one folder that knows how far it has come.

    runs/<sweep>/  sweep.json · <cell>/ (a run) · <cell>.log

Each cell is a `lit-gan train` process of its own: it starts from a clean machine, a GPU is its own, and what kills it
leaves the others alone. What is finished is asked of the run's folder, not of memory, so that the same command again does
what is left. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lit_gan.best import best_evaluation
from lit_gan.config import SHORT, Config, compose, explicit, parse
from lit_gan.errors import UserError
from lit_gan.grid import RESERVED, Axis, Cell, axes_name, cells_of, parse_axes
from lit_gan.jobs import Ended, Job, run_jobs
from lit_gan.ledger import Ledger
from lit_gan.run import RunFolder, check_free
from lit_gan.slots import slots_for

# exit codes of a run that was told to stop, with a checkpoint or before there was one
STOPPED = (143, 130, -15, -2)


@dataclass(frozen=True)
class Sweep:
    """What is to be run: every cell with its whole configuration, checked."""

    folder: Path
    base: tuple[str, ...]  # what all cells share, as `key=value`
    axes: tuple[Axis, ...]
    cells: dict[Cell, Config]

    def run(self, cell: Cell) -> RunFolder:
        return RunFolder(self.folder / cell.name)

    def settings(self) -> dict[str, Any]:
        """What the base sets itself, the experiment's values included: what must stay the same in this folder."""
        values = explicit(self.base)
        return {k: v for k, v in values.items() if k not in ("run.dir", "experiment")}


def plan(what: Sequence[str], grid: Sequence[str], name: str | None = None) -> Sweep:
    """The sweep over `grid` of `what`: an experiment by name or YAML, and `key=value`.

    Composes the configuration of every cell; raises `UserError` with one line for the first that is wrong.
    """
    base, axes = base_arguments(what), parse_axes(grid)
    given = parse(base).values
    for axis in axes:
        if SHORT.get(axis.key, axis.key) in given:
            raise UserError(f"{axis.key} is given before --grid and in it: leave one of them out")
    cells = {cell: _composed(base, cell) for cell in cells_of(axes)}
    first = next(iter(cells.values()))
    if name is None:
        leads = {Path(str(config["experiment"] or config.get("data.name"))).stem for config in cells.values()}
        lead = f"{leads.pop()}-" if len(leads) == 1 else ""
        name = f"{lead}by-{axes_name(axes)}"
    if Path(name).name != name:
        raise UserError(f"--name {name}: a name, not a path; run.dir=FOLDER says where sweeps lie")
    return Sweep(Path(first.get("run.dir")) / name, base, tuple(axes), cells)


def _composed(base: Sequence[str], cell: Cell) -> Config:
    try:
        return compose([*base, *cell.overrides])
    except UserError as error:
        raise UserError(f"cell {cell.name}: {error}") from None


def base_arguments(what: Sequence[str]) -> tuple[str, ...]:
    """`what` as `key=value`: a word without `=` is an experiment. Raises `UserError` for two of them."""
    arguments = [word if "=" in word else f"experiment={word}" for word in what]
    keys = [argument.partition("=")[0] for argument in arguments]
    if keys.count("experiment") > 1:
        raise UserError(
            "two experiments are given: one before --grid, or several as an axis: --grid experiment=a,b"
        )
    for key in keys:
        if key in RESERVED and key != "run.dir":
            raise UserError(f"{key} is set by the sweep itself: leave it out; --name names the sweep")
    return tuple(arguments)


def run_sweep(sweep: Sweep, *, gpus: str | None = None, jobs: int | None = None) -> int:
    """Run what is left of `sweep`; returns the exit code.

    0: every cell has seen its images; 1: some have failed, and are named; 143 or 130: stopped by SIGTERM or SIGINT, after
    the checkpoints of the runs under way.
    """
    slots = slots_for(gpus, jobs, list(sweep.cells.values()))
    if (sweep.folder / "config.yaml").exists():
        raise UserError(f"{sweep.folder} is a run: give the sweep another --name")
    check_free(sweep.folder, None)
    ledger = Ledger.read(sweep.folder)
    ledger.check_base(sweep.settings())
    known = set(ledger.entries)
    cells = ledger.adopt(sweep.cells)
    left = {}  # cells to run, and whether there is a checkpoint to go on from
    for cell, config in cells.items():
        run, entry = sweep.run(cell), ledger.entries[cell.name]
        if cell.name not in known and started(run):
            raise UserError(f"{run.path} is a run that is not of this sweep: give the sweep another --name")
        if has_finished(run, config) or (entry.status == "finished" and run.config.exists()):
            entry.status, entry.error = "finished", None
        else:
            if is_training(run):
                pid = "" if entry.pid is None else f" ({entry.pid})"
                raise UserError(
                    f"{run.path} is being trained by another process{pid}, perhaps of a sweep that was killed: wait "
                    "for it, or end it by SIGTERM, after which it has a checkpoint"
                )
            left[cell] = started(run)
            entry.status = "interrupted" if entry.status == "running" else entry.status
    print(_heading(sweep, cells, left, len(slots)), flush=True)
    if fresh := [cell for cell in left if not left[cell]]:
        check_buildable(sweep, fresh, slots[0])
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with _locked(sweep.folder):
        stopped_by = _run(sweep, ledger, list(cells), list(left), slots)
    failed = [entry for cell in cells if (entry := ledger.entries[cell.name]).status != "finished"]
    print()
    for line in table(sweep.folder):
        print(line)
    if stopped_by:
        print(f"{len(failed)} of {len(cells)} cells are left; the same command again goes on with them")
        return 128 + stopped_by
    for entry in failed:
        print(f"{entry.status}: {entry.name}: {entry.error}; log: {sweep.folder / entry.name}.log")
    return 1 if failed else 0


def _run(
    sweep: Sweep, ledger: Ledger, cells: list[Cell], left: list[Cell], slots: list[dict[str, str]]
) -> int:
    """Run the cells that are left, and write down and say what happens; returns the signal that stopped it, or 0."""
    numbers = {cell.name: f"[{i}/{len(cells)}] {cell.name}" for i, cell in enumerate(cells, 1)}

    def on_start(job: Job, pid: int) -> None:
        entry = ledger.entries[job.name]
        entry.status, entry.pid, entry.error = "running", pid, None
        ledger.write()
        print(f"{numbers[job.name]} started; log: {job.log}", flush=True)

    def on_end(job: Job, ended: Ended) -> None:
        entry = ledger.entries[job.name]
        entry.minutes = round(entry.minutes + ended.seconds / 60, 2)
        entry.pid = None
        entry.status = "finished" if ended.code == 0 else "interrupted" if ended.code in STOPPED else "failed"
        said = {"finished": None, "interrupted": "told to stop"}
        entry.error = said.get(entry.status, ended.said or f"exit code {ended.code}")
        ledger.write()
        after = f"after {ended.seconds / 60:.1f} min"
        what = _best(sweep.folder / job.name) if ended.code == 0 else f": {entry.error}"
        print(f"{numbers[job.name]} {entry.status} {after}{what}", flush=True)

    ledger.write()
    jobs = [Job(cell.name, command(sweep, cell), sweep.folder / f"{cell.name}.log") for cell in left]
    return run_jobs(jobs, slots, on_start=on_start, on_end=on_end)


def command(sweep: Sweep, cell: Cell) -> list[str]:
    """What trains a cell: on from its last checkpoint where there is one, else from the start."""
    run, train = sweep.run(cell), [sys.executable, "-m", "lit_gan", "train"]
    if started(run):
        return [*train, f"resume={run.path}"]
    # resume=auto: the folder may be there, of a run that was ended before its first checkpoint
    place = [f"run.dir={sweep.folder}", f"run.name={cell.name}", "resume=auto"]
    return [*train, *sweep.base, *cell.overrides, *place]


def started(run: RunFolder) -> bool:
    """Whether a run has come as far as a checkpoint."""
    return run.config.exists() and any(run.checkpoints.glob("*.ckpt"))


def is_training(run: RunFolder) -> bool:
    """Whether a process holds the lock of a run."""
    path = run.path / ".lock"
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        with lock:
            return False
    except Timeout:
        return True


def has_finished(run: RunFolder, config: Config) -> bool:
    """Whether a run has seen all its images and made its last evaluation."""
    seen = max((int(p.stem.partition("-")[2]) for p in run.checkpoints.glob("images-*.ckpt")), default=-1)
    return seen >= config.get("run.images") and (not config.get("eval.metrics") or run.was_evaluated(seen))


def check_buildable(sweep: Sweep, cells: Sequence[Cell], slot: Mapping[str, str]) -> None:
    """Let a process build data, networks and extractor of each cell; raises its `UserError`, one line, for the first.

    Much is known only then: a loss that does not exist, data without labels, weights that are not there.
    """
    wanted = [[cell.name, *sweep.base, *cell.overrides] for cell in cells]
    done = subprocess.run(
        [sys.executable, "-m", "lit_gan.preflight"],
        input=json.dumps(wanted),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **slot},
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise UserError(
            lines[-1] if lines else f"the cells could not be checked (exit code {done.returncode})"
        )


def table(folder: Path) -> Iterator[str]:
    """The scores of a sweep's runs, as `lit-gan compare` shows them; the page beside them has charts and samples."""
    from lit_gan.compare.report import report

    if any(folder.glob("*/config.yaml")):
        for out in (None, str(folder / "compare.html")):
            for text, _ in report([str(folder)], format=None, out=out, charts=None, metrics=(), each=False):
                yield from text.splitlines()


def _heading(sweep: Sweep, cells: dict[Cell, Config], left: dict[Cell, bool], width: int) -> str:
    counts = {
        "finished": len(cells) - len(left),
        "to go on with": sum(left.values()),
        "to start": len(left) - sum(left.values()),
    }
    what = ", ".join(f"{count} {text}" for text, count in counts.items() if count)
    return f"sweep {sweep.folder}: {len(cells)} cells, {what}; {width} at a time"


def _best(path: Path) -> str:
    best = best_evaluation(RunFolder(path).read_results()["evaluations"])
    return "" if best is None else f": best {best[1].upper()} {best[2]:.4g} at {best[0] / 1000:g} kimg"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second process from running the same sweep meanwhile."""
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder} is being swept by another process: wait for it, or give another --name"
        ) from None
    try:
        yield
    finally:
        lock.release()
