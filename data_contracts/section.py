"""What every section of a recipe is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from typing import Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, to_jsonable_python

from data_contracts.yaml_text import Written, as_written, plain

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


class ByContent:
    """Marks, within `Annotated`, the path of a file: an identity has the digest of what is in
    it."""

    def __init__(self, digest: Callable[[str], str]) -> None:
        self.digest = digest


class Section(BaseModel):
    """Frozen, and an unknown key is an error: a typing mistake must not silently train another
    model."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _take_as_written(cls, data: Any) -> Any:
        """Where a text is meant, a number or boolean of a YAML file is what the person wrote:
        `010`, `1.10`, `true`."""
        if not isinstance(data, dict):
            return data
        return {name: _fitting(value, _hopes(cls).get(name)) for name, value in data.items()}

    def identity(self, parts: Collection[str] = ()) -> dict[str, Any]:
        """What tells this section from one that says nothing, for a cache key or the identity of a
        run.

        Fields that differ from their default, and the kind of a section: a later field that is off
        changes no key. So a changed default has to raise the version of the stages that it shapes.
        A given file counts by what is in it, wherever it lies.

        Args:
            parts: dotted names (`model`, `execution.threads`), of which alone it is; all, if
                none.
        Raises:
            NoisefoldError: a given file cannot be read.
        """
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            asked = _within(parts, name)
            if asked is None:
                continue
            value = getattr(self, name)
            # Of parts within a section there is no telling by the whole of it.
            silent = value == field.get_default(call_default_factory=True) and name != "kind"
            if not (silent and not asked):
                found[name] = _identity(value, asked, field.metadata)
            if asked and not found[name]:
                del found[name]
        return found

    def stated(self) -> set[str]:
        """The fields that somebody set.

        A section that states every field is one that was written by a program (`recipe.yaml` of
        a run, the form in Prefect's UI): of it, those that differ from their default.
        """
        fields = type(self).model_fields
        if self.model_fields_set < fields.keys():
            return set(self.model_fields_set)
        return {
            name
            for name, field in fields.items()
            if getattr(self, name) != field.get_default(call_default_factory=True)
        }


def _within(parts: Collection[str], name: str) -> Collection[str] | None:
    """Of dotted names those that lie within `name`, none where all of it is meant; None: it is
    not."""
    if not parts or name in parts:
        return ()
    return [part[len(name) + 1 :] for part in parts if part.startswith(f"{name}.")] or None


def _identity(value: Any, parts: Collection[str], marks: Sequence[Any]) -> Any:
    """A field's value in an identity, as JSON has it."""
    if isinstance(value, Section):
        return value.identity(parts)
    if isinstance(value, tuple | list):
        return [_identity(one, parts, marks) for one in value]
    if isinstance(value, dict):
        return {str(key): _identity(one, parts, marks) for key, one in value.items()}
    for mark in marks:
        if isinstance(mark, ByContent) and isinstance(value, str):
            return mark.digest(value)
    return to_jsonable_python(value)


@cache
def _hopes(section: type[BaseModel]) -> dict[str, str]:
    """What each field of a section is made of: "text", "plain" values, or "parts" that look
    after themselves."""
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
    # A contract's name, where there might be the contract.
    if hope == "parts" and isinstance(value, Written):
        return value.written
    return plain(value) if hope == "plain" else value


def text_fault(fault: Any) -> str | None:
    """What to say of a number, boolean or null that is given where a text is meant; None for any
    other fault.

    YAML and JSON that other programs have read (as Prefect reads prefect.yaml) no longer tell
    `yes` from true and `010` from 8, so such a value is never turned into a text.
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
    """A section without `kind` is of its default kind, so that `--set tokenizer.vocab_size=500`
    is enough."""

    return _UsualKind(_Kind(default))


class _UsualKind(BeforeValidator):
    """In the JSON schema, too, a section may say no kind, and then fits several."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        if "oneOf" in found:
            found["anyOf"] = found.pop("oneOf")
        return found


class _Kind:
    """Fills in the kind of a section that names none."""

    def __init__(self, default: Callable[[dict[str, Any]], str]) -> None:
        self.default = default

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, dict) or "kind" in value:
            return value
        return {"kind": self.default(value), **value}


def implied_kind(marks: Sequence[Any], section: dict[str, Any]) -> str | None:
    """The kind that the fields of a section say without naming it, as `path` says `file`; None
    where they fit the usual one.

    Args:
        marks: the metadata of the field that it is written in.
    """
    kinds = [one.func for one in marks if isinstance(one, BeforeValidator)]
    found = [one.default(section) for one in kinds if isinstance(one, _Kind)]
    usual = [one.default({}) for one in kinds if isinstance(one, _Kind)]
    return next((kind for kind in found if kind not in usual), None)


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
    """What in a text no file or database takes, though JSON has an escape for it; None where
    there is nothing."""
    found = _UNWRITABLE.search(text)
    return (
        None
        if found is None
        else "a NUL character"
        if found[0] == "\0"
        else "half of a surrogate pair"
    )
