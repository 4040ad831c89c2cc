"""`lit-gan eval`: score the checkpoint of a run, or a folder of images, print a table, and write results.json."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from omegaconf import OmegaConf

from lit_gan import __version__
from lit_gan.best import best_evaluation
from lit_gan.build import data_of, judges_of, set_border, settings
from lit_gan.callbacks.checkpoint import mark_best
from lit_gan.callbacks.evaluation import evaluation_record, parameter_counts
from lit_gan.checkpoints import load
from lit_gan.config import compose
from lit_gan.data.base import ImageData
from lit_gan.data.progress import say
from lit_gan.errors import UserError
from lit_gan.hardware import describe_hardware, inference_device
from lit_gan.metrics import METRICS, Score
from lit_gan.metrics.checks import metric_class
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.gallery import Gallery, PairedGallery, Reconstructions
from lit_gan.metrics.pairs import matched
from lit_gan.module import AdversarialModule
from lit_gan.pictures import is_points, save, suspects
from lit_gan.resume import Comparison, Plan
from lit_gan.run import RunFolder, new_run, write_text
from lit_gan.sample import load_module
from lit_gan.sampling import Sampleable
from lit_gan.settings import Eval
from lit_gan.sources import fakes_of, sources_of

if TYPE_CHECKING:
    from lit_gan.data.latents import Latents


def evaluate_comparison(chosen: Comparison) -> int:
    """Score a run, or images, as `chosen` says; returns the exit code."""
    if chosen.images is not None:
        return evaluate_images(chosen.plan, chosen.images, chosen.name)
    return evaluate_run(chosen.plan, against=chosen.against)


def evaluate_run(plan: Plan, source: str | None = None, *, against: list[str] | None = None) -> int:
    """Evaluate as `eval.*` and `metrics.*` say; returns the exit code.

    With `source` "training", in place of an evaluation that training did not come to. With `against`, the arguments of
    another data source, it takes the place of the run's own data.
    """
    assert plan.run is not None
    chosen = _checked(plan)
    device = inference_device(settings(plan.config, "trainer"))
    module, path = load_module(plan)
    about = load(path)["lit_gan"]
    trained = tuple((about.get("latents") or about)["image_shape"])
    if against is None:
        data = data_of(plan.config)
        if data.train_shape != trained if module.translates else data.image_shape != trained:
            raise UserError(f"{path} makes images {trained} (channels, height, width), the data are {data.image_shape}: "
                            "leave data.image_size and data.channels as the run has them")  # fmt: skip
    else:
        data = data_of(compose(against)) if module.translates else _shaped(against, trained)
    if module.translates:
        data = _sourced(module, data)
    scores, seconds, notes = _scores(
        plan, module.to(device), data, device, fakes=fakes_of(module, chosen.images)
    )
    hardware = describe_hardware(device, 1)
    record = evaluation_record(
        scores, module.images_seen, source or f"eval of {path.name}", seconds, hardware, notes
    )
    results = plan.run.record(record, parameters=parameter_counts(module))
    best = best_evaluation(results["evaluations"])
    if source == "training" and best is not None and best[0] == module.images_seen:
        mark_best(plan.run, module.images_seen)
    print(f"{path} at {module.images_seen / 1000:g} kimg against {data.source_name}, {seconds:.1f} s")
    print("\n".join(table(scores)))
    what = "neighbours" if against is None else "neighbours-against"
    _show_suspects(plan.run, module, data, scores, chosen.seed, module.images_seen, what)
    print(f"added to {plan.run.results}")
    return 0


def evaluate_images(plan: Plan, images: list[str], name: str) -> int:
    """Score images against the data of `plan`, which they are brought to the shape of; `images` compose their source.

    The scores go into a folder under `run.dir` that `compare` reads like a run.
    """
    chosen = _checked(plan)
    device = inference_device(settings(plan.config, "trainer"))
    in_pairs = any(metric_class(name).takes == "pairs" for name in chosen.metrics)
    if in_pairs and plan.config.get("data.source") == "folder" and not _asked(plan, "data.image_size"):
        plan.config.values["data"]["image_size"] = None  # pixel by pixel, and not of thumbnails of 64
    data = data_of(plan.config)
    shown = _shaped(images, data.image_shape)
    number = chosen.images if _asked(plan, "eval.images") else None
    fakes: Gallery
    if (decoder := shown.decoder(bounded=False)) is not None:
        if in_pairs and data.fingerprint != shown.fingerprint:
            raise UserError(f"the latents in {shown.source_name} are pairs with the images that they were made of, and "
                            "with no others: leave --against out")  # fmt: skip
        fakes = Reconstructions(cast("Latents", shown), decoder, number, chosen.seed)
    elif in_pairs:
        fakes = PairedGallery(shown, matched(shown, data), number, chosen.seed)
    else:
        fakes = Gallery(shown, number, chosen.seed)
    scores, seconds, notes = _scores(plan, fakes.to(device), data, device, fakes=len(fakes))
    run = new_run(Path(plan.config.get("run.dir")), plan.config.get("run.name"), f"eval-{name}")
    about = OmegaConf.create({**plan.config.values, "arch": name, "variant": "images"})
    write_text(
        run.config, f"# lit-gan {__version__}: images of {shown.source_name}\n{OmegaConf.to_yaml(about)}"
    )
    record = evaluation_record(
        scores, 0, f"eval of {shown.source_name}", seconds, describe_hardware(device, 1), notes
    )
    run.record(record)
    print(f"{len(fakes):,} images of {shown.source_name} against {data.source_name}, {seconds:.1f} s")
    if shown.skipped:
        print(f"{len(shown.skipped)} did not decode and were left out, such as {shown.skipped[0]}")
    print("\n".join(table(scores)))
    _show_suspects(run, fakes, data, scores, chosen.seed)
    print(f"written to {run.results}")
    return 0


def _sourced(module: AdversarialModule, data: ImageData) -> ImageData:
    """What scores of a translator read of `data`, whose sources it then has."""
    if data.source_shape is None:
        raise UserError(
            f"{data.source_name} has no sources to translate: use data=paired, unpaired, super-resolution, ..."
        )
    module.sources = sources_of(module, data)
    return data.held_out


def _checked(plan: Plan) -> Eval:
    """The `eval` section; a typo in it is answered before anything long."""
    chosen: Eval = settings(plan.config, "eval")
    if not chosen.metrics:
        raise UserError(
            f"eval.metrics is empty: name some of {', '.join(METRICS)}, such as eval.metrics=[fid]"
        )
    for name in chosen.metrics:
        metric_class(name)
    return chosen


def _shaped(arguments: list[str], image_shape: tuple[int, ...]) -> ImageData:
    """The data that `arguments` choose, as images of `image_shape` (C, H, W)."""
    channels, height, width = image_shape
    sized = "image_size" in compose(arguments)["data"] and not is_points(image_shape)
    size = [] if not sized else [f"data.image_size=[{height},{width}]", f"data.channels={channels}"]
    data = data_of(compose([*arguments, *size]))
    if data.image_shape != tuple(image_shape):
        raise UserError(f"{data.source_name} gives images {data.image_shape} (channels, height, width), "
                        f"{tuple(image_shape)} are needed: leave data.image_size and data.channels out")  # fmt: skip
    return data


def _asked(plan: Plan, key: str) -> bool:
    """Whether the command line sets `key`, by itself or by --protocol."""
    return plan.config.origins[key] == "command line"


def _scores(
    plan: Plan, module: Sampleable, data: ImageData, device: torch.device, *, fakes: int
) -> tuple[dict[str, Score], float, list[str]]:
    """The scores, the seconds that they took, without those of the networks' loading, and what there is to say of them."""
    chosen: Eval = settings(plan.config, "eval")
    set_border(plan.config, data)
    judges = judges_of(plan.config, data, device)
    for note in judges.notes:
        say(note)
    started = time.perf_counter()
    scores = evaluate(
        module,
        data,
        metrics=judges.metrics,
        extractor=judges.extractor,
        lpips=judges.lpips,
        fakes=fakes,
        seed=chosen.seed,
        batch_size=chosen.batch_size,
        reals=plan.config.get("metrics.real_images"),
    )
    return scores, time.perf_counter() - started, judges.notes


