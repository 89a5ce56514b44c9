"""What a search has come to: its trials, those that were trained with all seeds, and the winner."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from data_contracts.section import Section


class TrialResult(Section):
    """One trial, as far as it came."""

    number: int
    candidate: str | None = Field(default=None, description="Whose overrides it was drawn on.")
    overrides: dict[str, Any] = Field(description="What it changes of the recipe, by dotted field.")
    state: Literal["finished", "pruned", "failed"]
    value: float | None = Field(
        default=None, description="The figure: of the epoch kept, or the best before it was pruned."
    )
    epochs: int = 0
    cpu_seconds: float = Field(
        default=0.0, description="Of its training; of one that failed, up to its last epoch."
    )
    cause: str | None = Field(default=None, description="Why it failed.")


class Finalist(Section):
    """One of the best trials, with further seeds."""

    number: int
    values: dict[int, float] = Field(description="The figure, by seed.")
    failed: dict[int, str] = Field(default_factory=dict, description="Why a seed has none.")
    mean: float = Field(description="Over the seeds that all finalists have.")
    sd: float | None = Field(default=None, description="Over the same seeds (n - 1).")


class Searched(Section):
    """A search as far as it has come."""

    name: str
    kind: str = Field(description="Kind of task.")
    figure: str = Field(description="Of the valid split, by its name in MLflow.")
    better: Literal["higher", "lower"]
    command: str = ""
    corpus: str = Field(description="Content digest of the validated rows.")
    valid_rows: int
    trials: tuple[TrialResult, ...] = ()
    finalists: tuple[Finalist, ...] = Field(
        default=(), description="The best few, the best by its mean first."
    )
    seeds: tuple[int, ...] = Field(default=(), description="Those that all finalists have.")
    importance: dict[str, float] = Field(
        default_factory=dict,
        description="Share of each field in what tells the best tenth of the trials from the rest "
        "(PED-ANOVA, Watanabe 2023); empty with fewer than ten finished trials.",
    )
    winner: int | None = Field(default=None, description="Number of the trial that won.")
    cpu_seconds: float = 0.0
    budget_seconds: float
    ended: str = Field(default="", description="Why no further trial was tried.")

    def trial(self, number: int) -> TrialResult:
        return next(one for one in self.trials if one.number == number)
