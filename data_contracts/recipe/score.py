"""What a nightly score is described by: a registered model, rows, and where their answers go."""

from __future__ import annotations

from datetime import date
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from data_contracts.recipe.asking import AskingRecipe
from data_contracts.recipe.source import DataWindow, window_of
from data_contracts.section import Section
from data_contracts.tables.read import name_parts

FORMATS = (".parquet", ".csv", ".jsonl")
_PLACES = ("{day}", "{start}", "{end}")


class OutputContract(Section):
    """What the answers have to be together; a score that breaks it fails, and writes nothing.

    That each row has an answer or a reason, and each number is one, is always looked at.
    """

    min_rows: int = Field(default=1, ge=0, description="Fewest rows.")
    max_refused_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Most rows without an answer (no text, or none that is one), as a share; null: "
        "any.",
    )
    max_abstained_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Most answers that the model is not sure enough of (its column abstain), as a "
        "share of all rows; null: any.",
    )


class ScoreRecipe(AskingRecipe):
    """One score, completely described: every row of a source, with a registered model's answer."""

    verb: ClassVar[str] = "score"
    telling: ClassVar[tuple[str, ...]] = (
        *("model", "column", "params", "output", "draws", "seed", "contract"),
    )

    params: dict[str, str | int | float | list[str]] = Field(
        default_factory=dict, description="The model's own parameters, as for `predict --param`."
    )
    output: str = Field(
        description="Path or fsspec URL of the answers, ending in .parquet, .csv or .jsonl; {day} "
        "is the day on which the run is due, {start} and {end} are those of the source's window."
    )
    replace: bool = Field(
        default=False,
        description="Replace what the output names. The same answers again are no replacement.",
    )
    draws: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Draws of the noise on the weights beside each answer, which tell how much of "
        "its uncertainty is the model's own (mutual information); 0: none.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of the draws.")
    contract: OutputContract = Field(default_factory=OutputContract)

    @field_validator("output")
    @classmethod
    def _name_tells_the_format(cls, value: str) -> str:
        format, compression = name_parts(value)
        if format not in ("csv", "jsonl", "parquet") or (format == "parquet" and compression):
            raise ValueError(
                f"its name does not tell the format: let it end in {', '.join(FORMATS)} (the last "
                "two also with .gz or .zst)"
            )
        return value

    @model_validator(mode="after")
    def _places_are_known(self) -> Self:
        left = self.output.replace("{day}", "")
        if window_of(self.source) is not None:
            left = left.replace("{start}", "").replace("{end}", "")
        if any(place in left for place in _PLACES):
            raise ValueError(
                "output holds {start} or {end}, which are the days of source.window, and there is "
                "none: write {day}, or give the source a window"
            )
        return self

    def on(self, day: date) -> Self:
        """With its output named for that day, and for those of its window."""
        fixed = super().on(day)
        output, window = self.output.replace("{day}", str(day)), window_of(fixed.source)
        if isinstance(window, DataWindow):
            output = output.replace("{start}", str(window.start)).replace("{end}", str(window.end))
        return fixed.model_copy(update={"output": output})
