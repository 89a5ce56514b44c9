"""What every kind of task says of itself, without torch: its figures, and how they are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One figure: its name everywhere, its words, its unit, and which way is better.

    The only place that knows. In MLflow it is `test/<name>`; with `per` there is one value for each
    of a kind's parts (`test/f1/<label>` of `Metric("f1", ..., per="class")`).
    """

    name: str
    words: str
    better: Literal["higher", "lower"]
    scale: float = 1.0  # 100: shown in points
    digits: int = 3  # behind the point, once scaled
    per: str | None = None

    def improves(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one > other if self.better == "higher" else one < other
