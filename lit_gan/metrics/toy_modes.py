"""Modes captured, high-quality samples and the spread over modes, where the data's modes are known (as in
Srivastava et al. 2017, arXiv:1705.07761, and Lin et al. 2018, arXiv:1712.04086).

A sample is of high quality within 3 sigma of its nearest mode: 98.9 % of the data themselves in the plane. A
mode is captured by 20 such samples, not by 1 as in the papers: uniform noise over the square would "capture"
21 of the grid's 25 modes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lit_gan.metrics.spread import (
    check_groups,
    grouped_counts,
    groups_of,
    jackknife,
    named_errors,
    reaching_error,
)
from lit_gan.metrics.sums import EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network, Source

NEAR = 3.0  # standard deviations from the nearest mode
ENOUGH = 20  # high-quality samples that make a mode captured


@runtime_checkable
class Mixture(Protocol):
    """Data that are an even mixture of Gaussians, such as the toy source; both in the units of its points."""

    @property
    def centres(self) -> np.ndarray[Any, Any]: ...  # [K, D]

    @property
    def std(self) -> float: ...  # of every mode, along every axis


class ModeQuality(EvaluationMetric):
    """`update(points [B, D])` of fakes; `compute()` the modes captured, the share of high-quality samples and
    the reverse KL.

    `centres` [K, D] and `sigma` are those of the mixture. KL(fakes || modes) is of the shares of the nearest
    modes of all samples, against 1 / K each: near (K - 1) / (2 n) for n perfect samples, log K for one mode. With
    `groups` > 1, points carry numbers below `samples` and are counted in groups, for `standard_errors`.
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0
    uses_reals = False
    parts = ("value", "error", "modes", "high_quality", "kl", "modes/error", "high_quality/error", "kl/error")

    centres: Tensor
    counts: Tensor
    good_counts: Tensor

    def __init__(
        self, centres: Tensor, sigma: float, *, groups: int = 1, samples: int = 0, **kwargs: Any
    ) -> None:
        if centres.ndim != 2 or not len(centres) or sigma <= 0:
            raise ValueError(
                f"modes need centres [K, D] and a sigma > 0, got {tuple(centres.shape)}, {sigma}"
            )
        check_groups(groups, samples)
        super().__init__(**kwargs)
        self.sigma, self.groups, self.samples = sigma, groups, samples
        self.register_buffer("centres", centres.detach().to(torch.float64), persistent=False)
        self.add_sum("counts", groups, len(centres))
        self.add_sum("good_counts", groups, len(centres))

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        assert isinstance(data, Mixture)  # evaluate() asked `lacks`
        centres = torch.from_numpy(np.asarray(data.centres))
        return cls(
            centres, float(data.std), groups=groups_of(samples), samples=samples, sync_on_compute=False
        )

    @classmethod
    def lacks(cls, data: Source, network: Network, fakes: int) -> str:
        if not isinstance(data, Mixture):
            return "needs data whose modes are known, such as data=toy"
        modes, dim = data.centres.shape
        if network.dim != dim:
            return (
                f"needs the points themselves, not features of '{network.name}': use metrics.extractor=pixels"
            )
        if fakes < ENOUGH * modes:
            return (
                f"counts a mode from {ENOUGH} fakes on: use eval.images={2 * ENOUGH * modes} "
                f"for {modes} modes, got {fakes}"
            )
        return ""

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"within {NEAR:g} sigma, {ENOUGH} a mode"

    def update(self, points: Tensor, indices: Tensor | None = None) -> None:
        """Adds points [B, D] of fakes; B may be 0. They have numbers [B] where there are groups."""
        modes, dim = self.centres.shape
        if points.ndim != 2 or points.shape[1] != dim:
            raise ValueError(f"points must be [B, {dim}], got {tuple(points.shape)}")
        # [B, K]; not by the matrix product, which is not exact to a sigma near a far mode
        distances = torch.cdist(
            points.detach().to(self.centres), self.centres, compute_mode="donot_use_mm_for_euclid_dist"
        )
        distance, nearest = distances.min(1)
        good = distance <= NEAR * self.sigma
        kinds = nearest + modes * good  # [B]: the second K are those of high quality
        counts = grouped_counts(kinds, indices, 2 * modes, samples=self.samples, groups=self.groups)
        self.counts = self.counts + counts[:, :modes] + counts[:, modes:]
        self.good_counts = self.good_counts + counts[:, modes:]

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.counts.sum() < 1:
            raise ValueError("modes need fake samples, got none")
        modes, high_quality, kl = self._quality(self.counts.sum(0), self.good_counts.sum(0))
        return modes, high_quality, kl

    def standard_errors(self) -> Tensor:
        """How far modes, share and KL would be off with other fakes, as standard deviations [3].

        Those of share and KL are jackknives over groups; that of the modes counts those of about `ENOUGH` samples.
        """
        counts, good_counts = self.counts.sum(0), self.good_counts.sum(0)
        groups = zip(self.counts, self.good_counts, strict=True)
        left = torch.stack([self._quality(counts - one, good_counts - good)[1:] for one, good in groups])
        modes = reaching_error(good_counts, counts.sum(), ENOUGH)
        return torch.cat([modes[None], jackknife(left)])

    @staticmethod
    def _quality(counts: Tensor, good_counts: Tensor) -> Tensor:
        """Modes, share and KL, [3], of the counts [K] of all samples and of those of high quality."""
        share = counts / counts.sum()
        kl = torch.special.xlogy(share, share).sum() + math.log(len(share))
        modes = (good_counts >= ENOUGH).sum().double()
        return torch.stack([modes, good_counts.sum() / counts.sum(), kl.clamp_min(0)])

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        if not real:
            self.update(features, indices)

    def values(self) -> dict[str, float]:
        modes, high_quality, kl = (float(value) for value in self.compute())
        values = {"value": modes, "modes": modes, "high_quality": high_quality, "kl": kl}
        if self.errors and self.groups > 1:
            errors = zip(("modes", "high_quality", "kl"), self.standard_errors().tolist(), strict=True)
            values |= named_errors(dict(errors), of_value="modes")
        return values
