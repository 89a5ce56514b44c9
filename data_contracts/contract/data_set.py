"""What every contract says of its data set, whatever its rows are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_validator, model_validator

from data_contracts.contract.sections import (
    Columns,
    ConflictPolicy,
    RowPolicy,
    SplitShares,
    WindowLimits,
)
from data_contracts.section import Section, texts_in, unwritable
from data_contracts.tables.categories import category_text


class DataSet(Section):
    """The fields of a contract that do not hang on its kind."""

    kind: str
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$", description="Name of the data set.")
    version: int = Field(default=1, ge=1, description="Raise it when the meaning changes.")
    description: str = Field(
        default="", description="One sentence on what the rows are and where they come from."
    )
    columns: Columns = Field(default_factory=Columns)
    select: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Columns and the values that count, as {answer: [accept]}: a row with another "
        "value is left out before anything is judged, and counted.",
    )
    splits: SplitShares = Field(default_factory=SplitShares)
    duplicates: RowPolicy = Field(
        default_factory=RowPolicy,
        description="A text that stood earlier in the same split with the same label (normalised).",
    )
    conflicts: ConflictPolicy = Field(
        default_factory=ConflictPolicy,
        description="A text that stands in the same split with another label.",
    )
    leakage: RowPolicy = Field(
        default_factory=RowPolicy,
        description="A text that also stands in a later split (train < valid < test); the earlier "
        "side is dropped.",
    )
    window: WindowLimits = Field(
        default_factory=WindowLimits,
        description="Days that a windowed source of dated files must have.",
    )
    max_quarantine_share: float = Field(
        default=0.05, ge=0, le=1, description="Largest share of quarantined rows, all reasons."
    )

    @field_validator("select", mode="before")
    @classmethod
    def _as_the_rows_are_read(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: _as_read(one) for name, one in value.items()}

    @field_validator("select")
    @classmethod
    def _selects_something(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, values in value.items():
            if not values:
                raise ValueError(f"{name} names no value, so no row would be left")
        return value

    @model_validator(mode="after")
    def _can_be_stored(self) -> DataSet:
        for field, text in texts_in(self.model_dump()):
            if (what := unwritable(text)) is not None:
                raise ValueError(f"{field} holds {what}")
        return self


def _as_read(values: Any) -> list[Any]:
    """One value or several, as the readers spell them; an empty text stands for an empty cell."""
    listed: Sequence[Any] = values if isinstance(values, list | tuple) else [values]
    return [(category_text(one) or "") if isinstance(one, str) else one for one in listed]
