"""Share of bins whose numbers of fakes and reals differ, NDB / K (Richardson & Weiss 2018, arXiv:1805.12462).

The bins are the K cells of a k-means of the reals. A bin is different where a two-proportion z-test with the
pooled standard error says so at alpha = 0.05: about alpha of them for a perfect generator, more where modes
are dropped. JS is the Jensen-Shannon divergence of the bins' shares in nats, at most log 2. The paper bins
pixels; here it is the extractor's features, without its optional whitening.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.collectives import broadcast, broadcast_floats
from lit_gan.metrics.kernel import tiles
from lit_gan.metrics.spread import (
    check_groups,
    grouped_counts,
    groups_of,
    jackknife,
    named_errors,
    passing_error,
)
from lit_gan.metrics.sums import Arrays, EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network

BINS = 100  # at most, as in the paper
PER_BIN = 20  # reals at least, on average: the z-test takes counts for normal
ALPHA = 0.05
SEED = 0  # of the k-means


@dataclass(frozen=True)
class Bins:
    """Centres [K, D] float64 and how many reals are in each bin [K] float64."""

    centres: Tensor
    counts: Tensor

    def count(self, features: Tensor) -> Tensor:
        """How many of features [N, D] have each centre for their nearest, [K] float64."""
        return torch.bincount(self.nearest(features), minlength=len(self.centres)).to(self.counts)

    def nearest(self, features: Tensor) -> Tensor:
        """The bin [N] of each of features [N, D]."""
        nearest = [torch.cdist(rows.double(), self.centres).argmin(1) for rows in tiles(features)]
        return torch.cat(nearest) if nearest else torch.zeros(0, dtype=torch.int64, device=features.device)


def fit_bins(features: Tensor) -> Bins:
    """The bins of reals [N, D]: one for every 20 of them, 2 to 100. The order of the rows is of no account."""
    from sklearn.cluster import KMeans

    if len(features) < 2:
        raise ValueError(f"bins need 2 real samples, got {len(features)}")
    # k-means++ draws rows by number, and ranks bring theirs in any order: one that the rows themselves decide
    direction = torch.randn(
        features.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(SEED)
    )
    ordered = features[(features.double() @ direction.to(features.device)).argsort()]
    number = max(2, min(BINS, len(features) // PER_BIN))
    means = KMeans(number, n_init=1, max_iter=100, random_state=SEED).fit(ordered.cpu().numpy())
    centres = torch.from_numpy(means.cluster_centers_).to(features.device, torch.float64)
    bins = Bins(centres, torch.zeros(number, dtype=torch.float64, device=features.device))
    return Bins(centres, bins.count(features))


def different_bins(real: Tensor, fake: Tensor, alpha: float = ALPHA) -> Tensor:
    """Which bins differ, bool [K], by the counts [K] of either side (two-sided, pooled standard error)."""
    return _excess(real, fake, alpha) > 0


def _excess(real: Tensor, fake: Tensor, alpha: float = ALPHA) -> Tensor:
    """How far the shares [K] are apart, beyond what the test allows; 0 of a bin that is empty on both sides."""
    n, m = real.sum(), fake.sum()
    pooled = (real + fake) / (n + m)
    error = (pooled * (1 - pooled) * (1 / n + 1 / m)).sqrt()
    limit = torch.special.ndtri(torch.tensor(1 - alpha / 2, dtype=torch.float64)).to(error)
    excess: Tensor = (real / n - fake / m).abs() - limit * error
    return excess


def jensen_shannon(real: Tensor, fake: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats of two histograms [K] of counts."""
    p, q = real / real.sum(), fake / fake.sum()
    middle = (p + q) / 2

    def divergence(side: Tensor) -> Tensor:
        terms: Tensor = torch.special.xlogy(side, side) - torch.special.xlogy(side, middle)
        return terms.sum()

    return ((divergence(p) + divergence(q)) / 2).clamp_min(0)


