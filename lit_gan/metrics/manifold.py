"""Precision and recall as `pr`, density and coverage as `dc`: quality and variety apart, by balls around
features.

A side's manifold is the union of the balls around its samples that reach to the k-th neighbour among
themselves. `pr` asks which samples lie on the other side's manifold (Kynkäänniemi et al. 2019,
arXiv:1904.06991). `dc` (Naeem et al. 2020, arXiv:2002.09797) uses the balls of the reals only, and counts
them, so that one outlier with a huge ball does not pass bad fakes.

Balls are closed (<=). So they are in the paper of `pr` and in its authors', StyleGAN's and torch-fidelity's code; the
authors' code for `dc` has <, and there only copies differ: the density of the reals themselves is (k + 1) / k
here and 1 there. With < a copy of a real that has k duplicates would lie in no ball. Left out: the realism
score, and truncation curves.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lit_gan.metrics.features import FeatureMetric
from lit_gan.metrics.neighbours import ball_counts, mutual_membership, neighbour_radii


class _Balls(FeatureMetric):
    """What both have: k, and the radii of the reals, which are cached."""

    k_default: int
    higher_is_better: bool = True
    plot_lower_bound: float = 0.0

    def __init__(self, dim: int, k: int | None = None, **kwargs: Any) -> None:
        super().__init__(dim, **kwargs)
        self.k = self.k_default if k is None else k
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"k={cls.k_default}"

    def real_terms(self, features: Tensor) -> dict[str, Tensor]:
        return {"radii": neighbour_radii(features, self.k)}


class PrecisionRecall(_Balls):
    """`update(features [B, D], real=...)`, `compute()` precision and recall in [0, 1], float64.

    Precision is the share of fakes that lie in some real's ball, recall the share of reals in some fake's.
    The paper has k = 3. Equal distributions do not give 1: 0.8 each in 16 dimensions, 0.6 in 64. The score's
    value is their harmonic mean, since either alone is won by a generator without the other.
    """

    k_default = 3
    smallest = k_default + 1
    parts = ("value", "precision", "recall")
    plot_upper_bound: float = 1.0

    def compute(self) -> tuple[Tensor, Tensor]:
        self.check_counts(self.k + 1, self.k + 1)
        (real, terms), fake = self.reals(), self.fakes()
        radii = neighbour_radii(fake, self.k)[None]
        precise, recalled = mutual_membership(fake, radii, real, terms["radii"])
        return precise.double().mean(), recalled[0].double().mean()

    def values(self) -> dict[str, float]:
        precision, recall = (float(value) for value in self.compute())
        both = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return {"value": both, "precision": precision, "recall": recall}


class DensityCoverage(_Balls):
    """`update(features [B, D], real=...)`, `compute()` density >= 0 and coverage in [0, 1], float64.

    Density is the number of reals' balls around a fake on average, over k; it can exceed 1 where fakes crowd
    at the reals' modes. Coverage is the share of reals that have a fake in their ball. The paper has k = 5.
    Equal distributions give 1 and, at equal numbers, about 1 - 2^-k. The score's value is the coverage: it
    needs fakes that are good and varied.
    """

    k_default = 5
    smallest = k_default + 1
    parts = ("value", "density", "coverage")

    def compute(self) -> tuple[Tensor, Tensor]:
        self.check_counts(self.k + 1, 1)
        (real, terms), fake = self.reals(), self.fakes()
        around, inside = ball_counts(real, terms["radii"], fake)
        return around.double().mean() / self.k, (inside > 0).double().mean()

    def values(self) -> dict[str, float]:
        density, coverage = (float(value) for value in self.compute())
        return {"value": coverage, "density": density, "coverage": coverage}
