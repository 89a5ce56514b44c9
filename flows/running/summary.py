"""What a retrain came to: a record of each stage, the flow's result, the summary of both UIs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from data_contracts.contract.days import WindowRead
from data_contracts.results import Interval, PromotionDecision
from tasks.reports.readable import markdown

HowItWent = Literal["ran", "cached", "retried"]


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


class Retrained(BaseModel):
    """What a retrain came to: the flow's result, the summary's content."""

    model_config = ConfigDict(frozen=True)
    recipe: str
    stages: tuple[StageRecord, ...]
    metrics: dict[str, Interval]
    headlines: tuple[str, ...] = ()  # of the metrics, the kind's own figures of a whole split
    warnings: tuple[str, ...] = ()
    confidence: float
    model_uri: str
    parameters: int
    decision: PromotionDecision
    experiment_id: str
    run_id: str
    tracking_uri: str
    flow_run_id: str
    seconds: float
    artifacts: dict[str, str]
    due: str
    window: WindowRead | None = None


def as_markdown(result: Retrained, run_url: str) -> str:
    """The summary for both UIs."""
    decision = result.decision
    lines = [
        f"# {result.recipe}: {decision.outcome.replace('_', ' ')}",
        "",
        *[f"- {markdown(reason, 2000)}" for reason in decision.reasons],
        *[
            f"- Due {markdown(result.due, 300)}, days read: {markdown(days, 2000)}."
            for days in days_read(result)
        ],
        *[f"- **Warning:** {markdown(warning, 2000)}" for warning in result.warnings],
        "",
        f"Model `{result.model_uri}` · [MLflow run]({run_url})",
        "",
        "| stage | state | rows in | rows out | seconds |",
        "|---|---|--:|--:|--:|",
        *[
            f"| {s.name} | {s.state} | {' | '.join(s.shown)} | {s.seconds:.1f} |"
            for s in result.stages
        ],
        "",
        "| metric | value | interval |",
        "|---|--:|---|",
        *[
            f"| {name} | {m.value:.4f} | {m.low:.4f} – {m.high:.4f} |"
            for name, m in headline(result).items()
        ],
    ]
    return "\n".join(lines) + "\n"


def days_read(result: Retrained) -> tuple[str, ...]:
    """What of its window the run has read, a sentence for each part; none without a window."""
    return result.window.sentences() if result.window is not None else ()


def headline(result: Retrained) -> dict[str, Interval]:
    """The figures of the whole test split, without those of single parts."""
    names = (f"test/{name}" for name in result.headlines)
    return {name: result.metrics[name] for name in names if name in result.metrics}
