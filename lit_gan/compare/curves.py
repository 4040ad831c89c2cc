"""A table's scores as lines over kimg or over time: a line for each row, with the range of its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lit_gan.compare.records import Scored
from lit_gan.compare.tables import Row, Table

Axis = Literal["kimg", "time"]
AXES: tuple[Axis, ...] = ("kimg", "time")
LOG_FROM = 10.0  # times that the highest score is the lowest: from here the y axis is logarithmic
UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


@dataclass(frozen=True)
class Line:
    """The mean over seeds, and the lowest and the highest of them, at each x that they share; and each seed by itself."""

    label: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]  # x and y of each


@dataclass(frozen=True)
class Plot:
    """What a chart shows."""

    lines: tuple[Line, ...]
    x_label: str
    y_label: str
    log: bool
    floor: float | None
    floor_images: int


def plot(table: Table, axis: Axis) -> Plot | None:
    """The lines of a table; None where no run says when it was measured.

    The untrained generator is left out unless it is needed for a line: its score would set the scale for the others.
    """
    trained = [
        len({s.images for curve in row.curves for s in curve.scores if s.images > 0}) for row in table.rows
    ]
    first = 0 if min(trained) < 2 else 1
    lines = [line for row in table.rows if (line := _line(row, axis, first)) is not None]
    if not lines:
        return None
    longest = max(xs[-1] for line in lines for xs, _ in line.seeds)
    _, unit, name = next((u for u in UNITS if longest >= u[0]), UNITS[-1])
    if axis == "time":
        lines = [_scaled(line, unit) for line in lines]
    ends = [value for line in lines for _, ys in line.seeds for value in ys]
    floor = table.floor
    return Plot(
        lines=tuple(lines),
        x_label="images shown to the discriminator, in thousands (kimg)"
        if axis == "kimg"
        else f"{name} of training",
        y_label=table.metric.upper(),
        log=min(ends) > 0 and max(ends) > LOG_FROM * min(ends),
        floor=floor.floor if floor is not None else None,
        floor_images=floor.floor_images if floor is not None else 0,
    )


def _line(row: Row, axis: Axis, first: int) -> Line | None:
    """The mean ends where the first seed ends; where seeds share nothing, it is the longest one's."""
    by_images = [{s.images: s for s in curve.scores if s.images >= first} for curve in row.curves]
    if axis == "time":
        by_images = [{k: s for k, s in scores.items() if s.seconds is not None} for scores in by_images]
    by_images = [scores for scores in by_images if scores]
    if not by_images:
        return None
    shared = sorted(set.intersection(*(set(scores) for scores in by_images)))
    if not shared:
        longest = max(by_images, key=len)
        shared = sorted(longest)
    points = [[scores[images] for scores in by_images if images in scores] for images in shared]
    values = [[score.value for score in at] for at in points]
    return Line(
        label=row.label,
        x=tuple(statistics.fmean(_x(score, axis) for score in at) for at in points),
        mean=tuple(map(statistics.fmean, values)),
        low=tuple(map(min, values)),
        high=tuple(map(max, values)),
        seeds=tuple(
            (
                tuple(_x(scores[k], axis) for k in sorted(scores)),
                tuple(scores[k].value for k in sorted(scores)),
            )
            for scores in by_images
        ),
    )


def _x(score: Scored, axis: Axis) -> float:
    return score.images / 1000 if axis == "kimg" else score.seconds or 0.0


def _scaled(line: Line, unit: float) -> Line:
    return replace(
        line,
        x=tuple(x / unit for x in line.x),
        seeds=tuple((tuple(x / unit for x in xs), ys) for xs, ys in line.seeds),
    )


def spread(wanted: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """`wanted` places moved as little as is needed for neighbours to be `gap` apart within [low, high].

    With the gaps taken off, the nearest ascending places: neighbours that descend share their mean.
    """
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []
    for k, i in enumerate(order):
        mean, size = wanted[i] - k * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    last = high - gap * (len(wanted) - 1)
    starts = [min(max(mean, low), last) for mean, size in blocks for _ in range(size)]
    found = [0.0] * len(wanted)
    for k, (i, start) in enumerate(zip(order, starts, strict=True)):
        found[i] = start + k * gap
    return found


def ticks(low: float, high: float) -> list[float]:
    """Round values for a logarithmic axis: enough of 1, 2, 5 and 10 to read it by."""
    start, end = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        found = [s * 10.0**e for e in range(start, end + 1) for s in steps if low <= s * 10.0**e <= high]
        if len(found) >= 4:
            return found
    return found
