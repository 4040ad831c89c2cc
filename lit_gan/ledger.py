"""`sweep.json`: what a sweep consists of and how far each cell has come, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lit_gan import __version__
from lit_gan.errors import UserError
from lit_gan.grid import Cell
from lit_gan.run import write_text

FILE = "sweep.json"
T = TypeVar("T")


@dataclass
class Entry:
    """One cell: what it sets, and new, running, finished, interrupted or failed."""

    name: str
    overrides: list[str]
    status: str = "new"
    minutes: float = 0.0  # of all sittings
    error: str | None = None
    pid: int | None = None  # while it is running


@dataclass
class Ledger:
    """The record of a sweep; `base` are the settings that all cells share."""

    folder: Path
    base: dict[str, Any] | None = None  # None: nothing was written yet
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """The ledger in `folder`, empty where there is none; raises `UserError` for a file that is no ledger."""
        path = folder / FILE
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
            entries = [Entry(**entry) for entry in loaded["cells"]]
            return cls(folder, dict(loaded["base"]), {entry.name: entry for entry in entries})
        except FileNotFoundError:
            return cls(folder)
        except (ValueError, TypeError, KeyError):
            raise UserError(
                f"{path}: not the record of a sweep; move it away, or give another --name"
            ) from None

    def write(self) -> None:
        """Replace the file."""
        record = {
            "format": 1,
            "version": __version__,
            "base": self.base,
            "cells": [dataclasses.asdict(entry) for entry in self.entries.values()],
        }
        write_text(self.folder / FILE, json.dumps(record, indent=1) + "\n")

    def check_base(self, settings: Mapping[str, Any]) -> None:
        """Take `settings` as those that all cells share, or raise a `UserError` that names what differs."""
        new = json.loads(json.dumps(settings, default=str))
        if self.base is not None and self.base != new:
            differ = [key for key in self.base.keys() | new.keys() if self.base.get(key) != new.get(key)]
            what = ", ".join(
                f"{key} was {_show(self.base, key)} and is now {_show(new, key)}" for key in sorted(differ)
            )
            raise UserError(
                f"{self.folder} is a sweep of other settings ({what}): give them as they were, or another --name"
            )
        self.base = new

    def adopt(self, cells: Mapping[Cell, T]) -> dict[Cell, T]:
        """`cells` under the names that they have here, and an entry for each.

        The order of axes makes a name; whoever gives them in another order still means the same runs.
        """
        known = {frozenset(entry.overrides): entry.name for entry in self.entries.values()}
        adopted = {}
        for cell, value in cells.items():
            name = known.get(frozenset(cell.overrides), cell.name)
            entry = self.entries.setdefault(name, Entry(name, list(cell.overrides)))
            if set(entry.overrides) != set(cell.overrides):
                raise UserError(
                    f"{self.folder / name} is the run of {' '.join(entry.overrides)}, and would be that of "
                    f"{' '.join(cell.overrides)}: give the sweep another --name"
                )
            adopted[Cell(name, cell.overrides)] = value
        return adopted


def _show(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "not set"
