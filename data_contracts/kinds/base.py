"""What every kind of task says of itself, without torch: its options, its figures, what it is asked and answers.

A kind enters by being defined: a subclass of `TaskConfig` with a `kind` of its own is found by that
name in every recipe, and the JSON schema lists it. So a kind may live in a user's own package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from data_contracts.section import Section

DEFAULT_KIND = "classify"


@dataclass(frozen=True)
class Metric:
    """One figure: its name everywhere, its words, its unit, and which way is better.

    The only place that knows. In MLflow it is `test/<name>`; with `per` there is one value for each
    of a kind's parts (`test/f1/<label>` of `Metric("f1", ..., per="class")`). Where else it stands
    is told by `shown`: a figure of the page alone, or of comparisons alone, is none of the model's
    own, so no bound may ask for it.
    """

    name: str
    words: str
    better: Literal["higher", "lower"]
    scale: float = 1.0  # 100: shown in points
    digits: int = 3  # behind the point, once scaled
    per: str | None = None
    unit: str | None = None  # once scaled: "points", "nats"
    column: str | None = None  # its heading in the table of a comparison; None: it has no column
    compared: bool = False  # that table also has its difference from the baseline
    note: str = ""  # a sentence below that table
    shown: Literal["everywhere", "page", "comparison"] = "everywhere"

    def improves(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one > other if self.better == "higher" else one < other


@dataclass(frozen=True)
class Column:
    """A column that a served model is asked, or that it answers: MLflow's ColSpec in words."""

    name: str
    type: Literal["string", "double", "long"]
    required: bool = True


class TaskConfig(Section):
    """Recipe side of a kind: its options, under `task:`."""

    KINDS: ClassVar[dict[str, type[TaskConfig]]] = {}
    metrics: ClassVar[tuple[Metric, ...]]  # the first is the gate's, the monitor's and the tables'
    inputs: ClassVar[tuple[Column, ...]]  # what a served model is asked
    # Dotted package of its head.py and objective.py; None: the house's own, `kinds.<kind>`.
    room: ClassVar[str | None] = None

    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        TaskConfig.KINDS[cls.model_fields["kind"].default] = cls

    def outputs(self, facts: dict[str, Any]) -> tuple[Column, ...]:
        """What a served model answers. `facts`: what the data said, from the manifest."""
        raise NotImplementedError

    @classmethod
    def metric(cls, name: str) -> Metric:
        """The metric of a name; `f1/refund` is a value of `f1`."""
        return next(one for one in cls.metrics if one.name == name.partition("/")[0])


class AnyTask:
    """Marks, within `Annotated`, a field that takes whichever kind its `kind` names."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Any) -> CoreSchema:
        plain = core_schema.plain_serializer_function_ser_schema(lambda one: one.model_dump())
        return core_schema.no_info_plain_validator_function(_task_of, serialization=plain)

    @staticmethod
    def __get_pydantic_json_schema__(
        schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kinds = [kind.model_json_schema() for kind in TaskConfig.KINDS.values()]
        return {"oneOf": kinds, "discriminator": {"propertyName": "kind"}}


def _task_of(value: Any) -> TaskConfig:
    if isinstance(value, TaskConfig):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"a section is needed, with kind one of {', '.join(TaskConfig.KINDS)}")
    kind = value.get("kind", DEFAULT_KIND)
    if kind not in TaskConfig.KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(TaskConfig.KINDS)}")
    return TaskConfig.KINDS[kind].model_validate({**value, "kind": kind})
