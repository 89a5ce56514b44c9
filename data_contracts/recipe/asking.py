"""What is asked of a registered model, row by row of a source: the fields that every such flow
has.
"""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from data_contracts.recipe.sections import ExecutionConfig
from data_contracts.recipe.source import (
    DataWindow,
    FileSource,
    RollingWindow,
    Source,
    on_day,
    secret_in,
    window_of,
)
from data_contracts.section import Section
from data_contracts.tables.read import name_parts

_PLACES = ("{day}", "{start}", "{end}")


class AskingRecipe(Section):
    """A registered model, and the rows that it is asked."""

    verb: ClassVar[str]  # of the flow
    # Fields that make a run another one, beside the rows and the version that answers.
    telling: ClassVar[tuple[str, ...]] = ("model", "column")

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$", description="Lower-case name of what is done."
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
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)

    @field_validator("source")
    @classmethod
    def _rows_of_tables(cls, source: Any) -> Any:
        if isinstance(source, FileSource) and (source.roles or source.splits):
            raise ValueError("url: one path, folder or glob is read, and no files per split")
        return source

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Self:
        if (fault := secret_in(self)) is not None:
            raise ValueError(fault)
        return self

    def on(self, day: date) -> Self:
        """For a run that is due on `day`: with the days of its window fixed."""
        return self.model_copy(update={"source": on_day(self.source, day)})

    @property
    def rolling_window(self) -> RollingWindow | None:
        """By which each run reads other days; None where every run reads the same rows."""
        window = window_of(self.source)
        return window if isinstance(window, RollingWindow) else None

    @property
    def experiment(self) -> str:
        """Of its runs in MLflow."""
        return f"noisefold-{self.verb}-{self.name}"

    def identity_of_run(self) -> dict[str, Any]:
        """What makes a run another one, beside the rows and the version that answers."""
        return self.identity(self.telling)


class WritingRecipe(AskingRecipe):
    """A registered model, the rows that it is asked, and the file that what comes of them is
    written into.
    """

    endings: ClassVar[tuple[str, ...]] = (".parquet", ".csv", ".jsonl")  # that `output` may have

    output: str = Field(
        description="Path or fsspec URL of the file; its ending tells the format. {day} is the day "
        "on which the run is due, {start} and {end} are those of the source's window."
    )
    replace: bool = Field(
        default=False,
        description="Replace what the output names. The same content again is no replacement.",
    )

    @property
    def written_as(self) -> tuple[str, ...]:
        """The endings that the output may have."""
        return self.endings

    @model_validator(mode="after")
    def _name_tells_the_format(self) -> Self:
        format, compression = name_parts(self.output)
        packed = compression is not None and (
            format == "parquet" or compression not in ("gzip", "zstd")
        )
        if packed or f".{format}" not in self.written_as:
            raise ValueError(
                "output: its name does not tell the format: let it end in "
                f"{' or '.join(self.written_as)} (all but Parquet also with .gz or .zst)"
            )
        return self

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
