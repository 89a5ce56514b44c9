"""Pictures of blocks, on figures of their own: no pyplot, so nothing global changes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text as Label

from data_contracts.results import Bars, Curve, Matrix

INK, GREY, FAINT, BLUE, ORANGE = "#1f2933", "#7b8794", "#d9dee4", "#2a6f97", "#d97706"
_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9cc5dd", "#2a6f97", "#0b3c5d"])
_MOST_PARTS = 40  # more are not readable on one page
_MOST_NUMBERS = 20  # cells a side, or bins, that still have room for a number
# Families asked for other scripts' glyphs, best first: a serif face among sans labels comes last.
_PREFERRED = (
    *("Noto Sans CJK", "Source Han Sans", "WenQuanYi", "PingFang", "Microsoft YaHei", "SimHei"),
    *("Noto Sans", "Noto"),
)


def draw(block: Matrix | Curve | Bars, path: Path) -> None:
    """Write the block as PNG. The same block gives the same bytes."""
    match block:
        case Matrix():
            figure = _matrix(block)
        case Curve():
            figure = _curve(block)
        case Bars():
            figure = _bars(block)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130, metadata={"Software": None})  # which would change with matplotlib


def _matrix(block: Matrix) -> Figure:
    """Shade: share of the row; number: count. Of many parts, the ones with most errors."""
    counts = np.array(block.counts)
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    chosen = np.sort(np.argsort(-wrong, kind="stable")[:_MOST_PARTS])
    shown = counts[np.ix_(chosen, chosen)]
    share = shown / np.maximum(1, counts.sum(axis=1)[chosen])[:, None]
    size = len(chosen)
    figure, axes = _page(4.2 + 0.42 * max(size, 3), 3.0 + 0.38 * max(size, 3))
    axes.imshow(share, cmap=_SHADES, vmin=0, vmax=1, aspect="auto")
    if size <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(shown):
            colour = "white" if share[row, column] > 0.5 else (INK if count else FAINT)
            text = axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour)
            text.set_fontsize(9 if size <= 10 else 6.5)
    names, families = readable([block.parts[place] for place in chosen], chosen)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if _wide(names) else {}
    axes.set_xticks(range(size), names, **slanted)
    axes.set_yticks(range(size), names)
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    _style(labels, families, 9 if size <= _MOST_NUMBERS else 7)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel(block.across, color=GREY)
    axes.set_ylabel(block.down, color=GREY)
    _title(axes, block.title, _some(block.note, size, len(counts), "with most errors"))
    return figure


def _curve(block: Curve) -> Figure:
    """Each bin's mean of y as a bar, its means as a point, and below how many rows it holds."""
    figure = Figure(figsize=(6, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    edges = np.array(block.edges)
    width = np.diff(edges)
    rows = np.array(block.rows)
    held = rows > 0
    x = np.array([value for value in block.x if value is not None])
    y = np.array([value for value in block.y if value is not None])
    if block.diagonal:
        ends = [edges[0], edges[-1]]
        upper.plot(ends, ends, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
        upper.set_ylim(*ends)
    upper.bar(edges[:-1][held], y, width[held], align="edge", color=BLUE, edgecolor="white")
    # At the mean of x and not in the middle of the bin: what lies off the diagonal is the error.
    upper.plot(x, y, "o", color=ORANGE, markersize=4, zorder=4, clip_on=False)
    upper.set(xlim=(edges[0], edges[-1]), ylabel=block.y_words)
    _title(upper, block.title, block.note)
    lower.bar(edges[:-1], rows, width, align="edge", color=GREY, edgecolor="white")
    lower.set(xlabel=block.x_words, ylabel="rows", ylim=(0, max(1, rows.max()) * 1.25))
    if len(rows) <= _MOST_NUMBERS:
        for middle, count in zip((edges[:-1] + width / 2)[held], rows[held], strict=True):
            text = lower.text(middle, count, f"{count:,}", ha="center", va="bottom", color=INK)
            text.set_fontsize(6.5)
    for axes in (upper, lower):
        _plain_axes(axes)
        axes.yaxis.label.set_color(GREY)
    lower.xaxis.label.set_color(GREY)
    return figure


def _bars(block: Bars) -> Figure:
    """Each part with its interval, lowest at the top; unknown parts are left out."""
    known = {place: value for place, value in enumerate(block.values) if value is not None}
    chosen = sorted(known, key=lambda place: known[place].value)[:_MOST_PARTS]
    values = [known[place] for place in chosen]
    figure, axes = _page(7, 1.5 + 0.32 * max(3, len(chosen)))
    lines = np.arange(len(chosen))
    lows = [value.low for value in values]
    axes.hlines(lines, lows, [v.high for v in values], color=BLUE, linewidth=2.5, alpha=0.45)
    axes.plot([value.value for value in values], lines, "o", color=BLUE, markersize=6)
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8.5}
    for line, place, value in zip(lines.tolist(), chosen, values, strict=True):
        axes.text(1.02, line, f"{value.value:.3f}", color=INK, **beside)
        axes.text(1.13, line, f"{block.rows[place]:,}", color=GREY, **beside)
    above = {"transform": axes.transAxes, "va": "bottom", "fontsize": 8.5, "color": GREY}
    axes.text(1.02, 1.0, block.words, **above)
    axes.text(1.13, 1.0, "rows", **above)
    names, families = readable([block.parts[place] for place in chosen], chosen)
    axes.set_yticks(lines, names)
    low = min(lows, default=0.0)
    axes.set_xlim(0 if low < 0.5 else np.floor(low * 10) / 10 - 0.02, 1)
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.tick_params(axis="y", length=0)
    _plain_axes(axes)
    _style(axes.get_yticklabels(), families, 9)
    axes.spines["left"].set_visible(False)
    which = f"with the lowest {block.words}"
    _title(axes, block.title, _some(block.note, len(chosen), len(known), which))
    return figure


# --- text in any script ---------------------------------------------------------------------------
# matplotlib falls back from family to family, but only among those it is told, it warns of those
# that are not installed, and it draws boxes for what none has. So the installed families that have
# the glyphs are looked for, and a name that none can draw is shown by its number and code points.


def readable(
    labels: Sequence[str], numbers: Sequence[int] | np.ndarray
) -> tuple[list[str], list[str]]:
    """Labels as they can be drawn, and the font families that hold their glyphs."""
    short = [
        _middle("".join(c if c.isprintable() else " " for c in label), 28).strip() or '""'
        for label in labels
    ]
    families = ["DejaVu Sans"]  # comes with matplotlib
    missing = set("".join(short)) - _glyphs(families[0])
    for family in _installed() if missing else ():
        if found := missing & _glyphs(family):
            families.append(family)
            missing -= found
        if not missing:
            break
    names = [
        f"no. {number}: " + _middle(text.encode("ascii", "backslashreplace").decode(), 24)
        if missing & set(text)
        else text
        for text, number in zip(short, numbers, strict=True)
    ]
    return names, families


def _middle(text: str, limit: int) -> str:
    """Cut out the middle: labels of one family differ at their ends."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-(limit // 2 - 1) :]}"


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Families to ask for glyphs, best first; not all there are: to open each takes seconds."""
    families = sorted(set(font_manager.get_font_names()))
    ranked = [name for start in _PREFERRED for name in families if name.startswith(start)]
    return tuple(dict.fromkeys(ranked))[:200]


@lru_cache(maxsize=256)
def _glyphs(family: str) -> frozenset[str]:
    """Characters that the family can draw."""
    path = font_manager.findfont(FontProperties(family=family))
    return frozenset(map(chr, font_manager.get_font(path).get_charmap()))


def _style(labels: Sequence[Label], families: list[str], size: float) -> None:
    for label in labels:
        label.set_fontfamily(families)
        label.set_fontsize(size)
        label.set_color(INK)
        label.set_parse_math(False)  # a label with two dollar signs is no formula


def _wide(names: Sequence[str]) -> bool:
    """Whether labels side by side would run into each other."""
    # A Chinese character is two columns wide.
    columns = [sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in name) for name in names]
    return len(names) > _MOST_NUMBERS or max(columns, default=0) > 10


# --- looks ----------------------------------------------------------------------------------------


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(min(width, 20), min(height, 20)), layout="constrained")
    return figure, figure.subplots()


def _some(note: str, shown: int, total: int, which: str) -> str:
    return note if shown == total else f"{note}; the {shown} of {total} {which}"


def _title(axes: Axes, title: str, note: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=12, color=INK, fontweight="bold", pad=8)
    place = {"xycoords": "axes fraction", "xytext": (0, 9), "textcoords": "offset points"}
    axes.annotate(note, (0, 1), **place, fontsize=8.5, color=GREY)


def _plain_axes(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=GREY, labelsize=8.5)
    axes.set_axisbelow(True)
