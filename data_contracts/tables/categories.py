"""How a category (a label, say) is spelled: one form, whatever the format it came in; and which
look like slips.

What is merged is what no one can mean as two: white space, invisible characters, Unicode
composition, `1.0` for `1`, `True` for `true`. What somebody may mean (case, width, punctuation) is
never merged, only pointed out.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

# 1.0 as pandas writes an integer beside an empty cell.
_WHOLE = re.compile(r"(-?)(0|[1-9][0-9]*)\.0+")
_NUMBER = re.compile(r"(-?)([0-9]+)(\.[0-9]+)?")
_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
# Zero-width space, word joiner, byte order mark.
_NOTHING = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
_EDGES = "\u200c\u200d\u200e\u200f\u180e\u00ad"  # invisible; within a word some scripts need them
_LONGEST = 1_000  # characters of a cell that may hold a list

# Why a cell is none of what it should be, as the readers say it of a row.
NOT_TEXT = "not_text"
SEVERAL_VALUES = "several_values"
NESTED_VALUE = "nested_value"
UNNAMED_CLASS = "unnamed_class"
# A question that is marked as impossible has an answer.
ANSWERED_IMPOSSIBLE = "answered_impossible"


def category_text(written: str) -> str | None:
    """The value that a cell holds, or None where it holds none."""
    text = written
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", text.translate(_NOTHING)).strip(_EDGES)
    text = " ".join(text.split()).strip(_EDGES)
    if not text:
        return None
    if (whole := _WHOLE.fullmatch(text)) is not None:
        return "0" if whole[2] == "0" else whole[1] + whole[2]
    return _BOOLEANS.get(text, text)


def unlisted(text: str) -> Any:
    """The value of a category's cell that holds a list or an object as JSON, or as Python writes a
    list; else the text.
    """
    cut = text.strip()
    if cut[:1] + cut[-1:] not in ("[]", "{}"):
        return text
    if len(cut) > _LONGEST:
        return {"too long": None}  # whatever it is, it is no category
    try:
        return json.loads(cut)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(cut)  # ['billing']: how pandas writes a list
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else text


def alike_key(value: str) -> str:
    """What is left without case, width, space and punctuation; a number keeps sign and point."""
    folded = unicodedata.normalize("NFKC", value).casefold()
    if (
        number := _NUMBER.fullmatch(folded)
    ) is not None:  # a spreadsheet makes 7 of 007, and 1.1 of 1.10
        return (
            number[1] + (number[2].lstrip("0") or "0") + (number[3] or "").rstrip("0").rstrip(".")
        )
    kept = []
    for at, character in enumerate(folded):
        before, after = folded[at - 1 : at], folded[at + 1 : at + 2]
        kind = unicodedata.category(character)
        in_number = after.isdigit() and (at == 0 or before.isdigit())
        if kind[0] in "LNMS" or character in "#%&@*" or (in_number and kind[0] == "P"):
            kept.append(character)
    return "".join(kept) or folded


def look_alikes(values: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of values that differ by case, width, white space or punctuation alone, sorted."""
    groups: dict[str, set[str]] = {}
    for value in values:
        groups.setdefault(alike_key(value), set()).add(value)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def nearest(value: str, known: Sequence[str]) -> str | None:
    """The known value that an unknown one was probably meant to be; None where none is near."""
    key = alike_key(value)
    keys = {alike_key(one): one for one in reversed(known)}
    if key in keys:
        return keys[key]
    near = (
        difflib.get_close_matches(key[:100], list(keys), n=1, cutoff=0.75) if len(key) > 3 else []
    )
    return keys[near[0]] if near else None


def unselected_rejects(answers: set[str | None], selected: bool) -> list[str]:
    """What a column `answer` says, as Prodigy writes it, where rejected rows would be learnt with
    their label.

    Args:
        answers: every value of the column; a missing one says nothing.
        selected: the contract says which answers count, so nothing is amiss.
    """
    there = {answer for answer in answers if answer is not None}
    amiss = (
        not selected
        and there <= {"accept", "reject", "ignore"}
        and bool(there & {"reject", "ignore"})
    )
    return sorted(there) if amiss else []
