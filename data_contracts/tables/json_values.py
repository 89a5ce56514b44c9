"""JSON values one after the other, decoded from as many characters as they need: the records of an
array, of one object, or of a file of objects that are written over several lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from data_contracts.errors import SourceError
from data_contracts.tables.batch import BAD_BYTES, MAX_LINE_CHARACTERS, Place, bad_encoding
from data_contracts.tables.questions import Record

CHUNK = 1 << 16  # characters
SPACE = " \t\r\n"
_AGAIN = "Write the file again."


def elements(
    buffer: str, read: Callable[[int], str], place: Place, *, array: bool
) -> Iterator[Record]:
    """The records of an array, or of values one after the other; rows count from 1."""
    values = _Values(buffer, read)
    if array:
        values.take()
    yield from _listed(values, place, array=array)
    if array and values.next_character():
        raise place.error("something stands behind the JSON array", _AGAIN)


def articles(buffer: str, read: Callable[[int], str], place: Place) -> Iterator[Record]:
    """The records that one object holds in an array under `data`, as SQuAD's files have them."""
    values = _Values(buffer, read)
    values.take()
    while (mark := values.next_character()) and mark != "}":
        name, _ = values.value(place)
        if values.next_character() != ":":
            raise place.error("no colon behind a name of the JSON object", _AGAIN)
        values.take()
        if name == "data" and values.next_character() == "[":
            values.take()
            yield from _listed(values, place, array=True)
        else:
            values.next_character()
            values.value(place)
        if values.next_character() == ",":
            values.take()
    if not mark:
        raise place.error("the JSON object is not closed, so records may be missing", _AGAIN)
    values.take()
    if values.next_character():
        raise place.error("something stands behind the JSON object", _AGAIN)


def _listed(values: _Values, place: Place, *, array: bool) -> Iterator[Record]:
    while (mark := values.next_character()) and not (array and mark == "]"):
        if array and place.row:
            if mark != ",":
                raise place.error("no comma behind its record in the JSON array", _AGAIN)
            values.take()
            values.next_character()
        value, written = values.value(place)
        place.row += 1
        if not written.isascii() and BAD_BYTES.search(written):
            raise bad_encoding(place, place.row, written)
        yield place.row, as_object(value, place), len(written)
    if array and not mark:
        raise place.error("the JSON array is not closed, so records are missing", _AGAIN)
    values.take()


class _Values:
    """JSON values one after the other, decoded from as many characters as they need."""

    def __init__(self, held: str, read: Callable[[int], str]) -> None:
        self._held, self._read = held, read
        self._at = 0
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """The next one that is no white space, which stays; "" at the end."""
        while True:
            while self._at < len(self._held) and self._held[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def take(self) -> None:
        """Pass over the next character."""
        self.next_character()
        self._at += 1

    def value(self, place: Place) -> tuple[Any, str]:
        """The next value, and what was written."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._held, self._at)
            except RecursionError as error:
                raise self._fault(error, place) from None
            except ValueError as error:
                # It may only be cut; but no record is longer than a line may be.
                if len(self._held) - self._at <= MAX_LINE_CHARACTERS and self._more():
                    continue
                raise self._fault(error, place) from None
            written = self._held[self._at : end]
            self._at = end
            return value, written

    def _more(self) -> bool:
        """Read as much again as is held; False at the end."""
        piece = self._read(max(CHUNK, len(self._held) - self._at))
        self._held = self._held[self._at :] + piece
        self._at = 0
        return bool(piece)

    def _fault(self, error: Exception, place: Place) -> SourceError:
        place_in = f"character {getattr(error, 'pos', self._at) - self._at + 1} of the record"
        what = f"not valid JSON ({getattr(error, 'msg', error)} at {place_in})"
        return place.error(what, "Write the file again; each record is one object.", place.row + 1)


def as_object(value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.error(
            f"a JSON {_json_type(value)}, not an object",
            "Each record is one object of column and cell.",
        )
    return value


def _json_type(value: Any) -> str:
    names = {
        dict: "object",
        list: "array",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
    }
    return names.get(type(value), "null")
