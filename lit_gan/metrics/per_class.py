"""FID within every class of the data, and the mean over classes (the class-conditional FID of Miyato & Koyama
2018, arXiv:1802.05637, "intra FID").

FID of all images at once does not see whether a generator shows the class that it was asked for. Needs
labelled data and a generator that reads labels. Features are kept and not sums: K covariances of D x D and
the roots of the reals' would be larger wherever a class has fewer than some thousand samples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.frechet import frechet_distance
from lit_gan.metrics.sums import Arrays, EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Extractor, Source

ENOUGH = 10  # samples of a class on either side, fewer are skipped; a hundred a class begin to mean something


def rows_distance(x: Tensor, y: Tensor) -> Tensor:
    """Fréchet distance of the Gaussians fitted to rows x [N, D] and y [M, D] of any N, M >= 2; float64.

    A triangular factor of either side's centred rows is a root of its covariance: with the smaller side's the
    eigenvalue problem is min(N, M, D) large, and none is needed for the root itself.
    """
    if len(y) < len(x):
        x, y = y, x
    sides = []
    for rows in (x.double(), y.double()):
        mean = rows.mean(0)
        sides.append((mean, (rows - mean) / math.sqrt(len(rows) - 1)))
    (mean1, scaled1), (mean2, scaled2) = sides
    root = torch.linalg.qr(scaled1, mode="r").R.T  # [D, min(N, D)]
    return frechet_distance(mean1, scaled1.T @ scaled1, mean2, scaled2.T @ scaled2, root1=root)


class ClassFID(EvaluationMetric):
    """`update(features [B, D], labels [B], real=...)`; `compute()` the mean FID over classes and those of all
    classes [K], NaN where either side has fewer than 10 samples of the class. Float64.

    `dim` is D, `classes` K. Features are kept, as float32; at sync they are gathered with exact counts. The
    bias of FID is that of N / K samples.
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    needs_labels = True
    smallest = ENOUGH
    parts = ("value", "mean", "worst", "worst_class", "skipped")

    real: list[Tensor]
    fake: list[Tensor]
    real_labels: list[Tensor]
    fake_labels: list[Tensor]

    def __init__(self, dim: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim, self.classes = dim, classes
        for side in ("real", "fake"):
            self.add_state(side, [], dist_reduce_fx="cat")
            self.add_state(f"{side}_labels", [], dist_reduce_fx="cat")
        self._known: tuple[Tensor, Tensor] | None = None  # reals [N, D] and their labels [N]

    @classmethod
    def build_for(cls, data: Source, extractor: Extractor, samples: int) -> Self:
        return cls(extractor.dim, data.num_classes, sync_on_compute=False)

    @classmethod
    def lacks(cls, data: Source, extractor: Extractor, fakes: int) -> str:
        weights = [weight for weight in data.class_weights or [1.0] if weight > 0]
        if fakes * max(weights) / sum(weights) < ENOUGH:
            # twice the mean, so that chance leaves the rarest class its samples
            enough = math.ceil(2 * ENOUGH * sum(weights) / min(weights))
            return (
                f"needs {ENOUGH} fakes of a class and scores none at eval.images={fakes}: "
                f"use at least {enough} for all {len(weights)} classes"
            )
        return ""

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"classes of {ENOUGH} at least"

    def empty_rows(self, name: str) -> Tensor:
        if name.endswith("_labels"):
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        return torch.zeros(0, self.dim, device=self.device)

    def update(self, features: Tensor, labels: Tensor, real: bool) -> None:
        """Adds features [B, D] and labels [B] of reals or fakes; B may be 0."""
        if features.ndim != 2 or features.shape[1] != self.dim or labels.shape != features.shape[:1]:
            got = f"{tuple(features.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"features must be [B, {self.dim}] and labels [B], got {got}")
        if real and self._known is not None:
            raise ValueError("the real features are set: reals cannot be added to them")
        side = "real" if real else "fake"
        getattr(self, side).append(features.detach().float().to(self.device))
        getattr(self, f"{side}_labels").append(labels.detach().to(self.device, torch.int64))

    def set_real_features(self, features: Tensor, labels: Tensor) -> None:
        """Takes the reals [N, D] and their labels [N] as given."""
        if self.real:
            raise ValueError("the real features must be set before the first real update")
        self._known = features.detach().float().to(self.device), labels.to(self.device, torch.int64)

    def compute(self) -> tuple[Tensor, Tensor]:
        distances = self._by_class()
        scored = distances[distances.isfinite()]
        if not len(scored):
            raise ValueError(f"no class has {ENOUGH} real and {ENOUGH} fake samples")
        return scored.mean(), distances

    def add_labelled(self, features: Tensor, labels: Tensor, *, real: bool) -> None:
        self.update(features, labels, real=real)

    def real_state(self) -> Arrays:
        features, labels = self._reals()
        return {"features": features.cpu().numpy(), "labels": labels.cpu().numpy()}

    def set_real_state(self, arrays: Arrays) -> None:
        self.set_real_features(torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["labels"]))

    def values(self) -> dict[str, float]:
        distances = self._by_class()
        scored = distances.isfinite()
        skipped = float((~scored).sum())
        if skipped == self.classes:
            return {"skipped": skipped}  # no value: evaluate() says so, on every rank
        worst = int(distances.nan_to_num(-1.0).argmax())
        mean = float(distances[scored].mean())
        return {
            "value": mean,
            "mean": mean,
            "worst": float(distances[worst]),
            "worst_class": float(worst),
            "skipped": skipped,
        }

    def _by_class(self) -> Tensor:
        real, real_labels = self._reals()
        fake, fake_labels = self.rows("fake"), self.rows("fake_labels")
        distances = torch.full((self.classes,), torch.nan, dtype=torch.float64, device=self.device)
        for label in range(self.classes):
            ours, theirs = real[real_labels == label], fake[fake_labels == label]
            if min(len(ours), len(theirs)) >= ENOUGH:
                distances[label] = rows_distance(ours, theirs)
        return distances

    def _reals(self) -> tuple[Tensor, Tensor]:
        return (self.rows("real"), self.rows("real_labels")) if self._known is None else self._known
