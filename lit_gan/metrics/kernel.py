"""Kernel distance: the unbiased squared MMD under a cubic polynomial kernel (Bińkowski et al. 2018,
arXiv:1801.01401).

The full-sample U-statistic, in tiles: deterministic, no random subsets, unequal numbers of reals and fakes
allowed. Its mean over samples is 0 for equal distributions at any N, so values below 0 are ordinary. Papers
print it x 1000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.sums import Arrays, EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Extractor

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


class PairMetric(EvaluationMetric):
    """A metric of all pairs of features: `update(features [B, D], real=...)`, B may be 0.

    Features are kept, as float32; at sync they are gathered with exact counts. A subclass gives
    `within(features)`, the sum over pairs of one side: that of the reals is cached with them.
    """

    higher_is_better: bool = False

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")
        self._known: tuple[Tensor, Tensor] | None = None  # reals [N, D] and `within` of them

    @classmethod
    def build(cls, extractor: Extractor, samples: int) -> Self:
        return cls(extractor.dim, sync_on_compute=False)

    def within(self, features: Tensor) -> Tensor:
        """The sum over pairs of features [N, D] of one side, a float64 scalar."""
        raise NotImplementedError

    def empty_rows(self, name: str) -> Tensor:
        return torch.zeros(0, self.dim, device=self.device)

    def update(self, features: Tensor, real: bool) -> None:
        """Adds features [B, D] of reals or fakes; B may be 0."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features must be [B, {self.dim}], got {tuple(features.shape)}")
        if real and self._known is not None:
            raise ValueError("the real features are set: reals cannot be added to them")
        (self.real if real else self.fake).append(features.detach().float().to(self.device))

    def set_real_features(self, features: Tensor, pairs_sum: Tensor | None = None) -> None:
        """Takes the reals [N, D] as given, with their sum over pairs where it is known."""
        if self.real:
            raise ValueError("the real features must be set before the first real update")
        features = features.detach().float().to(self.device)
        self._known = (features, self.within(features) if pairs_sum is None else pairs_sum)

    def real_features(self) -> tuple[Tensor, Tensor]:
        """The reals [N, D] and the sum over their pairs."""
        if self._known is not None:
            return self._known
        features = self.rows("real")
        return features, self.within(features)

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        self.update(features, real=real)

    def real_state(self) -> Arrays:
        features, pairs = self.real_features()
        return {"features": features.cpu().numpy(), "pairs": pairs.cpu().numpy()}

    def set_real_state(self, arrays: Arrays) -> None:
        self.set_real_features(torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["pairs"]))


class KernelDistance(PairMetric):
    """KID of features [B, D]: `update(features, real=...)`, `compute()` a float64 scalar.

    `dim` is D. The kernel depends on the features' scale: those of home-made extractors must be standardised.
    """

    smallest = 2

    def within(self, features: Tensor) -> Tensor:
        return distinct_pairs_sum(features)

    def compute(self) -> Tensor:
        real, real_pairs = self.real_features()
        fake = self.rows("fake")
        n, m = len(real), len(fake)
        if min(n, m) < 2:
            raise ValueError(f"a kernel distance needs 2 real and 2 fake samples, got {n} and {m}")
        within = real_pairs.to(fake.device) / (n * (n - 1)) + self.within(fake) / (m * (m - 1))
        return within - 2 * kernel_sum(real, fake) / (n * m)


def tiles(rows: Tensor, size: int = TILE) -> list[Tensor]:
    """The rows in parts of `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _cubed(similarity: Tensor) -> Tensor:
    return (similarity + 1) ** 3
