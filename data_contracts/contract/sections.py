"""The sections that every contract has, whatever its rows are."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from data_contracts.section import Section

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

# The draw of a missing split is a function of the text and this salt alone. It never changes: a row
# that a champion was trained on must not turn up in a later test split.
SPLIT_SALT = "noisefold-split-1"

# Columns that a corpus has beside those of the contract.
_RESERVED = {"file", "row", "fault"}


class Columns(Section):
    """Which column of the source is what; a kind adds a field for each of its roles.

    A null one is filled in: id from file and row, split by hash.
    """

    # Roles that one column may play together.
    may_share: ClassVar[frozenset[str]] = frozenset()

    id: str | None = Field(
        default=None, description="Column of unique row names; null: <file>#<row>."
    )
    split: str | None = Field(
        default=None, description="Column of the split; null: drawn by hash of the text."
    )
    slices: tuple[str, ...] = Field(
        default=(), description="Further columns carried along as text, for figures by slice."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Columns:
        single = [name for name in type(self).model_fields if name != "slices"]
        given = {name: getattr(self, name) for name in single}
        shared = {given.pop(name) for name in self.may_share}
        named = [name for name in (*given.values(), *shared, *self.slices) if name is not None]
        if len(set(named)) < len(named):
            raise ValueError("one column plays two roles")
        reserved = {*single, *_RESERVED} & set(self.slices)
        if reserved:
            raise ValueError(f"slice columns may not be named {', '.join(sorted(reserved))}")
        return self


class TextLimits(Section):
    """Limits in characters (Unicode code points), so that they suit any language."""

    min_characters: int = Field(
        default=1, ge=0, description="Fewest characters after white space is stripped."
    )
    max_characters: int = Field(default=20_000, ge=1, le=1 << 24, description="Most characters.")
    allow_replacement_character: bool = Field(
        default=False, description="Accept U+FFFD, the mark of broken encoding."
    )
    allow_control_characters: bool = Field(
        default=True, description="Accept C0/C1 controls other than tab and line ends."
    )


class SplitShares(Section):
    """How a split is drawn where the source gives none.

    With train and test but no valid, valid is drawn from train.
    """

    valid: float = Field(default=0.1, ge=0, lt=1, description="Share drawn for validation.")
    test: float = Field(default=0.1, ge=0, lt=1, description="Share drawn for test.")
    min_rows: int = Field(default=20, ge=1, description="Fewest rows that each split must keep.")

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitShares:
        if self.valid + self.test >= 1:
            raise ValueError("valid + test leave nothing to train on")
        return self


class RowPolicy(Section):
    """A fault of a row against the other rows: how often it may occur, and what becomes of them."""

    action: Literal["quarantine", "keep"] = Field(
        default="quarantine", description="keep: count and report only."
    )
    max_share: float = Field(
        default=0.05, ge=0, le=1, description="Largest share of all rows; above it the stage fails."
    )


class WindowLimits(Section):
    """What a window must find.

    No limit holds for a source without a window, or whose names tell no days.
    """

    max_missing_days: int | None = Field(
        default=None, ge=0, description="Most days of the window without a file; null: any."
    )
    max_age_days: int | None = Field(
        default=14,
        ge=0,
        description="Most days from the newest file to the end of the window; null: any.",
    )


class ConflictPolicy(Section):
    """The same text with different labels in one split.

    Somebody corrected one, or two people disagree.
    """

    keep: Literal["latest", "earliest", "none", "all"] = Field(
        default="latest",
        description="Whose label counts, in reading order (by split, then by file name): the "
        "latest "
        "row's, so that a later file corrects an earlier one; the earliest's; none: all of them "
        "are "
        "quarantined; all: counted only.",
    )
    max_share: float = Field(
        default=0.05, ge=0, le=1, description="Largest share of all rows; above it the stage fails."
    )


class SeveralAnswersPolicy(ConflictPolicy):
    """The same question with different answers in one split: no fault, unless it is made one."""

    keep: Literal["latest", "earliest", "none", "all"] = Field(
        default="all",
        description="Whose answer counts, in reading order (by split, then by file name): all; the "
        "latest row's, so that a later file corrects an earlier one; the earliest's; none: all of "
        "them are quarantined.",
    )
    max_share: float = Field(
        default=1.0, ge=0, le=1, description="Largest share of all rows; above it the stage fails."
    )
