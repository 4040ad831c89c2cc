"""How far the input of a fully convolutional network matters, exactly, from its layers in their order."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from typing import Literal, NamedTuple


class Step(NamedTuple):
    """What layers in a row do to the grid: a convolution's radius in pixels, or a change of the sides by a factor."""

    kind: Literal["conv", "up", "down"]  # up: pixel shuffle or nearest neighbour; down: unshuffle
    size: int


def conv(radius: int) -> Step:
    """Convolutions of stride 1 one after another: the sum of their radii."""
    return Step("conv", radius)


def reach_of(steps: Sequence[Step]) -> int:
    """The farthest input pixel that an output pixel reads, in input pixels from the one it lies on."""
    scale, period = Fraction(1), 1
    for step in steps:
        scale = (
            scale * step.size if step.kind == "up" else scale / step.size if step.kind == "down" else scale
        )
        period = lcm(period, scale.numerator, scale.denominator)
    farthest = 0
    for pixel in range(period):  # of the output: what it reads depends on its place in the grid
        first = last = pixel
        for step in reversed(steps):
            if step.kind == "conv":
                first, last = first - step.size, last + step.size
            elif step.kind == "up":
                first, last = first // step.size, last // step.size
            else:
                first, last = first * step.size, last * step.size + step.size - 1
        here = int(pixel // scale)
        farthest = max(farthest, here - first, last - here)
    return farthest
