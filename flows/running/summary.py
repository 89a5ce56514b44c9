"""What a retrain came to: the flow's result."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from data_contracts.contract.days import WindowRead
from data_contracts.results import Interval, PromotionDecision
from tasks.reports.story import StageRecord


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
    report: str = ""  # the page of the run, a file of this machine


def days_read(result: Retrained) -> tuple[str, ...]:
    """What of its window the run has read, a sentence for each part; none without a window."""
    return result.window.sentences() if result.window is not None else ()


def headline(result: Retrained) -> dict[str, Interval]:
    """The figures of the whole test split, without those of single parts."""
    names = (f"test/{name}" for name in result.headlines)
    return {name: result.metrics[name] for name in names if name in result.metrics}
