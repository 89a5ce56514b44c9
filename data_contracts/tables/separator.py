"""What stands between the cells of a CSV file, found where nobody said it."""

from __future__ import annotations

import csv
import io
import re

from data_contracts.tables.csv import SEPARATORS

RECORDS = 200  # of a file's head, by which its separator is told


def find_separator(head: str, usual: str = ",") -> str | None:
    """The separator by which all records of a CSV file's head have as many fields, two at least;
    None: there is none.

    Args:
        head: the first lines of the file, the last one whole.
        usual: what is taken where it fits, before the others.
    """
    if (
        stated := re.match(r'"?sep=([^"\r\n])"?[\r\n]', head, re.I)
    ) is not None:  # Excel's own first line
        return stated[1]
    fields = {
        separator: _fields(head, separator) for separator in dict.fromkeys((usual, *SEPARATORS))
    }
    if fields[usual] > 1:
        return usual
    most = max(fields.values())
    return (
        next((separator for separator, count in fields.items() if count == most), None)
        if most > 1
        else None
    )


def _fields(head: str, separator: str) -> int:
    """Fields of each record, where all have as many; else 0."""
    counts: set[int] = set()
    try:
        for number, record in enumerate(
            csv.reader(io.StringIO(head, newline=""), delimiter=separator, strict=True)
        ):
            if record:
                counts.add(len(record))
            if len(counts) > 1 or number >= RECORDS:
                break
    except csv.Error:  # a quoted cell that the head cuts, or no CSV by this separator
        return 0
    return counts.pop() if len(counts) == 1 else 0
