"""Which of a run's evaluations is the best, from its results.json, without importing torch."""

from __future__ import annotations

from typing import Any, Literal

# The first that is measured decides which checkpoint is the best. Authenticity and diversity are none, since the reals' is
# the best there is, nor is the path length, which a generator of one image has shortest.
BETTER: dict[str, Literal["lower", "higher"]] = {
    "fid": "lower",
    "kid": "lower",
    "cmmd": "lower",
    "fid-infinity": "lower",
    "class-fid": "lower",
    "mifid": "lower",
    "lpips": "lower",
    "cycle": "lower",
    "psnr-y": "higher",
    "psnr": "higher",
    "ssim-y": "higher",
    "ssim": "higher",
    "ms-ssim": "higher",
    "ndb": "lower",
    "dc": "higher",
    "pr": "higher",
    "toy-modes": "higher",
    "modes": "higher",
    "is": "higher",
}
# Where a metric's parts are logged in place of its value: the part that is the value, or * for parts that all go its way.
LOGGED = {
    "fid-infinity": "limit",
    "class-fid": "mean",
    "ndb": "ndb",
    "dc": "coverage",
    "pr": "*",
    "toy-modes": "modes",
    "modes": "classes",
}


def rank(metric: str, value: float, images_seen: int) -> tuple[float, int]:
    """Sorts the scores of a metric, the best first; of equal ones, such as counts, that of the longer training."""
    return (-value if is_higher_better(metric) else value), -images_seen


def is_higher_better(metric: str) -> bool:
    """Whether a table of this metric begins with the highest score; of authenticity and diversity too: 0 are copies."""
    return BETTER.get(metric) == "higher" or metric in ("authenticity", "lpips-diversity")


def best_evaluation(evaluations: list[dict[str, Any]]) -> tuple[int, str, float] | None:
    """(images seen, metric, value) of the best evaluation made in training, by the first metric of `BETTER` there is.

    Only scores of the newest one's protocol count: a run that went on with other settings has others too.
    """
    made = [e for e in evaluations if e["source"] == "training" and e["images_seen"] > 0]
    for metric in BETTER:
        found = [(e["images_seen"], e["scores"][metric]) for e in made if metric in e["scores"]]
        if found:
            protocol = found[-1][1]["protocol"]
            same = [(seen, score["value"]) for seen, score in found if score["protocol"] == protocol]
            images, value = min(same, key=lambda each: rank(metric, each[1], each[0]))
            return images, metric, value
    return None
