"""What explanations of a source's rows are described by: a registered model, rows, and where what
carried their answers goes.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from data_contracts.recipe.asking import WritingRecipe
from data_contracts.recipe.score import OutputContract


class ExplainRecipe(WritingRecipe):
    """Which tokens carried the answer to each row of a source, completely described."""

    verb: ClassVar[str] = "explain"
    telling: ClassVar[tuple[str, ...]] = (
        *("model", "column", "target", "check", "output", "contract"),
    )
    endings: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl")  # tokens are a list

    target: str | None = Field(
        default=None,
        description="Explain this in place of the model's own answers: a label; of a ranking the "
        "place (1 is the best); of a text that is read, words in it.",
    )
    check: bool = Field(
        default=True,
        description="Check each explanation by deletion, which takes about as long as it does.",
    )
    contract: OutputContract = Field(default_factory=OutputContract)
