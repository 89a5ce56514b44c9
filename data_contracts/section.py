"""What every section of a recipe is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


class Section(BaseModel):
    """Frozen, and an unknown key is an error: a typing mistake must not silently train another model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


def kind_is(default: Callable[[dict[str, Any]], str]) -> BeforeValidator:
    """A section without `kind` is of its default kind, so that `--set tokenizer.vocab_size=500` is enough."""

    def fill(value: Any) -> Any:
        return {"kind": default(value), **value} if isinstance(value, dict) and "kind" not in value else value

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
    return None if found is None else "a NUL character" if found[0] == "\0" else "half of a surrogate pair"
