"""Labels that are vectors: from a table of text, or from rows of numbers, checked."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_gan.conditions import Kind
from lit_gan.errors import UserError

Floats = NDArray[np.float64]


def checked(
    rows: Sequence[Sequence[Any]], columns: Sequence[str], names: Sequence[str], kind: Kind, where: str
) -> Floats:
    """Rows of numbers, booleans or their texts as [N, K]; `UserError` names the first value that is none.

    `names` [N] are those of the rows in messages. Multi-hot values are 0 or 1.
    """
    try:
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))
    except (TypeError, ValueError):
        values = np.array([[_number(value) for value in _whole(row, columns, name, where)]
                           for row, name in zip(rows, names, strict=True)])  # fmt: skip
    wrong = ~np.isfinite(values)
    what = "not a number"
    if kind == "multi-hot" and not wrong.any():
        wrong = (values != 0) & (values != 1)
        what = "neither 0 nor 1, as multi-hot values are (data.condition=continuous takes any number)"
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        raise UserError(f"{where}: {columns[column]} of {names[row]} is {rows[row][column]!r}, {what}")
    return values


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _whole(row: Sequence[Any], columns: Sequence[str], name: str, where: str) -> Sequence[Any]:
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != len(columns):
        got = f"{len(row)} values" if isinstance(row, Sequence) and not isinstance(row, str) else repr(row)
        raise UserError(f"{where}: {name} has {got}, the first row {len(columns)}")
    return row


def from_table(
    text: str, names: Sequence[str], file_columns: Sequence[str], kind: Kind, where: str
) -> tuple[Floats, tuple[str, ...]]:
    """Vectors [N, K] of the images `names`, and the names of the K columns, from a CSV.

    The files are in the first of `file_columns` that the header has, else in the first column. All other columns are
    numbers; without a header they are called 1, 2, ...
    """
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(row)]
    if not rows or len(rows[0]) < 2:
        raise UserError(f"{where} needs a column of files and one of numbers at least: file,NAME,NAME,...")
    header = [cell.lower() for cell in rows[0]]
    file = next((header.index(name) for name in file_columns if name in header), 0)
    headed = header[file] in file_columns or any(np.isnan(_number(cell)) for cell in _but(rows[0], file))
    columns = _but(rows[0], file) if headed else [str(i) for i in range(1, len(rows[0]))]
    if short := next((row for row in rows if len(row) != len(rows[0])), None):
        raise UserError(
            f"{where}: the row {','.join(short)!r} has {len(short)} cells, the first {len(rows[0])}"
        )
    table: Mapping[str, list[str]] = {
        PurePosixPath(row[file]).as_posix(): _but(row, file) for row in rows[headed:]
    }
    if missing := [name for name in names if name not in table]:
        raise UserError(
            f"{where} has no row for {len(missing):,} of {len(names):,} images ({missing[0]}); add them (paths as "
            "below the folder of images)"
        )
    if unknown := sorted(table.keys() - set(names)):
        raise UserError(
            f"{where} has {len(unknown):,} rows without an image ({unknown[0]}); remove them, or add the images"
        )
    return checked([table[name] for name in names], columns, names, kind, where), tuple(columns)


def _but(row: list[str], place: int) -> list[str]:
    return row[:place] + row[place + 1 :]
