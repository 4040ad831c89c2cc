"""FID extrapolated to infinitely many fakes (Chong & Forsyth 2020, arXiv:1911.07023).

FID of N fakes is too high by about slope / N, and the slope is the generator's own, so that FIDs of equal N
may be in the wrong order. Here FID is a line in 1 / N through N / 4, N / 2 and N fakes, and the score its
value at 0. The paper draws 15 random subsets from N / 10 on; here a seeded permutation of the numbers 0 to
N - 1 deals the fakes to 4 blocks, of whose halves the sums alone are kept, and every size is the mean over the disjoint
unions of blocks that have it: all of the fakes count at every size, and neither batches nor ranks matter.
Smaller sizes are left out, since they bend the line and do not steady it. The reals stay as many as they are:
their share of the bias remains, and is in the floor as well.

The standard error is a jackknife over the 8 halves of blocks. Leaving one out makes its block smaller than the others, so
each block counts by what is left of it, as FID and as 1 / N: then whatever is linear in the fakes is the same at every
size, the slope does not know of it, and the limit has it once.

At 2048 dimensions the halves are 8 x 33.5 MB, and the 7 eigenvalue problems (31 with the error) a second or a few each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.frechet import FrechetDistance, Statistics, frechet_distance
from lit_gan.metrics.spread import GROUPS, groups_of, jackknife, named_errors

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network

BLOCKS = 4
SPANS = (1, 2, 4)  # blocks in a union
CELLS = 2  # of a block, left out in turn for the error
SEED = 0  # of the permutation

Distances = dict[
    tuple[int, int], tuple[int, Tensor]
]  # number of fakes and FID of a union, by its first block and span


class InfiniteFID(FrechetDistance):
    """FID-infinity of features [B, D]: `update(features, real=..., indices=...)`, `compute()` a float64 scalar.

    `dim` is D and `samples` the number N of fakes that there will be; `indices` [B] are the fakes' numbers,
    each of 0 to N - 1 once over all ranks. The value is not biased by N, so it may be a little below 0 where
    the generator is perfect. N should be 10 D or more, where the value misses a twentieth of FID's bias: at 5 D
    it is a sixth, and at 2 D, with covariances that are singular or nearly so, more than a third.
    """

    smallest = 2 * BLOCKS
    parts = ("value", "error", "limit", "slope", "r2", "limit/error", "slope/error")

    cell_of: Tensor

    def __init__(self, dim: int, samples: int, *, shift: Tensor | None = None, **kwargs: Any) -> None:
        if samples < self.smallest:
            raise ValueError(f"samples must be at least {self.smallest}, got {samples}")
        super().__init__(dim, shift=shift, **kwargs)
        self.samples = samples
        self.cells = CELLS if groups_of(samples) > 1 else 1  # of a block
        self.add_side("fake", BLOCKS * self.cells)  # in place of the one sum; block by block
        # whatever order the fakes come in, sorted by class even, a block is a random part of them
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(SEED))
        cell = order % BLOCKS * self.cells + order // BLOCKS % self.cells
        self.register_buffer("cell_of", cell, persistent=False)  # [N]

    @classmethod
    def build(cls, network: Network, samples: int) -> Self:
        return cls(network.dim, samples, sync_on_compute=False)

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
        cells = self.cell_of[indices.to(self.device)]
        for cell in range(BLOCKS * self.cells):
            self._add("fake", cell, centred[cells == cell])

    def compute(self) -> Tensor:
        return self.fit()[0].to(self.device)

    def statistics(self, *, real: bool) -> Statistics:
        return super().statistics(real=True) if real else self._union(0, BLOCKS)

    def standard_error(self) -> Tensor:
        """How far the limit would be off with other fakes, as a standard deviation: a float64 scalar.

        By the jackknife over the halves of blocks, so that what the line's end adds to FID's own error is in it. Where the
        generator is so good that FID is all bias it is too large, by up to four fifths.
        """
        real = self.real_with_root()
        return self._errors(real, self._distances(real))[0].to(self.device)

    def fit(self) -> tuple[Tensor, Tensor, Tensor]:
        """The line's value at 1 / N = 0, its slope in FID x samples, and the share r2 of the variance of the
        three FIDs that it explains; of the states as they stand.
        """
        return self._fit(self._distances(self.real_with_root()))

    def _distances(self, real: Statistics, left_out: int | None = None) -> Distances:
        """The FIDs to `real` of all unions of blocks; with `left_out`, of those alone that hold this cell, without it."""
        if int(self.fake_n.sum()) != self.samples:
            raise ValueError(f"expected {self.samples} fake samples, got {int(self.fake_n.sum())}")
        found = {}
        for span in SPANS:
            for first in range(0, BLOCKS, span):
                if left_out is None or first <= left_out // self.cells < first + span:
                    fake = self._union(first, span, left_out)
                    distance = frechet_distance(real.mean, real.cov, fake.mean, fake.cov, root1=real.root)
                    found[first, span] = fake.n, distance
        return found

    def _fit(self, found: Distances, left_out: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`fit` of these distances, made without the cell `left_out`."""
        sizes, values = [], []
        for span in SPANS:
            weights = dict.fromkeys(range(0, BLOCKS, span), span * self.cells)  # cells: all blocks are alike
            if left_out is not None:
                weights[left_out // self.cells // span * span] -= 1
            parts = [
                (*found[first, span], weight / sum(weights.values())) for first, weight in weights.items()
            ]
            sizes.append(sum(share / n for n, _, share in parts))
            values.append(torch.stack([share * distance for _, distance, share in parts]).sum())
        # the means over disjoint parts are about equally noisy at every size: no weights
        return _line(torch.tensor(sizes, dtype=torch.float64), torch.stack(values).cpu())

    def _errors(self, real: Statistics, found: Distances) -> Tensor:
        """Standard errors of limit and slope, [2]; `found` are the distances with all cells."""
        if self.cells == 1:
            raise ValueError(f"a standard error needs {2 * GROUPS} fakes, there are {self.samples}")
        left = []
        for cell in range(BLOCKS * self.cells):
            limit, slope, _ = self._fit({**found, **self._distances(real, cell)}, cell)
            left.append(torch.stack([limit, slope]))
        return jackknife(torch.stack(left))

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        self.update(features, real, indices)

    def values(self) -> dict[str, float]:
        real = self.real_with_root()
        found = self._distances(real)
        limit, slope, r2 = (float(value) for value in self._fit(found))
        values = {"value": limit, "limit": limit, "slope": slope, "r2": r2}
        if self.errors and self.cells > 1:
            of_limit, of_slope = self._errors(real, found).tolist()
            values |= named_errors({"limit": of_limit, "slope": of_slope}, of_value="limit")
        return values

    def _union(self, first: int, span: int, left_out: int | None = None) -> Statistics:
        chosen = slice(first * self.cells, (first + span) * self.cells)
        sums = self.fake_n, self.fake_sum, self.fake_outer
        if left_out is None:
            return self.gaussian("fake", *(each[chosen].sum(0) for each in sums))
        return self.gaussian("fake", *(each[chosen].sum(0) - each[left_out] for each in sums))


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Least squares of y [S] over x [S]: intercept, slope, r2."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx * dy).sum() / dx.square().sum()
    missed, spread = (dy - slope * dx).square().sum(), dy.square().sum()
    r2 = 1 - missed / spread if spread > 0 else torch.ones_like(slope)  # a level line misses nothing
    return y.mean() - slope * x.mean(), slope, r2
