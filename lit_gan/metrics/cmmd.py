"""Squared MMD under a Gaussian kernel of normalised embeddings, made for CLIP's (Jayasumana et al. 2024,
arXiv:2401.09603).

As in the paper and its code: sigma 10, embeddings of length 1, the biased V-statistic (the means take in
every sample's pair with itself), x 1000. Unlike FID it assumes no Gaussian and is steady from some thousand
samples on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gan.metrics.features import FeatureMetric
from lit_gan.metrics.kernel import TILE, tiles
from lit_gan.metrics.spread import GROUPS

SIGMA = 10.0
SCALE = 1000.0


def gap_sums(x: Tensor, y: Tensor, tile: int = TILE) -> Tensor:
    """For each of x [N, D] the sum of 1 - exp(-|x_i - y_j|^2 / (2 sigma^2)) over all y [M, D], both brought to length 1;
    float64 [N].

    Unit vectors are never further apart than 2, so that the kernel lies in [0.98, 1]: what it lacks of 1 is
    summed, or half of the digits would go.
    """
    sums = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for rows, place in zip(tiles(x, tile), tiles(sums, tile), strict=True):  # place: a view
        left = F.normalize(rows.double(), dim=1)
        for columns in tiles(y, tile):
            place += _gaps(left, F.normalize(columns.double(), dim=1)).sum(1)
    return sums


class CMMD(FeatureMetric):
    """CMMD of features [B, D]: `update(features, real=...)`, `compute()` a float64 scalar >= 0.

    `dim` is D. Features of any length are taken, and normalised. Two point masses at a distance d of one
    another get 2000 (1 - exp(-d^2 / 200)).
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    parts = ("value", "error")

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"sigma={SIGMA:g}, x{SCALE:g}, biased"

    def real_terms(self, features: Tensor) -> dict[str, Tensor]:
        return {"gaps": gap_sums(features, features).sum()}

    def compute(self) -> Tensor:
        return self._distance_and_error()[0]

    def standard_error(self) -> Tensor:
        """How far CMMD would be off with other fakes, as a standard deviation: a float64 scalar, NaN for a single fake.

        The jackknife that leaves out one of the m fakes at a time, with the reals as given. For the biased V-statistic it
        has the closed form 2 sd(k_i) / sqrt(m), where k_i is fake i's sum of the kernel with all fakes over m - 1, less its
        mean with the reals, and sd has m - 1 in its denominator: without fake i the double sum of m^2 pairs loses
        2 sum_j k(y_i, y_j) - 1 and is divided by (m - 1)^2, and the constant 1 of its pair with itself is of no account.
        """
        return self._distance_and_error()[1]

    def _distance_and_error(self) -> tuple[Tensor, Tensor]:
        self.check_counts(1, 1)
        (real, terms), fake = self.reals(), self.fakes()
        n, m = len(real), len(fake)
        within, across = gap_sums(fake, fake), gap_sums(fake, real) / n  # [M]: of each fake
        squared = 2 * across.mean() - terms["gaps"] / n**2 - within.sum() / m**2
        error = (
            2 * (within / (m - 1) - across).std() / m**0.5 if m > 1 else torch.full_like(squared, torch.nan)
        )
        return SCALE * squared.clamp_min(0), SCALE * error  # rounding: equal sets would end at -1e-17

    def values(self) -> dict[str, float]:
        value, error = self._distance_and_error()
        several = self.errors and len(self.rows("fake")) >= 2 * GROUPS
        return {"value": float(value), **({"error": float(error)} if several else {})}


def _gaps(x: Tensor, y: Tensor) -> Tensor:
    squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T  # [N, M]
    return -torch.expm1(-squared.clamp_min(0) / (2 * SIGMA**2))
