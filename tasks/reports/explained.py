"""What carried the answers that an evaluation finds wrong, for its report."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data_contracts.errors import NoisefoldError
from data_contracts.results import Block, Highlights, Marked, Text
from data_contracts.tables.take import take_rows
from lightning_modules.bundle import Bundle
from lightning_modules.explaining.asked import can_explain
from lightning_modules.explaining.explain import Explanation, explain
from lightning_modules.kinds.judging import Judge, NamesErrors

EXPLAINED = 5  # errors, so that an evaluation takes little longer
_CHARACTERS = 4_000  # of what is asked: of a longer one the time is better spent by who asks for it


def explained_errors(judge: Judge, bundle: Bundle, rows: pa.Table, scored: pa.Table) -> list[Block]:
    """The surest errors with their tokens coloured; nothing of a kind that cannot be explained.

    Args:
        bundle: with the facts with which it is registered.
    """
    head = type(bundle.head)
    if not isinstance(judge, NamesErrors) or not can_explain(head):
        return []
    places = np.array(judge.worst(rows, scored)[:EXPLAINED], np.int64)
    told = take_rows(judge.answers(rows, scored), places).to_pylist()
    found = []
    for row in told:
        texts = head.question({name: [value] for name, value in row.items()})
        question = {name: values[0] for name, values in texts.items()}
        if sum(map(len, question.values())) > _CHARACTERS:
            continue
        try:
            found.append((row["id"], explain(bundle, question)))
        except NoisefoldError:  # a text without a token, say: it is in the report all the same
            continue
    if not found:
        return []
    marked = [one for name, explanation in found for one in _marked(name, explanation)]
    return [
        Text("What carried the surest errors", "heading"),
        Text(
            "Blue speaks for the answer that was given, red against it: integrated gradients, of "
            "which `noisefold explain` shows the numbers."
        ),
        Text(_checked([explanation for _, explanation in found])),
        Highlights("explained_errors", tuple(marked)),
    ]


def _marked(name: str, explanation: Explanation) -> list[Marked]:
    """A text for each column that was asked."""
    several = len(explanation.texts) > 1
    return [
        Marked(
            title=f"{name}{f', {column}' if several else ''}: {explanation.words}",
            text=text,
            parts=tuple(
                (part.start, part.end, part.contribution)
                for part in explanation.parts
                if part.column == column
            ),
            note=" ".join(explanation.notes),
        )
        for column, text in explanation.texts.items()
    ]


def _checked(explanations: list[Explanation]) -> str:
    """What deletion has shown of all of them."""
    checks = [one.deletion for one in explanations if one.deletion is not None]
    if not checks:
        return "The texts are too short to be checked by deletion."
    strongest = sum(one.strongest for one in checks) / len(checks)
    random = sum(one.random for one in checks) / len(checks)
    return (
        f"Checked by deletion: without the strongest fifth of its tokens a score falls by "
        f"{strongest:.2f} in the mean of {len(checks)} texts, without as many at random by "
        f"{random:.2f}."
    )
