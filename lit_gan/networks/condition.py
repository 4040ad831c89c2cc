"""Labels as networks read them: classes [B], or vectors [B, K] of which the one-hot ones say just the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def as_vector(label: Tensor, width: int) -> Tensor:
    """Classes [B] or vectors [B, K] -> [B, K] of floats; `width` is K."""
    return label if label.is_floating_point() else F.one_hot(label, width).to(torch.get_default_dtype())


def looked_up(label: Tensor, table: Tensor) -> Tensor:
    """The rows of `table` [K, F] that classes [B] choose, or the sums of rows that vectors [B, K] weigh -> [B, F]."""
    if not label.is_floating_point():
        return F.embedding(label, table)
    with torch.autocast(table.device.type, enabled=False):  # measurements have more digits than bfloat16
        return label.to(table.dtype) @ table


def looked_up_around_one(label: Tensor, table: Tensor) -> Tensor:
    """1 + looked_up(label, table - 1), of factors: a vector of zeros leaves things as they are -> [B, F]."""
    if not label.is_floating_point():
        return F.embedding(label, table)
    # so written, a one-hot vector gives its row bit for bit
    return (1 - label.to(table.dtype).sum(1, keepdim=True)) + looked_up(label, table)
