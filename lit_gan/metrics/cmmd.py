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

SIGMA = 10.0
SCALE = 1000.0


def gap_sum(x: Tensor, y: Tensor, tile: int = TILE) -> Tensor:
    """Sum of 1 - exp(-|x_i - y_j|^2 / (2 sigma^2)) over all pairs of x [N, D] and y [M, D] of length 1; a
    float64 scalar.

    Unit vectors are never further apart than 2, so that the kernel lies in [0.98, 1]: what it lacks of 1 is
    summed, or half of the digits would go.
    """
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for rows in tiles(x, tile):
        left = F.normalize(rows.double(), dim=1)
        for columns in tiles(y, tile):
            total += _gaps(left, F.normalize(columns.double(), dim=1)).sum()
    return total


class CMMD(FeatureMetric):
    """CMMD of features [B, D]: `update(features, real=...)`, `compute()` a float64 scalar >= 0.

    `dim` is D. Features of any length are taken, and normalised. Two point masses at a distance d of one
    another get 2000 (1 - exp(-d^2 / 200)).
    """

    plot_lower_bound: float = 0.0

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"sigma={SIGMA:g}, x{SCALE:g}, biased"

    def real_terms(self, features: Tensor) -> dict[str, Tensor]:
        return {"gaps": gap_sum(features, features)}

    def compute(self) -> Tensor:
        self.check_counts(1, 1)
        (real, terms), fake = self.reals(), self.fakes()
        n, m = len(real), len(fake)
        apart = 2 * gap_sum(real, fake) / (n * m)
        squared = apart - terms["gaps"] / n**2 - gap_sum(fake, fake) / m**2
        return SCALE * squared.clamp_min(0)  # rounding: equal sets would end at -1e-17


def _gaps(x: Tensor, y: Tensor) -> Tensor:
    squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T  # [N, M]
    return -torch.expm1(-squared.clamp_min(0) / (2 * SIGMA**2))
