"""What is asked of a registered model, row by row of a source: the fields that every such flow
has.
"""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from data_contracts.recipe.sections import ExecutionConfig
from data_contracts.recipe.source import FileSource, Source, on_day, secret_in
from data_contracts.section import Section


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
    def experiment(self) -> str:
        """Of its runs in MLflow."""
        return f"noisefold-{self.verb}-{self.name}"

    def identity_of_run(self) -> dict[str, Any]:
        """What makes a run another one, beside the rows and the version that answers."""
        return self.identity(self.telling)
