"""Running means of the loss terms on the device, and the watch for terms that are not finite.

Nothing here waits for the device until `flush`: a step costs a few small kernels, never a synchronisation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from lit_gan.errors import NonFiniteError

NEVER = torch.iinfo(torch.int64).max  # "no step was bad": a minimum over steps and ranks keeps it


class Monitor:
    """Sums of named scalars since the last `flush`, with the images seen when each first became NaN or infinite."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._bad: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, group: str, terms: Mapping[str, Tensor], *, images_seen: int) -> None:
        """Add scalars; a group may bring other names in another step (a lazy penalty), each has its own mean."""
        key = group + "|" + "|".join(terms)
        values = torch.stack([term.detach().float() for term in terms.values()])
        finite = values.isfinite()
        if key not in self._sums:
            self._names[key] = [f"{group}/{name}" for name in terms]
            self._sums[key] = torch.zeros_like(values)
            self._counts[key] = torch.zeros_like(values)
            self._bad[key] = torch.full(values.shape, NEVER, dtype=torch.int64, device=values.device)
        self._sums[key] += values
        self._counts[key] += 1
        self._bad[key].clamp_(max=torch.where(finite, NEVER, images_seen))

    def flush(self) -> dict[str, float]:
        """The means since the last call, over all ranks; waits for the device once.

        Raises `NonFiniteError` (on every rank) if a term was NaN or infinite. All ranks must call it after the same step.
        """
        if not self._sums:
            return {}
        keys = list(self._sums)
        numbers = torch.cat([self._sums[k] for k in keys] + [self._counts[k] for k in keys])
        bad = torch.cat([self._bad[k] for k in keys])
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(numbers)
            dist.all_reduce(bad, op=dist.ReduceOp.MIN)
        names = [name for k in keys for name in self._names[k]]
        values = numbers.tolist()
        sums, counts, first_bad = values[: len(names)], values[len(names) :], bad.tolist()
        self._reset()
        self._raise_if_bad(names, first_bad)
        total: dict[str, float] = {}
        count: dict[str, float] = {}
        for name, value, n in zip(names, sums, counts, strict=True):
            total[name] = total.get(name, 0.0) + value
            count[name] = count.get(name, 0.0) + n
        return {name: total[name] / count[name] for name in total}

    @staticmethod
    def _raise_if_bad(names: list[str], first_bad: list[int]) -> None:
        when = min(first_bad)
        if when == NEVER:
            return
        culprits = ", ".join(dict.fromkeys(n for n, at in zip(names, first_bad, strict=True) if at == when))
        raise NonFiniteError(
            f"{culprits} became NaN or infinite after {when:,} images: nothing was saved since; resume from the last "
            "checkpoint with a smaller optim.lr, or with optim.clip_norm=1, or with trainer.precision=32"
        )
