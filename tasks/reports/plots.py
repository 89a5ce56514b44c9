"""Plots of an evaluation, drawn on figures of their own: no pyplot, so nothing global changes and threads may draw."""

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

from data_contracts.artifacts import Interval
from lightning_modules.kinds.classify.figures import Reliability

INK, GREY, FAINT, BLUE, ORANGE = "#1f2933", "#7b8794", "#d9dee4", "#2a6f97", "#d97706"
_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9cc5dd", "#2a6f97", "#0b3c5d"])
_MOST_CLASSES = 40  # more are not readable on one page: the ones with most errors are drawn
# Sans faces first: a serif face among sans labels is the last choice.
_PREFERRED = (
    "Noto Sans CJK",
    "Source Han Sans",
    "WenQuanYi",
    "PingFang",
    "Microsoft YaHei",
    "SimHei",
    "Noto Sans",
    "Noto",
)


def draw_confusion_matrix(counts: np.ndarray, labels: Sequence[str], path: Path) -> None:
    """Shade: share of the true class; number: rows."""
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = np.sort(np.argsort(-wrong, kind="stable")[:_MOST_CLASSES])
    counts_shown = counts[np.ix_(shown, shown)]
    share = counts_shown / np.maximum(1, counts.sum(axis=1)[shown])[:, None]
    size = len(shown)
    figure, axes = _figure(4.2 + 0.42 * max(size, 3), 3.0 + 0.38 * max(size, 3))
    axes.imshow(share, cmap=_SHADES, vmin=0, vmax=1, aspect="auto")
    if size <= 20:
        for (row, column), count in np.ndenumerate(counts_shown):
            colour = "white" if share[row, column] > 0.5 else (INK if count else FAINT)
            axes.text(
                column,
                row,
                f"{count:,}",
                ha="center",
                va="center",
                color=colour,
                fontsize=9 if size <= 10 else 6.5,
            )
    names, fonts = readable([labels[c] for c in shown], shown)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if _wide(names) else {}
    axes.set_xticks(range(size), names, **slanted)
    axes.set_yticks(range(size), names)
    _label_fonts([*axes.get_xticklabels(), *axes.get_yticklabels()], fonts, 9 if size <= 20 else 7)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted", color=GREY)
    axes.set_ylabel("true", color=GREY)
    _title(
        axes,
        "Confusion matrix",
        _subtitle(size, len(labels), "rows; shade: share of the true class", "with most errors"),
    )
    _save(figure, path)


