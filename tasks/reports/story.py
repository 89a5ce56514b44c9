"""What a run came to, so far as it came: what every page and summary of it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from data_contracts.results import Interval, PromotionDecision

HowItWent = Literal["ran", "cached", "retried", "failed"]
# What a reader looks for first.
OUTCOMES = {
    "promoted": "Promoted",
    "not_promoted": "Not promoted",
    "already_champion": "Champion already",
    "would_pass": "Judged only, would pass",
    "would_not_pass": "Judged only, would not pass",
}


_GOOD = ("promoted", "already_champion")


class StageRecord(BaseModel):
    model_config = ConfigDict(frozen=True)
    name: str
    state: HowItWent
    rows_in: int
    rows_out: int
    counted: tuple[str, str] = ("rows", "rows")  # what rows_in and rows_out are a number of
    seconds: float

    @property
    def shown(self) -> tuple[str, str]:
        """Both counts for a column of rows: where something else was counted, its name stands
        beside the number.
        """
        first, last = (
            f"{count:,}{'' if what == 'rows' else f' {what}'}" if count else "–"
            for count, what in zip((self.rows_in, self.rows_out), self.counted, strict=True)
        )
        return first, last


@dataclass(frozen=True)
class Fault:
    """Why a run ended before its end."""

    stage: str  # in which it was; "" before the first and after the last
    cause: str
    remedy: str
    stopped: bool = False  # somebody stopped it: no fault of the run


@dataclass(frozen=True)
class Links:
    """Addresses of the run's pages; "" where there is none."""

    mlflow: str = ""
    prefect: str = ""
    report: str = ""  # of the report in MLflow

    def as_markdown(self) -> str:
        named = (
            ("Report", self.report),
            ("MLflow run", self.mlflow),
            ("Prefect run", self.prefect),
        )
        return " · ".join(f"[{words}]({address})" for words, address in named if address)


@dataclass(frozen=True)
class Story:
    """A run as it stands: under way, ended well, or ended by a fault."""

    subject: str  # what it is a run of: a recipe's name, a comparison's
    due: str
    links: Links
    days: tuple[str, ...] = ()  # what of its window was read, in sentences
    stages: tuple[StageRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    headline: dict[str, Interval] = field(default_factory=dict)  # figures of the whole test split
    decision: PromotionDecision | None = None
    ended: str = ""  # the outcome of a run that comes to no decision, in a word or two
    lines: tuple[str, ...] = ()  # what a person should know of it
    bad: bool = False  # whether somebody has to look at it though it went well
    fault: Fault | None = None
    again: str = ""  # what to press, or to type, after a fault
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        """In words: Promoted, Not promoted, Champion already, Failed in train, Stopped, Running."""
        if self.fault is not None:
            word = "Stopped" if self.fault.stopped else "Failed"
            return f"{word} in {self.fault.stage}" if self.fault.stage else word
        if self.decision is not None:
            return OUTCOMES[self.decision.outcome]
        return self.ended or "Running"

    @property
    def sentence(self) -> str:
        """The outcome and what it is about, in one line."""
        if self.decision is not None:
            return f"{self.outcome}: {self.decision.name} version {self.decision.version}"
        return f"{self.outcome}: {self.subject}"

    @property
    def tone(self) -> Literal["good", "bad", "wait"]:
        if self.bad or (self.fault is not None and not self.fault.stopped):
            return "bad"
        good = bool(self.ended) or (self.decision is not None and self.decision.outcome in _GOOD)
        return "good" if good else "wait"
