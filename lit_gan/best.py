"""Which of a run's evaluations is the best, from its results.json, without importing torch."""

from __future__ import annotations

from typing import Any

LOWER_IS_BETTER = ("fid", "kid")  # the first that is measured decides which checkpoint is the best


def best_evaluation(evaluations: list[dict[str, Any]]) -> tuple[int, str, float] | None:
    """(images seen, metric, value) of the best evaluation made in training, by the first of `LOWER_IS_BETTER` there is.

    Only scores of the newest one's protocol count: a run that went on with other settings has others too.
    """
    made = [e for e in evaluations if e["source"] == "training" and e["images_seen"] > 0]
    for metric in LOWER_IS_BETTER:
        found = [(e["images_seen"], e["scores"][metric]) for e in made if metric in e["scores"]]
        if found:
            protocol = found[-1][1]["protocol"]
            value, images = min((s["value"], seen) for seen, s in found if s["protocol"] == protocol)
            return images, metric, value
    return None
