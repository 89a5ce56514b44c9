"""What a nightly score is described by: a registered model, rows, and where their answers go."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from data_contracts.recipe.asking import WritingRecipe
from data_contracts.section import Section


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


class ScoreRecipe(WritingRecipe):
    """One score, completely described: every row of a source, with a registered model's answer."""

    verb: ClassVar[str] = "score"
    telling: ClassVar[tuple[str, ...]] = (
        *("model", "column", "params", "output", "draws", "seed", "contract"),
    )

    params: dict[str, str | int | float | list[str]] = Field(
        default_factory=dict, description="The model's own parameters, as for `predict --param`."
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

    @property
    def drawn(self) -> int:
        """How often each row is also answered under a draw of the noise."""
        return self.draws
