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

from lit_gan.metrics.sums import EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Extractor, Source

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
    modes of all samples, against 1 / K each: near (K - 1) / (2 n) for n perfect samples, log K for one mode.
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0
    uses_reals = False
    parts = ("value", "modes", "high_quality", "kl")

    centres: Tensor
    counts: Tensor
    good_counts: Tensor

    def __init__(self, centres: Tensor, sigma: float, **kwargs: Any) -> None:
        if centres.ndim != 2 or not len(centres) or sigma <= 0:
            raise ValueError(
                f"modes need centres [K, D] and a sigma > 0, got {tuple(centres.shape)}, {sigma}"
            )
        super().__init__(**kwargs)
        self.sigma = sigma
        self.register_buffer("centres", centres.detach().to(torch.float64), persistent=False)
        self.add_sum("counts", len(centres))
        self.add_sum("good_counts", len(centres))

    @classmethod
    def build_for(cls, data: Source, extractor: Extractor, samples: int) -> Self:
        assert isinstance(data, Mixture)  # evaluate() asked `lacks`
        return cls(torch.from_numpy(np.asarray(data.centres)), float(data.std), sync_on_compute=False)

    @classmethod
    def lacks(cls, data: Source, extractor: Extractor, fakes: int) -> str:
        if not isinstance(data, Mixture):
            return "needs data whose modes are known, such as data=toy"
        modes, dim = data.centres.shape
        if extractor.dim != dim:
            return f"needs the points themselves, not features of '{extractor.name}': use metrics.extractor=pixels"
        if fakes < ENOUGH * modes:
            return (
                f"counts a mode from {ENOUGH} fakes on: use eval.images={2 * ENOUGH * modes} "
                f"for {modes} modes, got {fakes}"
            )
        return ""

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"within {NEAR:g} sigma, {ENOUGH} a mode"

    def update(self, points: Tensor) -> None:
        """Adds points [B, D] of fakes; B may be 0."""
        modes, dim = self.centres.shape
        if points.ndim != 2 or points.shape[1] != dim:
            raise ValueError(f"points must be [B, {dim}], got {tuple(points.shape)}")
        # [B, K]; not by the matrix product, which is not exact to a sigma near a far mode
        distances = torch.cdist(
            points.detach().to(self.centres), self.centres, compute_mode="donot_use_mm_for_euclid_dist"
        )
        distance, nearest = distances.min(1)
        good = nearest[distance <= NEAR * self.sigma]
        self.counts = self.counts + torch.bincount(nearest, minlength=modes)
        self.good_counts = self.good_counts + torch.bincount(good, minlength=modes)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        total = self.counts.sum()
        if total < 1:
            raise ValueError("modes need fake samples, got none")
        share = self.counts / total
        kl = torch.special.xlogy(share, share).sum() + math.log(len(share))
        return (self.good_counts >= ENOUGH).sum().double(), self.good_counts.sum() / total, kl.clamp_min(0)

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        if not real:
            self.update(features)

    def values(self) -> dict[str, float]:
        modes, high_quality, kl = (float(value) for value in self.compute())
        return {"value": modes, "modes": modes, "high_quality": high_quality, "kl": kl}
