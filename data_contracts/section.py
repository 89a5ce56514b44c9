"""What every section of a recipe is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """Frozen, and an unknown key is an error: a typing mistake must not silently train another model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


def kind_is(default: Callable[[dict[str, Any]], str]) -> BeforeValidator:
    """A section without `kind` is of its default kind, so that `--set tokenizer.vocab_size=500` is enough."""

    def fill(value: Any) -> Any:
        return {"kind": default(value), **value} if isinstance(value, dict) and "kind" not in value else value

    return BeforeValidator(fill)
