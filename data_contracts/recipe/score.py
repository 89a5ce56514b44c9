"""What a nightly score is described by: a registered model, rows, and where their answers go."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import Field, field_validator, model_validator

from data_contracts.recipe.sections import ExecutionConfig
from data_contracts.recipe.source import FileSource, RollingWindow, Source
from data_contracts.section import Section, texts_in, unwritable
from data_contracts.tables.read import name_parts
from data_contracts.urls import HOW, credential_in

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


class ScoreRecipe(Section):
    """One score, completely described: every row of a source, with a registered model's answer."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$", description="Lower-case name of the score."
    )
    model: str = Field(min_length=1, description="The registered model that answers.")
    version: str = Field(
        default="champion",
        pattern=r"^[A-Za-z0-9_.\-]{1,255}$",
        description="An alias, such as champion, or a number: looked up when the run begins.",
    )
    source: Source
    column: str | None = Field(
        default=None,
        description="Column of the texts, where the model is asked one; null: the column of the "
        "name that the model asks for, or the only one.",
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
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)

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

    @field_validator("source")
    @classmethod
    def _rows_of_tables(cls, source: Any) -> Any:
        if isinstance(source, FileSource) and (source.roles or source.splits):
            raise ValueError("url: a score reads one path, folder or glob, and no files per split")
        return source

    @model_validator(mode="after")
    def _places_are_known(self) -> ScoreRecipe:
        left = self.output.replace("{day}", "")
        if self._window is not None:
            left = left.replace("{start}", "").replace("{end}", "")
        if any(place in left for place in _PLACES):
            raise ValueError(
                "output holds {start} or {end}, which are the days of source.window, and there is "
                "none: write {day}, or give the source a window"
            )
        return self

    @model_validator(mode="after")
    def _holds_no_secret(self) -> ScoreRecipe:
        for field, text in texts_in(self.model_dump()):
            if (what := unwritable(text)) is not None:
                raise ValueError(f"{field} holds {what}")
            if (what := credential_in(text)) is not None:
                raise ValueError(
                    f"{field} holds {what}, which would be stored with the recipe. {HOW}"
                )
        return self

    @property
    def _window(self) -> Any:
        return self.source.window if isinstance(self.source, FileSource) else None

    def on(self, day: date) -> ScoreRecipe:
        """This score for a run that is due on `day`: the days of its window fixed, and its output
        named for them.
        """
        source, window = self.source, self._window
        if isinstance(window, RollingWindow):
            window = window.at(day)
            source = self.source.model_copy(update={"window": window})
        output = self.output.replace("{day}", str(day))
        if window is not None:
            output = output.replace("{start}", str(window.start)).replace("{end}", str(window.end))
        return self.model_copy(update={"source": source, "output": output})

    @property
    def experiment(self) -> str:
        """Of its runs in MLflow."""
        return f"noisefold-score-{self.name}"

    def identity_of_run(self) -> dict[str, Any]:
        """What makes a run another one, beside the rows and the version that answers."""
        return self.identity(("model", "column", "params", "output", "draws", "seed", "contract"))
