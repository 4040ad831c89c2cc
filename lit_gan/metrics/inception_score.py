"""Inception score: exp of the mean KL(p(y|x) || p(y)) over splits of the fakes (Salimans et al. 2016,
arXiv:1606.03498).

Kept as sums per split, and the split of a sample follows from its number as in the reference code: the value
is the same for any batch size, order and number of ranks. Meant for logits without the bias of the last
layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.sums import EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network

SPLITS = 10


class InceptionScore(EvaluationMetric):
    """`update(logits [B, K], indices [B])`, `compute()` the mean and the standard deviation (ddof 0) over
    splits.

    `samples` is the number N of samples that there will be; split k is of the samples from k * N // splits
    on. Float64.
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 1.0
    needs_logits = True
    uses_reals = False
    parts = ("value", "std", "error")

    n: Tensor
    probability: Tensor
    negative_entropy: Tensor

    def __init__(self, classes: int, samples: int, splits: int = SPLITS, **kwargs: Any) -> None:
        if not 1 <= splits <= samples:
            raise ValueError(f"splits must be 1 to {samples}, the number of samples, got {splits}")
        super().__init__(**kwargs)
        self.classes, self.samples, self.splits = classes, samples, splits
        self.add_sum("n", splits)
        self.add_sum("probability", splits, classes)
        self.add_sum("negative_entropy", splits)

    @classmethod
    def build(cls, network: Network, samples: int) -> Self:
        return cls(network.num_logits, samples, min(SPLITS, samples), sync_on_compute=False)

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"splits={min(SPLITS, samples)}"

    def update(self, logits: Tensor, indices: Tensor) -> None:
        """Adds logits [B, K] of the samples numbered `indices` [B], each number once over all ranks."""
        if logits.ndim != 2 or logits.shape[1] != self.classes or len(indices) != len(logits):
            got = f"{tuple(logits.shape)} and {tuple(indices.shape)}"
            raise ValueError(f"logits must be [B, {self.classes}] and indices [B], got {got}")
        log_p = logits.detach().to(self.n).log_softmax(1)  # [B, K]
        p = log_p.exp()
        # split k begins at k * N // splits, as in the reference code: equal parts, give or take one sample
        split = ((indices.to(self.device) + 1) * self.splits - 1) // self.samples
        self.n = self.n.index_add(0, split, torch.ones_like(p[:, 0]))
        self.probability = self.probability.index_add(0, split, p)
        self.negative_entropy = self.negative_entropy.index_add(0, split, (p * log_p).sum(1))

    def compute(self) -> tuple[Tensor, Tensor]:
        if int(self.n.sum()) != self.samples:
            raise ValueError(f"expected {self.samples} samples, got {int(self.n.sum())}")
        marginal = self.probability / self.n[:, None]
        entropy = -torch.special.xlogy(marginal, marginal).sum(1)
        scores = (self.negative_entropy / self.n + entropy).exp()
        return scores.mean(), scores.std(correction=0)

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        if not real:
            assert logits is not None  # evaluate() checked needs_logits
            self.update(logits, indices)

    def values(self) -> dict[str, float]:
        mean, std = self.compute()
        values = {"value": float(mean), "std": float(std)}
        if self.errors and self.splits > 1:
            values["error"] = values["std"] / math.sqrt(self.splits - 1)  # of the mean; std is of ddof 0
        return values
