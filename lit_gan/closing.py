"""The paragraph that a run ends with: what it reached, where that lies, and what to do next."""

from __future__ import annotations

import signal
from typing import Any

from lit_gan.best import best_evaluation
from lit_gan.run import RunFolder


def _scores_in_words(evaluations: list[dict[str, Any]]) -> list[str]:
    """The best score and, where evaluations on the way used fewer fakes, the last one with all of them."""
    best = best_evaluation(evaluations)
    if best is None:
        return []
    images, metric, value = best

    def score_at(images_seen: int, source: str) -> dict[str, Any] | None:
        found = (e for e in evaluations if e["images_seen"] == images_seen and e["source"] == source)
        return next((e["scores"][metric] for e in found if metric in e["scores"]), None)

    def before(score: dict[str, Any]) -> str:
        first = score_at(0, "training")
        same = first is not None and first["protocol"] == score["protocol"]
        return f", {first['value']:.4g} before training" if same and first is not None else ""

    def floor(score: dict[str, Any]) -> str:
        return f" (real images: {score['floor']:.4g})" if score.get("floor") is not None else ""

    score = score_at(images, "training")
    assert score is not None
    extractor = score["protocol"]["extractor"]
    by = "" if extractor == "none" else f" by {extractor}"
    lines = [f"Best {metric.upper()} {value:.4g}{by} at {images / 1000:g} kimg{floor(score)}{before(score)}."]
    last = max(e["images_seen"] for e in evaluations)
    if (whole := score_at(last, "final")) is not None:
        fakes = whole["protocol"]["fakes"]
        lines.append(
            f"With all {fakes:,} fakes, at the end: {whole['value']:.4g}{floor(whole)}{before(whole)}."
        )
    return lines


def closing(run: RunFolder, images_seen: int, received: int, *, translates: bool) -> str:
    """The paragraph at the end: the best score and when, where everything lies, and what to do next."""
    lines = []
    if received:
        lines.append(
            f"Stopped by {signal.Signals(received).name} at {images_seen / 1000:g} kimg, after a checkpoint."
        )
    lines += _scores_in_words(run.read_results()["evaluations"])
    grids = sorted(run.samples.glob("kimg*.png"))
    if grids:
        lines.append(f"Samples:    {grids[-1]}")
    best_file, last_file = run.checkpoints / "best.ckpt", run.checkpoints / "last.ckpt"
    lines += [
        f"Checkpoint: {best_file if best_file.exists() else last_file}",
        f"Scores:     {run.results}" + (f"   log: {run.metrics}" if run.metrics.exists() else ""),
        f"Go on:      lit-gan train resume={run.path}" + ("" if received else " run.images=..."),
        f"Translate:  lit-gan translate {run.path} IN OUT"
        if translates
        else f"Sample:     lit-gan sample {run.path} -n 64 --seed 0",
    ]
    return "\n".join(lines)
