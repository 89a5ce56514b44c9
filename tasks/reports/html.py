"""Reports as pages that stand alone: no script, no address outside themselves, text in the reader's
own fonts.

A page is a template beside this file. What came from data is escaped, whatever it holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.contract.shown import shown_count, shown_share
from data_contracts.errors import printable
from data_contracts.results import Bars, Block, Curve, Interval, Marked, Matrix, Text
from tasks.reports.readable import shorten, with_interval

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST = 2000  # characters of a cell or paragraph
_MOST_PARTS = 60  # more are not readable on one page
_TICKS = 5


def render(template: str, **content: Any) -> str:
    """A page from a template of this folder."""
    return _environment().get_template(template).render(content)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {
        "share": shown_share,
        "count": shown_count,
        "cell": cell,
        "numeric": is_number,
    }
    environment.globals |= {
        "kind_of": kind_of,
        "plot_of": plot_of,
        "shades": shades,
        "shown_parts": shown_parts,
        "scale_of": scale_of,
        "pieces_of": pieces_of,
    }
    return environment


def _printable(value: Any) -> Any:
    """Text from data as it may stand on a page; what a template has drawn stays as it is."""
    return printable(value) if type(value) is str else value


def kind_of(block: Block) -> str:
    """The block's kind, by which a template draws it."""
    if isinstance(block, Text):
        return block.style
    return type(block).__name__.lower()