def draw_reliability(table: Reliability, ece: Interval, path: Path) -> None:
    """Accuracy against confidence per bin, and how many rows each bin holds."""
    figure = Figure(figsize=(6, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    held, width = table.count > 0, np.diff(table.edges)
    upper.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
    upper.bar(
        table.edges[:-1][held],
        table.accuracy[held],
        width[held],
        align="edge",
        color=BLUE,
        edgecolor="white",
        zorder=2,
    )
    # The point stands at the mean confidence of its bin: its distance to the dashed line is the bin's share of the ECE.
    upper.plot(
        table.confidence[held],
        table.accuracy[held],
        "o",
        color=ORANGE,
        markersize=4,
        zorder=4,
        clip_on=False,
    )
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    subtitle = f"expected calibration error {ece.value:.3f} ({ece.low:.3f} to {ece.high:.3f}); dashed: perfectly calibrated"
    _title(upper, "Reliability", subtitle)
    lower.bar(table.edges[:-1], table.count, width, align="edge", color=GREY, edgecolor="white")
    lower.set(xlabel="confidence", ylabel="rows", ylim=(0, max(1, table.count.max()) * 1.25))
    for left, wide, count in zip(table.edges, width, table.count, strict=False):
        if count and len(table.count) <= 20:
            lower.text(
                left + wide / 2,
                count,
                f"{count:,}",
                ha="center",
                va="bottom",
                fontsize=6.5,
                color=INK,
            )
    for axes in (upper, lower):
        _plain_axes(axes)
        axes.yaxis.label.set_color(GREY)
    lower.xaxis.label.set_color(GREY)
    _save(figure, path)


def draw_per_class_f1(
    by_class: Sequence[Interval | None],
    support: np.ndarray,
    labels: Sequence[str],
    confidence: float,
    path: Path,
) -> None:
    """F1 of each class with its interval, worst at the top; classes without a test row (None) are left out."""
    f1 = {c: interval for c, interval in enumerate(by_class) if interval is not None}
    shown = sorted(f1, key=lambda c: f1[c].value)[:_MOST_CLASSES]
    figure, axes = _figure(7, 1.5 + 0.32 * max(3, len(shown)))
    places = np.arange(len(shown))
    axes.hlines(
        places,
        [f1[c].low for c in shown],
        [f1[c].high for c in shown],
        color=BLUE,
        linewidth=2.5,
        alpha=0.45,
    )
    axes.plot([f1[c].value for c in shown], places, "o", color=BLUE, markersize=6)
    for place, c in zip(places, shown, strict=True):
        axes.text(
            1.02,
            place,
            f"{f1[c].value:.3f}",
            va="center",
            color=INK,
            fontsize=8.5,
            transform=axes.get_yaxis_transform(),
        )
        axes.text(
            1.13,
            place,
            f"{support[c]:,}",
            va="center",
            color=GREY,
            fontsize=8.5,
            transform=axes.get_yaxis_transform(),
        )
    for x, head in ((1.02, "F1"), (1.13, "rows")):
        axes.text(x, 1.0, head, va="bottom", color=GREY, fontsize=8.5, transform=axes.transAxes)
    names, fonts = readable([labels[c] for c in shown], shown)
    axes.set_yticks(places, names)
    low = min((f1[c].low for c in shown), default=0.0)
    axes.set_xlim(0 if low < 0.5 else np.floor(low * 10) / 10 - 0.02, 1)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.tick_params(axis="y", length=0)
    _plain_axes(axes)
    _label_fonts(axes.get_yticklabels(), fonts, 9)
    axes.spines["left"].set_visible(False)
    _title(
        axes,
        "F1 by class",
        _subtitle(
            len(shown), len(f1), f"{confidence:.0%} bootstrap intervals", "with the lowest F1"
        ),
    )
    _save(figure, path)


# --- text in any script -----------------------------------------------------------------------------------------------


def readable(
    labels: Sequence[str], numbers: Sequence[int] | np.ndarray
) -> tuple[list[str], list[str]]:
    """Labels as they can be drawn, and the font families that hold their glyphs.

    Without a font for some character the label becomes its class number and the code points, rather than boxes.
    """
    short = [
        _middle("".join(c if c.isprintable() else " " for c in label), 28).strip() or '""'
        for label in labels
    ]
    families = _families("".join(sorted(set("".join(short)))))
    drawable = _coverage(tuple(families))
    names = [
        text
        if set(text) <= drawable
        else f"class {number}: " + _middle(text.encode("ascii", "backslashreplace").decode(), 24)
        for text, number in zip(short, numbers, strict=True)
    ]
    return names, families


def _middle(text: str, limit: int) -> str:
    """Cut out the middle: labels of one family differ at their ends."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-(limit // 2 - 1) :]}"


def _families(characters: str) -> list[str]:
    """matplotlib's own sans face, and behind it as many installed ones as the characters need."""
    chosen = ["DejaVu Sans"]
    missing = set(characters) - _coverage(tuple(chosen))
    if not missing:
        return chosen
    for family in _installed():
        found = missing & _coverage((family,))
        if found:
            chosen.append(family)
            missing -= found
        if not missing:
            break
    return chosen


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """Families worth asking for other scripts' glyphs, best first: to open every font would take seconds."""
    families = sorted({entry.name for entry in font_manager.fontManager.ttflist})
    ranked = [
        (rank, name)
        for name in families
        for rank, start in enumerate(_PREFERRED)
        if name.startswith(start)
    ]
    best = {name: rank for rank, name in sorted(ranked, reverse=True)}
    return tuple(sorted(best, key=lambda name: (best[name], name)))[:200]


@lru_cache(maxsize=256)
def _coverage(families: tuple[str, ...]) -> frozenset[str]:
    """Characters that the families have glyphs for."""
    held: set[str] = set()
    for family in families:
        path = font_manager.findfont(FontProperties(family=family), fallback_to_default=True)
        held |= {chr(code) for code in font_manager.get_font(path).get_charmap()}
    return frozenset(held)


def _label_fonts(texts: Sequence, families: list[str], size: float) -> None:
    for text in texts:
        text.set_fontfamily(families)
        text.set_fontsize(size)
        text.set_color(INK)
        text.set_parse_math(False)  # a label with two dollar signs is no formula


def _wide(names: Sequence[str]) -> bool:
    """Whether labels side by side would run into each other; a Chinese character is two columns wide."""
    columns = [
        sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in name) for name in names
    ]
    return len(names) > 20 or max(columns, default=0) > 10


# --- looks ------------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(min(width, 20), min(height, 20)), layout="constrained")
    return figure, figure.subplots()


def _subtitle(shown: int, total: int, text: str, which: str) -> str:
    return text if shown == total else f"{text}; the {shown} of {total} classes {which}"


def _title(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=12, color=INK, fontweight="bold", pad=8)
    axes.annotate(
        subtitle,
        (0, 1),
        (0, 9),
        "axes fraction",
        textcoords="offset points",
        fontsize=8.5,
        color=GREY,
    )


def _plain_axes(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=GREY, labelsize=8.5)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    # No software version or date in the file: the same figures give the same bytes.
    figure.savefig(path, dpi=130, metadata={"Software": None})
