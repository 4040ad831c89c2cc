"""What the rows are called: runs that are equal but for the seed are one row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lit_gan.compare.records import Record

KEYS_SHOWN = 3  # of the settings that tell two rows of one arch apart
FIRST_SHOWN = ("model.", "optim.", "data.", "run.")


def rows_of(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """The label of each row and its runs, equal in everything but the seed.

    A seed that a row has already makes another row: it is no further evidence.
    """
    kin: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in records:
        groups = kin.setdefault((record.name, record.data), {})
        groups.setdefault(repr(sorted(record.settings.items())), []).append(record)
    rows = []
    for (name, _), groups in kin.items():
        labels = _distinguish([group[0] for group in groups.values()])
        for label, group in zip(labels, groups.values(), strict=True):
            rounds = list(_rounds(group))
            for runs in rounds:
                shown = f"{name} · {label}" if label else name
                if len(rounds) > 1:
                    shown += f" ({folders(runs, records)})"
                rows.append((shown, runs))
    return rows


def folders(runs: Sequence[Record], among: Sequence[Record]) -> str:
    """The names of the folders of `runs`, each behind that of its sweep where another run has the same name."""
    names = [record.folder.path.name for record in among]
    paths = [run.folder.path for run in runs]
    return ", ".join(p.name if names.count(p.name) == 1 else f"{p.parent.name}/{p.name}" for p in paths)


def one_each(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """A row for every run, called by its folder."""
    names = [record.folder.path.name for record in records]
    return [(name if names.count(name) == 1 else r.path, [r]) for name, r in zip(names, records, strict=True)]


def _rounds(records: Sequence[Record]) -> Iterator[list[Record]]:
    left = list(records)
    while left:
        seen: dict[str, Record] = {}
        for record in left:
            seen.setdefault(record.seed, record)
        yield list(seen.values())
        left = [record for record in left if seen[record.seed] is not record]


def _distinguish(records: Sequence[Record]) -> list[str]:
    """For each of some runs of one arch, the settings that differ among them, in the form of the command line."""
    keys = list(dict.fromkeys(key for record in records for key in record.settings))
    differing = [k for k in keys if len({repr(record.settings.get(k)) for record in records}) > 1]
    differing.sort(
        key=lambda k: next((i for i, p in enumerate(FIRST_SHOWN) if k.startswith(p)), len(FIRST_SHOWN))
    )
    more = [f"(+{len(differing) - KEYS_SHOWN})"] if len(differing) > KEYS_SHOWN else []
    return [
        " ".join([*(f"{key}={_shown(record.settings.get(key))}" for key in differing[:KEYS_SHOWN]), *more])
        for record in records
    ]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
