"""DataContract: what a data set promises, in one readable YAML per data set.

Pydantic only; the Arrow schema and the Great Expectations suites are derived in `data_contracts.contract.expectations`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from data_contracts.errors import RecipeError
from data_contracts.section import Section, text_fault, texts_in, unwritable
from data_contracts.tables.labels import label_text
from data_contracts.yaml_text import read_yaml

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

# The draw of a missing split is a function of the text and this salt alone. It never changes: a row that a champion was
# trained on must not turn up in a later test split.
SPLIT_SALT = "noisefold-split-1"


class Columns(Section):
    """Which column of the source plays which role. A null role is filled in: id from file and row, split by hash."""

    id: str | None = Field(None, description="Column of unique row names; null: <file>#<row>.")
    text: str = Field("text", description="Column of the text.")
    label: str = Field(
        "label", description="Column of the label; numbers become their decimal text."
    )
    split: str | None = Field(
        None, description="Column of the split; null: drawn by hash of the text."
    )
    slices: tuple[str, ...] = Field(
        (), description="Further columns carried along as text, for figures by slice."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Columns:
        named = [
            name
            for name in (self.id, self.text, self.label, self.split, *self.slices)
            if name is not None
        ]
        if len(set(named)) < len(named):
            raise ValueError("one column plays two roles")
        reserved = {"id", "text", "label", "split", "file", "row"} & set(self.slices)
        if reserved:
            raise ValueError(f"slice columns may not be named {', '.join(sorted(reserved))}")
        return self


class TextLimits(Section):
    """Limits in characters (Unicode code points), so that they suit any language."""

    min_characters: int = Field(
        1, ge=0, description="Fewest characters after white space is stripped."
    )
    max_characters: int = Field(20_000, ge=1, le=1 << 24, description="Most characters.")
    allow_replacement_character: bool = Field(
        False, description="Accept U+FFFD, the mark of broken encoding."
    )
    allow_control_characters: bool = Field(
        True, description="Accept C0/C1 controls other than tab and line ends."
    )


class Labels(Section):
    """Either the exact set of labels, or bounds on how many there are."""

    values: tuple[str, ...] | None = Field(
        None, description="Every allowed label; null: any, within the bounds."
    )
    min_count: int = Field(2, ge=1, description="Fewest distinct labels in the train split.")
    max_count: int = Field(1000, ge=2, description="Most distinct labels.")
    min_share: float = Field(
        0.0, ge=0, le=1, description="Smallest share of any label in the train split."
    )
    max_share: float = Field(
        0.99, gt=0, le=1, description="Largest share of any label in the train split."
    )

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """As the readers spell the labels of the rows."""
        if not isinstance(value, list | tuple):
            return value
        return [label_text(one) if isinstance(one, str) else one for one in value]

    @field_validator("values")
    @classmethod
    def _two_at_least(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return value
        twice = sorted(label for label, times in Counter(value).items() if times > 1)
        if twice or len(value) < 2:
            which = (
                f" ({', '.join(map(repr, twice[:5]))} stands there twice, as the rows' labels are read)"
                if twice
                else ""
            )
            raise ValueError(f"needs two labels or more, each named once{which}")
        return value


class SplitShares(Section):
    """How a split is drawn where the source gives none; train and test without valid: valid is drawn from train."""

    valid: float = Field(0.1, ge=0, lt=1, description="Share drawn for validation.")
    test: float = Field(0.1, ge=0, lt=1, description="Share drawn for test.")
    min_rows: int = Field(20, ge=1, description="Fewest rows that each split must keep.")

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitShares:
        if self.valid + self.test >= 1:
            raise ValueError("valid + test leave nothing to train on")
        return self


class RowPolicy(Section):
    """A fault of a row against the other rows: how often it may occur, and what is done with the rows."""

    action: Literal["quarantine", "keep"] = Field(
        "quarantine", description="keep: count and report only."
    )
    max_share: float = Field(
        0.05, ge=0, le=1, description="Largest share of all rows; above it the stage fails."
    )


class WindowLimits(Section):
    """What a window must find. No limit holds for a source without a window, or whose names tell no days."""

    max_missing_days: int | None = Field(
        None, ge=0, description="Most days of the window without a file; null: any."
    )
    max_age_days: int | None = Field(
        14, ge=0, description="Most days from the newest file to the end of the window; null: any."
    )


class ConflictPolicy(Section):
    """The same text with different labels in one split: somebody corrected one, or two people disagree."""

    keep: Literal["latest", "earliest", "none", "all"] = Field(
        "latest",
        description="Whose label counts, in reading order (by split, then by file name): the latest row's, so that a "
        "later file corrects an earlier one; the earliest's; none: all of them are quarantined; all: counted only.",
    )
    max_share: float = Field(
        0.05, ge=0, le=1, description="Largest share of all rows; above it the stage fails."
    )


class DataContract(Section):
    """What the rows of one data set promise. Broken rows are quarantined; past the limits the run stops."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.\-]{0,79}$", description="Name of the data set.")
    version: int = Field(1, ge=1, description="Raise it when the meaning changes.")
    description: str = Field(
        "", description="One sentence on what the rows are and where they come from."
    )
    columns: Columns = Field(default_factory=Columns)
    select: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Columns and the values that count, as {answer: [accept]}: a row with another value is left out "
        "before anything is judged, and counted.",
    )
    text: TextLimits = Field(default_factory=TextLimits)
    labels: Labels = Field(default_factory=Labels)
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
        description="A text that also stands in a later split (train < valid < test); the earlier side is dropped.",
    )
    window: WindowLimits = Field(
        default_factory=WindowLimits,
        description="Days that a windowed source of dated files must have.",
    )
    max_quarantine_share: float = Field(
        0.05, ge=0, le=1, description="Largest share of quarantined rows, all reasons."
    )

    @field_validator("select", mode="before")
    @classmethod
    def _as_the_rows_are_read(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        lists = {
            name: list(one) if isinstance(one, list | tuple) else [one]
            for name, one in value.items()
        }
        return {
            name: [(label_text(one) or "") if isinstance(one, str) else one for one in values]
            for name, values in lists.items()
        }

    @field_validator("select")
    @classmethod
    def _selects_something(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, values in value.items():
            if not values:
                raise ValueError(f"{name} names no value, so no row would be left")
        return value

    @property
    def reading(self) -> dict[str, Any]:
        """What shapes how rows are read; the limits that they are held to do not."""
        values = self.labels.values
        return {
            **self.model_dump(mode="json", include={"columns": True, "select": True}),
            "splits": {"valid": self.splits.valid, "test": self.splits.test},
            # By these alone it is told whether class numbers or their names in a file's metadata are the labels.
            "class_numbers": values if values and all(one.isdecimal() for one in values) else None,
        }

    @model_validator(mode="after")
    def _can_be_stored(self) -> DataContract:
        for field, text in texts_in(self.model_dump()):
            if (what := unwritable(text)) is not None:
                raise ValueError(f"{field} holds {what}")
        return self


def load_contract(name_or_path: str, base: Path | None = None) -> DataContract:
    """A bundled contract by name ("sample"), or a YAML file; a relative path starts at `base`.

    Raises:
        RecipeError: naming file and field.
    """
    bundled = Path(__file__).parent / f"{name_or_path}.yaml"
    looks_like_path = name_or_path.endswith((".yaml", ".yml", ".json")) or "/" in name_or_path
    path = (base or Path()) / name_or_path if looks_like_path else bundled
    names = sorted(p.stem for p in Path(__file__).parent.glob("*.yaml"))
    if not looks_like_path and name_or_path not in names:
        raise RecipeError(
            f"contract {name_or_path[:200]}: no such file and no bundled contract of that name.",
            f"Bundled: {', '.join(names)}. `noisefold contract infer FILE` drafts one from data.",
        )
    return parse_contract(read_yaml(path, "contract"), origin=str(path))


def parse_contract(data: Any, *, origin: str) -> DataContract:
    try:
        return DataContract.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, f['loc'])) or 'contract'}: "
            + (
                "unknown key"
                if f["type"] == "extra_forbidden"
                else text_fault(f) or f["msg"].removeprefix("Value error, ")
            )
            for f in error.errors(include_url=False)
        )
        raise RecipeError(
            f"contract {origin}: {faults}.", "`noisefold recipe schema` lists every field."
        ) from None
