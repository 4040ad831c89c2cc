"""The sample grids of rows at equal kimg, small enough for a page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_gan.compare.records import Record
from lit_gan.compare.tables import Row, Table

NAME = re.compile(r"kimg([0-9]+\.[0-9]+)\.png")
NEAR = 0.1  # share of a mark by which a grid's kimg may miss it
MOST_MARKS = 3
LARGEST = 1024  # pixels a side; a larger grid is made smaller


@dataclass(frozen=True)
class Grid:
    """One picture and when it was drawn."""

    label: str
    seed: str
    kimg: float
    path: Path


@dataclass(frozen=True)
class Band:
    """Grids side by side; None where a row has none near the mark."""

    title: str
    near: str  # the mark, if there is one
    grids: tuple[tuple[str, Grid | None], ...]


def bands(table: Table) -> list[Band]:
    """Grids at the marks that the rows share, and below them the last of each where they trained for unequal long."""
    found = {row.label: grids for row in table.rows if (grids := _grids(row))}
    if not found:
        return []
    made = [_at(mark, found) for mark in marks([[g.kimg for g in grids] for grids in found.values()])]
    lasts = tuple((label, grids[-1]) for label, grids in found.items())
    if not made or {grid for _, grid in made[-1].grids} != {grid for _, grid in lasts}:
        made.append(Band("The last samples of each", "", lasts))
    return made


def marks(kimg: Sequence[Sequence[float]]) -> list[float]:
    """At most three kimg near which all rows have a grid, or most of them where all share none; the untrained left out.

    The last of them and those nearest to a half and a quarter of it.
    """
    candidates = sorted({k for row in kimg for k in row if k > 0})
    counts = {mark: sum(nearest(mark, row) is not None for row in kimg) for mark in candidates}
    for needed in (len(kimg), max(2, len(kimg) // 2 + 1)):
        shared = [mark for mark in candidates if counts[mark] >= needed]
        if shared:
            break
    else:
        return []
    last = shared[-1]
    chosen = [last]
    for share in (0.5, 0.25):
        free = [mark for mark in shared if all(abs(mark - c) > 2 * NEAR * max(mark, c) for c in chosen)]
        if free and len(chosen) < MOST_MARKS:
            chosen.append(min(free, key=lambda mark: abs(mark - share * last)))
    return sorted(chosen)


def nearest(mark: float, kimg: Sequence[float]) -> float | None:
    """Of `kimg` the one nearest to the mark, if it is near enough to be called equal."""
    best = min(kimg, key=lambda k: abs(k - mark), default=None)
    return best if best is not None and abs(best - mark) <= NEAR * mark else None


def png(path: Path) -> bytes | None:
    """The picture, made smaller if it is large; None if it is none."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            if max(image.size) <= LARGEST:
                return path.read_bytes()
            small = image.copy()
            small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    out = io.BytesIO()
    small.save(out, format="PNG", optimize=True)
    return out.getvalue()


def _at(mark: float, found: Mapping[str, Sequence[Grid]]) -> Band:
    chosen = []
    for label, grids in found.items():
        kimg = nearest(mark, [grid.kimg for grid in grids])
        chosen.append((label, next((grid for grid in grids if grid.kimg == kimg), None)))
    return Band(f"Samples at {mark:g} kimg", f"{mark:g} kimg", tuple(chosen))


def _grids(row: Row) -> list[Grid]:
    """Those of the first seed that has some, by kimg: always the first, never the prettiest."""
    for record in row.records:
        if grids := sorted(_of(row.label, record), key=lambda grid: grid.kimg):
            return grids
    return []


def _of(label: str, record: Record) -> list[Grid]:
    matches = [(NAME.fullmatch(path.name), path) for path in record.folder.samples.glob("kimg*.png")]
    return [Grid(label, record.seed, float(match[1]), path) for match, path in matches if match is not None]
