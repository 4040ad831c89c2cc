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

import torch
from torch import Tensor

from lit_gan.metrics.features import FeatureMetric
from lit_gan.metrics.neighbours import ball_counts, mutual_membership, neighbour_radii, radii_without
from lit_gan.metrics.spread import GROUPS, jackknife_errors, means_without


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
    parts = ("value", "error", "precision/error", "recall/error", "precision", "recall")
    plot_upper_bound: float = 1.0

    def compute(self) -> tuple[Tensor, Tensor]:
        self.check_counts(self.k + 1, self.k + 1)
        (real, terms), fake = self.reals(), self.fakes()
        radii = neighbour_radii(fake, self.k)[None]
        precise, recalled = mutual_membership(fake, radii, real, terms["radii"])
        return precise.double().mean(), recalled[0].double().mean()

    def values(self) -> dict[str, float]:
        if not self.gives_errors(self.k + 1):
            precision, recall = self.compute()
            errors = {}
        else:
            precise, recalled = self._without_groups()
            left_precision = means_without(precise, self.groups())
            left = {"precision": left_precision, "recall": recalled[1:].double().mean(1)}
            errors = jackknife_errors({"value": _harmonic_mean(*left.values()), **left})
            precision, recall = precise.double().mean(), recalled[0].double().mean()
        both = float(_harmonic_mean(precision, recall))
        return {"value": both, "precision": float(precision), "recall": float(recall), **errors}

    def _without_groups(self) -> tuple[Tensor, Tensor]:
        """Which fakes lie in a real's ball, [M], and which reals in a fake's: [1 + G, N], row 1 + g without group g.

        Without a group the balls of the others grow, where it held one of their k nearest.
        """
        self.check_counts(self.k + 1, self.k + 1)
        (real, terms), fake, group = self.reals(), self.fakes(), self.groups()
        radii = radii_without(fake, self.k, group)  # [1 + G, M]
        precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
        recalled = torch.zeros(1 + GROUPS, len(real), dtype=torch.bool, device=fake.device)
        for g in range(GROUPS):
            mine, others = group == g, torch.arange(1 + GROUPS, device=fake.device) != 1 + g
            precise[mine], found = mutual_membership(fake[mine], radii[others][:, mine], real, terms["radii"])
            recalled[others] |= found
        return precise, recalled


class DensityCoverage(_Balls):
    """`update(features [B, D], real=...)`, `compute()` density >= 0 and coverage in [0, 1], float64.

    Density is the number of reals' balls around a fake on average, over k; it can exceed 1 where fakes crowd
    at the reals' modes. Coverage is the share of reals that have a fake in their ball. The paper has k = 5.
    Equal distributions give 1 and, at equal numbers, about 1 - 2^-k. The score's value is the coverage: it
    needs fakes that are good and varied.
    """

    k_default = 5
    smallest = k_default + 1
    parts = ("value", "error", "density/error", "coverage/error", "density", "coverage")

    def compute(self) -> tuple[Tensor, Tensor]:
        self.check_counts(self.k + 1, 1)
        (real, terms), fake = self.reals(), self.fakes()
        around, inside = ball_counts(real, terms["radii"], fake)
        return around.double().mean() / self.k, (inside > 0).double().mean()

    def values(self) -> dict[str, float]:
        if not self.gives_errors():
            density, coverage = self.compute()
            errors = {}
        else:
            around, inside = self._by_groups()
            total = inside.sum(0)
            left = (total - inside > 0).double().mean(1)
            of_density = means_without(around, self.groups()) / self.k
            errors = jackknife_errors({"value": left, "density": of_density, "coverage": left})
            density, coverage = around.double().mean() / self.k, (total > 0).double().mean()
        return {"value": float(coverage), "density": float(density), "coverage": float(coverage), **errors}

    def _by_groups(self) -> tuple[Tensor, Tensor]:
        """How many balls hold each fake, [M], and how many fakes of each group a ball holds: [G, N]."""
        self.check_counts(self.k + 1, 1)
        (real, terms), fake, group = self.reals(), self.fakes(), self.groups()
        counts = [ball_counts(real, terms["radii"], fake[group == g]) for g in range(GROUPS)]
        # groups are of consecutive fakes
        return torch.cat([around for around, _ in counts]), torch.stack([inside for _, inside in counts])


def _harmonic_mean(precision: Tensor, recall: Tensor) -> Tensor:
    """2 P R / (P + R), and 0 where both are."""
    both = precision + recall
    return torch.where(both > 0, 2 * precision * recall / both, 0.0)
