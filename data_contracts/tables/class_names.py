"""Names of classes that a Parquet file's own metadata gives to their numbers, as Hugging Face
writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.tables.categories import UNNAMED_CLASS

_MAX_NAMES = 1 << 20  # label names of one column
NAMES_COUNT = "label names are taken from the file's own metadata"
NUMBERS_COUNT = (
    "the labels are class numbers, as the contract names them, and not the names in the file's "
    "metadata"
)
NO_VALUE = "the class -1, by which Hugging Face's data sets mean no label, is a missing label"


def class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names of a column's classes, as Hugging Face's datasets write them into a schema, or
    None.
    """
    kind = schema.field(column).type
    numbers_in = kind.value_type if is_list(kind) else kind
    if not pa.types.is_integer(numbers_in):
        return None
    try:
        feature: Any = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][
            column
        ]
        while is_list(kind) and not (
            isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        ):
            feature = feature[0] if isinstance(feature, list) else feature["feature"]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        return None
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= _MAX_NAMES
        or not all(isinstance(one, str) for one in names)
    ):
        return None
    return [one.encode("utf-8", "replace").decode() for one in names]


def means_numbers(values: Sequence[str], names: list[str]) -> bool:
    """Whether the values that are known are these classes' numbers, and not their names."""
    return not set(values) & set(names) and all(one.isdecimal() for one in values)


def named(column: pa.Array, names: list[str]) -> tuple[pa.Array, pa.Array | None, int]:
    """Class numbers as names, the faults of numbers without a name, and how many are -1, which
    means no label.
    """
    number = column.cast(pa.int64(), safe=False)
    unlabelled = pc.equal(number, -1)
    named = pc.and_(pc.greater_equal(number, 0), pc.less(number, len(names)))
    texts = pa.array(names, pa.string()).take(pc.if_else(named, number, None))
    outside = pc.fill_null(pc.invert(pc.or_(named, unlabelled)), False)
    texts = pc.if_else(outside, number.cast(pa.string()), texts)
    faults = (
        pc.if_else(outside, UNNAMED_CLASS, None).cast(pa.string())
        if pc.any(outside).as_py()
        else None
    )
    return texts, faults, pc.sum(pc.fill_null(unlabelled, False).cast(pa.int64())).as_py() or 0


def is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
