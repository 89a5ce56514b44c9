"""What the rules of a question and its answer look at, measured of each row."""

from __future__ import annotations

import pyarrow as pa

from data_contracts.contract.text import normalise


def identical(questions: pa.ChunkedArray, answers: pa.ChunkedArray) -> pa.Array:
    """1 where the answer is the question but for how it is written; null where that is blank."""
    pairs = zip(questions.to_pylist(), answers.to_pylist(), strict=True)
    return pa.array([_same(one or "", other or "") for one, other in pairs], pa.int8())


def _same(question: str, answer: str) -> int | None:
    # Normalising is slow, and an answer that is much longer is another text in any case.
    if len(answer) > 4 * len(question) + 16:
        return 0
    said = normalise(question)
    return int(said == normalise(answer)) if said else None
