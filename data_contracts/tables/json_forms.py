"""JSON of other programs whose records are no rows: what it is, and how to get rows from its
program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_contracts.errors import SourceError
from data_contracts.tables.batch import Ask, Place

_PANDAS = "Write it with df.to_json(path, orient='records', lines=True, force_ascii=False)."
_MARKS = ("annotations", "entities", "spans")
Refusal = tuple[str, str]  # what the file is, what to do


def other_form(records: Sequence[dict[str, Any]], ask: Ask, place: Place) -> SourceError | None:
    """The error of a file of records that are no rows; None for rows."""
    record, alone = records[0], len(records) == 1
    roles = (*ask.texts, *ask.categories)
    nested = alone and any(isinstance(record.get(role), dict) for role in roles)
    if ask.roles and set(ask.roles) <= record.keys() and not nested:
        return None
    refusal = _full_export(record) or _without_category(record, ask)
    if refusal is None and alone:
        refusal = _one_object(record)
    return None if refusal is None else SourceError(f"{place.file}: {refusal[0]}.", refusal[1])


def _kinds(record: Mapping[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in record.items()}


def _full_export(record: Mapping[str, Any]) -> Refusal | None:
    kinds = _kinds(record)
    if kinds.get("data") is dict and ("annotations" in kinds or "completions" in kinds):
        return (
            "Label Studio's full JSON export, whose texts and labels are nested in data and "
            "annotations",
            "Export as CSV or as JSON-MIN.",
        )
    return None


def _without_category(record: Mapping[str, Any], ask: Ask) -> Refusal | None:
    """A file of a tool that marks texts, in which the column of a category is not there."""
    missing = [one for one in ask.categories if one in ask.roles and one not in record]
    if not missing:
        return None
    marks = [name for name in _MARKS if isinstance(record.get(name), list) and record[name]]
    if marks and isinstance(record[marks[0]][0], dict | list):
        return (
            f"no column {missing[0]!r}; its {marks[0]!r} are marks of places in the text, or "
            f"numbers "
            "of labels, as doccano and similar programs write them",
            "Export a project of text classification as JSONL, with a column `label` or `labels`.",
        )
    if isinstance(record.get("accept"), list):
        return (
            f"no column {missing[0]!r}; Prodigy's choices stand in 'accept'",
            "Set columns.label: accept, and select: {answer: [accept]}, in the contract.",
        )
    return None


def _one_object(record: Mapping[str, Any]) -> Refusal | None:
    """One object that holds the whole table."""
    kinds = _kinds(record)
    if {"columns", "data"} <= kinds.keys() and kinds["columns"] is kinds["data"] is list:
        return "pandas' JSON of orient='split'", _PANDAS
    if {"schema", "data"} <= kinds.keys() and kinds["schema"] is dict:
        return "pandas' JSON of orient='table'", _PANDAS
    if len(record) > 1 and set(kinds.values()) == {dict}:
        what = "one JSON object of objects, as pandas' orient='columns' or 'index' writes"
        return what, _PANDAS
    for name, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return (
                f"one JSON object that holds its records under {name[:60]!r}",
                f"Write that list alone, as with jq '.{name[:60]}' in.json > out.json.",
            )
    if len(record) > 1 and set(kinds.values()) == {list}:
        return (
            "one JSON object with a list for each column",
            "Write one object per row, as JSON Lines.",
        )
    return None
