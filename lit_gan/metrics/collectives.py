"""The few exchanges between ranks that scores need: exact counts, float64, and safe for ranks that have
nothing.

All do nothing in a single process. Every rank must make the same calls in the same order.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

Group: TypeAlias = "dist.ProcessGroup | None"  # in quotes: builds of torch without distributed lack the name


def distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def all_reduce_sum(value: Tensor, group: Group = None) -> Tensor:
    """The sum of `value` over ranks, on its device; the argument is left alone."""
    if not distributed():
        return value
    total = value.detach().to(_wire(value.device, group)).clone()
    dist.all_reduce(total, group=group)
    return total.to(value.device)


def gather_rows(rows: Tensor, group: Group = None) -> Tensor:
    """The rows [n_r, ...] of all ranks below one another, in rank order; n_r may differ and may be 0.

    Padded to the longest for the exchange and cut again: one collective, whatever the number of updates was.
    """
    if not distributed():
        return rows
    device = _wire(rows.device, group)
    world = dist.get_world_size(group)
    count = torch.tensor([len(rows)], device=device)
    counts = [torch.zeros_like(count) for _ in range(world)]
    dist.all_gather(counts, count, group=group)
    lengths = [int(length) for length in counts]
    padded = torch.zeros((max(lengths), *rows.shape[1:]), dtype=rows.dtype, device=device)
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(gathered, padded, group=group)
    return torch.cat([part[:length] for part, length in zip(gathered, lengths, strict=True)]).to(rows.device)


def broadcast(value: Tensor, group: Group = None) -> Tensor:
    """Rank 0's `value` on every rank; shapes and types must agree."""
    if not distributed():
        return value
    shared = value.detach().to(_wire(value.device, group)).clone().contiguous()
    dist.broadcast(shared, src=0, group=group)
    return shared.to(value.device)


def broadcast_floats(values: list[float]) -> list[float]:
    """Rank 0's float64 numbers on every rank; lists must be equally long."""
    received: list[float] = broadcast(torch.tensor(values, dtype=torch.float64)).tolist()
    return received


def _wire(device: torch.device, group: Group) -> torch.device:
    """Where the backend wants tensors to lie: NCCL has no way for those of the CPU."""
    backend = dist.get_backend(group)
    if "nccl" in backend and "gloo" not in backend and device.type == "cpu":
        return torch.device("cuda", torch.cuda.current_device())
    return device
