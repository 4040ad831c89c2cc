"""FID extrapolated to infinitely many fakes (Chong & Forsyth 2020, arXiv:1911.07023).

FID of N fakes is too high by about slope / N, and the slope is the generator's own, so that FIDs of equal N
may be in the wrong order. Here FID is a line in 1 / N through N / 4, N / 2 and N fakes, and the score its
value at 0. The paper draws 15 random subsets from N / 10 on; here a seeded permutation of the numbers 0 to
N - 1 deals the fakes to 4 blocks, whose sums alone are kept, and every size is the mean over the disjoint
unions of blocks that have it: all of the fakes count at every size, and neither batches nor ranks matter.
Smaller sizes are left out, since they bend the line and do not steady it. The reals stay as many as they are:
their share of the bias remains, and is in the floor as well.

At 2048 dimensions the blocks are 4 x 33.5 MB, and the 7 eigenvalue problems a second or a few each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.frechet import FrechetDistance, Statistics, covariance_root, frechet_distance

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Extractor

BLOCKS = 4  # a power of 2
SEED = 0  # of the permutation


class InfiniteFID(FrechetDistance):
    """FID-infinity of features [B, D]: `update(features, real=..., indices=...)`, `compute()` a float64 scalar.

    `dim` is D and `samples` the number N of fakes that there will be; `indices` [B] are the fakes' numbers,
    each of 0 to N - 1 once over all ranks. The value is not biased by N, so it may be a little below 0 where
    the generator is perfect. N should be 10 D or more, where the value misses a twentieth of FID's bias: at 5 D
    it is a sixth, and at 2 D, with covariances that are singular or nearly so, more than a third.
    """

    smallest = 2 * BLOCKS
    parts = ("value", "limit", "slope", "r2")

    block_of: Tensor

    def __init__(self, dim: int, samples: int, *, shift: Tensor | None = None, **kwargs: Any) -> None:
        if samples < self.smallest:
            raise ValueError(f"samples must be at least {self.smallest}, got {samples}")
        super().__init__(dim, shift=shift, **kwargs)
        self.samples = samples
        self.add_side("fake", BLOCKS)  # in place of the one sum
        # whatever order the fakes come in, sorted by class even, a block is a random part of them
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(SEED))
        self.register_buffer("block_of", order % BLOCKS, persistent=False)  # [N]

    @classmethod
    def build(cls, extractor: Extractor, samples: int) -> Self:
        return cls(extractor.dim, samples, sync_on_compute=False)

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"sizes N/{BLOCKS} to N"

    def update(self, features: Tensor, real: bool, indices: Tensor | None = None) -> None:
        """Adds features [B, D] of reals, or of the fakes numbered `indices` [B]; B may be 0."""
        if real:
            super().update(features, real=True)
            return
        if indices is None or len(indices) != len(features):
            got = "none" if indices is None else str(tuple(indices.shape))
            raise ValueError(f"fakes need a number each, indices [{len(features)}], got {got}")
        centred = self.centred(features)  # [B, D]
        blocks = self.block_of[indices.to(self.device)]
        for block in range(BLOCKS):
            rows = centred[blocks == block]
            self.fake_n[block] += len(rows)
            self.fake_sum[block] += rows.sum(0)
            self.fake_outer[block].addmm_(rows.T, rows)  # in place: no second set of blocks for a batch

    def compute(self) -> Tensor:
        return self.fit()[0].to(self.device)

    def statistics(self, *, real: bool) -> Statistics:
        return super().statistics(real=True) if real else self._union(0, BLOCKS)

    def fit(self) -> tuple[Tensor, Tensor, Tensor]:
        """The line's value at 1 / N = 0, its slope in FID x samples, and the share r2 of the variance of the
        three FIDs that it explains; of the states as they stand.
        """
        if int(self.fake_n.sum()) != self.samples:
            raise ValueError(f"expected {self.samples} fake samples, got {int(self.fake_n.sum())}")
        real = self.statistics(real=True)
        root = covariance_root(real.cov) if real.root is None else real.root
        sizes: list[float] = []
        values: list[Tensor] = []
        span = 1
        while span <= BLOCKS:
            parts = [self._union(first, span) for first in range(0, BLOCKS, span)]
            distances = [frechet_distance(real.mean, real.cov, p.mean, p.cov, root1=root) for p in parts]
            sizes.append(sum(1 / part.n for part in parts) / len(parts))
            values.append(torch.stack(distances).mean())
            span *= 2
        # the means over disjoint parts are about equally noisy at every size: no weights
        return _line(torch.tensor(sizes, dtype=torch.float64), torch.stack(values).cpu())

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        self.update(features, real, indices)

    def values(self) -> dict[str, float]:
        limit, slope, r2 = (float(value) for value in self.fit())
        return {"value": limit, "limit": limit, "slope": slope, "r2": r2}

    def _union(self, first: int, span: int) -> Statistics:
        chosen = slice(first, first + span)
        return self.gaussian(
            "fake", self.fake_n[chosen].sum(0), self.fake_sum[chosen].sum(0), self.fake_outer[chosen].sum(0)
        )


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least squares of y [S] over x [S]: intercept, slope, r2."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx * dy).sum() / dx.square().sum()
    missed, spread = (dy - slope * dx).square().sum(), dy.square().sum()
    r2 = 1 - missed / spread if spread > 0 else torch.ones_like(slope)  # a level line misses nothing
    return y.mean() - slope * x.mean(), slope, r2
