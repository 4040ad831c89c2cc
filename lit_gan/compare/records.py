"""What a run's folder says: config.yaml for what was trained, results.json for the scores and what they cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_gan.errors import UserError
from lit_gan.run import RunFolder, runs_in

# Safe, and ten times faster than OmegaConf: references such as ${run.images} are compared as they stand.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What may differ between the seeds of one row: it moves no weight of the networks, or the protocol says it better.
BESIDE_THE_TRAINING = (
    "seed", "resume", "run.name", "run.dir", "logger.", "checkpoint.", "samples.", "metrics.", "eval.metrics",
    "eval.images", "eval.seed", "eval.batch_size", "eval.at_start", "data.path", "data.workers", "trainer.progress",
)  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """One score: when it was made, and how."""

    metric: str
    images: int  # seen by then
    seconds: float | None  # of training by then
    value: float
    protocol: Mapping[str, Any]
    floor: float | None  # what real images get
    floor_images: int
    error: float | None  # the score's own standard error
    parts: Mapping[str, float]
    part_errors: Mapping[str, float]  # of the parts that have one

    @property
    def how(self) -> str:
        """The protocol as a key; a part that is not there is one that is null."""
        return json.dumps({k: v for k, v in self.protocol.items() if v is not None}, sort_keys=True)


@dataclass(frozen=True)
class Record:
    """A run; None is what an older lit-gan did not write down."""

    folder: RunFolder
    name: str  # of the experiment, or of the arch
    data: str
    seed: str
    settings: Mapping[str, Any]  # of the training, by dotted key
    scores: tuple[Scored, ...]  # by images seen
    images_per_second: float | None
    device_hours: float | None
    device: str | None
    is_gpu: bool
    generator: int | None  # parameters
    discriminator: int | None

    @property
    def path(self) -> str:
        return str(self.folder.path)


def read_records(paths: Iterable[str]) -> list[Record]:
    """The runs at `paths`, which are runs, or folders of runs and sweeps; a run that is named twice counts once."""
    found: dict[Path, RunFolder] = {}
    for path in map(Path, paths):
        runs = runs_in(path)
        if not runs:
            what = "is no run and holds none" if path.is_dir() else "does not exist"
            raise UserError(f"{path} {what}; give runs, or a folder of runs such as runs/")
        for run in runs:
            found.setdefault(run.path.resolve(), run)
    return [_record(run) for run in found.values()]


def _record(run: RunFolder) -> Record:
    config = _config(run)
    flat = dict(_leaves(config))
    results = run.read_results()
    try:
        evaluations = sorted(results["evaluations"], key=lambda e: int(e["images_seen"]))
        hardware = [e.get("hardware") or results.get("hardware") or {} for e in evaluations]
        of_training = [h for e, h in zip(evaluations, hardware, strict=True) if h and "training_seconds" in e]
        newest: Mapping[str, Any] = of_training[-1] if of_training else {}
        parameters = results.get("parameters") or {}
        return Record(
            folder=run,
            name=_stem(flat.get("experiment") or flat.get("arch") or run.path.name),
            data=_data(flat),
            seed=str(flat.get("seed", "-")),
            settings={k: v for k, v in flat.items() if not k.startswith(BESIDE_THE_TRAINING)},
            scores=tuple(_scores(evaluations)),
            images_per_second=_speed(evaluations),
            device_hours=_device_hours(evaluations, hardware),
            device=newest.get("device"),
            is_gpu=newest.get("accelerator", "cpu") != "cpu",
            generator=parameters.get("generator"),
            discriminator=parameters.get("discriminator"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        about = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{run.results}: an evaluation is damaged ({about}); move it away to go on without it"
        ) from None


def _stem(name: Any) -> str:
    """The name of a YAML where it was given by its path."""
    text = str(name)
    return Path(text).stem if text.endswith((".yaml", ".yml")) else text


def _data(flat: Mapping[str, Any]) -> str:
    """The data's name; of images in any folder or hub, where they come from."""
    name = _stem(flat.get("data.name") or "data")
    if name == flat.get("data.source") and flat.get("data.path"):
        return "/".join(Path(str(flat["data.path"])).parts[-2:])
    return name


def _config(run: RunFolder) -> dict[Any, Any]:
    try:
        config = yaml.load(run.config.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{run.config}: not a YAML file: {str(error).splitlines()[0]}") from None
    if not isinstance(config, dict):
        raise UserError(f"{run.config}: must hold keys and values")
    return config


def _leaves(nested: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _scores(evaluations: list[Mapping[str, Any]]) -> Iterator[Scored]:
    """Every finite score, by images seen; one of training counts before one of `lit-gan eval` that repeats it."""
    seconds = {e["images_seen"]: float(e["training_seconds"]) for e in evaluations if "training_seconds" in e}
    met = set()
    for evaluation in sorted(evaluations, key=lambda e: (e["images_seen"], e.get("source") != "training")):
        images = int(evaluation["images_seen"])
        for metric, score in evaluation["scores"].items():
            scored = Scored(
                metric=metric,
                images=images,
                seconds=seconds.get(images),
                value=float(score["value"]),
                protocol=dict(score["protocol"]),
                floor=_number(score.get("floor")),
                floor_images=int(score.get("floor_images") or 0),
                error=_number(score.get("error")),
                parts={name: float(value) for name, value in (score.get("parts") or {}).items()},
                part_errors={name: float(error) for name, error in (score.get("part_errors") or {}).items()},
            )
            if math.isfinite(scored.value) and (images, metric, scored.how) not in met:
                met.add((images, metric, scored.how))
                yield scored


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _speed(evaluations: list[Mapping[str, Any]]) -> float | None:
    """Images a second over the whole training, as it was written or as it follows."""
    for e in reversed(evaluations):
        if "images_per_second" in e:
            return float(e["images_per_second"])
        if e.get("training_seconds") and e["images_seen"]:
            return float(e["images_seen"] / e["training_seconds"])
    return None


def _device_hours(evaluations: list[Mapping[str, Any]], hardware: list[Mapping[str, Any]]) -> float | None:
    """Hours of training times devices, added up from evaluation to evaluation: a resumed run may have changed them."""
    hours, before, known = 0.0, 0.0, False
    for evaluation, machine in zip(evaluations, hardware, strict=True):
        if "training_seconds" in evaluation:
            now, known = float(evaluation["training_seconds"]), True
            hours += max(now - before, 0) * int(machine.get("devices") or 1) / 3600
            before = now
    return hours if known else None
