"""One HTML file with everything in it: no request leaves it, and it reads without JavaScript."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from lit_gan import __version__
from lit_gan.compare.charts import DARK, LIGHT, draw
from lit_gan.compare.curves import AXES, plot
from lit_gan.compare.grids import Band, bands, png
from lit_gan.compare.tables import Comparison, Row, Table
from lit_gan.compare.text import Column, columns, meaning, seeds
from lit_gan.compare.words import in_words, number

MOST_ACROSS = 6
ZOOM = """document.querySelectorAll('.grids button').forEach(function (b) {
  b.addEventListener('click', function () { b.parentNode.classList.toggle('large'); });
});"""


def page(comparison: Comparison) -> str:
    """The document; every text that comes from a file is escaped."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    runs, tables = len(comparison.records), comparison.tables
    data = list(dict.fromkeys(table.data for table in tables))
    archs = list(dict.fromkeys(row.label for table in tables for row in table.rows))
    title = f"{' and '.join(dict.fromkeys(t.metric.upper() for t in tables)) or 'Runs'}"
    title += f" on {', '.join(data)}" if data else ""
    lead = (
        f"{_count(runs, 'run')} in {_count(len(archs), 'row')}, best first" if archs else _count(runs, "run")
    )
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}</style></head>",
        f'<body><main><h1>{escape(title)}</h1><p class="lead">{escape(lead)}. lit-gan {__version__}.</p>',
        *_notes(comparison.notes),
        *(line for table in tables for line in _section(comparison, table)),
        *_footer(comparison),
        f"</main><script>{ZOOM}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _notes(notes: Iterable[str]) -> Iterator[str]:
    if notes := list(notes):
        yield '<div class="notes note">'
        yield from (f"<p>{escape(note[:1].upper() + note[1:])}.</p>" for note in notes)
        yield "</div>"


def _section(comparison: Comparison, table: Table) -> Iterator[str]:
    yield "<section>"
    if len(comparison.tables) > 1:  # one is named by the page's title
        yield f"<h2>{escape(table.title)}</h2>"
    said = "; ".join(in_words(table.protocol, table.data, table.floor))
    yield f'<p class="how">{escape(said)}.</p>'
    yield from _table(comparison, table)
    yield from _notes(table.notes)
    yield from _charts(table)
    yield from _grids(bands(table))
    yield from _runs(table)
    yield "</section>"


def _table(comparison: Comparison, table: Table) -> Iterator[str]:
    found = columns(table)
    yield '<div class="wide"><table><thead><tr>'
    yield f'<th scope="col">{"run" if comparison.each else "arch"}</th>'
    yield f'<th scope="col">{"seed" if comparison.each else "seeds"}</th>'
    for column in found:
        span = ' colspan="2"' if column.has_spread else ""
        yield f'<th scope="col"{span}>{escape(column.title)}</th>'
    yield "</tr></thead><tbody>"
    for i, (row, count) in enumerate(zip(table.rows, seeds(comparison, table), strict=True)):
        name, _, settings = row.label.partition(" · ")
        small = f"<small>{escape(settings)}</small>" if settings else ""
        cells = "".join(_cells(column, i, leads=column is found[0]) for column in found)
        yield f'<tr><th scope="row">{escape(name)}{small}</th><td>{escape(count)}</td>{cells}</tr>'
    yield "</tbody></table></div>"
    if any(column.has_spread for column in found):
        yield f'<p class="note">{escape(meaning(comparison))}.</p>'


def _cells(column: Column, row: int, *, leads: bool) -> str:
    value, spread = column.shown(row)
    cell = (
        f"<td{' class=lead-score' if leads else ''}>{value.replace('-', '−') if value != '-' else '–'}</td>"
    )
    return cell + (f'<td class="sd">{spread}</td>' if column.has_spread else "")


