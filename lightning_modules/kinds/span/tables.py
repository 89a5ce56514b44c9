"""What a judge reads of the tables that it is given: right answers, signals, windows.

Shapes: N questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from data_contracts.errors import SourceError
from lightning_modules.kinds.span.windows import Window

SIGNALS = ("lead", "odds", "place")  # columns of `scored`, in nats


def truths(rows: pa.Table) -> list[list[str]]:
    """Every right answer of each row; one that is empty where there is none."""
    lists = rows["answers"].to_pylist() if "answers" in rows.column_names else [None] * len(rows)
    return [
        _listed(every) or [answer or ""]
        for every, answer in zip(lists, rows["answer"].to_pylist(), strict=True)
    ]


def _listed(every: str | None) -> list[str]:
    return [text for text in json.loads(every) if text] if every and every.strip() else []


def signals_of(scored: pa.Table) -> np.ndarray:
    """(N, 3)"""
    return np.stack([scored[name].to_numpy() for name in SIGNALS], axis=1)


def documents(windows: pa.Table) -> Iterator[tuple[str, list[Window]]]:
    """The windows of each question of a token table."""
    some: list[Window] = []
    name = ""
    for row in windows.to_pylist():
        if row["window"] == 0 and some:
            yield name, some
            some = []
        name = row["id"]
        offsets = np.array(row["offsets"], np.int32).reshape(-1, 2)
        some.append(Window(row["input_ids"], row["context"], offsets))
    if some:
        yield name, some


def answers_of(table: pa.Table) -> pa.ChunkedArray:
    """The column of answers.

    Raises:
        SourceError: there is none, or it holds something else than texts.
    """
    names = [name for name in ("predicted", "answer") if name in table.column_names]
    if not names:
        raise SourceError(
            f"It has no column predicted, but {', '.join(table.column_names)}.",
            "Give each id its answer in a column of that name; null: none.",
        )
    said = table[names[0]]
    kind = said.type.value_type if pt.is_dictionary(said.type) else said.type
    if not (pt.is_string(kind) or pt.is_large_string(kind) or pt.is_null(kind)):
        raise SourceError(
            f"Its column {names[0]} holds {kind}, and not texts.", "Write it as text."
        )
    return pc.cast(said, pa.large_string())
