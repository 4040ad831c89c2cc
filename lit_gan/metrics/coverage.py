"""Class coverage: how many of the data's classes the fakes show, and how far their shares are from the
reals'.

A dropped class is plain here when FID, an average, still looks well. Needs logits over the data's own
classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.sums import Arrays, EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Extractor

PRESENT = 0.1  # a class counts from this share of an even share, 1 / K


class ClassCoverage(EvaluationMetric):
    """`update(logits [B, K], real=...)`, `compute()` the classes present among the fakes and KL(fake ||
    real).

    Both sides are counted by the largest logit, so that the extractor's own bias cancels. A class that no
    real was taken for counts as half a real. KL of K classes and n fakes has a floor near (K - 1) / (2 n);
    log K is one mode. A further part, `seen`, are the classes of one fake or more, as papers count them on 1000 classes.
    """

    higher_is_better: bool = True
    needs_logits = True
    needs_classes = True
    parts = ("value", "classes", "kl", "seen")

    real_counts: Tensor
    fake_counts: Tensor

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes
        self.add_sum("real_counts", classes)
        self.add_sum("fake_counts", classes)
        self._known: Tensor | None = None

    @classmethod
    def build(cls, extractor: Extractor, samples: int) -> Self:
        return cls(extractor.num_logits, sync_on_compute=False)

    def update(self, logits: Tensor, real: bool) -> None:
        """Adds logits [B, K] of reals or fakes; B may be 0."""
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise ValueError(f"logits must be [B, {self.classes}], got {tuple(logits.shape)}")
        counts = torch.bincount(logits.detach().argmax(1), minlength=self.classes).to(self.real_counts)
        if real:
            self.real_counts = self.real_counts + counts
        else:
            self.fake_counts = self.fake_counts + counts

    def compute(self) -> tuple[Tensor, Tensor]:
        real, fake = self.real_counts if self._known is None else self._known, self.fake_counts
        if min(real.sum(), fake.sum()) < 1:
            raise ValueError(
                f"coverage needs real and fake samples, got {int(real.sum())} and {int(fake.sum())}"
            )
        real = real.clamp_min(0.5)
        real, fake = real / real.sum(), fake / fake.sum()
        kl = (torch.special.xlogy(fake, fake) - fake * real.log()).sum().clamp_min(0)
        return (fake > PRESENT / self.classes).sum().double(), kl

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        assert logits is not None  # evaluate() checked needs_logits
        self.update(logits, real=real)

    def real_state(self) -> Arrays:
        return {"counts": self.real_counts.cpu().numpy()}

    def set_real_state(self, arrays: Arrays) -> None:
        self._known = torch.from_numpy(arrays["counts"]).to(self.real_counts)

    def values(self) -> dict[str, float]:
        seen = float((self.fake_counts > 0).sum())  # first: compute() leaves this rank's own counts behind
        classes, kl = (float(value) for value in self.compute())
        return {"value": classes, "classes": classes, "kl": kl, "seen": seen}
