"""Cycle error, how far a source is from itself after there and back: mean absolute error in grey levels (Zhu et al. 2017).

Small is necessary and not enough: a translator that changes nothing has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import torch
from torch import Tensor

from lit_gan.metrics.sums import MeanMetric
from lit_gan.sampling import Batch, Sampleable, inference, sampling_batch

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network, Source
    from lit_gan.metrics.reference import Pass


class Cyclic(Protocol):
    """A translator that knows the way back."""

    def cycle(self, batch: Batch) -> Tensor: ...  # like batch["source"], of any size


class CycleError(MeanMetric):
    """`update(source, back)`, images [B, C, H, W] in [-1, 1]; `compute()` the mean absolute difference, of 255 levels."""

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    takes = "generator"
    network = "none"
    needs: ClassVar[str] = "cycle"

    def __init__(self, samples: int | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.samples = samples

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        return cls(samples, sync_on_compute=False)

    @classmethod
    def settings(cls, samples: int) -> str:
        return "L1 of sources, in grey levels of 255"

    def update(self, source: Tensor, back: Tensor) -> None:
        """Adds sources and what came back; B may be 0."""
        if len(source):
            self.take((back.float() - source.float()).abs().flatten(1).mean(1) * 127.5)

    def fill(
        self, module: Sampleable, data: Source, how: Pass, *, seed: int, truncation: float | None
    ) -> Tensor:
        assert self.samples is not None
        broken = torch.zeros((), dtype=torch.int64, device=how.device)
        with inference(module):
            for numbers in how.share(self.samples):
                batch = sampling_batch(module, seed, numbers)
                source = batch["source"]
                back = cast("Cyclic", module).cycle(batch).to(how.device)
                broken += (~back.flatten(1).isfinite().all(1)).sum()
                self.update(source.to(how.device), back.nan_to_num())
        return broken
