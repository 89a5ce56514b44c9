"""What a teacher says, as token rows: distributions to learn beside labels, and texts that it alone
has labelled.

Hinton 2015, https://arxiv.org/abs/1503.02531. A row's `targets` are the teacher's distribution with
weight `w` and its own label with the rest; of a text made up from a row, they are the teacher's
alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightning_modules.kinds.base import ASKED, TOKENS, Encode

LESSONS = pa.schema([*ASKED, ("log_proba", pa.list_(pa.float32()))])
"""variant 0: the train row itself; the others are made up from it. log_proba: what the teacher
says, by class.
"""

SOFT_TOKENS = pa.schema(
    [*TOKENS, ("label", pa.int32()), ("variant", pa.int32()), ("targets", pa.list_(pa.float32()))]
)
_BATCH = 10_000


def write_soft_targets(
    train: Path, lessons: Path, encode: Encode, num_classes: int, weight: float, out: Path
) -> None:
    """Write the token rows of the train split, then those of the texts made up from them, with
    `targets`.

    Every window of a document has the document's. A made-up text bears the id of its row, and as
    label the class that the teacher holds likeliest.

    Args:
        train: token rows of the split, in Parquet.
        lessons: rows of LESSONS, in Parquet, one of variant 0 for each train row.
        encode: texts -> windows of token ids, and for each window the index of its text.
    """
    own: dict[str, np.ndarray] = {}
    with pq.ParquetFile(lessons) as file, pq.ParquetWriter(out, SOFT_TOKENS) as writer:
        for batch in file.iter_batches(_BATCH, columns=["id", "variant", "log_proba"]):
            said = batch.filter(pa.array(batch["variant"].to_numpy() == 0))
            own.update(zip(said["id"].to_pylist(), _proba(said, num_classes), strict=True))
        writer.write_table(_softened(pq.read_table(train), own, num_classes, weight))
        for batch in file.iter_batches(_BATCH):
            made_up = batch.filter(pa.array(batch["variant"].to_numpy() > 0))
            writer.write_table(_encoded(made_up, encode, num_classes))


def _proba(lessons: pa.RecordBatch, num_classes: int) -> np.ndarray:
    return np.exp(lessons["log_proba"].flatten().to_numpy().reshape(-1, num_classes))


def _softened(
    rows: pa.Table, own: dict[str, np.ndarray], num_classes: int, weight: float
) -> pa.Table:
    """The split's own rows: labels mixed with what the teacher says of them."""
    labels = rows["label"].to_numpy()
    taught = np.array([own[name] for name in rows["id"].to_pylist()], np.float32)
    labelled = np.eye(num_classes, dtype=np.float32)[labels]
    columns = {name: rows[name] for name in (*TOKENS.names, "label")}
    columns["variant"] = pa.array(np.zeros(len(labels), np.int32))
    columns["targets"] = _lists(weight * taught.reshape(labelled.shape) + (1 - weight) * labelled)
    return pa.table(columns, schema=SOFT_TOKENS)


def _encoded(made_up: pa.RecordBatch, encode: Encode, num_classes: int) -> pa.Table:
    windows, document = encode(made_up["text"].to_pylist())
    targets = _proba(made_up, num_classes)[document]
    starts = np.flatnonzero(np.diff(document, prepend=-1))
    number = np.arange(len(document)) - np.repeat(starts, np.bincount(document))
    at = pa.array(document)
    columns = {
        "id": made_up["id"].take(at),
        "window": pa.array(number, pa.int32()),
        "input_ids": pa.array(windows, pa.list_(pa.int32())),
        "length": pa.array(list(map(len, windows)), pa.int32()),
        "label": pa.array(targets.argmax(axis=1), pa.int32()),
        "variant": made_up["variant"].take(at),
        "targets": _lists(targets),
    }
    return pa.table(columns, schema=SOFT_TOKENS)


def _lists(rows: np.ndarray) -> pa.Array:
    """A list per row of a matrix (N, C)."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    values = pa.array(rows.astype(np.float32).ravel())
    return pa.ListArray.from_arrays(pa.array(offsets), values)
