"""Standard errors by leaving out groups of fakes: the jackknife of Efron & Stein 1981."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GROUPS = 10  # of fakes, left out in turn


def group_of(numbers: Tensor, samples: int, groups: int = GROUPS) -> Tensor:
    """The group [B] of the fakes numbered `numbers` [B], each below `samples`: consecutive numbers go together."""
    return numbers * groups // samples


def jackknife(left: Tensor) -> Tensor:
    """Standard error [...] of a statistic, of its values `left` [G, ...] without each of the G groups in turn.

    What a smaller sample shifts in all of them alike, the bias, is not in it. Of a statistic that is not a mean to first
    order, such as a coverage near 1, it is too large, not too small (their inequality).
    """
    groups = len(left)
    if groups < 2:
        raise ValueError(f"a jackknife needs 2 groups, got {groups}")
    return ((left - left.mean(0)).square().sum(0) * (groups - 1) / groups).sqrt()


def means_without(values: Tensor, group: Tensor) -> Tensor:
    """The mean of `values` [M] without each group in turn, of the groups [M] they are in: float64 [G]."""
    values = values.double()
    return torch.stack([values[group != g].mean() for g in range(int(group.max()) + 1)])


def jackknife_errors(left: Mapping[str, Tensor]) -> dict[str, float]:
    """Standard errors as `EvaluationMetric.values` names them, of values [G] without each group, by their names."""
    return {
        "error" if name == "value" else f"{name}/error": float(jackknife(values))
        for name, values in left.items()
    }
