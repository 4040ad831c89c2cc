"""Running means of the loss terms, and the watch for terms that are not finite.

A step only remembers its scalars, where they are: no kernel is launched and nothing waits for the device until `flush`
reads all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from lit_gan.errors import NonFiniteError

NEVER = torch.iinfo(torch.int64).max  # "no step was bad": a minimum over steps and ranks keeps it
PACK_AT = 256  # steps; a tensor of its own, every scalar would cost half a kilobyte of GPU memory


class Monitor:
    """Named scalars since the last `flush`, with the images seen when each was computed."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._rows: list[
            tuple[str, int, dict[str, Tensor]]
        ] = []  # the newest ones: group, images seen, terms
        self._names: list[str] = []  # of every older scalar, in the order of adding
        self._images: list[int] = []
        self._packed: list[Tensor] = []  # their values, float32 vectors

    def add(self, group: str, terms: Mapping[str, Tensor], *, images_seen: int) -> None:
        """Remember scalars; a step may bring other names than the last (a lazy penalty), each has its own mean."""
        if terms:
            self._rows.append((group, images_seen, {name: term.detach() for name, term in terms.items()}))
        if len(self._rows) >= PACK_AT:
            self._pack()

    def _pack(self) -> None:
        scalars: list[Tensor] = []
        for group, images, terms in self._rows:
            for name, term in terms.items():
                self._names.append(f"{group}/{name}")
                self._images.append(images)
                scalars.append(term.float())
        self._packed.append(torch.stack(scalars))
        self._rows = []

    def flush(self) -> dict[str, float]:
        """The means since the last call, over all ranks; waits for the device once.

        Raises `NonFiniteError` (on every rank) if a term was NaN or infinite. All ranks must call it after the same step.
        """
        if self._rows:
            self._pack()
        if not self._packed:
            return {}
        values = torch.cat(self._packed)
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        first_bad: dict[str, int] = {}
        for name, images, value in zip(self._names, self._images, values.tolist(), strict=True):
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0.0) + 1
            first_bad[name] = min(first_bad.get(name, NEVER), NEVER if math.isfinite(value) else images)
        self._reset()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            _over_ranks(sums, dist.ReduceOp.SUM, torch.float64, values.device)
            _over_ranks(counts, dist.ReduceOp.SUM, torch.float64, values.device)
            _over_ranks(first_bad, dist.ReduceOp.MIN, torch.int64, values.device)
        _raise_if_bad(first_bad)
        return {name: sums[name] / counts[name] for name in sums}


def _over_ranks(
    numbers: dict[str, float] | dict[str, int],
    op: dist.ReduceOp.RedOpType,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Reduce in place; the names are the same on every rank, in one order."""
    tensor = torch.tensor(list(numbers.values()), dtype=dtype, device=device)
    dist.all_reduce(tensor, op=op)
    numbers.update(zip(numbers, tensor.tolist(), strict=True))


def _raise_if_bad(first_bad: Mapping[str, int]) -> None:
    when = min(first_bad.values())
    if when == NEVER:
        return
    culprits = ", ".join(name for name, images in first_bad.items() if images == when)
    raise NonFiniteError(
        f"{culprits} became NaN or infinite after {when:,} images: nothing was saved since; resume from the last "
        "checkpoint with a smaller optim.lr, or with optim.clip_norm=1, or with trainer.precision=32"
    )