def _charts(table: Table) -> Iterator[str]:
    drawn = [(axis, found) for axis in AXES if (found := plot(table, axis)) is not None]
    if not drawn:
        return
    yield '<div class="charts">'
    for axis, what in drawn:
        light, dark = (_inline(draw(what, theme)) for theme in (LIGHT, DARK))
        about = f"{table.title} against {'images seen' if axis == 'kimg' else 'time'}"
        band = "; thin: each seed" if any(len(line.seeds) > 1 for line in what.lines) else ""
        clock = ", on the hardware of each run, evaluations left out" if axis == "time" else ""
        yield (
            f'<figure><picture><source srcset="{dark}" media="(prefers-color-scheme: dark)">'
            f'<img src="{light}" alt="{escape(about)}"></picture>'
            f"<figcaption>{escape(about)}{clock}{band}.</figcaption></figure>"
        )
    yield "</div>"


def _grids(found: list[Band]) -> Iterator[str]:
    for band in found:
        yield f"<h3>{escape(band.title)}</h3>"
        yield f'<div class="grids" style="--across: {min(len(band.grids), MOST_ACROSS)}">'
        for label, grid in band.grids:
            name, _, settings = label.partition(" · ")
            picture = png(grid.path) if grid is not None else None
            if grid is None or picture is None:
                yield f'<figure><div class="none">no grid {"near " + escape(band.near) if band.near else ""}</div>'
                yield f"<figcaption><b>{escape(name)}</b> {escape(settings)}</figcaption></figure>"
                continue
            caption = f"{grid.kimg:g} kimg, seed {grid.seed}"
            yield (
                f'<figure><button type="button" aria-label="enlarge"><img src="{_inline(picture)}" '
                f'alt="samples of {escape(label)} at {grid.kimg:g} kimg"></button>'
                f"<figcaption><b>{escape(name)}</b> {escape(settings)}<br>{escape(caption)}</figcaption></figure>"
            )
        yield "</div>"


def _runs(table: Table) -> Iterator[str]:
    """What stands behind the rows."""
    yield "<details><summary>The runs behind the rows</summary>"
    yield '<div class="wide"><table><thead><tr><th scope="col">arch</th><th scope="col" class="left">run</th>'
    for head in (
        "seed",
        f"best {table.metric.upper()}",
        "at kimg",
        f"last {table.metric.upper()}",
        "at kimg",
    ):
        yield f'<th scope="col">{escape(head)}</th>'
    yield '<th scope="col" class="left">device</th></tr></thead><tbody>'
    digits = columns(table)[0].digits
    for row in table.rows:
        yield from _behind(row, digits)
    yield "</tbody></table></div></details>"


def _behind(row: Row, digits: int) -> Iterator[str]:
    for curve in row.curves:
        record, best, last = curve.record, curve.best, curve.scores[-1]
        cells = (
            record.seed,
            number(best.value, digits),
            f"{best.images / 1000:,g}",
            number(last.value, digits),
            f"{last.images / 1000:,g}",
        )
        yield (
            f'<tr><th scope="row">{escape(row.label)}</th><td class="left"><code>{escape(record.path)}</code></td>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + f'<td class="left">{escape(str(record.device or "–"))}</td></tr>'
        )


def _footer(comparison: Comparison) -> Iterator[str]:
    each = (
        "Every run has a row of its own."
        if comparison.each
        else "Runs that are equal but for the seed share a row."
    )
    yield (
        f"<footer><p>{each} <b>best</b> is the lowest (or highest, where more is better) score of the trained generator "
        "in its run, <b>kimg</b> the thousands of images shown to the discriminator until then, and scores of other "
        "metrics are those of that same generator. <b>final</b> is the score at the last checkpoint. <b>floor</b> is what "
        "real images get against other real images. <b>images/s</b> and <b>hours</b> are those of training alone; hours "
        "are multiplied by the number of devices. <b>G</b> and <b>D</b> are millions of parameters. Scores in different "
        "tables were made in different ways and are not comparable.</p></footer>"
    )


def _inline(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"
