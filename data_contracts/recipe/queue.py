"""What a nightly queue is described by: a registered model that doubts, rows without an answer, and
where those go that a person should answer first.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data_contracts.recipe.asking import WritingRecipe

_ENDINGS = {"label_studio": (".json",), "prodigy": (".jsonl",)}


class QueueRecipe(WritingRecipe):
    """One queue, completely described: the rows of a source that are most worth labelling."""

    verb: ClassVar[str] = "queue"
    telling: ClassVar[tuple[str, ...]] = (
        *("model", "column", "answer", "output", "format", "rows", "by", "spread"),
        *("draws", "seed"),
    )
    params: ClassVar[dict[str, Any]] = {}  # a model is asked as it answers by itself

    answer: str | None = Field(
        default=None,
        description="Column of the answers that people give: rows that have one are left out, and "
        "it is empty in the queue; null: the kind's own name for it (label).",
    )
    format: Literal["table", "label_studio", "prodigy"] = Field(
        default="table",
        description="table: the source's columns and what the model believes; label_studio: tasks "
        "with predictions, for its import (.json); prodigy: tasks for its choice interface "
        "(.jsonl).",
    )
    rows: int = Field(default=100, ge=1, le=100_000, description="Most rows of the queue.")
    by: Literal["margin", "entropy", "least_confident", "bald"] = Field(
        default="margin",
        description="What counts as doubt. bald: mutual information of answer and weights, by "
        "draws of the noise (Houlsby 2011).",
    )
    spread: bool = Field(default=True, description="Not many rows that are alike.")
    draws: int = Field(
        default=20, ge=2, le=1000, description="Draws of the noise on the weights, with by: bald."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the draws.")

    @property
    def written_as(self) -> tuple[str, ...]:
        return _ENDINGS.get(self.format, self.endings)

    @property
    def drawn(self) -> int:
        """How often each row is also answered under a draw of the noise."""
        return self.draws if self.by == "bald" else 0

    @model_validator(mode="after")
    def _draws_are_of_bald(self) -> Self:
        if "draws" in self.stated() and self.by != "bald":
            raise ValueError(
                f"draws are those of by: bald, and by is {self.by}: leave draws out, or say by: "
                "bald"
            )
        return self
