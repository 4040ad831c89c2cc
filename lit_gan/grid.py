"""The cells of a sweep: axes such as `seed=0,1,2`, and every combination of their values, each with a readable name."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_gan.config import SHORT
from lit_gan.errors import UserError

RESERVED = ("run.name", "run.dir", "resume")  # the sweep sets them itself
BARE = ("arch", "data", "data.name", "experiment", "augment", "augment.name")  # dcgan, not archdcgan
RANGED = "seed"  # the one key of which 0-4 is a range: elsewhere it may be a name
OPENING, CLOSING = "[{(", "]})"


@dataclass(frozen=True)
class Axis:
    """A key and the values it takes, as typed."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One combination: a name for its run, and what it sets, as `key=value`."""

    name: str
    overrides: tuple[str, ...]


def parse_axes(arguments: Sequence[str]) -> list[Axis]:
    """The axes of `--grid`; raises `UserError` for what is none, for one given twice and for a value given twice."""
    axes = [_axis(argument) for argument in arguments]
    if not axes:
        raise UserError("--grid needs axes, such as --grid arch=dcgan,wgan-gp seed=0,1,2")
    for key, times in Counter(SHORT.get(axis.key, axis.key) for axis in axes).items():
        if times > 1:
            raise UserError(f"--grid: {key} is given twice; list all its values once, such as {key}=a,b")
        if key in RESERVED:
            raise UserError(f"--grid: {key} is set by the sweep itself; --name names the sweep")
    return axes


def _axis(argument: str) -> Axis:
    key, equals, text = argument.partition("=")
    if not equals or not key:
        raise UserError(f"--grid: '{argument}' is no axis; it must be key=value,value, such as seed=0,1,2")
    values = [part.strip() for part in split(text)]
    if "" in values:
        raise UserError(f"--grid: {argument} has an empty value; separate values by one comma")
    if key == RANGED:
        values = [value for part in values for value in _range(part)]
    for value, times in Counter(values).items():
        if times > 1:
            raise UserError(f"--grid: {key} has {value} twice")
    return Axis(key, tuple(values))


def split(text: str) -> list[str]:
    """`text` cut at its commas, save those within brackets or quotes: `[16],[32,64]` is two values.

    Raises `UserError` where a bracket or a quote is not closed.
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth -= 1
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    if depth or quote:
        raise UserError(
            f"--grid: a bracket or quote in '{text}' is not closed; the shell may need quotes around it"
        )
    return parts


def _range(text: str) -> list[str]:
    """`0-4` as 0, 1, 2, 3, 4; anything else as it is."""
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if match is None:
        return [text]
    first, last = map(int, match.groups())
    if last < first:
        raise UserError(f"--grid: {RANGED}={text} counts down; write {last}-{first}")
    return [str(number) for number in range(first, last + 1)]


def cells_of(axes: Sequence[Axis]) -> list[Cell]:
    """Every combination, the last axis changing fastest; raises `UserError` where two would have the same name."""
    short = Counter(_last(axis.key) for axis in axes)
    prefixes = [
        "" if axis.key in BARE else _last(axis.key) if short[_last(axis.key)] == 1 else axis.key
        for axis in axes
    ]
    cells = []
    for values in itertools.product(*(axis.values for axis in axes)):
        parts = [prefix + _label(value) for prefix, value in zip(prefixes, values, strict=True)]
        overrides = tuple(f"{axis.key}={value}" for axis, value in zip(axes, values, strict=True))
        cells.append(Cell("-".join(parts), overrides))
    for name, times in Counter(cell.name for cell in cells).items():
        if times > 1:
            same = [" ".join(cell.overrides) for cell in cells if cell.name == name]
            raise UserError(
                f"--grid: {same[0]} and {same[1]} would both be called {name}; run them as two sweeps"
            )
    return cells


def axes_name(axes: Sequence[Axis]) -> str:
    """The axes in a word: `arch-seed`."""
    return "-".join(_last(axis.key) if axis.key != "data.name" else "data" for axis in axes)


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _label(value: str) -> str:
    """A value as part of a folder's name: a YAML by its stem, a list as its items."""
    text = Path(value).stem if value.endswith((".yaml", ".yml")) else value
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-.") or "empty"
