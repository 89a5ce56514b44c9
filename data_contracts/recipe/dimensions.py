"""The dimensions of a search's space: ranges of numbers, and lists of choices."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from data_contracts.section import Section

_EPSILON = 1e-9  # of a step: what binary fractions leave


class Range(Section):
    """Numbers from low to high, both among them: whole ones where both are written so and the field
    takes them.
    """

    low: int | float
    high: int | float
    step: int | float | None = Field(
        default=None, gt=0, description="From low on; null: any fraction, or 1 of whole numbers."
    )
    log: bool = Field(
        default=False,
        description="Drawn by their logarithm, so that 0.001 to 0.01 is a half of 0.001 to 0.1.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) has to be below high ({self.high})")
        if self.log and self.step is not None:
            raise ValueError("log and step cannot both be: leave one of them out")
        if self.log and self.low <= 0:
            raise ValueError(f"low has to be above 0 where log is true, and is {self.low}")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError(f"step ({self.step}) leads past high ({self.high})")
        return self

    @property
    def fractional(self) -> bool:
        return any(isinstance(one, float) for one in (self.low, self.high, self.step))

    @property
    def ends(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    @property
    def points(self) -> float:
        if self.step is not None:
            return float(len(list(self.values())))
        return math.inf if self.fractional else float(self.high - self.low + 1)

    def values(self) -> Iterator[int | float]:
        """Every value of steps."""
        step = self.step or 1
        for at in range(int((self.high - self.low) / step + _EPSILON) + 1):
            value = self.low + at * step
            yield round(value, 12) if self.fractional else value

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or 1)
        free = self.step is None and (self.fractional or isinstance(value, float))
        return free or abs(steps - round(steps)) < _EPSILON


class Choices(Section):
    """Values or whole sections, of which each trial has one."""

    choices: tuple[Any, ...] = Field(min_length=1)

    @field_validator("choices")
    @classmethod
    def _each_once(cls, choices: tuple[Any, ...]) -> tuple[Any, ...]:
        written = [as_text(one) for one in choices]
        for one in written:
            if written.count(one) > 1:
                raise ValueError(f"{one} stands twice among the choices")
        return choices

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.choices

    @property
    def points(self) -> float:
        return float(len(self.choices))

    def values(self) -> Iterator[Any]:
        yield from self.choices

    def holds(self, value: Any) -> bool:
        return as_text(value) in map(as_text, self.choices)


class _OrList:
    """In the JSON schema a list may stand for its choices."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"type": "array", "items": {}}]}


Dimension: TypeAlias = Annotated[Range | Choices, _OrList()]


def as_text(value: Any) -> str:
    """A choice as JSON, by which it is known."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def dimension_of(dotted: str, written: Any) -> Any:
    """A dimension as a person writes it.

    Raises:
        ValueError: naming the field, where it is none.
    """
    if isinstance(written, Range | Choices):
        return written
    if isinstance(written, Sequence) and not isinstance(written, str):
        written = {"choices": list(written)}
    if not isinstance(written, dict) or not {"choices", "low", "high"} & written.keys():
        raise ValueError(
            f"{dotted}: give a list of choices, or {{low: …, high: …}} with step, or with log: true"
        )
    kind = Choices if "choices" in written else Range
    try:
        return kind.model_validate(written)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, (dotted, *one['loc'])))}: "
            f"{one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        )
        raise ValueError(told) from None
