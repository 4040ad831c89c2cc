"""What a turn of a player is made of: batches, named losses, parameters that step and those that are frozen meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]  # named scalar terms, already weighted; their sum is minimised
Player = Literal["d", "g"]


def total(terms: Losses) -> Tensor:
    """The sum that is minimised."""
    return torch.stack(list(terms.values())).sum() if len(terms) > 1 else next(iter(terms.values()))


def split(batch: Batch, parts: int) -> list[Batch]:
    """`batch` cut into equal parts along the first axis."""
    if parts == 1:
        return [batch]
    columns = {key: value.chunk(parts) for key, value in batch.items()}
    return [{key: column[i] for key, column in columns.items()} for i in range(parts)]


def parameters_of(optimizer: Optimizer | LightningOptimizer) -> list[nn.Parameter]:
    """What `optimizer` steps; walking over its groups is far cheaper than over the modules of a network."""
    return [p for group in optimizer.param_groups for p in group["params"]]


@contextlib.contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """No gradients for `parameters` meanwhile; what was frozen before stays frozen."""
    trainable = [p for p in parameters if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad = True


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """Those that are there, of what `optimizer` steps."""
    return [p.grad for p in parameters_of(optimizer) if p.grad is not None]


def clip(gradients: list[Tensor], limit: float | None) -> Tensor:
    """The norm of all `gradients` together, a scalar; they are scaled in place to `limit` where it is greater."""
    # a player lies on one device in one dtype, which spares the grouping of torch.nn.utils.get_total_norm
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if limit is not None:
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
