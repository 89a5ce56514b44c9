"""What a monitor is described by: a registered model, new rows, and when they count as others."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from data_contracts.recipe.asking import AskingRecipe


class MonitorRecipe(AskingRecipe):
    """One look at new rows beside those that a registered model was measured on."""

    verb: ClassVar[str] = "monitor"
    telling: ClassVar[tuple[str, ...]] = (
        *("model", "column", "rows", "min_rows", "alpha", "min_psi", "seed"),
    )

    rows: int = Field(
        default=5000,
        ge=50,
        le=200_000,
        description="Rows that are looked at, drawn from all of the source by `seed`.",
    )
    min_rows: int = Field(
        default=100,
        ge=30,
        description="Fewest rows with a text that say anything; fewer end the run.",
    )
    alpha: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="Chance of an alarm where nothing has changed, over all that is looked at "
        "(Holm 1979).",
    )
    min_psi: float = Field(
        default=0.1,
        ge=0,
        description="Population stability index from which a change that the test finds is an "
        "alarm: with many rows a test finds differences that nobody need look at.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the rows that are drawn.")
