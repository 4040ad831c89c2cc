"""`lit-gan eval`: score the checkpoint of a run, print a table, and add the scores to its results.json."""

from __future__ import annotations

import time

from lit_gan.best import best_evaluation
from lit_gan.build import data_of, extractor_of, settings
from lit_gan.callbacks.checkpoint import mark_best
from lit_gan.callbacks.evaluation import evaluation_record
from lit_gan.checkpoints import load
from lit_gan.errors import UserError
from lit_gan.hardware import describe_hardware, inference_device
from lit_gan.metrics import METRICS, Score
from lit_gan.metrics.evaluate import evaluate, metric_class
from lit_gan.resume import Plan
from lit_gan.sample import load_module
from lit_gan.settings import Eval


def evaluate_run(plan: Plan, source: str | None = None) -> int:
    """Evaluate as `eval.*` and `metrics.*` say; returns the exit code.

    With `source` "training", in place of an evaluation that training did not come to.
    """
    assert plan.run is not None
    chosen: Eval = settings(plan.config, "eval")
    if not chosen.metrics:
        raise UserError(
            f"eval.metrics is empty: name some of {', '.join(METRICS)}, such as eval.metrics=[fid]"
        )
    for name in chosen.metrics:
        metric_class(name)  # a typo is answered before anything long
    device = inference_device(settings(plan.config, "trainer"))
    module, path = load_module(plan)
    data = data_of(plan.config)
    trained = tuple(load(path)["lit_gan"]["image_shape"])
    if data.image_shape != trained:
        raise UserError(f"{path} makes images {trained} (channels, height, width), the data are {data.image_shape}: "
                        "leave data.image_size and data.channels as the run has them")  # fmt: skip
    extractor = extractor_of(plan.config, data, device)
    started = time.perf_counter()
    scores = evaluate(
        module.to(device),
        data,
        metrics=chosen.metrics,
        extractor=extractor,
        fakes=chosen.images,
        seed=chosen.seed,
        batch_size=chosen.batch_size,
        reals=plan.config.get("metrics.real_images"),
    )
    seconds = time.perf_counter() - started
    record = evaluation_record(scores, module.images_seen, source or f"eval of {path.name}", seconds)
    results = plan.run.record(record, hardware=describe_hardware(device, 1))
    best = best_evaluation(results["evaluations"])
    if source == "training" and best is not None and best[0] == module.images_seen:
        mark_best(plan.run, module.images_seen)
    print(f"{path} at {module.images_seen / 1000:g} kimg, {seconds:.1f} s")
    print("\n".join(table(scores)))
    print(f"added to {plan.run.results}")
    return 0


def table(scores: dict[str, Score]) -> list[str]:
    """The scores as lines: value, what real images get, and how it was made."""
    lines = [f"{'metric':<14}{'value':>12}{'real':>12}  protocol"]
    for name, score in scores.items():
        p = score.protocol
        about = f"{p.extractor} ({p.weights[:8]}), {p.reals:,} reals, {p.fakes:,} fakes, seed {p.seed}, {p.resize}"
        parts = score.parts or {"": score.value}
        for part, value in parts.items():
            real = score.floor_parts.get(part) if part else score.floor
            shown = f"{real:>12.5g}" if real is not None else f"{'-':>12}"
            lines.append(f"{name + ('/' + part if part else ''):<14}{value:>12.5g}{shown}  {about}")
    return lines
