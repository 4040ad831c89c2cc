"""Which evaluation is the best, by any metric that has a direction."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from lit_gan.best import BETTER, LOGGED, best_evaluation
from lit_gan.metrics import METRICS, Score, log_values
from lit_gan.metrics.checks import metric_class
from lit_gan.metrics.protocol import Protocol


def made(images_seen: int, source: str = "training", **scores: float) -> dict[str, Any]:
    found = {
        name.replace("_", "-"): {"value": value, "protocol": {"fakes": 9}} for name, value in scores.items()
    }
    return {"images_seen": images_seen, "source": source, "scores": found}


@pytest.mark.parametrize("metric", BETTER)
def test_best_is_the_lowest_or_the_highest_of_the_trained(metric: str):
    name = metric.replace("-", "_")
    values = {0: 0.0 if BETTER[metric] == "lower" else 9.0, 10: 3.0, 20: 1.0, 30: 5.0, 40: 2.0}
    evaluations = [made(images, **{name: value}) for images, value in values.items()]

    assert best_evaluation(evaluations) == (
        (20, metric, 1.0) if BETTER[metric] == "lower" else (30, metric, 5.0)
    )


def test_first_metric_of_the_table_decides():
    one = [made(10, kid=2.0, dc=0.5, authenticity=0.6), made(20, kid=3.0, dc=0.9, authenticity=0.5)]

    assert best_evaluation(one) == (10, "kid", 2.0)
    for evaluation in one:
        del evaluation["scores"]["kid"]
    assert best_evaluation(one) == (20, "dc", 0.9)
    for evaluation in one:
        del evaluation["scores"]["dc"]
    assert best_evaluation(one) is None


def test_of_equal_scores_that_of_the_longer_training_is_the_best():
    assert best_evaluation([made(10, modes=8), made(20, modes=8), made(30, modes=7)]) == (20, "modes", 8)


def test_scores_of_lit_gan_eval_and_of_another_protocol_do_not_count():
    other = made(10, fid=1.0)
    other["scores"]["fid"]["protocol"] = {"fakes": 10}

    assert best_evaluation([other, made(20, fid=3.0), made(20, "final", fid=2.0)]) == (20, "fid", 3.0)


def test_every_metric_that_has_a_clear_direction_has_that_of_its_class():
    assert set(METRICS) - set(BETTER) == {"authenticity", "lpips-diversity", "ppl"}
    for name, better in BETTER.items():
        assert metric_class(name).higher_is_better == (better == "higher"), name


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_logged_of_a_metric_is_in_the_table(metric: str):
    kind = metric_class(metric)
    parts = {part: 1.0 for part in kind.parts if part not in ("value", "std", "error") and "/" not in part}
    known = dict.fromkeys(inspect.signature(Protocol).parameters)

    logged = set(log_values({metric: Score(1.0, Protocol(**known), parts=parts)}))

    if metric not in LOGGED:
        assert logged == {metric}
    elif LOGGED[metric] != "*":
        assert f"{metric}/{LOGGED[metric]}" in logged
    else:
        assert len(logged) > 1


def test_finding_the_best_imports_no_torch():
    code = "import sys, lit_gan.best; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
