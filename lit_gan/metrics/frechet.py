"""Fréchet distance of two Gaussians fitted to features, FID with Inception's (Heusel et al. 2017,
arXiv:1706.08500).

All in float64. The trace of sqrt(C1 C2) is the sum of the roots of the eigenvalues of R^T C2 R for any C1 = R
R^T (a similarity), which is symmetric: `eigvalsh` is several times faster than the usual `eigvals` or
`sqrtm`, right for fewer samples than features, and R of the real data is computed once and cached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from lit_gan.metrics.collectives import broadcast
from lit_gan.metrics.spread import check_groups, group_of, groups_of, jackknife
from lit_gan.metrics.sums import Arrays, EvaluationMetric, float64_device

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network


@dataclass(frozen=True)
class Statistics:
    """Mean [D] and covariance [D, D] (ddof 1) of n features in float64, and a root R [D, D] of it."""

    n: int
    mean: Tensor
    cov: Tensor
    root: Tensor | None = None


def covariance_root(cov: Tensor) -> Tensor:
    """R = V sqrt(w) [D, D] float64 with R R^T = `cov` [D, D], which may be singular."""
    values, vectors = torch.linalg.eigh(_double(cov))
    root: Tensor = vectors * values.clamp_min(0).sqrt()
    return root


def frechet_distance(
    mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, *, root1: Tensor | None = None
) -> Tensor:
    """|mean1 - mean2|^2 + tr(cov1 + cov2 - 2 sqrt(cov1 cov2)), a float64 scalar >= 0.

    `root1` is `covariance_root(cov1)` where it is known: it is most of the time at 2048 dimensions.
    """
    root = covariance_root(cov1) if root1 is None else _double(root1)
    mean1, cov1, mean2, cov2 = (_double(value).to(root.device) for value in (mean1, cov1, mean2, cov2))
    product = root.T @ cov2 @ root
    eigenvalues = torch.linalg.eigvalsh(product).clamp_min(
        0
    )  # reads one triangle: symmetric but for rounding
    spread: Tensor = cov1.trace() + cov2.trace() - 2 * eigenvalues.sqrt().sum()
    distance = (mean1 - mean2).square().sum() + spread
    return distance.clamp_min(0)  # rounding: equal Gaussians would end at -1e-13


class FrechetDistance(EvaluationMetric):
    """FID of features [B, D]: `update(features, real=...)`, `compute()` a float64 scalar.

    `dim` is D. Sums are taken around `shift` [D], which must be the same on every rank; near the features'
    mean it saves the digits that a one-pass covariance loses when the mean is large against the spread.
    `set_real_statistics` shifts by the real mean.

    With `groups` > 1, fakes carry numbers below `samples`, and sums are kept for each group of consecutive ones: what
    `standard_error` needs, at 33.5 MB a group and 2048 dimensions.
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    smallest = 2
    parts: ClassVar[tuple[str, ...]] = ("value", "error")

    shift: Tensor
    real_n: Tensor
    real_sum: Tensor
    real_outer: Tensor
    fake_n: Tensor
    fake_sum: Tensor
    fake_outer: Tensor

    def __init__(
        self, dim: int, *, shift: Tensor | None = None, groups: int = 1, samples: int = 0, **kwargs: Any
    ) -> None:
        check_groups(groups, samples)
        super().__init__(**kwargs)
        self.dim, self.groups, self.samples = dim, groups, samples
        start = torch.zeros(dim, dtype=torch.float64) if shift is None else _double(shift)
        self.register_buffer("shift", start, persistent=False)
        self.add_side("real", 1)
        self.add_side("fake", groups)
        self._known: Statistics | None = None

    @classmethod
    def build(cls, network: Network, samples: int) -> Self:
        return cls(network.dim, groups=groups_of(samples), samples=samples, sync_on_compute=False)

    def update(self, features: Tensor, real: bool, indices: Tensor | None = None) -> None:
        """Adds features [B, D] of reals or fakes; B may be 0. Fakes have numbers [B] where there are groups."""
        centred = self.centred(features)  # [B, D]
        if real and self._known is not None:
            raise ValueError("the real statistics are set: reals cannot be added to them")
        if real or self.groups == 1:
            self._add("real" if real else "fake", 0, centred)
            return
        if indices is None or len(indices) != len(features):
            raise ValueError("fakes in groups need their numbers: update(features, real=False, indices=...)")
        group = group_of(indices.to(self.device), self.samples, self.groups)  # [B]: mostly one group
        for number in torch.unique(group).tolist():
            self._add("fake", number, centred[group == number])

    def _add(self, side: str, group: int, centred: Tensor) -> None:
        # In place: a copy of all groups for every batch would take longer than the products.
        getattr(self, f"{side}_n")[group] += len(centred)
        getattr(self, f"{side}_sum")[group] += centred.sum(0)
        getattr(self, f"{side}_outer")[group].addmm_(centred.T, centred)

    def set_real_statistics(self, statistics: Statistics) -> None:
        """Takes the reals as given (the same on every rank) and sums fakes around their mean from now on."""
        if self.fake_n.any() or self.real_n.any():
            raise ValueError("the real statistics must be set before the first update")
        self._known = statistics
        self.shift = statistics.mean.to(self.shift)

    def statistics(self, *, real: bool) -> Statistics:
        """Mean and covariance of one side as it stands, around zero."""
        if real and self._known is not None:
            return self._known
        side = "real" if real else "fake"
        return self.gaussian(
            side, *(getattr(self, f"{side}_{name}").sum(0) for name in ("n", "sum", "outer"))
        )

    def real_with_root(self) -> Statistics:
        """The reals' statistics, with the root made where it is not known: it takes longer than a distance."""
        real = self.statistics(real=True)
        return real if real.root is not None else replace(real, root=covariance_root(real.cov))

    def standard_error(self) -> Tensor:
        """How far the distance would be off with other fakes, as a standard deviation: a float64 scalar.

        The jackknife over groups (Efron & Stein 1981): one group of fakes is left out at a time. The reals are taken as
        given, and the bias of a finite number of fakes, which all have in common, is not in it.
        """
        return jackknife(self.left_out()).to(self.device)

    def left_out(self) -> Tensor:
        """The distances [G] without each of the groups of fakes in turn."""
        if self.groups == 1:
            raise ValueError("a standard error needs groups: FrechetDistance(dim, groups=10, samples=N)")
        real = self.real_with_root()
        sums = self.fake_n, self.fake_sum, self.fake_outer
        whole = [each.sum(0) for each in sums]
        left: list[Tensor] = []
        for group in range(self.groups):
            n, total, outer = (all_ - each[group] for all_, each in zip(whole, sums, strict=True))
            fake = self.gaussian("fake", n, total, outer)
            left.append(frechet_distance(real.mean, real.cov, fake.mean, fake.cov, root1=real.root))
        return torch.stack(left)

    def values(self) -> dict[str, float]:
        values = {"value": float(self.compute())}
        if self.errors and self.groups > 1:
            values["error"] = float(self.standard_error())
        return values

    def compute(self) -> Tensor:
        real, fake = self.statistics(real=True), self.statistics(real=False)
        return frechet_distance(real.mean, real.cov, fake.mean, fake.cov, root1=real.root).to(self.device)

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        self.update(features, real, None if real else indices)

    def real_state(self) -> Arrays:
        real = self.real_with_root()
        assert real.root is not None
        state = {"n": torch.tensor(real.n), "mean": real.mean, "cov": real.cov, "root": real.root}
        return {name: value.cpu().numpy() for name, value in state.items()}

    def set_real_state(self, arrays: Arrays) -> None:
        mean, cov, root = (torch.from_numpy(arrays[name]).to(self.shift) for name in ("mean", "cov", "root"))
        self.set_real_statistics(Statistics(int(arrays["n"]), mean, cov, root))

    def share(self) -> None:
        self.shift = broadcast(self.shift)  # all ranks must sum around the same point

    def add_side(self, side: str, groups: int) -> None:
        """Adds the sums of one side as states, for each of its groups."""
        self.add_sum(f"{side}_n", groups)
        self.add_sum(f"{side}_sum", groups, self.dim)
        self.add_sum(f"{side}_outer", groups, self.dim, self.dim)

    def centred(self, features: Tensor) -> Tensor:
        """Features [B, D] around `shift`, in float64."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features must be [B, {self.dim}], got {tuple(features.shape)}")
        return features.detach().to(self.shift) - self.shift

    def gaussian(self, side: str, n: Tensor, total: Tensor, outer: Tensor) -> Statistics:
        """Mean and covariance, around zero, of what was summed around `shift`."""
        if n < 2:
            raise ValueError(f"a covariance needs 2 {side} samples, got {int(n)}")
        mean = total / n
        # (outer - n mean mean^T) / (n - 1), in one pass over what may be 33.5 MB
        cov = torch.addr(outer, mean, mean, beta=1 / (int(n) - 1), alpha=-int(n) / (int(n) - 1))
        return Statistics(int(n), mean + self.shift, cov)


def _double(value: Tensor) -> Tensor:
    return value.detach().to(float64_device(value.device)).to(torch.float64)
