"""Base of the metrics that need every feature of both sides at once: kernel, neighbours, nearest angles.

What a metric computes of the reals alone (its `real_terms`) is cached beside their features, so that an
evaluation in training pays for the fakes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_gan.metrics.spread import GROUPS, group_of
from lit_gan.metrics.sums import Arrays, EvaluationMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network

Terms = Mapping[str, Tensor]


class FeatureMetric(EvaluationMetric):
    """Keeps features [B, D] of reals and fakes as float32; at sync they are gathered with exact counts.

    `dim` is D. A subclass gives `compute`, and `real_terms` where something of the reals is costly. Samples have
    numbers, and `reals()` and `fakes()` are in their order whatever batches and ranks brought them.
    """

    real: list[Tensor]
    fake: list[Tensor]
    real_numbers: list[Tensor]
    fake_numbers: list[Tensor]

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        for side in ("real", "fake"):
            self.add_state(side, [], dist_reduce_fx="cat")
            self.add_state(f"{side}_numbers", [], dist_reduce_fx="cat")
        self._known: tuple[Tensor, dict[str, Tensor]] | None = None  # reals [N, D] and their terms

    @classmethod
    def build(cls, network: Network, samples: int) -> Self:
        return cls(network.dim, sync_on_compute=False)

    def real_terms(self, features: Tensor) -> dict[str, Tensor]:
        """What the reals' features [N, D] alone decide and is worth keeping, by name."""
        return {}

    def empty_rows(self, name: str) -> Tensor:
        if name.endswith("_numbers"):
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        return torch.zeros(0, self.dim, device=self.device)

    def update(self, features: Tensor, real: bool, indices: Tensor | None = None) -> None:
        """Adds features [B, D] of reals or fakes, numbered `indices` [B] (None: on from those before); B may be 0."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise ValueError(f"features must be [B, {self.dim}], got {tuple(features.shape)}")
        if real and self._known is not None:
            raise ValueError("the real features are set: reals cannot be added to them")
        if indices is not None and len(indices) != len(features):
            raise ValueError(f"indices must be [{len(features)}], got {tuple(indices.shape)}")
        rows, numbers = (self.real, self.real_numbers) if real else (self.fake, self.fake_numbers)
        if indices is None:
            before = sum(map(len, rows))
            indices = torch.arange(before, before + len(features))
        rows.append(features.detach().float().to(self.device))
        numbers.append(indices.to(self.device, torch.int64))

    def set_real_features(self, features: Tensor, terms: Terms | None = None) -> None:
        """Takes the reals [N, D] as given, with their `real_terms` where they are known; `reset` keeps them."""
        if self.real:
            raise ValueError("the real features must be set before the first real update")
        features = features.detach().float().to(self.device)
        self._known = features, self.real_terms(features) if terms is None else dict(terms)

    def reals(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The features of the reals [N, D] and their `real_terms`, on the metric's device."""
        if self._known is None:
            features = self._in_order("real")
            return features, self.real_terms(features)
        features, terms = self._known
        return features.to(self.device), {name: value.to(self.device) for name, value in terms.items()}

    def fakes(self) -> Tensor:
        """The features of the fakes [M, D] in the order of their numbers."""
        return self._in_order("fake")

    def groups(self) -> Tensor:
        """The group [M] of each of `fakes()`: those left out in turn for a standard error."""
        m = sum(map(len, self.fake))
        return group_of(torch.arange(m, device=self.device), m)

    def gives_errors(self, smallest: int = 1) -> bool:
        """Whether errors are asked for, and there are fakes enough: `smallest` are left without any of the groups."""
        m = sum(map(len, self.fake))
        return self.errors and m >= 2 * GROUPS and m - -(-m // GROUPS) >= smallest

    def _in_order(self, side: str) -> Tensor:
        return self.rows(side)[self.rows(f"{side}_numbers").argsort(stable=True)]

    def check_counts(self, real: int, fake: int) -> None:
        """Raises unless there are so many samples of either side."""
        n = sum(map(len, self.real)) if self._known is None else len(self._known[0])
        m = sum(map(len, self.fake))
        if n < real or m < fake:
            raise ValueError(
                f"{type(self).__name__} needs {real} real and {fake} fake samples, got {n} and {m}"
            )

    def add(self, features: Tensor, logits: Tensor | None, indices: Tensor, *, real: bool) -> None:
        self.update(features, real, indices)

    def real_state(self) -> Arrays:
        features, terms = self.reals()
        return {name: value.cpu().numpy() for name, value in {"features": features, **terms}.items()}

    def set_real_state(self, arrays: Arrays) -> None:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.set_real_features(tensors.pop("features"), tensors)
