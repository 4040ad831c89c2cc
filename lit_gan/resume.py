"""Which run, which configuration: what `train`, `eval` and `sample` need to know before torch is imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_gan.config import Config, compose, names, parse, preset
from lit_gan.errors import UserError
from lit_gan.run import RunFolder, newest_run

ARCHIVES = (".zip", ".parquet")  # files of images, not checkpoints
# what makes a run this run
CHOICES = ("arch", "variant", "data.name", "data.source", "experiment", "run.start_from")


@dataclass(frozen=True)
class Plan:
    """A configuration, and the run that goes on: its folder, and the checkpoint file if one was named."""

    config: Config
    run: RunFolder | None = None  # None: a new run
    checkpoint: Path | None = None
    restart: bool = False  # a new run may take the folder of one that never came to a checkpoint


def compose_run(overrides: Sequence[str]) -> Plan:
    """The plan of `lit-gan train`: a new run, or with `resume=` the saved one with `overrides` on top."""
    given = parse(overrides).values
    resume = given.get("resume")
    if resume is None:
        return Plan(compose(overrides))
    config = compose([o for o in overrides if not o.startswith("resume=")]) if resume == "auto" else None
    found = (
        _auto(config)
        if config is not None
        else named_run(str(resume), Path(str(given.get("run.dir", "runs"))))
    )
    if found is None:
        assert config is not None
        print(
            f"resume=auto: no run in {config.get('run.dir')} to go on with; starting a new one",
            file=sys.stderr,
        )
        return Plan(config, restart=True)
    run, checkpoint = found
    rest = [o for o in overrides if not o.startswith(("resume=", "run.name=", "run.dir="))]
    return Plan(_compose_over(run, rest), run, checkpoint)


def compose_saved(name: str, overrides: Sequence[str]) -> Plan:
    """The plan of `lit-gan eval` and `sample`: a finished or running run, with `overrides` on top."""
    run, checkpoint = named_run(name, Path("runs"))
    return Plan(_compose_over(run, overrides), run, checkpoint)


@dataclass(frozen=True)
class Comparison:
    """What `lit-gan eval` is to score: a run or images, against a run's own data or others."""

    plan: Plan  # how: eval.*, metrics.*; with a run, or, with images, the reference as its data
    images: list[str] | None = None  # fakes in place of a run: arguments that compose their data source
    name: str = ""  # of the images
    against: list[str] | None = None  # another reference than the run's own data: arguments that compose it


def compose_comparison(
    source: str, overrides: Sequence[str], *, against: str | None, metrics: str | None, protocol: str | None
) -> Comparison:
    """The plan of `lit-gan eval SOURCE --against ... --metrics ... --protocol ...`, checked as far as names go."""
    chosen = [
        *(preset("protocol", protocol) if protocol is not None else []),
        *([f"eval.metrics=[{metrics}]"] if metrics is not None else []),
    ]
    reference = [*data_arguments(against), *_data_keys(overrides)] if against is not None else None
    if (found := _find(source, Path("runs"))) is not None:
        run, checkpoint = found
        rest = (
            [o for o in overrides if o not in _data_keys(overrides)] if reference is not None else overrides
        )
        if reference is not None:
            compose(reference)  # a typo is answered before anything long
        return Comparison(Plan(_compose_over(run, [*chosen, *rest]), run, checkpoint), against=reference)
    latents = (Path(source).expanduser() / "latents.json").is_file()
    if reference is None and latents:
        reference = data_arguments(source)  # the images that they were made of
    if reference is None:
        if not Path(source).expanduser().exists():
            named_run(source, Path("runs"))  # raises: without --against it can only be meant as a run
        raise UserError(
            f"{source} is not a run: to score its images, say against what, by --against DATA or --against FOLDER"
        )
    images = [*data_arguments(source), *(_data_keys(overrides) if latents and against is None else [])]
    return Comparison(Plan(compose([*reference, *chosen, *overrides])), images=images, name=Path(source).stem)


def data_arguments(name: str) -> list[str]:
    """`key=value` arguments that choose the data called `name`: of `lit-gan list data`, a YAML, or images on the disk."""
    path = Path(name).expanduser()
    if name in names("data") or name.endswith((".yaml", ".yml")):
        return [f"data={name}"]
    if path.suffix == ".parquet" and path.is_file():
        return ["data=hub", f"data.path={name}"]
    if (path / "config.yaml").is_file():
        raise UserError(
            f"{name} is a run, not images: make some by `lit-gan sample {name}`, or give a folder of images"
        )
    if (path / "latents.json").is_file():
        return ["data=latents", f"data.path={name}"]
    if path.exists():
        return ["data=folder", f"data.path={name}"]
    raise UserError(
        f"'{name}' is neither data ({', '.join(names('data'))}) nor a folder, zip or parquet file of images"
    )


def _data_keys(overrides: Sequence[str]) -> list[str]:
    return [o for o in overrides if o.startswith("data.")]


def _auto(config: Config) -> tuple[RunFolder, None] | None:
    parent = Path(config.get("run.dir"))
    if (name := config.get("run.name")) is not None:
        run = RunFolder(parent / name)
        return (run, None) if run.config.exists() and any(run.checkpoints.glob("*.ckpt")) else None
    newest = newest_run(parent)
    return None if newest is None else (newest, None)


def named_run(name: str, parent: Path) -> tuple[RunFolder, Path | None]:
    """The run called `name`, itself or in `parent`, and the checkpoint if it is one; a `UserError` where it is neither."""
    if (found := _find(name, parent)) is not None:
        return found
    for path in (Path(name), parent / name):
        if path.is_dir():
            raise UserError(
                f"{path} is not a run: it has no config.yaml; give a folder such as runs/dcgan-digits-1"
            )
    raise UserError(
        f"no run or checkpoint '{name}': give a folder such as runs/dcgan-digits-1, or a .ckpt in one"
    )


def _find(name: str, parent: Path) -> tuple[RunFolder, Path | None] | None:
    """The run called `name`, itself or in `parent`, and the checkpoint if it is one; None where it is neither."""
    for path in sorted((Path(name), parent / name), key=lambda p: not (p / "config.yaml").exists()):
        if path.is_file() and path.suffix not in ARCHIVES:
            run = RunFolder(path.parent.parent)
            if not run.config.exists():
                raise UserError(
                    f"{path}: no config.yaml in {run.path}; a checkpoint is read from within its run's folder"
                )
            return run, path
        if path.is_dir() and (path / "config.yaml").exists():
            return RunFolder(path), None
    return None


def _compose_over(run: RunFolder, overrides: Sequence[str]) -> Config:
    """A run's configuration with `overrides` on top; another arch or data than the run's own is refused."""
    saved, given = compose([], saved=run.config), parse(overrides).values
    for key in CHOICES:
        if key in given and given[key] != saved.get(key):
            raise UserError(
                f"{run.path} is a run of {key}={saved.get(key)}, not {given[key]}: leave {key} out, or give another run"
            )
    rest = [o for o in overrides if not set(parse([o]).values) & set(CHOICES)]
    return compose(rest, saved=run.config)