def _show_suspects(
    run: RunFolder,
    module: Sampleable,
    data: ImageData,
    scores: dict[str, Score],
    seed: int,
    images_seen: int = 0,
    what: str = "neighbours",
) -> None:
    """Draw the fakes that a score found beside their nearest reals, and say where, if there are any."""
    sheet = suspects(module, data, scores, seed)
    if sheet is not None:
        path = run.picture(images_seen, what)
        save(sheet, path)
        print(f"the fakes nearest to reals, with these: {path}")


def table(scores: dict[str, Score]) -> list[str]:
    """The scores as lines: value, what real images get, and how it was made."""
    names = (f"{name}/{part}" for name, score in scores.items() for part in score.parts)
    first = max([16, *map(len, names), *map(len, scores)])
    lines = [f"{'metric':<{first}}{'value':>12}{'error':>10}{'real':>12}  protocol"]
    for name, score in scores.items():
        p = score.protocol
        seed = "" if p.seed is None else f" of seed {p.seed}"
        about = f"{p.extractor} ({p.weights[:8]}), {p.reals:,} reals, {p.fakes:,} fakes{seed}, {p.resize}"
        parts = score.parts or {"": score.value}
        for part, value in parts.items():
            real = score.floor_parts.get(part) if part else score.floor
            error = score.part_errors.get(part) if part else score.error
            numbers = (value, error, real)
            shown = "".join(
                f"{'-':>{width}}" if number is None else f"{number:>{width}.{digits}g}"
                for number, width, digits in zip(numbers, (12, 10, 12), (5, 2, 5), strict=True)
            )
            lines.append(f"{name + ('/' + part if part else ''):<{first}}{shown}  {about}")
    return lines
