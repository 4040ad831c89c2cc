"""The columns of a table, and tables as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lit_gan.compare.tables import Comparison, Quantity, Table
from lit_gan.compare.words import decimals, in_words, number

LEAST_DECIMALS = {"pr": 3, "dc": 3, "modes": 0}


@dataclass(frozen=True)
class Column:
    """Numbers over the rows of a table, shown with equal decimals."""

    key: str  # in a CSV
    title: str
    cells: tuple[Quantity | None, ...]
    digits: int
    is_score: bool = False  # of the table's protocol: shown with its spread
    scale: float = 1.0  # times the value, where it is shown

    def shown(self, row: int) -> tuple[str, str]:
        """The value and its spread, each "" or "-" where there is none."""
        cell = self.cells[row]
        if cell is None:
            return "-", ""
        value = number(cell.mean * self.scale, self.digits)
        if not self.is_score or cell.spread is None or not self._spreads:
            return value, ""
        return value, f"± {number(cell.spread * self.scale, self.digits)}"

    @cached_property
    def _spreads(self) -> bool:
        """Whether a spread is worth its place: whole numbers that are the same for all seeds need none."""
        return self.digits > 0 or any(cell.spread for cell in self.cells if cell is not None)

    @property
    def has_spread(self) -> bool:
        return any(self.shown(row)[1] for row in range(len(self.cells)))


def columns(table: Table) -> list[Column]:
    """The scores, then what they cost."""
    metric, name, rows = table.metric, table.metric.upper(), table.rows
    best = _score(metric, f"{metric}_best", f"best {name}", tuple(row.best for row in rows))
    final = _score(metric, f"{metric}_final", f"final {name}", tuple(row.final for row in rows))
    floors = tuple(Quantity.of([curve.best.floor for curve in row.curves]) for row in rows)
    floor = replace(best, key="floor", title="floor", cells=floors, is_score=False)
    beside = [_score(other.metric, other.key, other.title, other.cells) for other in table.beside]
    return [best, replace(final, digits=best.digits), floor, *beside, *_costs(table)]


def _score(metric: str, key: str, title: str, cells: tuple[Quantity | None, ...]) -> Column:
    scale, least = (1000, 2) if metric == "kid" else (1, LEAST_DECIMALS.get(metric, 2))
    digits = decimals([cell.mean * scale for cell in cells if cell is not None], least)
    return Column(key, f"{title} ×1000" if scale > 1 else title, cells, digits, is_score=True, scale=scale)


def _costs(table: Table) -> Iterator[Column]:
    rows = table.rows
    on_gpus = all(record.is_gpu for row in rows for record in row.records)
    hours = [[record.device_hours for record in row.records] for row in rows]
    kimg = [[curve.best.images / 1000 for curve in row.curves] for row in rows]
    speed = [[record.images_per_second for record in row.records] for row in rows]
    yield _cost("kimg", "kimg", kimg)
    yield _cost("images_per_second", "images/s", speed)
    yield _cost("device_hours", "GPU-hours" if on_gpus else "device-hours", hours)
    for key, title in (("generator", "G (M)"), ("discriminator", "D (M)")):
        counts = [[getattr(record, key) for record in row.records] for row in rows]
        millions = [[None if n is None else n / 1e6 for n in row] for row in counts]
        yield _cost(f"{key}_millions", title, millions, 2)


def _cost(key: str, title: str, values: Sequence[Sequence[float | None]], least: int = 0) -> Column:
    cells = tuple(Quantity.of(row) for row in values)
    return Column(
        key, title, cells, min(4, decimals([cell.mean for cell in cells if cell is not None], least))
    )


def seeds(comparison: Comparison, table: Table) -> list[str]:
    """How many seeds a row has; of a single run, with `--each`, which."""
    return [row.records[0].seed if comparison.each else str(len(row.records)) for row in table.rows]


def markdown(comparison: Comparison) -> str:
    """Tables with what was done in words above each, for a terminal or a paper."""
    lines = []
    for note in comparison.notes:
        lines += [f"{note}", ""]
    for table in comparison.tables:
        lines += [f"### {table.title}", "", "; ".join(in_words(table.protocol, table.data, table.floor)), ""]
        lines += _grid(comparison, table)
        lines += ["", *(line for note in table.notes for line in (note, ""))]
    if any(column.has_spread for table in comparison.tables for column in columns(table)):
        lines += [meaning(comparison), ""]
    return "\n".join(lines)


def meaning(comparison: Comparison) -> str:
    """What stands behind the ±."""
    shown = {
        len(row.records) > 1
        for table in comparison.tables
        for i, row in enumerate(table.rows)
        if any(column.shown(i)[1] for column in columns(table))
    }
    seeds, alone = (
        "the standard deviation over seeds (n − 1)",
        "of a single run the error or deviation that its metric gives",
    )
    return f"± is {'; '.join([*([seeds] if True in shown else []), *([alone] if False in shown else [])])}"


def _grid(comparison: Comparison, table: Table) -> Iterator[str]:
    head = ["run" if comparison.each else "arch", "seed" if comparison.each else "seeds"]
    body = [[_plain(row.label), n] for row, n in zip(table.rows, seeds(comparison, table), strict=True)]
    for column in columns(table):
        shown = [column.shown(i) for i in range(len(table.rows))]
        width = max(len(spread) for _, spread in shown)
        head.append(column.title)
        for cells, (value, spread) in zip(body, shown, strict=True):
            cells.append(
                f"{value} {spread.ljust(width)}".rstrip() if not width else f"{value} {spread.ljust(width)}"
            )
    widths = [max(map(len, cells)) for cells in zip(head, *body, strict=True)]
    yield _line(
        [head[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(head[1:], widths[1:], strict=True))]
    )
    yield _line(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    for cells in body:
        yield _line(
            [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(label: str) -> str:
    return " ".join(label.replace("|", "\\|").split())


def comma_separated(comparison: Comparison) -> str:
    """Every table in one CSV, with all digits.

    Scores of unequal protocol stay in columns of their own: with several tables, those of table n end in `#n`.
    """
    rows: list[dict[str, object]] = []
    for index, table in enumerate(comparison.tables, 1):
        mark = f"#{index}" if len(comparison.tables) > 1 else ""
        for i, row in enumerate(table.rows):
            cells: dict[str, object] = {
                "table": index,
                "data": table.data,
                "label": row.label,
                "seeds": " ".join(record.seed for record in row.records),
                "runs": " ".join(record.path for record in row.records),
            }
            for column in columns(table):
                cell = column.cells[i]
                own = mark if column.is_score or column.key == "floor" else ""
                cells[f"{column.key}{own}"] = "" if cell is None else cell.mean
                if column.is_score:
                    cells[f"{column.key}_error{own}"] = (
                        "" if cell is None or cell.spread is None else cell.spread
                    )
            cells["protocol"] = json.dumps(dict(table.protocol), sort_keys=True)
            rows.append(cells)
    names = list(dict.fromkeys(name for cells in rows for name in cells))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
