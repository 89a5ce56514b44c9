"""A first line that is no header: names that look like the cells below them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_contracts.contract.columns import HAN, WHOLE, SeenColumn


@dataclass(frozen=True)
class HeaderFault:
    """Why a name in the first line of a CSV file looks like a cell."""

    name: str
    what: str
    sure: bool  # False: a form's question is a sentence too


def header_faults(header: Sequence[str], columns: dict[str, list[str | None]]) -> list[HeaderFault]:
    """The names of a header that look like cells of the column below them."""
    # pandas writes 0, 1, 2 over columns without a name.
    if [name.strip() for name in header] == [str(place) for place in range(len(header))]:
        return []
    faults = []
    for name in header:
        column = SeenColumn(name, columns.get(name, []))
        fault = next(
            ((what, sure) for looks, what, sure in _LIKE_A_CELL if looks(name.strip(), column)),
            None,
        )
        if fault is not None:
            faults.append(HeaderFault(name, *fault))
    return faults


def _among_values(name: str, column: SeenColumn) -> bool:
    return column.counts[name] > 1 and len(column.counts) <= max(20, column.filled // 5)


def _is_sentence(name: str, column: SeenColumn) -> bool:
    long = len(name.split()) >= 5 or len(HAN.findall(name)) >= 12
    return long and column.kind is None and column.mean_length >= 15


def _same_kind(name: str, column: SeenColumn) -> bool:
    return column.kind is not None and bool(WHOLE[column.kind].fullmatch(name))


def _is_number(name: str, _: SeenColumn) -> bool:
    return bool(re.fullmatch(r"[-+]?\d+([.,]\d+)?", name))


_LIKE_A_CELL: tuple[tuple[Callable[[str, SeenColumn], bool], str, bool], ...] = (
    (_among_values, "is a value that the rows below have too", True),
    (_same_kind, "is of the same kind as the cells below it", True),
    (_is_number, "is a number", True),
    (_is_sentence, "is a sentence", False),
)
