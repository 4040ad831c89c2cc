"""Which scores share a table (equal protocol), a row (equal but for the seed) and a column (equal protocol again)."""

from __future__ import annotations

import difflib
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lit_gan.best import BETTER, is_higher_better, rank
from lit_gan.compare.labels import folders, one_each, rows_of
from lit_gan.compare.records import Record, Scored
from lit_gan.compare.words import differences, short
from lit_gan.errors import UserError

BESIDE = (  # metric, its part, the column's title: shown next to the metric that ranks
    ("kid", "", "KID"),
    ("is", "", "IS"),
    ("pr", "precision", "precision"),
    ("pr", "recall", "recall"),
    ("dc", "coverage", "coverage"),
    ("modes", "classes", "classes"),
)
SHARED = (
    "extractor",
    "weights",
    "resize",
    "quantisation",
    "data",
    "fakes",
    "seed",
    "ema",
    "truncation",
    "standing",
)


@dataclass(frozen=True)
class Quantity:
    """A mean over runs with its standard deviation; of one run the value, with the score's own error if it has one."""

    mean: float
    spread: float | None = None

    @classmethod
    def of(cls, values: Sequence[float | None], error: float | None = None) -> Quantity | None:
        """None unless every run has a value: a mean over fewer would hide that."""
        known = [value for value in values if value is not None]
        if not known or len(known) < len(values):
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else error)


@dataclass(frozen=True)
class Curve:
    """A run under one protocol: a score for each time it was measured, by images seen."""

    record: Record
    scores: tuple[Scored, ...]

    @cached_property
    def best(self) -> Scored:
        """Of the trained generator, where it was measured at all."""
        trained = [score for score in self.scores if score.images > 0] or list(self.scores)
        return min(trained, key=lambda s: rank(s.metric, s.value, s.images))

    @property
    def final(self) -> Scored | None:
        """The score at the last checkpoint that was measured under any protocol; None if not under this one."""
        last = self.record.scores[-1].images
        return self.scores[-1] if self.scores[-1].images == last else None

    @property
    def beside(self) -> Iterator[Scored]:
        """The scores by all metrics of the generator that made the best, from the same fakes and features."""
        for score in self.record.scores:
            same = all(score.protocol.get(key) == self.best.protocol.get(key) for key in SHARED)
            if same and score.images == self.best.images:
                yield score


@dataclass(frozen=True)
class Row:
    """Runs that are equal but for the seed."""

    label: str
    curves: tuple[Curve, ...]

    @property
    def records(self) -> list[Record]:
        return [curve.record for curve in self.curves]

    @cached_property
    def best(self) -> Quantity:
        found = Quantity.of([curve.best.value for curve in self.curves], self.curves[0].best.error)
        assert found is not None
        return found

    @property
    def final(self) -> Quantity | None:
        finals = [curve.final for curve in self.curves]
        error = finals[0].error if finals[0] is not None else None
        return Quantity.of([None if score is None else score.value for score in finals], error)

    def beside(self, how: str, part: str) -> Quantity | None:
        """A score under the protocol `how`, or a part of it, at the best of each run."""
        found = [next((s for s in curve.beside if s.how == how), None) for curve in self.curves]
        values = [None if s is None else s.parts.get(part) if part else s.value for s in found]
        first = found[0]
        error = None if first is None else first.part_errors.get(part) if part else first.error
        return Quantity.of(values, error)


@dataclass(frozen=True)
class Beside:
    """A column of another metric, under one protocol."""

    metric: str
    key: str
    title: str
    cells: tuple[Quantity | None, ...]


@dataclass(frozen=True)
class Table:
    """Rows whose scores may be compared, the best first."""

    title: str
    slug: str  # of its files
    metric: str
    data: str
    protocol: Mapping[str, Any]
    rows: tuple[Row, ...]
    beside: tuple[Beside, ...]
    notes: tuple[str, ...]

    @property
    def floor(self) -> Scored | None:
        """A score that knows what real images get."""
        bests = [curve.best for row in self.rows for curve in row.curves]
        return next((score for score in bests if score.floor is not None), None)


@dataclass(frozen=True)
class Comparison:
    """Everything that is to be shown."""

    tables: tuple[Table, ...]
    notes: tuple[str, ...]  # what tells the tables apart, and what is in none of them
    records: tuple[Record, ...]
    each: bool  # whether every run has a row of its own


def compare(records: Sequence[Record], metrics: Sequence[str] = (), *, each: bool = False) -> Comparison:
    """Tables of the scores by `metrics`, one for each data set and protocol; by default the first of `BETTER` there is."""
    present = {score.metric for record in records for score in record.scores}
    for metric in metrics:
        if metric not in present:
            near = difflib.get_close_matches(metric, present, 1, 0.5)
            meant = f"did you mean {near[0]}? " if near else ""
            there = f"there are {', '.join(sorted(present))}" if present else "they have no score at all"
            raise UserError(f"none of these runs has a score called '{metric}': {meant}{there}")
    ranked = [*(metric for metric in BETTER if metric in present), *sorted(present)]
    chosen = list(dict.fromkeys(metrics)) or ranked[:1]
    scored = [record for record in records if any(score.metric in chosen for score in record.scores)]
    labelled = one_each(scored) if each else rows_of(scored)
    tables: list[Table] = []
    notes: list[str] = []
    for metric in chosen:
        made, said = _tables(metric, labelled)
        tables += made
        notes += [note for note in said if note not in notes]
    if without := [record.path for record in records if not record.scores]:
        notes.append(f"without a score: {', '.join(without)}")
    if other := [record.path for record in records if record.scores and record not in scored]:
        notes.append(
            f"without a score by {' or '.join(chosen)}, but by others (see --metric): {', '.join(other)}"
        )
    return Comparison(tuple(_own_slugs(tables)), tuple(notes), tuple(records), each)


