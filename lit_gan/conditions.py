"""Conditions that are vectors: several classes at once (multi-hot), or measurements (continuous)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_gan.data.order import Order
from lit_gan.errors import UserError

Kind = Literal["class", "multi-hot", "continuous"]
LARGEST = 4096  # rows of a table that fakes' conditions are drawn from


@dataclass(frozen=True)
class Conditions:
    """What a run knows of the vectors [K] of its data. Networks read them standardised and with a 1 behind: [K + 1].

    Continuous numbers then have mean 0 and deviation 1; those of a multi-hot vector stay 0 and 1. The last 1 is what all
    have in common: without it a layer that has no bias gives a vector of zeros nothing, a logit that is a product with
    the embedded vector is 0 there, and an embedding that is normalised keeps the sign alone of a single number.
    """

    kind: Kind
    names: tuple[str, ...]  # K
    mean: tuple[float, ...]  # K, of the data
    deviation: tuple[float, ...]  # K
    table: Tensor  # [M, K + 1] as networks read them: all of the data, or `LARGEST` of them

    @classmethod
    def of(
        cls, kind: Kind, names: Sequence[str], values: NDArray[np.float64], *, where: str
    ) -> tuple[Conditions, NDArray[np.float32]]:
        """Those of data with the vectors `values` [N, K], and these as networks read them [N, K + 1]."""
        mean, deviation = np.zeros(len(names)), np.ones(len(names))
        if kind == "continuous":
            mean, deviation = values.mean(0), values.std(0)
            # rounding leaves a constant column a deviation of about 1e-16 of its size
            constant = np.flatnonzero(deviation <= 1e-12 * np.abs(mean))
            if len(constant):
                name = names[constant[0]]
                raise UserError(
                    f"{where}: {name} is {values[0, constant[0]]:g} in every image and says nothing: leave it out"
                )
        encoded = _encoded(values, mean, deviation)
        rows = encoded
        if len(encoded) > LARGEST:
            chosen, _ = Order(len(encoded), seed=0)(np.arange(LARGEST, dtype=np.int64))
            rows = encoded[np.sort(chosen)]
        found = cls(
            kind, tuple(names), tuple(mean.tolist()), tuple(deviation.tolist()), torch.from_numpy(rows)
        )
        return found, encoded

    @classmethod
    def restored(cls, record: Mapping[str, Any] | None) -> Conditions | None:
        """From a checkpoint's record; None of a run whose labels are classes, or which has none."""
        if record is None:
            return None
        lists_as_tuples: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        return cls(**lists_as_tuples)

    def record(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    def drawn(self, seed: int, indices: Sequence[int]) -> Tensor:
        """Vectors of the data [B, K + 1], row b a function of (seed, indices[b]) alone; each of the table as likely."""
        rows = [_word(seed, index) * len(self.table) >> 64 for index in indices]
        return self.table[rows]

    def encoded(self, values: Sequence[float]) -> Tensor:
        """K numbers in the user's own units -> [K + 1], as networks read them."""
        if len(values) != len(self.names):
            raise UserError(
                f"label {','.join(f'{value:g}' for value in values)} cannot be sampled: give {len(self.names)} "
                f"{'number' if len(self.names) == 1 else 'numbers'} ({', '.join(self.names)})"
            )
        if not np.isfinite(values).all():
            raise UserError(f"label {','.join(f'{value:g}' for value in values)} is not finite: give numbers")
        wide = np.array([values], dtype=np.float64)
        return torch.from_numpy(_encoded(wide, np.array(self.mean), np.array(self.deviation)))[0]

    def described(self, encoded: Tensor) -> str:
        """A row [K + 1] in words, in the user's units."""
        values = encoded[:-1].double().cpu().numpy() * self.deviation + self.mean
        if self.kind == "multi-hot":
            return ", ".join(name for name, value in zip(self.names, values, strict=True) if value > 0.5)
        return ", ".join(f"{name} {value:.4g}" for name, value in zip(self.names, values, strict=True))


def _encoded(
    values: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float32]:
    ones = np.ones((len(values), 1))
    return np.concatenate([(values - mean) / deviation, ones], axis=1).astype(np.float32)


def _word(seed: int, index: int) -> int:
    """64 random bits."""
    return int.from_bytes(
        blake2b(f"lit-gan {seed} condition {index}".encode(), digest_size=8).digest(), "little"
    )
