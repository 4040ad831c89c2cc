"""The real side of scores: taken once over all ranks, cached under everything that moves it, shared by runs.

Beside it stands the floor, the same metric between two disjoint halves of the reals: a score means little
without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_gan.cache import cache_root
from lit_gan.metrics.collectives import broadcast_floats
from lit_gan.metrics.extractors import Extractor, Source
from lit_gan.metrics.protocol import VERSION
from lit_gan.metrics.store import content_key, load, locked, save
from lit_gan.metrics.sums import Arrays, EvaluationMetric, float64_device

SEED = 0  # of the choice of reals and of the halves

Floor = dict[str, float]


@dataclass(frozen=True)
class Features:
    """What metrics are given of a batch: features [B, D], logits [B, K] and labels [B] where there are any."""

    features: Tensor
    logits: Tensor | None
    labels: Tensor | None

    def of(self, rows: Tensor) -> Features:
        """Those of `rows` alone."""
        logits, labels = (None if v is None else v[rows.to(v.device)] for v in (self.logits, self.labels))
        return Features(self.features[rows.to(self.features.device)], logits, labels)


@dataclass(frozen=True)
class Pass:
    """How features are to be taken: on which device, in which batches, for which rank's share."""

    device: torch.device
    batch_size: int
    rank: int = 0
    world: int = 1
    should_stop: Callable[[], None] | None = None

    def share(self, size: int, together: int = 1) -> Iterator[Sequence[int]]:
        """This rank's part of range(size) in batches: every world-th number, no padding.

        With `together` 2 it is every world-th of the pairs (2p, 2p + 1), each whole in one batch.
        """
        mine = range(self.rank, -(-size // together), self.world)
        step = max(1, self.batch_size // together)
        for start in range(0, len(mine), step):
            if self.should_stop is not None:
                self.should_stop()
            blocks = mine[start : start + step]
            yield [i for b in blocks for i in range(b * together, min((b + 1) * together, size))]


class Reference:
    """The reals that a score is made against: `indices` of the data, and the two halves of the floor."""

    def __init__(
        self, data: Source, extractor: Extractor, *, reals: int | None, fakes: int, real_key: str = "image"
    ) -> None:
        indices = np.arange(data.size) if extractor.reference is None else np.asarray(extractor.reference)
        whole = len(indices)
        if reals is not None and reals < whole:
            indices = np.sort(np.random.default_rng(SEED).permutation(indices)[:reals])
        self.indices: NDArray[np.int64] = indices.astype(np.int64)
        self.half = min(fakes, len(indices) // 2)
        order = np.random.default_rng(SEED).permutation(len(indices))
        self.number = np.full(len(indices), -1)  # within its half; -1 in neither
        self.number[order[: self.half]] = self.number[order[self.half : 2 * self.half]] = np.arange(self.half)
        self.in_second = np.zeros(len(indices), dtype=bool)
        self.in_second[order[self.half : 2 * self.half]] = True
        part = "all" if whole == data.size else f"{whole} of {data.size} unseen by the extractor"
        self.description = part if len(indices) == whole else f"{len(indices)} of {part}"
        self.data, self.extractor, self.real_key = data, extractor, real_key

    def __len__(self) -> int:
        return len(self.indices)

    def key(self, metric: str, settings: str) -> dict[str, object]:
        """Everything that moves a metric's real side."""
        extractor = self.extractor
        return {
            "version": VERSION,
            "metric": metric,
            "settings": settings,
            "data": [self.data.fingerprint, self.real_key],
            "images": [len(self.indices), hashlib.sha256(self.indices.tobytes()).hexdigest()],
            "image_shape": list(self.data.image_shape),
            "stored": str(self.data.images.dtype),
            "augmentation": "none",
            "extractor": extractor.name,
            "weights": extractor.weights_hash,
            "resize": extractor.resize,
            "features": [extractor.dim, extractor.num_logits, "float32"],
        }

    def prepare(self, metrics: dict[str, EvaluationMetric], how: Pass) -> dict[str, Floor]:
        """Gives every metric its reals (rank 0) and returns the floors (every rank), from the cache or one
        pass.

        Every rank must call it with the same metrics.
        """
        folder = cache_root() / "statistics"
        with self._lock(folder, how.rank):
            sides, floors = self._cached(folder, metrics) if how.rank == 0 else ({}, {})
            missing = self._agree(metrics, sides, floors)
            if missing:
                self._take(folder, {name: metrics[name] for name in missing}, sides, floors, how)
        for name, metric in metrics.items():
            if how.rank == 0:
                metric.set_real_state(sides[name])
            if how.world > 1:
                metric.share()
        return {name: self._broadcast_floor(metrics[name], floors.get(name), how) for name in metrics}

    def _lock(self, folder: Path, rank: int) -> AbstractContextManager[None]:
        name = content_key(self.key("", ""))
        return locked(folder / name) if rank == 0 else nullcontext()

    def _cached(
        self, folder: Path, metrics: dict[str, EvaluationMetric]
    ) -> tuple[dict[str, Arrays], dict[str, Floor]]:
        sides, floors = {}, {}
        for name, metric in metrics.items():
            arrays = load(*self._side_entry(folder, name, metric)) if metric.uses_reals else {}
            if arrays is not None:
                sides[name] = arrays
            values = load(*self._floor_entry(folder, name, metric))
            if values is not None:
                floors[name] = {part: float(value) for part, value in values.items()}
        return sides, floors

    def _agree(
        self, metrics: dict[str, EvaluationMetric], sides: dict[str, Arrays], floors: dict[str, Floor]
    ) -> list[str]:
        """The metrics that rank 0 lacks something of, on every rank."""
        lacking = [float(name not in sides or name not in floors) for name in metrics]
        return [name for name, lacks in zip(metrics, broadcast_floats(lacking), strict=True) if lacks]

    def _take(
        self,
        folder: Path,
        metrics: dict[str, EvaluationMetric],
        sides: dict[str, Arrays],
        floors: dict[str, Floor],
        how: Pass,
    ) -> None:
        """One pass over the reals for what is missing; rank 0 stores it and fills `sides` and `floors`."""
        device = float64_device(how.device)
        whole = {
            name: type(metric).build_for(self.data, self.extractor, len(self)).to(device)
            for name, metric in metrics.items()
        }
        halves = {
            name: type(metric).build_for(self.data, self.extractor, max(self.half, 1)).to(device)
            for name, metric in metrics.items()
            if self.half >= metric.smallest
        }
        for positions in how.share(len(self)):
            taken = self._features(positions, how)
            self._add(whole, taken, np.asarray(positions), np.ones(len(positions), bool), real=True)
            number, second = self.number[positions], self.in_second[positions]
            self._add(halves, taken, number, (number >= 0) & ~second, real=True)
            self._add(halves, taken, number, (number >= 0) & second, real=False)
        for name, metric in whole.items():
            half = halves.get(name)
            if how.world > 1:
                metric.sync()
                if half is not None:
                    half.sync()
            if how.rank == 0:
                sides[name] = metric.real_state() if metric.uses_reals else {}
                if metric.uses_reals:
                    path, description = self._side_entry(folder, name, metric)
                    save(path, sides[name], description)
                floors[name] = half.values() if half is not None else {}
                path, description = self._floor_entry(folder, name, metrics[name])
                save(path, {part: np.array(value) for part, value in floors[name].items()}, description)

    def _features(self, positions: Sequence[int], how: Pass) -> Features:
        batch = self.data.real_batch(self.indices[positions].tolist())
        features, logits = self.extractor(batch[self.real_key].to(how.device))
        return Features(features, logits, batch.get("label"))

    @staticmethod
    def _add(
        metrics: dict[str, EvaluationMetric],
        taken: Features,
        numbers: NDArray[Any],
        chosen: NDArray[np.bool_],
        *,
        real: bool,
    ) -> None:
        rows = torch.from_numpy(np.flatnonzero(chosen))
        indices = torch.from_numpy(np.ascontiguousarray(numbers))[rows]
        for metric in metrics.values():
            add_to(metric, taken, indices, rows=rows, real=real)

    def _side_entry(
        self, folder: Path, name: str, metric: EvaluationMetric
    ) -> tuple[Path, dict[str, object]]:
        description = self.key(name, metric.settings(len(self)))
        return folder / f"{content_key(description)}.npz", description

    def _floor_entry(
        self, folder: Path, name: str, metric: EvaluationMetric
    ) -> tuple[Path, dict[str, object]]:
        description = {**self.key(name, metric.settings(max(self.half, 1))), "floor": [SEED, self.half]}
        return folder / f"{content_key(description)}.npz", description

    def _broadcast_floor(self, metric: EvaluationMetric, floor: Floor | None, how: Pass) -> Floor:
        return broadcast_parts(metric, floor or {}) if how.world > 1 else floor or {}


def add_to(
    metric: EvaluationMetric,
    taken: Features,
    indices: Tensor,
    *,
    rows: Tensor | None = None,
    real: bool,
) -> None:
    """Adds what the metric reads of a batch, of `rows` alone if given, on its device."""
    if rows is not None:
        taken = taken.of(rows)
    device = metric.device
    features = taken.features.to(device)
    if metric.needs_labels:
        assert taken.labels is not None  # evaluate() checked needs_labels
        metric.add_labelled(features, taken.labels.to(device), indices.to(device), real=real)
    else:
        logits = None if taken.logits is None else taken.logits.to(device)
        metric.add(features, logits, indices.to(device), real=real)


def broadcast_parts(metric: EvaluationMetric, values: dict[str, float]) -> dict[str, float]:
    """Rank 0's numbers by name on every rank; absent ones stay absent."""
    present = broadcast_floats([float(part in values) for part in metric.parts])
    received = broadcast_floats([values.get(part, 0.0) for part in metric.parts])
    return {part: value for part, here, value in zip(metric.parts, present, received, strict=True) if here}
