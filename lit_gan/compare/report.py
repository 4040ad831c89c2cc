"""What `lit-gan compare` writes, and where to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lit_gan.compare.records import read_records
from lit_gan.compare.tables import Comparison, compare
from lit_gan.compare.text import comma_separated, markdown
from lit_gan.errors import UserError

FORMATS = ("md", "csv", "html")


def report(
    paths: Sequence[str], *, format: str | None, out: str | None, charts: str | None, metrics: Sequence[str], each: bool
) -> Iterator[tuple[str, bool]]:  # fmt: skip
    """Compare the runs at `paths`; gives texts to show, each with whether it is the report itself or about it.

    `out` is a file, whose ending is the format unless `format` says otherwise, or a folder, which gets the report (in every
    format unless one is named) and the charts. Without `out` the report is shown.
    """
    chosen = [name for given in metrics for name in given.split(",") if name]
    target, folder = _place(out, format)
    if target is not None and format is None:
        format = target.suffix.lower()[1:]
    if format == "html" and out is None and sys.stdout.isatty():
        raise UserError("--format html makes a file with pictures in it: add --out compare.html")
    folders = [place for place in (folder, Path(charts) if charts is not None else None) if place is not None]
    for place in folders:
        if place.exists() and not place.is_dir():
            raise UserError(f"{place} is a file: give a folder for the charts")
    comparison = compare(read_records(paths), chosen, each=each)
    if folder is not None:
        for name in FORMATS if format is None else (format,):
            yield _write(folder / f"compare.{name}", _writer(name)(comparison)), False
    elif target is not None:
        yield _write(target, _writer(format or "md")(comparison)), False
    else:
        yield _writer(format or "md")(comparison).rstrip("\n"), True
    for place in dict.fromkeys(folders):
        yield from ((line, False) for line in write_charts(comparison, place))


def _place(out: str | None, format: str | None) -> tuple[Path | None, Path | None]:
    """The file or the folder that `out` means."""
    if out is None:
        return None, None
    path = Path(out)
    ending = path.suffix.lower()[1:]
    if path.is_dir() or out.endswith(("/", "\\")) or not ending:
        return None, path
    if format is None and ending not in FORMATS:
        raise UserError(
            f"--out {out}: .{ending} is none of {', '.join(FORMATS)}; add --format, or end a folder in /"
        )
    return path, None


def write_charts(comparison: Comparison, folder: Path) -> Iterator[str]:
    """A PNG for each table over kimg, and one over time."""
    from lit_gan.compare.charts import draw
    from lit_gan.compare.curves import AXES, plot

    for table in comparison.tables:
        for axis in AXES:
            if (what := plot(table, axis)) is not None:
                path = folder / f"{table.slug}-{axis}.png"
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(draw(what))
                yield f"wrote {path}"


def _writer(format: str) -> Callable[[Comparison], str]:
    if format == "html":
        from lit_gan.compare.page import page  # brings the charts

        return page
    return {"md": markdown, "csv": comma_separated}[format]


def _write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"wrote {path}"
