"""Memorisation: the share of fakes that are no copies as `authenticity`, FID over a penalty for copies as
`mifid`.

Both compare fakes with the reals that the generator learnt from: FID is best for a copy of them.
`authenticity` is AuthPct of Alaa et al. 2022 (arXiv:2102.08921); their alpha-precision and beta-recall are left
out. `mifid` is the memorisation-informed FID of Bai et al. 2021 (arXiv:2106.03062): FID over the mean distance
of the *fakes* to their nearest real. torchmetrics 1.9 takes the mean over the *reals* of the distance to the
nearest fake instead, and so passes a generator of five copies, since most reals are far from those five.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gan.metrics.features import FeatureMetric
from lit_gan.metrics.frechet import FrechetDistance, Statistics, covariance_root
from lit_gan.metrics.neighbours import TILE, nearest, nearest_few, neighbour_radii
from lit_gan.metrics.protocol import Finding
from lit_gan.metrics.spread import GROUPS, jackknife_errors, means_without

THRESHOLD = 0.1  # of the cosine distance, from which on there is no penalty
SUSPECTS = 8  # fakes that `Authenticity` finds, each with
SHOWN = 5  # its nearest reals
LEAST = 1e-9  # smallest m: copies' features differ by float32 rounding, which must not decide the value


class Authenticity(FeatureMetric):
    """`update(features [B, D], real=...)`, `compute()` the share of authentic fakes in [0, 1], float64.

    A fake is authentic if it is farther from its nearest real than that real is from its own nearest. Unseen
    reals get 0.5 to 0.6, copies 0, and noise 1: what matters is a value far *below* the floor, and a
    value above it is no merit. Of several nearest reals the loneliest counts; a fake as near as the other
    real is not authentic. Its findings are the fakes for which the quotient of the two distances is smallest.
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0
    smallest = 2
    parts = ("value", "error")

    def real_terms(self, features: Tensor) -> dict[str, Tensor]:
        return {"radii": neighbour_radii(features, 1)}

    def compute(self) -> Tensor:
        distance, own = self._nearest()
        return (distance > own).double().mean()

    def values(self) -> dict[str, float]:
        return self._values(*self._nearest())

    def result(self) -> tuple[dict[str, float], list[Finding]]:
        distance, own = self._nearest()
        return self._values(distance, own), self._suspects(distance, own)

    def _values(self, distance: Tensor, own: Tensor) -> dict[str, float]:
        authentic = (distance > own).double()  # [M]
        left = {"value": means_without(authentic, self.groups())} if self.gives_errors() else {}
        return {"value": float(authentic.mean()), **jackknife_errors(left)}

    def _nearest(self) -> tuple[Tensor, Tensor]:
        """Distance [M] of each fake to its nearest real, and of that real to its own nearest."""
        self.check_counts(2, 1)
        (real, terms), fake = self.reals(), self.fakes()
        return nearest(fake, real, terms["radii"])

    def _suspects(self, distance: Tensor, own: Tensor) -> list[Finding]:
        (real, _), fake = self.reals(), self.fakes()
        ratio = torch.where(
            distance > 0, distance / own, 0.0
        )  # a copy of a real that is there twice has 0 too
        chosen = ratio.argsort(stable=True)[:SUSPECTS]
        distances, places = nearest_few(fake[chosen], real, min(SHOWN, len(real)))
        rows = zip(chosen.tolist(), places.tolist(), distances.tolist(), own[chosen].tolist(), strict=True)
        return [Finding(fake=number, reals=at, distances=far, own=near) for number, at, far, near in rows]


class MemorisationFID(FeatureMetric):
    """MiFID: `update(features [B, D], real=...)`, `compute()` FID / m, a float64 scalar.

    m is the mean over fakes of the least cosine distance 1 - |cos| to a real, where that is below
    `threshold`, and 1 otherwise. Features that all point one way, as after a ReLU, can have an m below the
    threshold for any fakes: read it beside its floor. The very set of reals has FID 0 and so MiFID 0, which
    `Authenticity` tells.
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    smallest = 2
    parts = ("value", "error")

    def __init__(self, dim: int, threshold: float = THRESHOLD, **kwargs: Any) -> None:
        super().__init__(dim, **kwargs)
        self.threshold = threshold

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"threshold={THRESHOLD}"

    def real_terms(self, features: Tensor) -> dict[str, Tensor]:
        known = _statistics(features)
        return {"mean": known.mean, "cov": known.cov, "root": covariance_root(known.cov)}

    def compute(self) -> Tensor:
        distances, apart = self._sums_and_distances(1)
        return self._penalised(distances.compute(), apart.mean())

    def values(self) -> dict[str, float]:
        gives_errors = self.gives_errors(2)
        distances, apart = self._sums_and_distances(GROUPS if gives_errors else 1)
        value = {"value": float(self._penalised(distances.compute(), apart.mean()))}
        if not gives_errors:
            return value
        left = self._penalised(distances.left_out(), means_without(apart, self.groups()))
        return {**value, **jackknife_errors({"value": left})}

    def _sums_and_distances(self, groups: int) -> tuple[FrechetDistance, Tensor]:
        """FID of these samples, with its sums in so many groups, and the least cosine distance [M] of each fake."""
        self.check_counts(2, 2)
        (real, terms), fake = self.reals(), self.fakes()
        # the samples are those of all ranks already
        fid = FrechetDistance(self.dim, groups=groups, samples=len(fake), sync_on_compute=False).to(
            self.device
        )
        fid.set_real_statistics(Statistics(len(real), terms["mean"], terms["cov"], terms["root"]))
        for numbers in torch.split(
            torch.arange(len(fake), device=fake.device), TILE
        ):  # no float64 copy of all features
            fid.update(fake[numbers], real=False, indices=numbers)
        return fid, nearest_cosine_distances(fake, real)

    def _penalised(self, fid: Tensor, m: Tensor) -> Tensor:
        return fid.to(m) / torch.where(m < self.threshold, m, 1.0).clamp_min(LEAST)


def nearest_cosine_distances(queries: Tensor, points: Tensor, tile: int = TILE) -> Tensor:
    """min over points [N, D] of 1 - |cos| for each query [M, D]: float64 [M], exactly 0 for a copy.

    A vector of zeros has the cosine 0 to everything.
    """
    distances = torch.empty(len(queries), dtype=torch.float64, device=queries.device)
    for start in range(0, len(queries), tile):
        rows = _unit(queries[start : start + tile])  # [m, D]
        cosine = rows.new_zeros(len(rows))
        closest = torch.zeros_like(rows)
        for first in range(0, len(points), tile):
            others = _unit(points[first : first + tile])  # [n, D]
            found, index = (rows @ others.T).abs().max(1)
            better = found > cosine
            cosine = torch.where(better, found, cosine)
            closest = torch.where(better[:, None], others[index], closest)
        # 1 - |cos| = |u -+ v|^2 / 2 of unit vectors, which keeps the digits that 1 - 0.99... loses
        apart = torch.minimum((rows - closest).square().sum(1), (rows + closest).square().sum(1)) / 2
        distances[start : start + tile] = torch.where(cosine > 0, apart, 1.0)
    return distances


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.double(), dim=1)


def _statistics(features: Tensor) -> Statistics:
    """Mean and covariance as FID has them, in tiles: no float64 copy of all features."""
    sums = FrechetDistance(features.shape[1], shift=features.mean(0)).to(features.device)
    for start in range(0, len(features), TILE):
        sums.update(features[start : start + TILE], real=True)
    return sums.statistics(real=True)
