"""A field that takes whichever kind its `kind` names, of an open set: a kind enters by being
defined.

pydantic's own discriminated unions are closed when the model that holds them is defined; here the
set grows with every subclass, in a user's own package too, and the JSON schema lists what is there.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

K = TypeVar("K", bound=BaseModel)

DEFAULT_KIND = "classify"
ENTRY_POINTS = "noisefold.kinds"  # of a package that brings kinds of its own
BUNDLED = "data_contracts.kinds"  # imported before a kind is looked up, so that ours are there


@cache
def installed_kinds() -> None:
    """Have the kinds of installed packages defined: modules that they name under `ENTRY_POINTS`."""
    for one in entry_points(group=ENTRY_POINTS):
        one.load()


class AnyKind(Generic[K]):
    """Marks, within `Annotated`, a field of a base class that has a registry `KINDS` by name.

    Args:
        by_name: the field's own validator takes a text as well. The JSON schema says so, by which
            Prefect's server judges a deployment before anything of ours is asked.
    """

    def __init__(self, base: type[K], by_name: bool = False) -> None:
        self.base, self.by_name = base, by_name

    @property
    def kinds(self) -> dict[str, type[K]]:
        import_module(BUNDLED)
        return cast(Any, self.base).KINDS

    def named(self, kind: str) -> type[K] | None:
        """The kind of a name, of installed packages too; None where there is none."""
        if kind not in self.kinds:
            installed_kinds()
        return self.kinds.get(kind)

    def of(self, value: Any) -> K:
        """The section of the kind that it names; `DEFAULT_KIND` where it names none."""
        if isinstance(value, self.base):
            return value
        kind = value.get("kind", DEFAULT_KIND) if isinstance(value, dict) else DEFAULT_KIND
        found = self.named(kind) if isinstance(kind, str) else None
        if found is None:
            raise ValueError(f"kind {kind!r} is none of {', '.join(self.kinds)}")
        return found.model_validate(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        # "any": as the value itself is, or the fields of the base alone would be written down.
        as_it_is = core_schema.simple_ser_schema("any")
        return core_schema.no_info_plain_validator_function(self.of, serialization=as_it_is)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # Through the handler, so that the sections within a kind join the definitions of the whole.
        forms = [handler(kind.__pydantic_core_schema__) for kind in self.kinds.values()]
        # Any and not one: what says no kind may fit several, and is of the usual one.
        return {"anyOf": [*forms, {"type": "string"}] if self.by_name else forms}