def cell(value: Any) -> str:
    """0.912 (0.898 to 0.925), 0.912, 1,234, a text; a dash for what is not known."""
    if value is None or isinstance(value, Interval):
        return with_interval(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else shorten(str(value), _LONGEST)


def is_number(value: Any) -> bool:
    """Whether the cell stands to the right, under others of its kind."""
    return isinstance(value, int | float | Interval) or value is None


def shown_parts(block: Matrix | Bars) -> list[int]:
    """Numbers of the parts that there is room for: of a matrix those with most rows, of bars those
    with the lowest figure.
    """
    places = range(len(block.parts))
    if len(block.parts) <= _MOST_PARTS:
        return list(places)
    if isinstance(block, Matrix):
        chosen = sorted(places, key=lambda one: -sum(block.counts[one]))
    else:
        known = [one for one in places if block.values[one] is not None]
        chosen = sorted(known, key=lambda one: _value(block.values[one]))
    return sorted(chosen[:_MOST_PARTS])


def _value(interval: Interval | None) -> float:
    return math.inf if interval is None else interval.value


def shades(counts: Sequence[int]) -> list[float]:
    """Each cell's share of its line, 0 to 1."""
    total = sum(counts) or 1
    return [count / total for count in counts]


def pieces_of(marked: Marked) -> list[tuple[str, float]]:
    """A text in pieces, each with what it adds as a share of the most that any does: -1 to 1."""
    most = max((abs(adds) for _, _, adds in marked.parts), default=0.0) or 1.0
    pieces, at = [], 0
    for start, end, adds in marked.parts:
        pieces += [(marked.text[at:start], 0.0), (marked.text[start:end], adds / most)]
        at = end
    pieces.append((marked.text[at:], 0.0))
    return [(text, share) for text, share in pieces if text]


def scale_of(block: Bars) -> tuple[float, float]:
    """From where to where the figures of the bars reach: 0 to 1 where they are shares."""
    known = [one for one in block.values if one is not None]
    low, high = min((o.low for o in known), default=0), max((o.high for o in known), default=1)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    margin = (high - low) * 0.05 or 1.0
    return low - margin, high + margin


# --- plots ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """y against x, a line of a plot; points without a finite value are left out."""

    words: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Plot:
    """Lines in a frame of `width` by `height`, ready to be drawn: everything is in its units."""

    width: int
    height: int
    left: int
    bottom: int
    top: int
    lines: tuple[str, ...]  # points of polylines
    dots: tuple[tuple[float, float], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    bars: tuple[tuple[float, float, float, str], ...] = ()  # x, width, height, words
    diagonal: tuple[float, float, float, float] | None = None
    mark: float | None = None


def plot_of(
    drawn: Curve | Sequence[Series],
    *,
    width: int = 460,
    height: int = 230,
    mark: float | None = None,
) -> Plot:
    """The geometry of a curve, or of lines in one frame.

    Args:
        mark: an x to be marked.
    """
    if isinstance(drawn, Curve):
        return _of_curve(drawn, width, height)
    points = [(x, y) for one in drawn for x, y in _finite(one.x, one.y)]
    frame = _Frame.around(points, width, height)
    lines = tuple(
        " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in _finite(one.x, one.y))
        for one in drawn
    )
    return Plot(
        **frame.sizes(),
        lines=lines,
        dots=(),
        mark=None if mark is None else frame.x(mark),
    )


def _of_curve(curve: Curve, width: int, height: int) -> Plot:
    pairs = zip(curve.x, curve.y, strict=True)
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    shares = curve.diagonal or all(0 <= y <= 1 for _, y in known)
    ends = [(curve.edges[0], 0.0), (curve.edges[-1], 1.0 if shares else 0.0)]
    frame = _Frame.around([*known, *ends], width, height, exact=shares)
    most = max(curve.rows, default=0) or 1
    bars = tuple(
        (
            frame.x(low),
            frame.x(high) - frame.x(low),
            0.3 * frame.tall * rows / most,
            f"{low:g} to {high:g}: {rows:,} rows",
        )
        for low, high, rows in zip(curve.edges, curve.edges[1:], curve.rows, strict=False)
    )
    placed = tuple((frame.x(x), frame.y(y)) for x, y in known)
    low, high = curve.edges[0], curve.edges[-1]
    wished = (frame.x(low), frame.y(low), frame.x(high), frame.y(high)) if curve.diagonal else None
    return Plot(
        **frame.sizes(),
        lines=(" ".join(f"{x:.1f},{y:.1f}" for x, y in placed),),
        dots=placed,
        bars=bars,
        diagonal=wished,
    )


@dataclass(frozen=True)
class _Frame:
    """Where values stand in a plot."""

    width: int
    height: int
    x_from: float
    x_to: float
    y_from: float
    y_to: float
    left: int = 52
    right: int = 12
    top: int = 10
    bottom: int = 24

    @classmethod
    def around(
        cls,
        points: Sequence[tuple[float, float]],
        width: int,
        height: int,
        *,
        exact: bool = False,
    ) -> _Frame:
        """A frame in which all points stand; `exact`: without room above and below."""
        xs = [x for x, _ in points] or [0.0, 1.0]
        ys = [y for _, y in points] or [0.0, 1.0]
        room = 0.0 if exact else (max(ys) - min(ys)) * 0.06 or abs(ys[0]) * 0.1 or 1.0
        x_to = max(xs) if max(xs) > min(xs) else min(xs) + 1
        return cls(width, height, min(xs), x_to, min(ys) - room, max(ys) + room)

    @property
    def tall(self) -> float:
        return self.height - self.top - self.bottom

    def x(self, value: float) -> float:
        wide = self.width - self.left - self.right
        return self.left + wide * (value - self.x_from) / (self.x_to - self.x_from)

    def y(self, value: float) -> float:
        return self.top + self.tall * (1 - (value - self.y_from) / (self.y_to - self.y_from))

    def sizes(self) -> dict[str, Any]:
        return {
            "width": self.width,
            "height": self.height,
            "left": self.left,
            "top": self.top,
            "bottom": self.height - self.bottom,
            "x_ticks": tuple((self.x(one), _tick(one)) for one in ticks(self.x_from, self.x_to)),
            "y_ticks": tuple((self.y(one), _tick(one)) for one in ticks(self.y_from, self.y_to)),
        }


def ticks(low: float, high: float, most: int = _TICKS) -> list[float]:
    """At most about `most` round values between two others (Heckbert 1990, "Nice numbers")."""
    rough = (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(s * magnitude for s in (1, 2, 5, 10) if s * magnitude >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [one * step for one in range(first, last + 1)]


def _tick(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.6g}k"
    return f"{round(value, 10):.6g}"


def _finite(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
