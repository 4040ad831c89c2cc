"""Kernel distance: the unbiased squared MMD under a cubic polynomial kernel (Bińkowski et al. 2018,
arXiv:1801.01401).

The full-sample U-statistic, in tiles: deterministic, no random subsets, unequal numbers of reals and fakes
allowed. Its mean over samples is 0 for equal distributions at any N, so values below 0 are ordinary. Papers
print it x 1000.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_gan.metrics.features import FeatureMetric

TILE = 2048  # rows of either side at a time: 33.5 MB of kernel values


def kernel_sum(x: Tensor, y: Tensor, tile: int = TILE) -> Tensor:
    """Sum of (x_i . y_j / D + 1)^3 over all pairs of x [N, D] and y [M, D]; a float64 scalar."""
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    for rows in tiles(x, tile):
        left = rows.double() / x.shape[1]
        for columns in tiles(y, tile):
            total += _cubed(left @ columns.double().T).sum()
    return total


def distinct_pairs_sum(x: Tensor, tile: int = TILE) -> Tensor:
    """Sum of (x_i . x_j / D + 1)^3 over all i != j of x [N, D]; a float64 scalar, by half the tiles."""
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    parts = tiles(x, tile)
    for i, rows in enumerate(parts):
        left = rows.double() / x.shape[1]
        values = _cubed(left @ rows.double().T)
        total += values.sum() - values.diagonal().sum()
        for columns in parts[i + 1 :]:
            total += 2 * _cubed(left @ columns.double().T).sum()
    return total


class KernelDistance(FeatureMetric):
    """KID of features [B, D]: `update(features, real=...)`, `compute()` a float64 scalar.

    `dim` is D. The kernel depends on the features' scale: those of home-made extractors must be standardised.
    """

    higher_is_better: bool = False
    smallest = 2

    def real_terms(self, features: Tensor) -> dict[str, Tensor]:
        return {"pairs": distinct_pairs_sum(features)}

    def compute(self) -> Tensor:
        self.check_counts(2, 2)
        (real, terms), fake = self.reals(), self.rows("fake")
        n, m = len(real), len(fake)
        within = terms["pairs"] / (n * (n - 1)) + distinct_pairs_sum(fake) / (m * (m - 1))
        return within - 2 * kernel_sum(real, fake) / (n * m)


def tiles(rows: Tensor, size: int = TILE) -> list[Tensor]:
    """The rows in parts of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _cubed(similarity: Tensor) -> Tensor:
    return (similarity + 1) ** 3
