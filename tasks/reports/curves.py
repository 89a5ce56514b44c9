"""Learning curves, drawn while a training runs and when it is over."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.reports.html import Plot, Series, plot_of, render

_TOGETHER = {"train/loss": "val/loss"}  # one panel for both
_LEFT_OUT = {"train/nll", "train/gradient_norm", "train/tokens_per_second", "epoch"}
_MOST_POINTS = 400  # of a line; more are not seen


@dataclass(frozen=True)
class Panel:
    """One frame: its lines' names, and what they are drawn from."""

    words: str
    plot: Plot
    last: str  # the newest values, in words


class Curves:
    """The points of a training so far, by metric."""

    def __init__(self, points: Iterable[dict[str, Any]] = ()) -> None:
        self._points: dict[str, dict[int, float]] = {}
        self.add(points)

    @classmethod
    def read(cls, path: Path) -> Curves:
        """From `metrics.jsonl`; a line that is cut short is passed over."""
        whole = [line for line in path.read_text(encoding="utf-8").splitlines() if line[-1:] == "}"]
        return cls(map(json.loads, whole))

    def add(self, points: Iterable[dict[str, Any]]) -> None:
        """More points {key, value, step}; one of a step that is there already replaces it."""
        for point in points:
            self._points.setdefault(point["key"], {})[int(point["step"])] = float(point["value"])

    def __bool__(self) -> bool:
        return bool(self._points)

    def panels(self, best_step: float | None = None) -> list[Panel]:
        """The loss of both splits, then validation figures, then what else was told.

        Args:
            best_step: where the weights are from that were kept.
        """
        partners = set(_TOGETHER.values())
        names = [name for name in self._points if name not in partners | _LEFT_OUT]
        names.sort(key=lambda name: (name not in _TOGETHER, not name.startswith("val/"), name))
        return [self._panel(name, best_step) for name in names]

    def _panel(self, name: str, best_step: float | None) -> Panel:
        other = _TOGETHER.get(name)
        drawn = [one for one in (name, other) if one in self._points]
        series = [self._series(one) for one in drawn]
        last = ", ".join(f"{one.words} {_short(one.y[-1])}" for one in series)
        return Panel(
            " and ".join(drawn), plot_of(series, width=360, height=170, mark=best_step), last
        )

    def _series(self, name: str) -> Series:
        points = sorted(self._points[name].items())
        step = -(-len(points) // _MOST_POINTS)
        kept = points[::-1][::step][::-1]  # the newest one always
        return Series(name, tuple(float(x) for x, _ in kept), tuple(y for _, y in kept))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def as_image(panels: Sequence[Panel]) -> str:
    """The panels as one picture that Markdown can hold: an SVG in a data URL."""
    svg = render("curves.svg.j2", panels=panels, columns=2)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
