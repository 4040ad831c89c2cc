"""FID within every class of the data, and the mean over classes (the class-conditional FID of Miyato & Koyama
2018, arXiv:1802.05637, "intra FID").

FID of all images at once does not see whether a generator shows the class that it was asked for. Needs
labelled data and a generator that reads labels. Features are kept and not sums: K covariances of D x D and
the roots of the reals' would be larger wherever a class has fewer than some thousand samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.frechet import frechet_distance
from lit_gan.metrics.spread import GROUPS, group_of, jackknife, named_errors
from lit_gan.metrics.sums import Arrays, EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network, Source

AFFORDABLE = (
    2048**3
)  # of the sizes of all classes' eigenvalue problems, cubed: as much as FID's of Inception's features
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


def left_out_distances(real: Tensor, fake: Tensor, groups: int) -> Tensor:
    """`rows_distance` of real [N, D] and fake [M, D] without each of `groups` consecutive parts of the fakes; [G] float64.

    The reals' root is taken once, and the fakes in its coordinates: each eigenvalue problem is min(N, M, D) large.
    """
    real, fake = real.double(), fake.double()
    mean = real.mean(0)
    scaled = (real - mean) / math.sqrt(len(real) - 1)
    root = torch.linalg.qr(scaled, mode="r").R.T  # [D, min(N, D)]
    centred = fake - mean
    inside = centred @ root  # [M, min(N, D)]
    group = group_of(torch.arange(len(fake), device=fake.device), len(fake), groups)
    distances = []
    for number in range(groups):
        kept = group != number
        rows, deviations = inside[kept], centred[kept]
        middle, n = deviations.mean(0), int(kept.sum())
        rows = (rows - rows.mean(0)) / math.sqrt(n - 1)
        gram = rows @ rows.T if n < rows.shape[1] else rows.T @ rows
        shared = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum()
        spread = scaled.square().sum() + (deviations - middle).square().sum() / (n - 1) - 2 * shared
        distances.append((middle.square().sum() + spread).clamp_min(0))
    return torch.stack(distances)


class ClassFID(EvaluationMetric):
    """`update(features [B, D], labels [B], real=...)`; `compute()` the mean FID over classes and those of all
    classes [K], NaN where either side has fewer than 10 samples of the class. Float64.

    `dim` is D, `classes` K. Features are kept, as float32; at sync they are gathered with exact counts, and fakes are
    in the order of their numbers. The bias of FID is that of N / K samples.
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    needs_labels = True
    smallest = ENOUGH
    parts = ("value", "error", "mean", "worst", "worst_class", "skipped", "mean/error", "worst/error")

    real: list[Tensor]
    fake: list[Tensor]
    real_labels: list[Tensor]
    fake_labels: list[Tensor]
    fake_numbers: list[Tensor]

    def __init__(self, dim: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim, self.classes = dim, classes
        for side in ("real", "fake"):
            self.add_state(side, [], dist_reduce_fx="cat")
            self.add_state(f"{side}_labels", [], dist_reduce_fx="cat")
        self.add_state("fake_numbers", [], dist_reduce_fx="cat")
        self._known: tuple[Tensor, Tensor] | None = None  # reals [N, D] and their labels [N]

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        return cls(network.dim, data.num_classes, sync_on_compute=False)

    @classmethod
    def lacks(cls, data: Source, network: Network, fakes: int) -> str:
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
        if name.endswith(("_labels", "_numbers")):
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        return torch.zeros(0, self.dim, device=self.device)

    def update(self, features: Tensor, labels: Tensor, real: bool, indices: Tensor | None = None) -> None:
        """Adds features [B, D] and labels [B] of reals, or of fakes numbered `indices` [B] (None: on from those before);
        B may be 0.
        """
        if features.ndim != 2 or features.shape[1] != self.dim or labels.shape != features.shape[:1]:
            got = f"{tuple(features.shape)} and {tuple(labels.shape)}"
            raise ValueError(f"features must be [B, {self.dim}] and labels [B], got {got}")
        if real and self._known is not None:
            raise ValueError("the real features are set: reals cannot be added to them")
        if not real:
            if indices is None:
                before = sum(map(len, self.fake))
                indices = torch.arange(before, before + len(features))
            if len(indices) != len(features):
                raise ValueError(f"indices must be [{len(features)}], got {tuple(indices.shape)}")
            self.fake_numbers.append(indices.to(self.device, torch.int64))
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

    def standard_errors(self) -> Tensor | None:
        """How far each class's FID would be off with other fakes, as standard deviations [K], NaN for classes skipped.

        Within each class the jackknife over ten groups of its fakes, consecutive by their numbers; classes are independent
        of one another. It takes ten eigenvalue problems a class, each of the size s = min(N, M, D) of its numbers of reals
        and fakes and the features' dimension: None where the s^3 of all classes add up to more than 2048^3.
        """
        work, errors = 0, torch.full((self.classes,), torch.nan, dtype=torch.float64, device=self.device)
        scored = list(self._scored())
        for _, ours, theirs in scored:
            work += min(len(ours), len(theirs), self.dim) ** 3
        if work > AFFORDABLE:
            return None
        for label, ours, theirs in scored:
            errors[label] = jackknife(left_out_distances(ours, theirs, GROUPS))
        return errors

    def add_labelled(self, features: Tensor, labels: Tensor, indices: Tensor, *, real: bool) -> None:
        self.update(features, labels, real, None if real else indices)

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
        values = {
            "value": mean,
            "mean": mean,
            "worst": float(distances[worst]),
            "worst_class": float(worst),
            "skipped": skipped,
        }
        several = self.errors and len(self.rows("fake")) >= 2 * GROUPS
        errors = self.standard_errors() if several else None
        if errors is not None:
            of_mean = float(errors[scored].square().sum().sqrt() / scored.sum())  # independent: in quadrature
            values |= named_errors({"mean": of_mean, "worst": float(errors[worst])}, of_value="mean")
        return values

    def _by_class(self) -> Tensor:
        distances = torch.full((self.classes,), torch.nan, dtype=torch.float64, device=self.device)
        for label, ours, theirs in self._scored():
            distances[label] = rows_distance(ours, theirs)
        return distances

    def _scored(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The classes that have enough of both, with their reals [N, D] and their fakes [M, D] in order."""
        real, real_labels = self._reals()
        order = self.rows("fake_numbers").argsort(stable=True)
        fake, fake_labels = self.rows("fake")[order], self.rows("fake_labels")[order]
        for label in range(self.classes):
            ours, theirs = real[real_labels == label], fake[fake_labels == label]
            if min(len(ours), len(theirs)) >= ENOUGH:
                yield label, ours, theirs

    def _reals(self) -> tuple[Tensor, Tensor]:
        return (self.rows("real"), self.rows("real_labels")) if self._known is None else self._known
