"""The Fréchet distance of given features: lit-gan against torchmetrics and torch-fidelity, in time and in value.

One process, all sides in turn, medians of the ratios. The reals' root is cached, as it is from the second evaluation of a
run on; what making it takes is printed beside.

    python benchmarks/frechet.py [--dim 2048] [--samples 4000] [--rounds 7] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch
import torchmetrics
from torch import Tensor, nn
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from lit_gan.metrics import FrechetDistance
from lit_gan.metrics.frechet import Statistics, covariance_root

T = TypeVar("T")


class Given(nn.Module):
    """An extractor of features that are features already."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: Tensor) -> Tensor:
        return features


def features(samples: int, dim: int, seed: int) -> Tensor:
    """Correlated and of unequal variances, as a network's are: float64 [samples, dim]."""
    variances = torch.arange(1, dim + 1, dtype=torch.float64) ** -0.8
    mixing = torch.linalg.qr(
        torch.randn(dim, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    )[0]
    drawn = torch.randn(samples, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (drawn * variances.sqrt()) @ mixing + 0.01 * seed


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """The value and the seconds."""
    started = time.perf_counter()
    value = call()
    return value, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("dim", 2048), ("samples", 4000), ("rounds", 7), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    real, fake = features(chosen.samples, chosen.dim, 0), features(chosen.samples, chosen.dim, 1)

    theirs = FrechetInceptionDistance(feature=Given(chosen.dim))
    ours = FrechetDistance(chosen.dim)
    ours.update(real, real=True)
    known = ours.statistics(real=True)
    root, root_seconds = timed(lambda: covariance_root(known.cov))
    ours = FrechetDistance(chosen.dim)
    ours.set_real_statistics(Statistics(known.n, known.mean, known.cov, root))
    for metric in (theirs, ours):
        if metric is theirs:
            metric.update(real, real=True)
        metric.update(fake, real=False)
    statistics_1, statistics_2 = (fid_features_to_statistics(side) for side in (fake, real))

    def compute(metric: torchmetrics.Metric) -> float:
        metric._computed = None  # torchmetrics keeps the last value
        return float(metric.compute())

    sides = {
        "lit-gan": lambda: compute(ours),
        "torchmetrics": lambda: compute(theirs),
        "torch-fidelity": lambda: float(
            fid_statistics_to_metric(statistics_1, statistics_2, verbose=False)["frechet_inception_distance"]
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    values: dict[str, float] = {}
    for _ in range(chosen.rounds):
        for name, call in sides.items():
            values[name], seconds = timed(call)
            taken[name].append(seconds)

    about = f"{chosen.samples} + {chosen.samples} features of {chosen.dim} dimensions, float64"
    how = f"{chosen.rounds} rounds in turn, {chosen.threads} thread(s)"
    print(f"{about}; {how}, torch {torch.__version__}, torchmetrics {torchmetrics.__version__}")
    print(f"root of the reals' covariance, once: {root_seconds:.2f} s")
    for name, seconds in taken.items():
        ratios = [one / mine for one, mine in zip(seconds, taken["lit-gan"], strict=True)]
        difference = abs(values[name] - values["lit-gan"]) / values["lit-gan"]
        print(
            f"{name:<15}{statistics.median(seconds):>8.2f} s   {statistics.median(ratios):>6.1f} x lit-gan's time   "
            f"FID {values[name]:.9f}, relative difference {difference:.1e}"
        )


if __name__ == "__main__":
    main()
