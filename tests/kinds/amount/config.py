from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_contracts.kinds.base import Column, Metric, TaskConfig


class Amount(TaskConfig):
    """A number for each text."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("squared_error", "squared error", "lower"),)
    inputs: ClassVar[tuple[Column, ...]] = (Column("said", "string"),)
    room: ClassVar[str | None] = "tests.kinds.amount"

    kind: Literal["amount"] = "amount"
    scale: float = Field(1.0, gt=0, description="Of the numbers.")

    def outputs(self, facts: dict[str, Any]) -> tuple[Column, ...]:
        return (Column("amount", "double"),)
