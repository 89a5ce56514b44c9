"""What an offset may count, and what may be wrong with the place of an answer."""

from __future__ import annotations

from typing import Literal

from data_contracts.contract.rules import Reason
from data_contracts.tables.categories import ANSWERED_IMPOSSIBLE

NO_ANSWER = "-1"  # the offset of a question without an answer

Offsets = Literal["characters", "utf8", "utf16"]
# What an offset may count, and how a sentence calls it.
UNITS: dict[Offsets, str] = {
    "characters": "characters (code points)",
    "utf8": "bytes of UTF-8",
    "utf16": "UTF-16 code units, as JavaScript and Java count",
}


def reasons_of_places(offsets: Offsets) -> list[Reason]:
    """Why an answer may not stand where it should.

    Args:
        offsets: what the contract says that they count.
    """
    # An offset that was not found is missing, too.
    bad = ("bad_answer_start",)
    found = [
        Reason(
            f"offset_in_{unit}",
            f"answers that stand at their offset only where it counts {words}",
            "answer_start",
            f"offsets: {unit} in the contract reads them so",
            remedy=f"Set offsets: {unit} in the contract, or write the offsets in "
            f"{UNITS[offsets]}.",
        )
        for unit, words in UNITS.items()
        if unit != offsets
    ]
    return [
        *found,
        Reason(
            "offset_elsewhere",
            "answers that do not stand at their offset",
            "answer_start",
            "columns.answer_start: null looks for the answers instead",
        ),
        Reason(
            "offset_outside",
            "answers whose offset leads out of the context",
            "answer_start",
            "columns.answer_start: null looks for the answers instead",
        ),
        Reason("offset_not_whole", "offsets that are no whole numbers", "answer_start"),
        Reason(
            "offset_without_answer",
            "empty answers at an offset",
            "answer",
            "a question without an answer has no offset, or -1",
        ),
        Reason(
            "answer_not_found",
            "answers that stand nowhere in their context",
            "answer",
            "an answer is a piece of the context, letter by letter",
            hides=bad,
        ),
        Reason(
            "answer_repeated",
            "answers without an offset that stand in their context several times",
            "answer",
            "name the column of the offsets, or take the first place by repeated: first",
            hides=bad,
        ),
        Reason(
            "impossible_answered",
            "questions that are marked as impossible and have an answer",
            "answer",
            "is_impossible: true goes with no answer",
            fault=ANSWERED_IMPOSSIBLE,
        ),
    ]
