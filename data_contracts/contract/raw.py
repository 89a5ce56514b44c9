"""Rows as they were read, under the pipeline's own column names: what ingest writes.

Nothing is judged here beyond what makes a row unreadable (`fault`). Drafts and checks arrange their
rows by the same functions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract.contract import SPLITS, DataContract, Split
from data_contracts.contract.frames import drawn_texts, raw_schema
from data_contracts.contract.text import SPLIT_NAMES, draw_split
from data_contracts.tables.categories import category_text

UNKNOWN_SPLIT = "unknown_split"


@dataclass(frozen=True)
class Cells:
    """Rows of one file or of several, by the columns of their source."""

    columns: Mapping[str, pa.Array]
    rows: pa.Array  # int64, the row's number in its file
    files: Sequence[str]
    splits: Sequence[Split | None]  # that the row's URL gives
    faults: pa.Array | None  # string, why a cell of the row is none; None: no row has any

    def __len__(self) -> int:
        return len(self.rows)


def wanted_columns(contract: DataContract, given: Collection[Split]) -> list[str]:
    """The columns of a source that a contract asks for.

    Args:
        given: splits with a URL of their own, which is more explicit than a column.
    """
    columns = contract.columns
    split = None if given else columns.split
    named = [columns.id, *contract.sources.values(), split, *columns.slices, *contract.select]
    return list(dict.fromkeys(name for name in named if name is not None))


def selected(cells: Cells, contract: DataContract) -> tuple[npt.NDArray[np.bool_], dict[str, list]]:
    """Which rows the contract selects, and by column the cells that first spoke against a row."""
    chosen = np.ones(len(cells), bool)
    against: dict[str, list[str | None]] = {}
    for name, values in contract.select.items():
        read = [category_text(one) if one else None for one in cells.columns[name].to_pylist()]
        fits = np.array([(one or "") in values for one in read], bool)
        against[name] = [read[at] for at in np.flatnonzero(chosen & ~fits)]
        chosen &= fits
    return chosen, against


def raw_table(cells: Cells, contract: DataContract, given: Collection[Split]) -> pa.Table:
    """
    Args:
        given: splits with a URL of their own; the others are drawn from the train rows.
    Returns:
        All rows, of the raw schema. A row without an id is called by its file and number.
    """
    columns = contract.columns
    splits, strange = _splits(cells, contract, given)
    faults = _reasons(cells.faults, contract) if cells.faults is not None else None
    if faults is None:
        faults = pa.nulls(len(cells), pa.string())
    if strange:
        found = faults.to_pylist()
        for at in strange:
            found[at] = found[at] or UNKNOWN_SPLIT
        faults = pa.array(found, pa.string())
    ids = cells.columns[columns.id].to_pylist() if columns.id else [None] * len(cells)
    places = zip(ids, cells.files, cells.rows.to_pylist(), strict=True)
    empty = pa.nulls(len(cells), pa.string())
    values = {
        "id": [f"{file}#{row}" if one is None else one for one, file, row in places],
        **{role.name: empty for role in contract.roles},
        **{role: cells.columns[name] for role, name in contract.sources.items()},
        "split": splits,
        **{name: cells.columns[name] for name in columns.slices},
        "fault": faults,
        "file": cells.files,
        "row": cells.rows,
    }
    schema = raw_schema(contract)
    arrays = [_array(values[name]) for name in schema.names]
    return contract.completed(pa.Table.from_arrays(arrays, schema=schema))


def _reasons(faults: pa.Array, contract: DataContract) -> pa.Array:
    """What the readers found of the cells, as the contract calls it."""
    names = {reason.fault: reason.name for reason in contract.cell_reasons if reason.fault}
    places = pc.index_in(faults, pa.array(list(names), pa.string()))
    return pa.array(list(names.values()), pa.string()).take(places)


def _array(values: pa.Array | Sequence[str | None]) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, pa.string())


def _splits(
    cells: Cells, contract: DataContract, given: Collection[Split]
) -> tuple[list[str], list[int]]:
    """By the URL (only train gives rows away to splits without one), by the row, or drawn.

    Returns:
        The split of each row, and the positions of rows whose split column names none; there it
        stands as written.
    """
    drawn: tuple[Split, ...] = tuple(one for one in ("valid", "test") if one not in given)
    splits: list[str | None] = [
        None if split == "train" and drawn else split for split in cells.splits
    ]
    strange: list[int] = []
    if not given and contract.columns.split is not None:
        written = cells.columns[contract.columns.split].to_pylist()
        named = {cell: _split_named(cell) for cell in dict.fromkeys(written)}
        splits = [named[cell] for cell in written]
        strange = [at for at, one in enumerate(splits) if one is not None and one not in SPLITS]
    if None not in splits:
        return cast(list[str], splits), strange
    columns = {role: cells.columns[name] for role, name in contract.sources.items()}
    pairs = zip(splits, drawn_texts(contract, columns), strict=True)
    return [one or draw_split(text, contract.splits, drawn) for one, text in pairs], strange


def _split_named(cell: str | None) -> str | None:
    """train, valid or test in any usual spelling; null where it is to be drawn; else the cell."""
    name = category_text(cell or "")
    return None if name is None else SPLIT_NAMES.get(name.casefold(), cell)
