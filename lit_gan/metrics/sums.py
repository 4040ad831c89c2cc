"""Bases of the metrics: states that are summed over ranks, and what `evaluate` asks of every metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lit_gan.metrics.collectives import all_reduce_sum, distributed, gather_rows
from lit_gan.metrics.protocol import Finding

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Extractor, Source

Arrays = dict[str, np.ndarray[Any, Any]]


class SumMetric(Metric):
    """A metric whose tensor states are all-reduced at sync, and whose list states are gathered once, as rows.

    torchmetrics gathers every state from every rank and reduces afterwards (at 64 ranks 64 covariances of
    33.5 MB on each), makes one exchange per list entry, so that ranks with unequal numbers of updates hang or
    pair up wrong rows, and fails on a rank without any sample. Tensor states therefore have their full shape
    from the start, and the rows of a list state are told by `empty_rows`.
    """

    full_state_update: bool = False
    is_differentiable: bool = False

    @property
    def update_called(self) -> bool:
        """Whether there may be samples: a rank without any is in order, and torchmetrics would warn of it."""
        return self.update_count > 0 or distributed()

    def add_sum(self, name: str, *shape: int) -> None:
        """Adds a float64 state of zeros that is summed over ranks."""
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def empty_rows(self, name: str) -> Tensor:
        """What a rank without samples brings for a list state: no rows, of the right width and type."""
        raise NotImplementedError(f"{type(self).__name__} has a list state {name!r} without empty_rows")

    def rows(self, name: str) -> Tensor:
        """The list state `name` as one tensor, also when it is empty or was synchronised."""
        parts = getattr(self, name)
        return torch.cat(parts) if parts else self.empty_rows(name)

    def _sync_dist(
        self, dist_sync_fn: Callable[..., Any] | None = None, process_group: Any | None = None
    ) -> None:
        group = process_group or self.process_group
        for name in self._defaults:
            if isinstance(getattr(self, name), list):
                setattr(self, name, [gather_rows(self.rows(name), group)])
            else:
                setattr(self, name, all_reduce_sum(getattr(self, name), group))


class EvaluationMetric(SumMetric):
    """What `evaluate` drives: reals come first or from the cache, then fakes; ranks hold shares."""

    needs_logits: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False  # the logits must be over the data's own classes
    needs_labels: ClassVar[bool] = False  # `add_labelled` is called in place of `add`
    uses_reals: ClassVar[bool] = True  # False: a value of the fakes alone, nothing of the reals is cached
    smallest: ClassVar[int] = 1  # fewest samples a side that give a number
    parts: ClassVar[tuple[str, ...]] = (
        "value",
    )  # names of all that `values` may give, the score's value first
    errors: bool = (
        False  # whether `values` is to give standard errors, "error" and "PART/error"; they may take a while
    )

    @classmethod
    def build(cls, extractor: Extractor, samples: int) -> Self:
        """The metric for features of this extractor and exactly `samples` fakes in all."""
        raise NotImplementedError

    @classmethod
    def build_for(cls, data: Source, extractor: Extractor, samples: int) -> Self:
        """`build`, for a metric that must know the data: their classes, or their modes."""
        return cls.build(extractor, samples)

    @classmethod
    def lacks(cls, data: Source, extractor: Extractor, fakes: int) -> str:
        """Why the metric cannot be had of these, and the remedy, to be read after its name; "" if it can."""
        return ""

    @classmethod
    def settings(cls, samples: int) -> str:
        """What else decides the value at so many fakes, for the protocol."""
        return ""

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        """Takes features [B, D], logits [B, K] and the samples' numbers [B] (below `samples`) of one side."""
        raise NotImplementedError

    def add_labelled(self, features: Tensor, labels: Tensor, *, real: bool) -> None:
        """Takes features [B, D] and labels [B] of one side: the data's, or those that the fakes were made for."""
        raise NotImplementedError

    def real_state(self) -> Arrays:
        """What is to be cached of the reals; called on rank 0, synchronised."""
        return {}

    def set_real_state(self, arrays: Arrays) -> None:
        """Takes the reals from `real_state()` instead of `add`; called on rank 0 before fakes come."""

    def share(self) -> None:
        """Sends from rank 0 what all must know of the reals before fakes come; called on every rank."""

    def values(self) -> dict[str, float]:
        """The numbers named by `parts`; called on rank 0, synchronised.

        Without a "value" there were too few samples: `evaluate` says so on every rank, where an error raised
        here would leave the others waiting.
        """
        return {"value": float(self.compute())}

    def result(self) -> tuple[dict[str, float], list[Finding]]:
        """`values`, and fakes that are worth a look, with the places of reals among the reals; called like `values`."""
        return self.values(), []

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """The value, or the given ones over time, as torchmetrics plots them; needs matplotlib."""
        value = self.compute() if val is None else val
        if isinstance(value, tuple):  # torchmetrics would take it for one number at several times
            value = dict(zip(self.parts[-len(value) :], value, strict=True))
        return self._plot(value, ax)


def float64_device(device: torch.device) -> torch.device:
    """The device itself where it has float64, else the CPU (Apple's MPS has none)."""
    return device if device.type in {"cpu", "cuda"} else torch.device("cpu")
