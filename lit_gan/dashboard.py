"""`lit-gan dashboard`: a view of runs in their Weights & Biases project, with panels for what they really logged."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import OmegaConf

from lit_gan import wandb_file
from lit_gan.best import BETTER, best_evaluation
from lit_gan.errors import UserError
from lit_gan.run import RunFolder, runs_in

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

Kind = Literal["line", "bar", "media", "table"]
TABLE = "samples_table"  # what callbacks.samples logs it as
SCORES = tuple(BETTER)  # the order in which scores are shown; others follow
NORM = "gradient_norm"
VIEW = "nw-litgan-v"  # the name that W&B knows the view by: `litgan` in its address
CONFIG = ("arch.value", "data.value.name", "seed.value")  # columns of the runs table, as W&B spells them


@dataclass(frozen=True)
class Panel:
    """One metric; `grouped`: a line for each arch, the mean of its runs, instead of one for each run."""

    kind: Kind
    metric: str
    title: str
    grouped: bool = False


@dataclass(frozen=True)
class Section:
    """Panels under a heading."""

    name: str
    panels: tuple[Panel, ...]


def panels_for(names: Collection[str]) -> list[Section]:
    """The sections of the view for these names: only what was logged, and all of it."""
    scores = sorted((n for n in names if n.startswith(("val/", "final/"))), key=_score_order)
    losses = sorted(n for n in names if n.startswith(("d/", "g/")) and not n.endswith(NORM))
    health = sorted(n for n in names if n.startswith(("d/", "g/", "optim/")) and n not in losses)
    speed = sorted(n for n in names if n.startswith("speed/"))
    best = [f"best/{metric}" for metric in BETTER if f"best/{metric}" in names]
    shown = {*scores, *losses, *health, *speed, *best, "samples", TABLE, "best/kimg", "kimg"}
    others = sorted(n for n in names if n not in shown and not n.startswith("_"))
    sections = {
        "Scores": [
            *(Panel("bar", name, f"best {name.partition('/')[2].upper()} of each run") for name in best),
            *(Panel("line", name, name, grouped=True) for name in scores),
        ],
        "Samples": [
            *([Panel("media", "samples", "samples")] if "samples" in names else []),
            *([Panel("table", TABLE, "samples one by one")] if TABLE in names else []),
        ],
        "Losses": [Panel("line", name, name) for name in losses],
        "Health": [Panel("line", name, name) for name in health],
        "Speed": [Panel("line", name, name) for name in speed],
        "Other": [Panel("line", name, name) for name in others],
    }
    return [Section(name, tuple(panels)) for name, panels in sections.items() if panels]


def _score_order(name: str) -> tuple[bool, int, str]:
    stage, _, score = name.partition("/")
    first = score.partition("/")[0]
    return stage != "val", SCORES.index(first) if first in SCORES else len(SCORES), name


def names_logged(run: RunFolder) -> set[str]:
    """The names that a run has logged, with those in the summary of its W&B run.

    Every logger gets the same names, so metrics.csv is asked, which is quick; else the files that W&B keeps.
    """
    names = _columns(run.metrics) if run.metrics.exists() else wandb_file.names(run.path / "wandb")
    if any(run.samples.glob("kimg*.png")):
        names.add("samples")
    if any(run.path.glob(f"wandb/*run-*/files/media/table/{TABLE}_*")):
        names.add(TABLE)
    best = best_evaluation(run.read_results()["evaluations"])
    if best is not None:
        names |= {f"best/{best[1]}", "best/kimg"}
    return names


def _columns(path: Path) -> set[str]:
    """The columns of a CSV that hold a number: one may be left without, where a run went on from before it."""
    with path.open(newline="", encoding="utf-8", errors="replace") as handle:
        rows = csv.DictReader(line.replace("\0", "") for line in handle)
        return {name for row in rows for name, value in row.items() if name and value}


def make_dashboard(
    paths: Iterable[str], *, project: str | None, entity: str | None, dry_run: bool
) -> Iterator[str]:
    """Make the view, or print it with `dry_run`; yields lines for the terminal.

    Raises `UserError` with one line where no run was logged to W&B, or W&B cannot be reached.
    """
    runs = _logged(paths)
    names = set().union(*map(names_logged, runs))
    if not names:
        raise UserError(f"{runs[0].path} and the like have logged nothing yet: train first")
    project, entity = _place(runs, project, entity)
    sections = panels_for(names)
    if dry_run:
        yield json.dumps(view(sections, names, project, entity or "-")._spec, indent=1)
        return
    yield f"view: {_save(sections, names, project, entity)}"
    if waiting := [str(path) for run in runs for path in _offline(run)]:
        yield f"not uploaded yet: {len(waiting)} runs; `wandb sync {waiting[0]}`{' ...' if waiting[1:] else ''}"


def _logged(paths: Iterable[str]) -> list[RunFolder]:
    """The runs in `paths`, which are runs, or folders of runs and sweeps, that have logged to W&B."""
    found: dict[Path, RunFolder] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"{path} does not exist; give runs, or a folder of runs such as runs/")
        runs = runs_in(path)
        if not runs:
            raise UserError(f"{path} is no run and holds none; give runs, or a folder of runs such as runs/")
        found.update({run.path.resolve(): run for run in runs})
    logged = [run for run in found.values() if any(run.path.glob("wandb/*run-*"))]
    if not logged:
        raise UserError(
            f"of {len(found)} runs none has logged to W&B: train with wandb in `logger`, such as logger=[csv,wandb]"
        )
    return logged


def _place(runs: Sequence[RunFolder], project: str | None, entity: str | None) -> tuple[str, str | None]:
    """The project and entity that the runs were logged to, save where they are given."""
    places = set()
    for run in runs:
        config: Any = OmegaConf.to_container(OmegaConf.load(run.config))
        settings = config["logger"]["wandb"]
        places.add((project or settings["project"], entity or settings["entity"]))
    if len(places) > 1:
        all_ = ", ".join(sorted("/".join(filter(None, reversed(place))) for place in places))
        raise UserError(
            f"the runs lie in several projects ({all_}): give runs of one, or --project and --entity"
        )
    return places.pop()


def _offline(run: RunFolder) -> Iterator[Path]:
    """Sittings of a run that W&B has only on this disk."""
    for folder in sorted(run.path.glob("wandb/offline-run-*")):
        if not any(folder.glob("*.synced")):
            yield folder


def view(sections: Sequence[Section], names: Collection[str], project: str, entity: str) -> Workspace:
    """The view as W&B's library has it; asks no server."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.reports.v2.interface import (
        BarPlot,
        Config,
        Layout,
        LinePlot,
        MediaBrowser,
        WeavePanelSummaryTable,
    )

    def panel(one: Panel) -> Any:
        if one.kind == "media":
            return MediaBrowser(title=one.title, media_keys=[one.metric])
        if one.kind == "bar":
            return BarPlot(title=one.title, metrics=[one.metric])
        if one.kind == "table":  # of all runs in the view, one below the other; it takes no title
            return WeavePanelSummaryTable(table_name=one.metric, layout=Layout(w=24, h=12))
        line = LinePlot(title=one.title, x="kimg", y=[one.metric])
        if one.grouped:
            line.groupby, line.groupby_aggfunc, line.groupby_rangefunc = Config("arch"), "mean", "minmax"
        return line

    best = [f"best/{name}" for name in (*BETTER, "kimg") if f"best/{name}" in names]
    columns = [*(f"summary:{name}" for name in best), *(f"config:{key}" for key in CONFIG)]
    first = (
        ws.Ordering(ws.Summary(best[0]), ascending=BETTER.get(best[0].partition("/")[2]) == "lower")
        if best
        else ws.Ordering(ws.Metric("CreatedTimestamp"), ascending=False)
    )
    return ws.Workspace(
        entity=entity,
        project=project,
        name="lit-gan",
        sections=[
            ws.Section(
                name=section.name,
                panels=[panel(one) for one in section.panels],
                is_open=section.name != "Other",
                panel_settings=ws.SectionPanelSettings(x_axis="kimg"),
            )
            for section in sections
        ],
        settings=ws.WorkspaceSettings(x_axis="kimg", max_runs=30),
        runset_settings=ws.RunsetSettings(pinned_columns=columns, order=[first]),
    )


def _known_view(project: str, entity: str) -> str:
    """The id by which W&B knows the view of this name, which saving then replaces; "" where there is none yet.

    The library offers this by a view's address alone, and with its contents.
    """
    from wandb_workspaces.workspaces import internal

    try:
        return internal.View.from_name(entity, project, VIEW).id
    except ValueError:  # no view of this name, or one that this version of the library cannot read
        return ""


def _save(sections: Sequence[Section], names: Collection[str], project: str, entity: str | None) -> str:
    """Save the view in the project, in place of the one that was made before; returns its address."""
    from lit_gan.loggers import offline_reason

    if (reason := offline_reason()) is not None:
        raise UserError(f"no view was made: W&B is offline ({reason}); --dry-run shows it")
    try:
        import wandb

        entity = entity or str(wandb.Api(timeout=20).default_entity)
        made = view(sections, names, project, entity)
        made._internal_name, made._internal_id = VIEW, _known_view(project, entity)
        made.save()  # type: ignore[no-untyped-call]
        return str(made.url)
    except Exception as error:  # whatever a server, a proxy or the library may say
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"no view was made in {project}: {first}") from None
