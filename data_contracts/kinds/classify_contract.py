"""classify, the contract's side: a text, and one label of several for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from data_contracts.contract.contract import DataContract
from data_contracts.contract.counts import Counts, per_split
from data_contracts.contract.rules import CorpusRule, Role
from data_contracts.contract.sections import Columns, TextLimits
from data_contracts.section import Section
from data_contracts.tables.categories import category_text

if TYPE_CHECKING:
    from data_contracts.contract.infer import Draft, UndescribedRows


class ClassifyColumns(Columns):
    """Which column of the source plays which role.

    A null role is filled in: id from file and row, split by hash.
    """

    text: str = Field(default="text", description="Column of the text.")
    label: str = Field(
        default="label", description="Column of the label; numbers become their decimal text."
    )


class Labels(Section):
    """Either the exact set of labels, or bounds on how many there are."""

    values: tuple[str, ...] | None = Field(
        default=None, description="Every allowed label; null: any, within the bounds."
    )
    min_count: int = Field(
        default=2, ge=1, description="Fewest distinct labels in the train split."
    )
    max_count: int = Field(default=1000, ge=2, description="Most distinct labels.")
    min_share: float = Field(
        default=0.0, ge=0, le=1, description="Smallest share of any label in the train split."
    )
    max_share: float = Field(
        default=0.99, gt=0, le=1, description="Largest share of any label in the train split."
    )

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """As the readers spell the labels of the rows."""
        if not isinstance(value, list | tuple):
            return value
        return [category_text(one) if isinstance(one, str) else one for one in value]

    @field_validator("values")
    @classmethod
    def _two_at_least(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return value
        twice = sorted(label for label, times in Counter(value).items() if times > 1)
        named = ", ".join(map(repr, twice[:5]))
        which = f" ({named} stands there twice, as the rows' labels are read)" if twice else ""
        if twice or len(value) < 2:
            raise ValueError(f"needs two labels or more, each named once{which}")
        return value


class ClassifyContract(DataContract):
    """What the rows of one data set promise: one label of several for each text."""

    roles: ClassVar[tuple[Role, ...]] = (Role("text"), Role("label", "category"))
    identified_by: ClassVar[tuple[str, ...]] = ("text",)
    answer: ClassVar[tuple[str, ...]] = ("label",)
    conflict: ClassVar[tuple[str, str]] = (
        "relabelled",
        "texts that stand in their split with another label",
    )

    comments: ClassVar[Mapping[str, str]] = {
        "text": "In characters (code points). Longer texts go to quarantine.",
        "labels": "Shares are those of the train split. values null: any label, within the counts.",
    }

    # Frozen, so a narrower type is safe.
    kind: Literal["classify"] = "classify"  # pyright: ignore[reportIncompatibleVariableOverride]
    columns: ClassifyColumns = Field(default_factory=ClassifyColumns)  # pyright: ignore[reportIncompatibleVariableOverride]
    text: TextLimits = Field(default_factory=TextLimits)
    labels: Labels = Field(default_factory=Labels)

    def why(self) -> str:
        columns = self.columns
        return f"Kind classify: {columns.text} holds texts, and {columns.label} a label of each."

    @classmethod
    def infer(cls, undescribed: UndescribedRows) -> Draft:
        from data_contracts.kinds.classify_draft import draft  # judges rows, so it loads Arrow

        return draft(undescribed)

    def text_limits(self, role: str) -> TextLimits:
        return self.text

    def known(self, role: str) -> tuple[str, ...] | None:
        return self.labels.values

    def corpus_rules(self) -> list[CorpusRule]:
        labels, of = self.labels, "label in the train split"
        fewest = max(2, labels.min_count)  # one class is no classification
        return [
            *super().corpus_rules(),
            CorpusRule(
                "label_count", "different labels in the train split", fewest, labels.max_count
            ),
            CorpusRule("smallest_label_share", f"share of the rarest {of}", low=labels.min_share),
            CorpusRule(
                "largest_label_share", f"share of the commonest {of}", high=labels.max_share
            ),
        ]

    def aggregates(self, counts: Counts) -> dict[str, float]:
        train = per_split(counts, "label")["train"]
        total = max(1, train.total())
        # A label of the contract that is not there at all has a share too: none.
        rows = [train[label] for label in self.labels.values or train]
        return {
            "label_count": len(train),
            "smallest_label_share": min(rows, default=0) / total,
            "largest_label_share": max(rows, default=0) / total,
        }

    def learn(self, counts: Counts) -> dict[str, Any]:
        """`labels`: sorted, or in the contract's order; the index is the class id."""
        seen = {value for what, _, value in counts if what == "label"}
        return {"labels": list(self.labels.values or sorted(seen))}
