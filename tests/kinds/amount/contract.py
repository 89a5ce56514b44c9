"""The rows of the kind: a text that says how much, and the amount."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from data_contracts.contract.contract import DataContract
from data_contracts.contract.rules import Role
from data_contracts.contract.sections import Columns


class AmountColumns(Columns):
    said: str = Field("said", description="Column of the text.")
    amount: str = Field("amount", description="Column of the amount.")


class AmountContract(DataContract):
    """Texts with a number each."""

    roles: ClassVar[tuple[Role, ...]] = (Role("said"), Role("amount", "number"))
    identified_by: ClassVar[tuple[str, ...]] = ("said",)
    answer: ClassVar[tuple[str, ...]] = ("amount",)

    kind: Literal["amount"] = "amount"  # pyright: ignore[reportIncompatibleVariableOverride]
    columns: AmountColumns = Field(default_factory=AmountColumns)  # pyright: ignore[reportIncompatibleVariableOverride]
