"""Texts of more than 2 GiB in one table: pyarrow joins no such column, and nothing here asks it to.

The table is 2.2 GiB as pyarrow counts it and 64 MiB in memory: all its chunks are one and the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.tables.take import take_rows
from lightning_modules.kinds.classify.figures import Temperature
from lightning_modules.kinds.classify.report import Told, confident_errors
from tasks import evaluate
from tasks.evaluate import read_rows
from tasks.serving.check import sample

ROWS, CHUNKS = 64, 36  # of 1 MiB each
TOTAL = ROWS * CHUNKS


def long_column() -> pa.ChunkedArray:
    one = pa.array([chr(65 + number % 26) * (1 << 20) for number in range(ROWS)])
    return pa.chunked_array([one] * CHUNKS)


@pytest.fixture(scope="module")
def large() -> pa.Table:
    table = pa.table({"id": [f"r{number}" for number in range(TOTAL)], "text": long_column()})
    assert table["text"].nbytes > 1 << 31
    return table


def test_rows_are_taken_from_it_in_any_order_and_as_often_as_asked(large: pa.Table) -> None:
    places = np.array([TOTAL - 1, 0, 70, 0, 5])
    few = take_rows(large, places)
    assert few["id"].to_pylist() == [f"r{place}" for place in places]
    assert [text[0] for text in few["text"].to_pylist()] == [
        chr(65 + place % ROWS % 26) for place in places
    ]
    assert few.schema == large.schema
    assert take_rows(large, np.array([], np.int64)).num_rows == 0
    assert take_rows(large, np.arange(TOTAL)) is large, "as they stand: nothing is copied"


def test_evaluation_reads_its_rows(
    large: pa.Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As they stand in the corpus, and in another order. (Written to a file they would be read into
    2.2 GiB.)
    """
    corpus = large.append_column("split", pa.array(["test"] * TOTAL))
    monkeypatch.setattr(evaluate.pq, "read_table", lambda *_, **__: corpus)
    assert read_rows(tmp_path, "test", large["id"]).num_rows == TOTAL
    some = read_rows(tmp_path, "test", pa.chunked_array([["r9", "r2000"]]))
    assert some["id"].to_pylist() == ["r9", "r2000"]
    assert some.column_names == ["id", "text"]


def test_errors_and_rows_to_serve_are_chosen_from_it(large: pa.Table) -> None:
    sure = np.linspace(0.5, 1, TOTAL)
    wrong = np.arange(TOTAL) % 3 == 0
    columns = {
        "id": large["id"],
        "text": large["text"],
        "label": ["a"] * TOTAL,
        "predicted": np.where(wrong, "b", "a").tolist(),
        "confidence": sure,
        "correct": ~wrong,
        "probabilities": pa.FixedSizeListArray.from_arrays(
            np.column_stack([sure, 1 - sure]).ravel(), 2
        ),
    }
    table = pa.table(columns)
    # Of b the model is as sure where it is wrong as it is of a elsewhere.
    first = np.where(wrong, 1 - sure, sure)
    log_proba = np.log(np.maximum(np.column_stack([first, 1 - first]), 1e-9))
    told = Told(("a", "b"), Temperature(1.0), False, "calibrated", 15, 0.95, most_errors=2)
    rows = large.append_column("label", pa.array(["a"] * TOTAL))
    errors = confident_errors(told, rows, np.zeros(TOTAL, np.int64), log_proba)
    assert [error[0] for error in errors.rows] == [f"r{TOTAL - 3}", f"r{TOTAL - 6}"]
    asked = sample(table, 3)
    assert {name: len(column) for name, column in asked.items()} == dict.fromkeys(columns, 3)


def test_small_tables_are_taken_from_as_pyarrow_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "n": rng.integers(0, 9, 5000),
            "s": [str(n) for n in range(5000)],
            "l": [[n] for n in range(5000)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    read = pq.read_table(tmp_path / "t.parquet")
    places = rng.integers(0, 5000, 2600)
    assert take_rows(read, places).equals(table.take(places))
