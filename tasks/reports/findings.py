"""What validation finds, as data: counts and places of the rows, and faulty cells to be shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from data_contracts.contract.contract import SPLITS, DataContract
from data_contracts.contract.counts import Counts
from data_contracts.contract.shown import shown_cell
from data_contracts.contract.verdicts import Verdicts

SAMPLES = 5  # rows shown per reason


@dataclass(frozen=True)
class Sample:
    """One faulty cell, fit to be shown."""

    file: str
    row: int
    column: str
    value: str

    @classmethod
    def of(cls, reason: str, row: dict[str, Any], contract: DataContract) -> Sample:
        column = contract.reasons[reason].column
        value = shown_cell(row[column]) + contract.meant(reason, row[column])
        if contract.answer and reason == contract.conflict[0]:
            for role in contract.identified_by:
                value += f" of {role} {shown_cell(row[role], 40)}"
            value += f" (what counts: {row['counts_instead']})" if row["counts_instead"] else ""
        return cls(row["file"], row["row"], column, value)

    def __str__(self) -> str:
        return f"{self.file} row {self.row}, {self.column} {self.value}"


@dataclass
class Findings:
    """What was found about the corpus: the verdict on each row, and counts."""

    verdicts: Verdicts
    # Quarantined rows per first reason.
    first: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    # Cells of quarantined rows, for reasons whose cells are tallied.
    refused: dict[str, Counter[str]] = field(default_factory=dict)
    # Of the kept rows: how many in each split, and what the contract counts of them.
    kept: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    counts: Counts = field(default_factory=Counter)
    # Rows by number of characters, per text and split.
    lengths: dict[str, dict[str, Counter[int]]] = field(default_factory=dict)

    @property
    def found(self) -> Counter[str]:
        """Rows per reason, kept ones too; a row may count in several."""
        return self.verdicts.found
