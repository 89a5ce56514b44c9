"""Some rows of a source, column by column: what `infer`, `suggest` and `recipe check` look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import repeat

from data_contracts.contract.sections import Split
from data_contracts.tables.batch import Batch


@dataclass
class Rows:
    """Cells by column, null where a file lacks the column; a list has as many as there are rows."""

    columns: dict[str, list[str | None]] = field(default_factory=dict)
    given: tuple[Split, ...] = ()  # splits that have a URL of their own
    splits: list[Split | None] = field(default_factory=list)  # that a URL of its own gives, per row
    files: list[str] = field(default_factory=list)  # per row
    numbers: list[int] = field(default_factory=list)  # of the row in its file
    faults: list[str | None] = field(default_factory=list)  # why a cell of a row is none
    # Columns that no text can show, or not in every row.
    left_out: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # what was read otherwise than one may think
    header: dict[str, list[str]] = field(default_factory=dict)  # of each CSV file
    complete: bool = True  # False: there are more rows than were read
    plain: bool = False  # documents of plain text, which hold nothing beside it

    def __len__(self) -> int:
        return len(self.splits)

    def add(self, batch: Batch, file: str, split: Split | None, most: int) -> int:
        """Take the rows of a batch, at most `most` of them; returns how many."""
        batch = batch.first(most)
        count = len(batch.rows)
        for name in {**self.columns, **batch.columns}:
            cells = self.columns.setdefault(name, [None] * len(self))
            cells += batch.columns[name].to_pylist() if name in batch.columns else [None] * count
        self.left_out += [name for name in batch.left_out if name not in self.left_out]
        self.told += [what for what in batch.told if what not in self.told]
        self.splits.extend(repeat(split, count))
        self.files += [file] * count
        self.numbers += batch.rows.to_pylist()
        self.faults += [None] * count if batch.faults is None else batch.faults.to_pylist()
        return count

    @property
    def hidden(self) -> list[str]:
        """Columns of which no cell can be shown: objects, lists, embeddings."""
        return [
            name
            for name in self.left_out
            if not any(cell is not None for cell in self.columns.get(name, ()))
        ]

    @property
    def split_by_url(self) -> bool:
        return bool(self.given)


@dataclass(frozen=True)
class Found:
    """What had to be found out to read the files, as fields of a recipe's source (encoding,
    separator).
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    told: tuple[str, ...] = ()  # a sentence for each
