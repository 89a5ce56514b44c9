"""What is found out about a model: figures with intervals, bounds, blocks of a report.

A report is a list of blocks: plain frozen data that a kind of task returns, and that
`tasks.reports.blocks` draws on a page, as files, as a picture and in a terminal, knowing no kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


class Interval(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    value: float
    low: float
    high: float


class Check(BaseModel):
    """A bound of the recipe's section `promotion`, and whether the version keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    what: str
    value: float | None = Field(description="null: nothing is known of it, so it does not hold.")
    kind: Literal["floor", "ceiling"]
    bound: float
    passed: bool

    def sentence(self) -> str:
        if self.value is None:
            bound = f"the {self.kind} of {self.bound:g}"
            return f"{self.what} is unknown, so {bound} is not shown to hold."
        how = {
            ("floor", True): "meets",
            ("floor", False): "is below",
            ("ceiling", True): "is within",
            ("ceiling", False): "is above",
        }[self.kind, self.passed]
        return f"{self.what} {self.value:.4f} {how} the {self.kind} of {self.bound:g}."


class PromotionDecision(BaseModel):
    """What became of the challenger, and why. Not promoted is a result, not an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    promoted: bool
    # would_pass, would_not_pass: judged by the rule, of a run that may move no alias.
    outcome: Literal["promoted", "not_promoted", "already_champion", "would_pass", "would_not_pass"]
    reasons: tuple[str, ...]
    name: str
    version: str
    champion_before: str | None = None
    rows_compared: int = 0
    rows_left_out: int = 0
    difference: Interval | None = Field(
        default=None, description="The challenger's first metric minus the champion's."
    )
    over_constant: Interval | None = Field(
        default=None, description="A first champion's first metric minus that of a constant answer."
    )
    notes: dict[str, float] = Field(
        default_factory=dict,
        description="For information, from the kind of task: a classifier's difference in accuracy "
        "and the two-sided p of McNemar's exact test (1947).",
    )
    checks: tuple[Check, ...] = ()


# --- blocks of a report ---------------------------------------------------------------------------

Cell: TypeAlias = str | int | float | Interval | None  # None: not known


@dataclass(frozen=True)
class Text:
    """A paragraph, a heading, or a note to be seen at once. Plain text, escaped when drawn."""

    text: str
    style: Literal["plain", "heading", "note"] = "plain"


@dataclass(frozen=True)
class Table:
    """Rows of cells. With a `name` it is a file too (`<name>.csv`); without, on the page alone."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    name: str | None = None
    headings: tuple[str, ...] | None = None  # of the columns on the page, where they are others


@dataclass(frozen=True)
class Matrix:
    """Counts (C, C) of what each row is (down) and what was said of it (across)."""

    name: str
    title: str
    parts: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    down: str = "true"
    across: str = "predicted"
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """y against x in B bins of x, and how many rows each bin holds; None where it is empty."""

    name: str
    title: str
    x_words: str
    y_words: str
    edges: tuple[float, ...]  # (B + 1,)
    rows: tuple[int, ...]
    x: tuple[float | None, ...]  # mean over the rows of the bin
    y: tuple[float | None, ...]
    note: str = ""
    diagonal: bool = False  # y = x is what is wished for


@dataclass(frozen=True)
class Bars:
    """A figure of each part with its interval, and its rows; None: nothing is known of the part."""

    name: str
    title: str
    words: str  # of the figure
    parts: tuple[str, ...]
    values: tuple[Interval | None, ...]
    rows: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Marked:
    """A text whose parts bear numbers: from and to (code points), and what each adds."""

    title: str
    text: str
    parts: tuple[tuple[int, int, float], ...]
    note: str = ""


@dataclass(frozen=True)
class Highlights:
    """Texts, coloured by what their parts add to something or take from it."""

    name: str
    texts: tuple[Marked, ...]


Block: TypeAlias = Text | Table | Matrix | Curve | Bars | Highlights