class BinDistance(EvaluationMetric):
    """NDB / K and JS of features [B, D]: `update(features, real=...)`, `compute()` both as float64 scalars.

    `dim` is D. Once the bins are known (`set_bins`) fakes are counted as they come; before, features of both
    sides are kept as float32, and the k-means is made at `compute()`. With `groups` > 1, fakes carry numbers below
    `samples` and are counted in groups, for the errors in `values`.
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    smallest = 2 * PER_BIN
    parts = ("value", "error", "ndb", "js", "ndb/error", "js/error")

    real: list[Tensor]
    fake: list[Tensor]
    fake_numbers: list[Tensor]
    fake_counts: Tensor

    def __init__(self, dim: int, *, groups: int = 1, samples: int = 0, **kwargs: Any) -> None:
        check_groups(groups, samples)
        super().__init__(**kwargs)
        self.dim, self.groups, self.samples = dim, groups, samples
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")
        self.add_state("fake_numbers", [], dist_reduce_fx="cat")
        self.add_sum("fake_counts", groups, BINS)  # of the bins that are there
        self._bins: Bins | None = None

    @classmethod
    def build(cls, network: Network, samples: int) -> Self:
        return cls(network.dim, groups=groups_of(samples), samples=samples, sync_on_compute=False)

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"bins of {PER_BIN} reals, at most {BINS}, alpha={ALPHA:g}"

    def empty_rows(self, name: str) -> Tensor:
        if name.endswith("_numbers"):
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        return torch.zeros(0, self.dim, device=self.device)

    def update(self, features: Tensor, real: bool, indices: Tensor | None = None) -> None:
        """Adds features [B, D] of reals or fakes; B may be 0. Fakes have numbers [B] where there are groups."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features must be [B, {self.dim}], got {tuple(features.shape)}")
        if real and self._bins is not None:
            raise ValueError("the bins are set: reals cannot be added to them")
        features = features.detach().float().to(self.device)
        if real:
            self.real.append(features)
        elif self._bins is not None:
            self.fake_counts = self.fake_counts + self._counted(self._bins, features, indices)
        else:
            if self.groups > 1 and (indices is None or len(indices) != len(features)):
                raise ValueError(
                    "fakes in groups need their numbers: update(features, real=False, indices=...)"
                )
            numbers = (
                torch.zeros(len(features)) if indices is None else indices
            )  # of one group: of no account
            self.fake.append(features)
            self.fake_numbers.append(numbers.to(self.device, torch.int64))

    def set_bins(self, bins: Bins) -> None:
        """Takes bins with their reals as given (the same on every rank)."""
        if self.real or self.fake:
            raise ValueError("the bins must be set before the first update")
        self._bins = Bins(bins.centres.to(self.fake_counts), bins.counts.to(self.fake_counts))

    def compute(self) -> tuple[Tensor, Tensor]:
        bins, fake = self._both_sides()
        ndb, js = self._distances(bins, fake.sum(0))
        return ndb, js

    def _errors(self, bins: Bins, fake: Tensor) -> Tensor:
        """How far NDB and JS would be off with other fakes of counts [G, K], as standard deviations [2].

        The bins and their reals are taken as given. That of JS is the jackknife over groups; that of NDB counts the bins
        near the test's limit.
        """
        counts = fake.sum(0)
        share = counts / counts.sum()
        beyond = _excess(bins.counts, counts) / (share * (1 - share) / counts.sum()).sqrt()
        ndb = passing_error(beyond.nan_to_num(-torch.inf)) / len(counts)  # nan: an empty bin on both sides
        js = jackknife(torch.stack([jensen_shannon(bins.counts, counts - group) for group in fake]))
        return torch.stack([ndb, js])

    def _both_sides(self) -> tuple[Bins, Tensor]:
        """The bins with their reals, and the counts [G, K] of the fakes."""
        bins = self._fitted()
        kept = self._counted(bins, self.rows("fake"), self.rows("fake_numbers"))
        fake = (self.fake_counts + kept)[:, : len(bins.counts)]
        if fake.sum() < 1:
            raise ValueError("bins need fake samples, got none")
        return bins, fake

    @staticmethod
    def _distances(bins: Bins, fake: Tensor) -> Tensor:
        """NDB and JS, [2], of the counts [K] of fakes."""
        ndb = different_bins(bins.counts, fake).double().mean()
        return torch.stack([ndb, jensen_shannon(bins.counts, fake)])

    def _fitted(self) -> Bins:
        return fit_bins(self.rows("real")) if self._bins is None else self._bins

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        self.update(features, real, None if real else indices)

    def real_state(self) -> Arrays:
        bins = self._fitted()
        return {"centres": bins.centres.cpu().numpy(), "counts": bins.counts.cpu().numpy()}

    def set_real_state(self, arrays: Arrays) -> None:
        self.set_bins(Bins(torch.from_numpy(arrays["centres"]), torch.from_numpy(arrays["counts"])))

    def share(self) -> None:
        mine = 0.0 if self._bins is None else float(len(self._bins.counts))
        number = int(broadcast_floats([mine])[0])
        bins = self._bins or Bins(self.fake_counts.new_zeros(number, self.dim), self.fake_counts[:number])
        self._bins = Bins(broadcast(bins.centres), broadcast(bins.counts))

    def values(self) -> dict[str, float]:
        bins, fake = self._both_sides()
        ndb, js = self._distances(bins, fake.sum(0)).tolist()
        values = {"value": ndb, "ndb": ndb, "js": js}
        if self.errors and self.groups > 1:
            errors = dict(zip(("ndb", "js"), self._errors(bins, fake).tolist(), strict=True))
            values |= named_errors(errors, of_value="ndb")
        return values

    def _counted(self, bins: Bins, features: Tensor, indices: Tensor | None) -> Tensor:
        """The fakes of each group in each bin, [G, BINS]: `BINS` of them are at most there."""
        return grouped_counts(bins.nearest(features), indices, BINS, samples=self.samples, groups=self.groups)
