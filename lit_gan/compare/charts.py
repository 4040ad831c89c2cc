"""Charts as PNGs by matplotlib, which is imported only when one is drawn."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lit_gan.compare.curves import Plot, spread, ticks
from lit_gan.compare.words import decimals, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (5.7, 3.7), 220
PLACE = (0.11, 0.135, 0.86, 0.79)  # of the axes: left, bottom, width, height
LABEL_GAP = 0.068  # of the axes' height, between two labels
LONGEST_LABEL, MOST_LABELS = 24, 13  # beyond these a legend below takes the place of labels at the lines
LONGEST_LINE = 74  # of a legend
MOST_MARKERS = 8  # of a line
MARKERS = "osD^v<>p"
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)))  # after each round of the palette


@dataclass(frozen=True)
class Theme:
    """Colours that people with any colour vision can tell apart (after Okabe and Ito), on paper or on a dark page."""

    paper: str
    ink: str
    faint: str
    grid: str
    palette: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#1b1f24", "#5d6670", "#e4e7eb",
    ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#3d3d3d"),
)  # fmt: skip
DARK = Theme(
    "#15181c", "#e6e9ec", "#9aa4ae", "#2b3138",
    ("#4aa8e0", "#f28e3c", "#2fc79a", "#e3a0c4", "#e6c14a", "#9fd6f5", "#d0d4d8"),
)  # fmt: skip


def draw(what: Plot, theme: Theme = LIGHT) -> bytes:
    """The chart as a PNG."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {
        "font.size": 9, "text.parse_math": False, "text.color": theme.ink, "axes.edgecolor": theme.faint,
        "axes.labelcolor": theme.ink, "xtick.color": theme.faint, "ytick.color": theme.faint, "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink, "axes.linewidth": 0.8, "lines.solid_capstyle": "round",
    }  # fmt: skip
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may hold letters that the font has not
        figure = Figure(figsize=SIZE, dpi=DPI, facecolor=theme.paper)
        FigureCanvasAgg(figure)
        axes = figure.add_axes(PLACE, facecolor=theme.paper)
        _draw_lines(axes, what, theme)
        _draw_scale(axes, what, theme)
        shortest = len(what.lines) <= MOST_LABELS and all(len(x.label) <= LONGEST_LABEL for x in what.lines)
        (_draw_labels if shortest else _draw_legend)(figure, axes, what, theme)
        out = io.BytesIO()
        figure.savefig(out, format="png", facecolor=theme.paper, metadata={"Software": None})
    return out.getvalue()


def _style(index: int, theme: Theme) -> tuple[str, Any, str]:
    rounds, place = divmod(index, len(theme.palette))
    return theme.palette[place], DASHES[rounds % len(DASHES)], MARKERS[index % len(MARKERS)]


def _draw_lines(axes: Axes, what: Plot, theme: Theme) -> None:
    for index, line in reversed(list(enumerate(what.lines))):  # the best on top
        colour, dashes, marker = _style(index, theme)
        if len(line.seeds) > 1:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
            for x, y in line.seeds:
                axes.plot(x, y, color=colour, alpha=0.45, linewidth=0.6)
        axes.plot(
            line.x, line.mean, color=colour, linestyle=dashes, linewidth=1.7, marker=marker, markersize=4.6,
            markevery=max(1, len(line.x) // MOST_MARKERS), markeredgecolor=theme.paper, markeredgewidth=0.6,
        )  # fmt: skip


def _draw_scale(axes: Axes, what: Plot, theme: Theme) -> None:
    axes.set_xlabel(what.x_label, labelpad=5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(0, max(x[-1] for line in what.lines for x, _ in line.seeds) * 1.02 or 1)
    floor = what.floor if what.floor is not None and (what.floor > 0 or not what.log) else None
    ends = [value for line in what.lines for _, y in line.seeds for value in y]
    low, high = min([*ends, floor] if floor is not None else ends), max(ends)
    if what.log:
        low /= 1.2 if floor is None else 1.6  # room for the words below the floor
        high *= 1.2
        axes.set_yscale("log")
        axes.set_yticks(marks := ticks(low, high), [f"{mark:g}" for mark in marks])
        axes.minorticks_off()
    else:
        room = (high - low or abs(high) or 1) * 0.06
        low, high = 0 if 0 <= low < high / 2 else low - room, high + room
    axes.set_ylim(low, high)
    axes.text(
        0, 1.025, f"{what.y_label}{' (log scale)' if what.log else ''}", transform=axes.transAxes, va="bottom",
        fontweight="bold",
    )  # fmt: skip
    if floor is not None:
        axes.axhline(floor, color=theme.faint, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        about = f"real images: {number(floor, decimals([floor], 2))}"
        about += f" (n = {what.floor_images:,})" if what.floor_images else ""
        below = what.log or floor > high / 8
        axes.annotate(
            about, (0, floor), (4, -3.5 if below else 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="top" if below else "bottom", color=theme.faint, fontsize=8,
        )  # fmt: skip


def _draw_labels(figure: Figure, axes: Axes, what: Plot, theme: Theme) -> None:
    """Names in the right margin at the height where their lines end, with a thread to the end of each."""
    names = [figure.text(0, 0, line.label, fontweight="bold", fontsize=8.5) for line in what.lines]
    needed = max(name.get_window_extent().width for name in names) / figure.bbox.width
    left, bottom, _, height = axes.get_position().bounds
    width = (0.99 - left - needed) / 1.05
    axes.set_position((left, bottom, width, height))
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [to_axes.transform((line.x[-1], line.mean[-1])) for line in what.lines]
    places = spread([float(end[1]) for end in ends], LABEL_GAP, 0.02, 0.98)
    for index, (name, end, place) in enumerate(zip(names, ends, places, strict=True)):
        colour, _, _ = _style(index, theme)
        axes.plot(
            [end[0], 1.0, 1.035], [end[1], end[1], place], transform=axes.transAxes,
            color=colour, linewidth=0.7, alpha=0.55, linestyle=(0, (1, 1.6)), clip_on=False, zorder=1,
        )  # fmt: skip
        name.set(x=1.045, y=place, transform=axes.transAxes, color=colour, verticalalignment="center")


def _draw_legend(figure: Figure, axes: Axes, what: Plot, theme: Theme) -> None:
    """Below the chart, a line for each row, which makes the picture taller."""
    from matplotlib.lines import Line2D

    count, row = len(what.lines), 0.2
    extra = count * row + 0.15
    width, height = SIZE
    figure.set_size_inches(width, height + extra)
    total = height + extra
    left, bottom, across, up = PLACE
    axes.set_position((left, (bottom * height + extra) / total, across, up * height / total))
    for index, line in enumerate(what.lines):
        colour, dashes, marker = _style(index, theme)
        y = (extra - 0.12 - index * row) / total
        figure.add_artist(
            Line2D(
                [left, left + 0.045], [y, y], color=colour, linestyle=dashes, linewidth=1.7, marker=marker, markersize=4.2,
                markevery=[0], transform=figure.transFigure,
            )
        )  # fmt: skip
        label = line.label if len(line.label) <= LONGEST_LINE else f"{line.label[: LONGEST_LINE - 2]}.."
        figure.text(left + 0.06, y, label, va="center", fontsize=8, color=theme.ink)
