"""Arrow schemas of a corpus, and the row frame: the numbers that row rules look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract.contract import DataContract

# RE2; not tab, line ends and U+0085.
CONTROL_CHARACTERS = r"[\x00-\x08\x0e-\x1f\x7f\x{80}-\x{84}\x{86}-\x{9f}]"
_NUMBER = r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$"


def arrow_schema(contract: DataContract) -> pa.Schema:
    """The columns of a validated corpus, all of them text."""
    roles = [role.name for role in contract.roles]
    names = ("id", *roles, "split", *contract.columns.slices)
    return pa.schema([(name, pa.string()) for name in names])


def raw_schema(contract: DataContract) -> pa.Schema:
    """The columns of a raw corpus: those of the contract, then where each row came from."""
    places = [
        pa.field("fault", pa.string()),
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
    ]
    return pa.schema([*arrow_schema(contract), *places])


def quarantine_schema(contract: DataContract) -> pa.Schema:
    """Of refused rows: where they stand, what they hold (texts last, being long), and why."""
    short = [role.name for role in contract.roles if role.type != "text"]
    texts = [role.name for role in contract.texts]
    return pa.schema(
        [(name, pa.string()) for name in ("id", "file")]
        + [("row", pa.int64())]
        + [(name, pa.string()) for name in ("split", *short, *texts, "reason")]
        + [("reasons", pa.list_(pa.string())), ("counts_instead", pa.string())]
    )


def row_frame(contract: DataContract, rows: pa.Table) -> pa.Table:
    """A column for each measure of a row, from Arrow kernels: no text is copied.

    `<text>_visible` (characters left when white space is stripped; null for a blank text),
    `_characters`, `_broken` (U+FFFD) and `_controls` of each text, in code points; each category as
    it is; each number, null where it is none, and `<number>_text`, 1 where it is none but not null.
    Where rows are raw, a column for each reason that was found as the cell was read, 0 or 1.
    """
    columns: dict[str, Any] = {}
    for role in contract.roles:
        cells = rows.column(role.name)
        if role.type == "text":
            columns |= _text_measures(role.name, cells)
        elif role.type == "category":
            columns[role.name] = cells
        else:
            columns |= _number_measures(role.name, cells)
    columns |= contract.measures(rows)
    if "fault" in rows.schema.names:
        fault = rows.column("fault")
        for reason in contract.cell_reasons:
            found = pc.fill_null(pc.equal(fault, reason.name), False)
            columns[reason.name] = found.cast(pa.int8())
    return pa.table(columns)


def _text_measures(name: str, text: pa.ChunkedArray) -> dict[str, Any]:
    visible = pc.utf8_length(pc.utf8_trim_whitespace(text))
    return {
        f"{name}_visible": pc.if_else(pc.equal(visible, 0), None, visible),
        f"{name}_characters": pc.utf8_length(text),
        f"{name}_broken": pc.count_substring(text, "\ufffd"),
        f"{name}_controls": pc.count_substring_regex(text, CONTROL_CHARACTERS),
    }


def _number_measures(name: str, cells: pa.ChunkedArray) -> dict[str, Any]:
    is_number = pc.match_substring_regex(cells, _NUMBER)
    numbers = pc.if_else(is_number, cells, None).cast(pa.float64())
    return {name: numbers, f"{name}_text": pc.invert(is_number).cast(pa.int8())}


def drawn_texts(contract: DataContract, columns: Mapping[str, Any] | pa.Table) -> list[str]:
    """What draws the split of each row: the text of `drawn_by`, or what tells the row apart where
    that is blank.
    """
    told = joined(contract.identified_by, columns)
    if contract.drawn_by == contract.identified_by:
        return told
    pairs = zip(joined(contract.drawn_by, columns), told, strict=True)
    return [one if one.replace("\0", " ").strip() else other for one, other in pairs]


def joined(names: Sequence[str], columns: Mapping[str, Any] | pa.Table) -> list[str]:
    """The cells of several columns as one text per row; of one column the cells. Null is empty."""
    if not names:
        return [""] * len(next(iter(columns.values())) if isinstance(columns, Mapping) else columns)
    cells = [[cell or "" for cell in columns[name].to_pylist()] for name in names]
    # NUL is no white space, so that normalising leaves it, and no cell of a text holds one in
    # earnest.
    return cells[0] if len(names) == 1 else ["\0".join(row) for row in zip(*cells, strict=True)]
