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


def kernel_sums(x: Tensor, y: Tensor, tile: int = TILE) -> Tensor:
    """For each of x [N, D] the sum of (x_i . y_j / D + 1)^3 over all y [M, D]; float64 [N]."""
    sums = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for rows, place in zip(tiles(x, tile), tiles(sums, tile), strict=True):  # place: a view
        left = rows.double() / x.shape[1]
        for columns in tiles(y, tile):
            place += _cubed(left @ columns.double().T).sum(1)
    return sums


def other_sums(x: Tensor, tile: int = TILE) -> Tensor:
    """For each of x [N, D] the sum of (x_i . x_j / D + 1)^3 over all j != i; float64 [N], by half the tiles."""
    sums = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    parts, places = tiles(x, tile), tiles(sums, tile)  # places: views, part by part
    for i, (rows, place) in enumerate(zip(parts, places, strict=True)):
        left = rows.double() / x.shape[1]
        values = _cubed(left @ rows.double().T)
        place += values.sum(1) - values.diagonal()
        for columns, other in zip(parts[i + 1 :], places[i + 1 :], strict=True):
            values = _cubed(left @ columns.double().T)
            place += values.sum(1)
            other += values.sum(0)
    return sums


class KernelDistance(FeatureMetric):
    """KID of features [B, D]: `update(features, real=...)`, `compute()` a float64 scalar.

    `dim` is D. The kernel depends on the features' scale: those of home-made extractors must be standardised.
    """

    higher_is_better: bool = False
    smallest = 2
    parts = ("value", "error")

    def real_terms(self, features: Tensor) -> dict[str, Tensor]:
        return {"pairs": other_sums(features).sum()}

    def compute(self) -> Tensor:
        return self._distance_and_error()[0]

    def standard_error(self) -> Tensor:
        """How far the distance would be off with other fakes, as a standard deviation: a float64 scalar.

        To first order: the spread of what each fake adds (Hoeffding 1948), with the reals as given.
        """
        return self._distance_and_error()[1]

    def _distance_and_error(self) -> tuple[Tensor, Tensor]:
        self.check_counts(2, 2)
        (real, terms), fake = self.reals(), self.fakes()
        n, m = len(real), len(fake)
        within, across = other_sums(fake) / (m - 1), kernel_sums(fake, real) / n  # [M]: of each fake
        distance = terms["pairs"] / (n * (n - 1)) + within.mean() - 2 * across.mean()
        return distance, 2 * (within - across).std() / m**0.5

    def values(self) -> dict[str, float]:
        value, error = self._distance_and_error()
        return {"value": float(value), **({"error": float(error)} if self.errors else {})}


def tiles(rows: Tensor, size: int = TILE) -> list[Tensor]:
    """The rows in parts of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _cubed(similarity: Tensor) -> Tensor:
    return (similarity + 1) ** 3
