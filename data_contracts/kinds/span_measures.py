"""Where an answer stands in its context: offsets in characters, whatever the source counts."""

from __future__ import annotations

import json
import re

import pyarrow as pa

from data_contracts.kinds.span_places import NO_ANSWER, UNITS, Offsets

_WHOLE = re.compile(r"\s*([-+]?[0-9]{1,18})(\.0*)?\s*")
_NUMBER = re.compile(r"\s*[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")
Placed = tuple[str | None, str | None]  # the offset as it is to be written, or what is wrong


def placed(rows: pa.Table, offsets: Offsets, looked_for: bool, take_first: bool) -> pa.Table:
    """Rows of the raw schema whose `answer_start` counts characters; a `fault` where an answer does
    not stand where it should. A question without an answer has an empty one at `NO_ANSWER`.

    Args:
        offsets: what `answer_start` counts in the rows.
        looked_for: there are no offsets.
        take_first: of an answer that is looked for and stands several times, the first place is
            taken.
    """
    names = ("context", "answer", "answer_start", "fault")
    answers, starts, faults = list[str | None](), list[str | None](), list[str | None]()
    for context, answer, start, fault in zip(
        *(rows[name].to_pylist() for name in names), strict=True
    ):
        found: Placed = (start, None)
        # Of a row that has a fault, or a blank context, nothing more can be said.
        if fault is None and context and not context.isspace():
            if not answer or answer.isspace():
                found = _nothing_at(start)
                answer = "" if found == (NO_ANSWER, None) else answer
            elif looked_for:
                found = _looked_for(context, answer, take_first)
            else:
                found = _at(context, answer, start, offsets)
        answers.append(answer)
        starts.append(found[0])
        faults.append(fault or found[1])
    for name, cells in zip(names[1:], (answers, starts, faults), strict=True):
        rows = _with(rows, name, cells)
    return rows


def _with(rows: pa.Table, name: str, cells: list[str | None]) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, pa.array(cells, pa.string()))


def _nothing_at(start: str | None) -> Placed:
    """Of a row without an answer: `NO_ANSWER`, unless it has an offset all the same."""
    if start is None or not start.strip():
        return NO_ANSWER, None
    whole = _WHOLE.fullmatch(start)
    if whole is None:
        return start, None
    return (NO_ANSWER, None) if int(whole[1]) == -1 else (start, "offset_without_answer")


def _looked_for(context: str, answer: str, take_first: bool) -> Placed:
    first = context.find(answer)
    if first < 0:
        return None, "answer_not_found"
    if not take_first and context.find(answer, first + 1) >= 0:
        return None, "answer_repeated"
    return str(first), None


def _at(context: str, answer: str, written: str | None, offsets: Offsets) -> Placed:
    whole = _WHOLE.fullmatch(written or "")
    if whole is None:
        # What is no number at all, the rules of numbers find.
        fault = "offset_not_whole" if _NUMBER.fullmatch(written or "") else None
        return written, fault
    start = int(whole[1])
    if (place := in_characters(context, answer, start, offsets)) is not None:
        return str(place), None
    for unit in UNITS:
        if unit != offsets and in_characters(context, answer, start, unit) is not None:
            return written, f"offset_in_{unit}"
    length = {"characters": len(context), "utf8": len(context.encode()), "utf16": _units(context)}
    outside = start < 0 or start >= length[offsets]
    return written, "offset_outside" if outside else "offset_elsewhere"


def in_characters(context: str, answer: str, start: int, offsets: Offsets) -> int | None:
    """The place of an answer that stands at an offset, in characters; None where it does not.

    Args:
        start: the offset, in the unit `offsets`.
    """
    if start < 0:
        return None
    place: int | None = start
    if not context.isascii():
        if offsets == "utf8":
            place = _decoded(context.encode()[:start], "utf-8")
        elif offsets == "utf16":
            place = _decoded(context.encode("utf-16-le")[: 2 * start], "utf-16-le")
    return place if place is not None and context.startswith(answer, place) else None


def _decoded(head: bytes, encoding: str) -> int | None:
    """Characters of the bytes; None where they end within one."""
    try:
        return len(head.decode(encoding))
    except UnicodeDecodeError:
        return None


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def without_answer(answers: pa.ChunkedArray, starts: pa.ChunkedArray) -> pa.Array:
    """1 where a question has no answer."""
    pairs = zip(answers.to_pylist(), starts.to_pylist(), strict=True)
    return pa.array(
        [int(start == NO_ANSWER and not (text or "").strip()) for text, start in pairs], pa.int8()
    )


def unlisted(cells: pa.ChunkedArray) -> pa.Array:
    """1 where a cell is neither blank nor a JSON list of texts."""
    return pa.array([int(not _is_list(cell)) for cell in cells.to_pylist()], pa.int8())


def _is_list(cell: str | None) -> bool:
    if cell is None or not cell.strip():
        return True
    try:
        texts = json.loads(cell)
    except (ValueError, RecursionError):
        return False
    return isinstance(texts, list) and all(isinstance(text, str) for text in texts)
