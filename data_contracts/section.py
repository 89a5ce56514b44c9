"""What every section of a recipe is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from data_contracts.yaml_text import Written, as_written, plain

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


class _Unkeyed:
    """The type of UNKEYED."""


UNKEYED = _Unkeyed()
"""Marks, within `Annotated`, a field that shapes nothing of what comes out, so that no key and no identity has it."""


class Section(BaseModel):
    """Frozen, and an unknown key is an error: a typing mistake must not silently train another model."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _take_as_written(cls, data: Any) -> Any:
        """Where a text is meant, a number or boolean of a YAML file is what the person wrote: `010`, `1.10`, `true`."""
        if not isinstance(data, dict):
            return data
        return {name: _fitting(value, _hopes(cls).get(name)) for name, value in data.items()}

    def keyed(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """This section for a cache key or an identity: all that shapes what comes out, and nothing else."""
        return self.model_dump(
            mode="json", exclude={**_unkeyed(self), **dict.fromkeys(exclude, True)}
        )

    def stated(self) -> set[str]:
        """The fields that somebody set.

        A section that states every field is one that was written by a program (`recipe.yaml` of a run, the form in
        Prefect's UI): of it, those that differ from their default.
        """
        fields = type(self).model_fields
        if self.model_fields_set < fields.keys():
            return set(self.model_fields_set)
        return {
            name
            for name, field in fields.items()
            if getattr(self, name) != field.get_default(call_default_factory=True)
        }


def _unkeyed(section: Section) -> dict[str, Any]:
    """The marked fields of a section and of those within it, as pydantic's `exclude`."""
    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if any(mark is UNKEYED for mark in field.metadata):
            found[name] = True
        elif isinstance(value, Section) and (inner := _unkeyed(value)):
            found[name] = inner
    return found


@cache
def _hopes(section: type[BaseModel]) -> dict[str, str]:
    """What each field of a section is made of: "text", "plain" values, or "parts" that look after themselves."""
    found = {}
    for name, field in section.model_fields.items():
        kinds = list(_kinds(field.annotation))
        parts = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)
        found[name] = "parts" if parts or Any in kinds else "text" if str in kinds else "plain"
    return found


def _kinds(annotation: Any) -> Iterator[Any]:
    inner = getattr(annotation, "__args__", None) or ()
    if not inner:
        yield annotation
    for one in inner:
        yield from _kinds(one)


def _fitting(value: Any, hope: str | None) -> Any:
    if hope == "text":
        return (
            {key: as_written(one) for key, one in value.items()}
            if isinstance(value, dict)
            else as_written(value)
        )
    if hope == "parts" and isinstance(
        value, Written
    ):  # a contract's name, where there might be the contract
        return value.written
    return plain(value) if hope == "plain" else value


def text_fault(fault: Any) -> str | None:
    """What to say of a number, boolean or null that is given where a text is meant; None for any other fault.

    YAML and JSON that other programs have read (as Prefect reads prefect.yaml) no longer tell `yes` from true and `010`
    from 8, so such a value is never turned into a text.
    """
    value = fault.get("input")
    if fault["type"] != "string_type" or not (
        value is None or isinstance(value, bool | int | float)
    ):
        return None
    kind = (
        "null"
        if value is None
        else f"the boolean {str(value).lower()}"
        if isinstance(value, bool)
        else f"the number {value}"
    )
    return f"{kind} where a text is meant; put it in quotes"


def kind_is(default: Callable[[dict[str, Any]], str]) -> BeforeValidator:
    """A section without `kind` is of its default kind, so that `--set tokenizer.vocab_size=500` is enough."""

    def fill(value: Any) -> Any:
        return (
            {"kind": default(value), **value}
            if isinstance(value, dict) and "kind" not in value
            else value
        )

    return BeforeValidator(fill)


def texts_in(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Every text within a section, with its dotted field."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield field, str(key)
            yield from texts_in(part, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_in(part, field)


def unwritable(text: str) -> str | None:
    """What in a text no file or database takes, though JSON has an escape for it; None where there is nothing."""
    found = _UNWRITABLE.search(text)
    return (
        None
        if found is None
        else "a NUL character"
        if found[0] == "\0"
        else "half of a surrogate pair"
    )
