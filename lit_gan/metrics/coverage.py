"""Class coverage: how many of the data's classes the fakes show, and how far their shares are from the
reals'.

A dropped class is plain here when FID, an average, still looks well. Needs logits over the data's own
classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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
from lit_gan.metrics.sums import Arrays, EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network

PRESENT = 0.1  # a class counts from this share of an even share, 1 / K


class ClassCoverage(EvaluationMetric):
    """`update(logits [B, K], real=...)`, `compute()` the classes present among the fakes and KL(fake ||
    real).

    Both sides are counted by the largest logit, so that the extractor's own bias cancels. A class that no
    real was taken for counts as half a real. KL of K classes and n fakes has a floor near (K - 1) / (2 n);
    log K is one mode. A further part, `seen`, are the classes of one fake or more, as papers count them on 1000 classes.
    With `groups` > 1, fakes carry numbers below `samples` and are counted in groups, for `standard_errors`.
    """

    higher_is_better: bool = True
    needs_logits = True
    needs_classes = True
    parts = ("value", "error", "classes", "kl", "seen", "classes/error", "kl/error")

    real_counts: Tensor
    fake_counts: Tensor

    def __init__(self, classes: int, *, groups: int = 1, samples: int = 0, **kwargs: Any) -> None:
        check_groups(groups, samples)
        super().__init__(**kwargs)
        self.classes, self.groups, self.samples = classes, groups, samples
        self.add_sum("real_counts", classes)
        self.add_sum("fake_counts", groups, classes)
        self._known: Tensor | None = None

    @classmethod
    def build(cls, network: Network, samples: int) -> Self:
        return cls(network.num_logits, groups=groups_of(samples), samples=samples, sync_on_compute=False)

    def update(self, logits: Tensor, real: bool, indices: Tensor | None = None) -> None:
        """Adds logits [B, K] of reals or fakes; B may be 0. Fakes have numbers [B] where there are groups."""
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise ValueError(f"logits must be [B, {self.classes}], got {tuple(logits.shape)}")
        found = logits.detach().argmax(1)
        if real:
            self.real_counts = self.real_counts + torch.bincount(found, minlength=self.classes)
        else:
            self.fake_counts = self.fake_counts + grouped_counts(
                found, indices, self.classes, samples=self.samples, groups=self.groups
            )

    def compute(self) -> tuple[Tensor, Tensor]:
        classes, kl = self._coverage(self.fake_counts.sum(0))
        return classes, kl

    def standard_errors(self) -> Tensor:
        """How far the classes and KL would be off with other fakes, as standard deviations [2].

        That of KL is the jackknife over groups; that of the classes counts those that are near their threshold.
        """
        counts = self.fake_counts.sum(0)
        fewest = math.floor(PRESENT / self.classes * float(counts.sum())) + 1
        classes = reaching_error(counts, counts.sum(), fewest)
        kl = jackknife(torch.stack([self._coverage(counts - group)[1] for group in self.fake_counts]))
        return torch.stack([classes, kl])

    def _coverage(self, fake: Tensor) -> Tensor:
        """Classes and KL, [2], of the counts [K] of fakes."""
        real = self.real_counts if self._known is None else self._known
        if min(real.sum(), fake.sum()) < 1:
            raise ValueError(
                f"coverage needs real and fake samples, got {int(real.sum())} and {int(fake.sum())}"
            )
        real = real.clamp_min(0.5)
        real, fake = real / real.sum(), fake / fake.sum()
        kl = (torch.special.xlogy(fake, fake) - fake * real.log()).sum().clamp_min(0)
        return torch.stack([(fake > PRESENT / self.classes).sum().double(), kl])

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        assert logits is not None  # evaluate() checked needs_logits
        self.update(logits, real, None if real else indices)

    def real_state(self) -> Arrays:
        return {"counts": self.real_counts.cpu().numpy()}

    def set_real_state(self, arrays: Arrays) -> None:
        self._known = torch.from_numpy(arrays["counts"]).to(self.real_counts)

    def values(self) -> dict[str, float]:
        seen = float((self.fake_counts.sum(0) > 0).sum())
        classes, kl = (float(value) for value in self.compute())
        values = {"value": classes, "classes": classes, "kl": kl, "seen": seen}
        if self.errors and self.groups > 1:
            errors = dict(zip(("classes", "kl"), self.standard_errors().tolist(), strict=True))
            values |= named_errors(errors, of_value="classes")
        return values
