"""Standard errors by leaving out groups of fakes: the jackknife of Efron & Stein 1981."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GROUPS = 10  # of fakes, left out in turn


def groups_of(samples: int) -> int:
    """How many groups `samples` fakes are worth: ten, or one where that leaves fewer than two in each."""
    return GROUPS if samples >= 2 * GROUPS else 1


def check_groups(groups: int, samples: int) -> None:
    """Raises for groups that `samples` fakes cannot fill."""
    if groups < 1 or (groups > 1 and samples < 2 * groups):
        raise ValueError(f"{groups} groups need at least 2 samples each, got samples={samples}")


def group_of(numbers: Tensor, samples: int, groups: int = GROUPS) -> Tensor:
    """The group [B] of the fakes numbered `numbers` [B], each below `samples`: consecutive numbers go together."""
    return numbers * groups // samples


def grouped_counts(
    kinds: Tensor, numbers: Tensor | None, number_of_kinds: int, *, samples: int, groups: int
) -> Tensor:
    """How many fakes of each group are of each kind, [G, K] int64, of their kinds [B] and their numbers [B].

    One group needs no numbers.
    """
    if groups == 1:
        return torch.bincount(kinds, minlength=number_of_kinds)[None]
    if numbers is None or len(numbers) != len(kinds):
        got = "none" if numbers is None else str(tuple(numbers.shape))
        raise ValueError(f"fakes in groups need a number each, indices [{len(kinds)}], got {got}")
    group = group_of(numbers.to(kinds.device), samples, groups)
    flat = torch.bincount(group * number_of_kinds + kinds, minlength=groups * number_of_kinds)
    return flat.view(groups, number_of_kinds)


def passing_error(distance: Tensor) -> Tensor:
    """Standard error of how many of K kinds pass a threshold, of their `distance` [K] above it in standard deviations.

    Each would pass again with the probability of a normal variate, independently of the others. A jackknife has little to
    say of a step: it gives 0 for most samples and half too much on average.
    """
    passes = torch.special.ndtr(distance)
    error: Tensor = (passes * (1 - passes)).sum().sqrt()
    return error


def reaching_error(counts: Tensor, samples: Tensor, fewest: float) -> Tensor:
    """`passing_error` of counts [K], each binomial of `samples` fakes, that must reach `fewest` of them."""
    sd = (counts * (1 - counts / samples)).sqrt()
    return passing_error((counts - (fewest - 0.5)) / sd)  # half: they are whole numbers


def named_errors(errors: Mapping[str, float], *, of_value: str) -> dict[str, float]:
    """Errors of parts by the names that `values` gives them, and that of the value, which is the part `of_value`."""
    return {"error": errors[of_value], **{f"{part}/error": error for part, error in errors.items()}}


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
