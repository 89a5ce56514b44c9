"""The answers of Hugging Face's rows in Parquet: one column of texts and offsets as three."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from data_contracts.tables.batch import plain_text
from data_contracts.tables.class_names import is_list
from data_contracts.tables.questions import FLAT, NESTED, flat_answers

_NAMES = {"text", "answer_start"}


def answers_as_columns(schema: pa.Schema) -> tuple[pa.Schema, tuple[str, ...]]:
    """The schema with the columns that `with_answers` makes, and their names; as it is where the
    answers are none, or a column has one of these names already.
    """
    at = schema.get_field_index(NESTED)
    if at < 0 or not _of_answers(schema.field(at).type) or {*FLAT[:2]} & {*schema.names}:
        return schema, ()
    fields = [one for one in schema if one.name != NESTED]
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in FLAT)]), FLAT


def _of_answers(kind: pa.DataType) -> bool:
    """Whether cells are an object of two lists, or a list of objects."""
    if pa.types.is_struct(kind):
        return {*kind.names} >= _NAMES and all(is_list(kind.field(one).type) for one in _NAMES)
    inner = kind.value_type if is_list(kind) else kind
    return pa.types.is_struct(inner) and {*inner.names} >= _NAMES


def answer_texts(column: pa.Array) -> pa.Array:
    """The texts of a column of answers; any other column as it is."""
    if is_list(column.type) and pa.types.is_struct(column.type.value_type):
        column = column.values
    if pa.types.is_struct(column.type) and "text" in column.type.names:
        column = column.field("text")
    return column


def with_answers(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """The batch with columns of these names, among `FLAT`, in place of its answers."""
    if not names:
        return batch
    answers = batch.column(NESTED)
    others = [name for name in batch.schema.names if name != NESTED]
    columns = [batch.column(name) for name in others]
    flat = [(cell is not None and flat_answers(cell)) or {} for cell in answers.to_pylist()]
    for name in names:
        cells = [one.get(name) for one in flat]
        columns.append(pa.array([_as_text(cell) for cell in cells], pa.string()))
    return pa.RecordBatch.from_arrays(columns, names=[*others, *names])


def _as_text(cell: object) -> str | None:
    return cell if cell is None or isinstance(cell, str) else plain_text(cell)