def _own_slugs(tables: Sequence[Table]) -> Iterator[Table]:
    """Names of data sets that differ only in letters that a file name does without get a number."""
    met: dict[str, int] = {}
    for table in tables:
        met[table.slug] = met.get(table.slug, 0) + 1
        yield table if met[table.slug] == 1 else replace(table, slug=f"{table.slug}-again{met[table.slug]}")


def _tables(metric: str, labelled: Sequence[tuple[str, Sequence[Record]]]) -> tuple[list[Table], list[str]]:
    by_data: dict[str, dict[str, dict[int, list[Curve]]]] = {}  # fingerprint, protocol, row
    names: dict[str, set[str]] = {}
    for row, (_, records) in enumerate(labelled):
        for record in records:
            scores: dict[str, list[Scored]] = {}
            for score in record.scores:
                if score.metric == metric:
                    scores.setdefault(score.how, []).append(score)
            for how, made in scores.items():
                data = str(made[0].protocol.get("data"))
                names.setdefault(data, set()).add(record.data)
                rows = by_data.setdefault(data, {}).setdefault(how, {})
                rows.setdefault(row, []).append(Curve(record, tuple(made)))
    titles = _data_titles(names)
    tables, notes = [], []
    if len(titles) > 1:
        listed = ", ".join(sorted(titles.values(), key=str.lower))
        notes.append(
            f"{len(titles)} data sets, a table for each, not to be compared with one another: {listed}"
        )
    for data in sorted(by_data, key=lambda data: (titles[data].lower(), data)):
        groups = sorted(
            by_data[data].items(), key=lambda group: (-sum(map(len, group[1].values())), group[0])
        )
        protocols = [next(iter(rows.values()))[0].best.protocol for _, rows in groups]
        if len(groups) > 1:
            notes.append(
                f"{metric.upper()} on {titles[data]} appears under {len(groups)} protocols, a table for each, not to be "
                f"compared with one another: {differences(protocols)}"
            )
        for number, ((_, rows), protocol) in enumerate(zip(groups, protocols, strict=True), 1):
            curves = [(labelled[row][0], found) for row, found in rows.items()]
            tables.append(_table(metric, titles[data], protocol, curves, number if len(groups) > 1 else None))
    return tables, notes


def _data_titles(names: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """What to call each data set: its name, and its fingerprint where two share a name."""
    plain = {data: " / ".join(sorted(found)) for data, found in names.items()}
    shared = {name for name in plain.values() if list(plain.values()).count(name) > 1}
    return {data: f"{name} ({short(data)})" if name in shared else name for data, name in plain.items()}


def _table(
    metric: str, data: str, protocol: Mapping[str, Any], curves: Sequence[tuple[str, list[Curve]]], number: int | None
) -> Table:  # fmt: skip
    labels = [label for label, _ in curves]
    every = [curve.record for _, found in curves for curve in found]
    rows = []
    for label, found in curves:
        which = f" ({folders([curve.record for curve in found], every)})" if labels.count(label) > 1 else ""
        rows.append(Row(label + which, tuple(found)))
    rows.sort(key=lambda row: row.best.mean, reverse=is_higher_better(metric))
    title, slug = f"{metric.upper()} on {data}", f"{metric}-{data}"
    if number is not None:
        letter = chr(64 + number) if number <= 26 else str(number)
        title, slug = f"{title}, protocol {letter}", f"{slug}-{letter}"
    beside, notes = _beside(rows)
    for row in rows:
        ends = sorted({record.scores[-1].images / 1000 for record in row.records})
        if len(ends) > 1:
            notes.append(f"the runs of {row.label} end at different kimg, {ends[0]:g} to {ends[-1]:g}")
    return Table(
        title=title,
        slug="-".join("".join(c if c.isalnum() and c.isascii() else " " for c in slug.lower()).split()),
        metric=metric,
        data=data,
        protocol=protocol,
        rows=tuple(rows),
        beside=beside,
        notes=tuple(notes),
    )


def _beside(rows: Sequence[Row]) -> tuple[tuple[Beside, ...], list[str]]:
    """The columns of other metrics; one that appears under several protocols has a column for each."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for score in (score for row in rows for curve in row.curves for score in curve.beside):
        found.setdefault(score.metric, {})[score.how] = score.protocol
    columns, notes = [], []
    for metric, part, title in BESIDE:
        hows = sorted(found.get(metric, ()))
        for number, how in enumerate(hows, 1):
            cells = tuple(row.beside(how, part) for row in rows)
            if any(cells) and [cell and cell.mean for cell in cells] != [row.best.mean for row in rows]:
                key = "_".join([metric, *([part] if part else []), *([str(number)] if len(hows) > 1 else [])])
                columns.append(Beside(metric, key, f"{title} ({number})" if len(hows) > 1 else title, cells))
        if len(hows) > 1:
            parts = differences([found[metric][how] for how in hows])
            notes.append(f"{title} is under {len(hows)} protocols, a column for each: {parts}")
    return tuple(columns), notes
