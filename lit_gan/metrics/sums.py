"""Bases of the metrics: states that are summed over ranks, and what `evaluate` asks of every metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lit_gan.metrics.collectives import all_reduce_sum, distributed, gather_rows
from lit_gan.metrics.protocol import Finding

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network, Source
    from lit_gan.metrics.reference import Pass
    from lit_gan.sampling import Sampleable

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

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if (
            not self.sync_on_compute
        ):  # synchronised by hand: it would be undone by the first `compute` of several
            self._should_unsync = False

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
    """What `evaluate` drives: reals come first or from the cache, then fakes; ranks hold shares.

    `takes` says what of: "features" (`add`) or "images" (`add_images`) of fakes, and of reals for the floor; "pairs" of a
    fake and the real that belongs to it (`add_pairs`), or "generator": then the metric makes images itself (`fill`).
    """

    takes: ClassVar[Literal["features", "images", "pairs", "generator"]] = "features"
    network: ClassVar[Literal["extractor", "lpips", "none"]] = (
        "extractor"  # what it is made with, for the protocol
    )
    needs_logits: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False  # the logits must be over the data's own classes
    needs: ClassVar[str] = "latents"  # what one that makes images itself walks through; or "cycle"
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
    def build(cls, network: Network, samples: int) -> Self:
        """The metric for features of `network`, an extractor, and exactly `samples` fakes in all."""
        raise NotImplementedError

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        """`build`, for a metric that must know the data: their classes, or their modes.

        The class's own `network` says which is given, and to `lacks`: the extractor, LPIPS's, or one that is none.
        """
        return cls.build(network, samples)

    @classmethod
    def lacks(cls, data: Source, network: Network, fakes: int) -> str:
        """Why the metric cannot be had of these, and the remedy, to be read after its name; "" if it can."""
        return ""

    @classmethod
    def settings(cls, samples: int) -> str:
        """What else decides the value at so many fakes, for the protocol."""
        return ""

    def described(self, samples: int) -> str:
        """`settings`, of a metric that has taken its fakes and may have learnt more."""
        return self.settings(samples)

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        """Takes features [B, D], logits [B, K] and the samples' numbers [B] (below `samples`) of one side."""
        raise NotImplementedError

    def add_labelled(self, features: Tensor, labels: Tensor, indices: Tensor, *, real: bool) -> None:
        """Takes features [B, D], labels [B] (the data's, or those that the fakes were made for) and the numbers [B]."""
        raise NotImplementedError

    def add_images(self, images: Tensor, indices: Tensor) -> None:
        """Takes images [B, C, H, W] of one side, numbered `indices` [B]: numbers 2p and 2p + 1 come together."""
        raise NotImplementedError

    def add_pairs(self, fake: Tensor, real: Tensor) -> None:
        """Takes images [B, C, H, W] and as many that they should be."""
        raise NotImplementedError

    def fill(
        self, module: Sampleable, data: Source, how: Pass, *, seed: int, truncation: float | None
    ) -> Tensor:
        """Takes this rank's share of what it makes of the generator; returns how many images were not finite, int64."""
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


class MeanMetric(EvaluationMetric):
    """The mean of one number a sample, float64, and its standard error, from sums alone."""

    uses_reals = False
    parts = ("value", "error")

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("count", "total", "squares"):
            self.add_sum(name)

    def take(self, numbers: Tensor) -> None:
        """Adds the numbers [B] of as many samples; B may be 0."""
        numbers = numbers.detach().to(self.device, torch.float64)
        self.count += len(numbers)
        self.total += numbers.sum()
        self.squares += numbers.square().sum()

    def compute(self) -> Tensor:
        if not self.count:
            raise ValueError(f"{type(self).__name__} needs a sample, got none")
        return self.total / self.count

    def values(self) -> dict[str, float]:
        if not self.count:
            return {}
        mean = self.total / self.count  # not compute(): it would put this rank's own sums back
        found = {"value": float(mean)}
        if self.errors and self.count > 1:
            variance = (self.squares / self.count - mean.square()).clamp_min(0)
            found["error"] = float((variance / (self.count - 1)).sqrt())
        return found


def float64_device(device: torch.device) -> torch.device:
    """The device itself where it has float64, else the CPU (Apple's MPS has none)."""
    return device if device.type in {"cpu", "cuda"} else torch.device("cpu")
