"""What validation finds, as data: counts and places of the rows, and faulty cells fit to be shown."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_contracts.contract.contract import SPLITS, DataContract
from data_contracts.tables.labels import nearest

SAMPLES = 5  # rows shown per reason
_CELLS = {"bad_label": "label", "several_labels": "label", "nested_label": "label", "unnamed_class": "label",
          "relabelled": "label", "duplicate_id": "id", "unknown_split": "split"}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One faulty cell, fit to be shown."""

    file: str
    row: int
    column: str
    value: str

    @classmethod
    def of(cls, reason: str, row: dict[str, Any], contract: DataContract) -> Sample:
        column = _CELLS.get(reason, "text")
        value = shown_cell(row[column])
        if reason == "bad_label":
            value += meant(row["label"], contract)
        if reason == "relabelled":
            value += f" of text {shown_cell(row['text'], 40)}"
            value += f" (what counts: {row['counts_instead']})" if row["counts_instead"] else ""
        return cls(row["file"], row["row"], column, value)

    def __str__(self) -> str:
        return f"{self.file} row {self.row}, {self.column} {self.value}"


@dataclass
class Findings:
    """What was found about the corpus: per row in arrays of a few bytes, and in counts."""

    reasons: np.ndarray  # uint16 per row, one of BITS each
    row_checks: dict[str, int] = field(default_factory=dict)  # broken rows per row expectation
    found: Counter[str] = field(
        default_factory=Counter
    )  # rows per reason, kept ones too; a row may count in several
    first: Counter[str] = field(default_factory=Counter)  # quarantined rows per first reason
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    instead: dict[int, int] = field(
        default_factory=dict
    )  # position of a relabelled row → of the row that counts
    unknown: Counter[str] = field(
        default_factory=Counter
    )  # quarantined rows per label that the contract does not know
    labels: dict[str, Counter[str]] = field(
        default_factory=lambda: {split: Counter() for split in SPLITS}
    )
    lengths: dict[str, np.ndarray] = field(
        default_factory=dict
    )  # rows by number of characters, per split

    @property
    def kept(self) -> dict[str, int]:
        return {split: sum(counts.values()) for split, counts in self.labels.items()}


def meant(label: str | None, contract: DataContract) -> str:
    near = nearest(label, contract.labels.values) if label and contract.labels.values else None
    return f" (did you mean {shown_cell(near)}?)" if near is not None else ""


def shown_cell(value: str | None, length: int = 60) -> str:
    """A cell in quotes, shortened, with what a terminal or a reader's eye would swallow written as an escape."""
    if value is None:
        return "null"
    cut = value[:length]
    plain = "".join(
        c
        if c == " " or unicodedata.category(c)[0] not in "CZ"
        else c.encode("unicode_escape").decode()
        for c in cut
    )
    return f"'{plain}'" + (f"… ({len(value):,} characters)" if len(value) > length else "")
