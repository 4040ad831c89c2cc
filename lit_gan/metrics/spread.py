"""Standard errors by leaving out groups of fakes: the jackknife of Efron & Stein 1981."""

from __future__ import annotations

from torch import Tensor

GROUPS = 10  # of fakes, left out in turn


def group_of(numbers: Tensor, samples: int, groups: int = GROUPS) -> Tensor:
    """The group [B] of the fakes numbered `numbers` [B], each below `samples`: consecutive numbers go together."""
    return numbers * groups // samples


def jackknife(left: Tensor) -> Tensor:
    """Standard error [...] of a statistic, of its values `left` [G, ...] without each of the G groups in turn.

    What a smaller sample shifts in all of them alike, the bias, is not in it.
    """
    groups = len(left)
    if groups < 2:
        raise ValueError(f"a jackknife needs 2 groups, got {groups}")
    return ((left - left.mean(0)).square().sum(0) * (groups - 1) / groups).sqrt()
