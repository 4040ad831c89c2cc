"""`lit-gan compare`: the scores of runs side by side, read from their results.json alone, without importing torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lit_gan.errors import UserError
from lit_gan.run import RunFolder

HIGHER_IS_BETTER = ("is", "modes")
COLUMNS = ("run", "arch", "seed", "kimg", "best", "last", "floor", "hours")


@dataclass(frozen=True)
class Row:
    """One run under one protocol."""

    run: str
    arch: str
    data: str
    seed: str
    kimg: float  # of the best score
    best: float
    last: float
    floor: float | None  # what real images get
    hours: float | None  # of training until the last score


def tables(paths: Iterable[str]) -> Iterator[str]:
    """Lines of Markdown, a table for each protocol with the best run first; `paths` are runs or folders of runs.

    Scores of unequal protocol never share a table. Runs without a score are named below the tables.
    """
    rows: dict[str, list[Row]] = {}
    without = []
    for run in _runs(paths):
        found = list(_rows(run))
        without += [] if found else [str(run.path)]
        for protocol, row in found:
            rows.setdefault(protocol, []).append(row)
    for text in sorted(rows):
        protocol = json.loads(text)
        best_first = sorted(
            rows[text], key=lambda row: row.best, reverse=protocol["metric"] in HIGHER_IS_BETTER
        )
        yield _heading(protocol, {row.data for row in best_first})
        yield ""
        yield from _table([list(COLUMNS), *(_cells(row) for row in best_first)])
        yield ""
    if without:
        yield f"without a score: {', '.join(without)}"


def _runs(paths: Iterable[str]) -> list[RunFolder]:
    found: dict[Path, RunFolder] = {}
    for path in map(Path, paths):
        folders = [path] if (path / "config.yaml").is_file() else sorted(path.glob("*"))
        runs = [RunFolder(folder) for folder in folders if (folder / "config.yaml").is_file()]
        if not runs:
            what = "is no run and holds none" if path.is_dir() else "does not exist"
            raise UserError(f"{path} {what}; give runs, or a folder of runs such as runs/")
        found.update({run.path.resolve(): run for run in runs})
    return list(found.values())


def _rows(run: RunFolder) -> Iterator[tuple[str, Row]]:
    """A row for each protocol (as JSON) under which the run has a score."""
    config: Any = OmegaConf.to_container(OmegaConf.load(run.config))
    evaluations = sorted(run.read_results()["evaluations"], key=lambda e: e["images_seen"])
    scores: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for evaluation in evaluations:
        for score in evaluation["scores"].values():
            protocol = json.dumps(score["protocol"], sort_keys=True)
            scores.setdefault(protocol, []).append((evaluation["images_seen"], score))
    seconds = [e["training_seconds"] for e in evaluations if "training_seconds" in e]
    for protocol, made in scores.items():
        sign = -1 if json.loads(protocol)["metric"] in HIGHER_IS_BETTER else 1
        trained = [(images, score) for images, score in made if images > 0] or made
        images, best = min(trained, key=lambda found: sign * found[1]["value"])
        row = Row(
            run=run.path.name,
            arch=str(config["arch"]),
            data=str(config["data"]["name"]),
            seed=str(config["seed"]),
            kimg=images / 1000,
            best=best["value"],
            last=made[-1][1]["value"],
            floor=best.get("floor"),
            hours=max(seconds) / 3600 if seconds else None,
        )
        yield protocol, row


def _heading(p: Mapping[str, Any], data: Iterable[str]) -> str:
    """The metric and whatever else moves its value."""
    parts = [
        f"data {'/'.join(sorted(data))} ({p['data'][:8]}), {p['reals']:,} reals: {p['reference']}",
        f"{p['fakes']:,} fakes of seed {p['seed']}, {p['quantisation']}, {'averaged' if p['ema'] else 'plain'} generator",
        f"resize {p['resize']}" + (f"; {p['settings']}" if p["settings"] else ""),
        *([f"truncation {p['truncation']}"] if p.get("truncation") is not None else []),
        f"protocol {p['version']}",
    ]
    return f"### {p['metric'].upper()} by {p['extractor']} ({p['weights'][:8]}); {'; '.join(parts)}"


def _cells(row: Row) -> list[str]:
    shown = ["-" if n is None else f"{n:.4g}" for n in (row.best, row.last, row.floor, row.hours)]
    return [row.run, row.arch, row.seed, f"{row.kimg:g}", *shown]


def _table(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in (rows[0], ["-" * width for width in widths], *rows[1:]):
        yield f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"
