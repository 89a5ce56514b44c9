"""What a recipe says where nobody said it: a kind of task has sections of its own, which lie below
those that are written.

They are merged section by section and key by key. Where another `kind` is written within a section,
what the task has there by default describes something else, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from data_contracts.kinds.base import AnyTask, TaskConfig
from data_contracts.open_kinds import DEFAULT_KIND
from data_contracts.recipe.faults import models_in
from data_contracts.recipe.model import FROM_SCRATCH, PretrainedConfig
from data_contracts.section import implied_kind


def with_defaults(data: Any, root: type[BaseModel]) -> Any:
    """The fields of a recipe, over those that its kind of task has by default.

    Args:
        root: the model that they are validated by.
    """
    task = _task_of(data)
    if task is None or not task.defaults:
        return data
    return _over(_fitting(task.defaults, data), data, [root])


def without_defaults(
    data: Mapping[str, Any], task: TaskConfig, root: type[BaseModel]
) -> dict[str, Any]:
    """The fields of a recipe that `with_defaults` would not give it: what is to be said of it where
    a kind within it is changed.
    """
    return _beside(_fitting(task.defaults, data), data, [root])


def _fitting(defaults: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The defaults without those of a model from scratch where a backbone is written, beside which
    they would be refused.
    """
    model = data.get("model")
    encoder = model.get("encoder") if isinstance(model, dict) else None
    given = isinstance(encoder, dict) and "path" in encoder
    if "model" not in defaults or not (given or isinstance(encoder, PretrainedConfig)):
        return defaults
    kept = {name: one for name, one in defaults["model"].items() if name not in FROM_SCRATCH}
    return {**defaults, "model": kept}


def _task_of(data: Any) -> type[TaskConfig] | None:
    """The kind of task that is named; None where there is none of that name, which is refused
    elsewhere.
    """
    if not isinstance(data, dict):
        return None
    task = data.get("task", {})
    if isinstance(task, TaskConfig):
        return type(task)
    kind = task.get("kind", DEFAULT_KIND) if isinstance(task, dict) else None
    return AnyTask.named(kind) if isinstance(kind, str) else None


def _over(
    defaults: Mapping[str, Any], written: Mapping[str, Any], models: list[type[BaseModel]]
) -> dict[str, Any]:
    found = dict(written)
    for name, default in defaults.items():
        if name not in written:
            found[name] = default
        elif _same_section(name, default, written[name], models):
            found[name] = _over(default, written[name], _within(name, models))
    return found


def _beside(
    defaults: Mapping[str, Any], written: Mapping[str, Any], models: list[type[BaseModel]]
) -> dict[str, Any]:
    found = dict(written)
    for name, default in defaults.items():
        if name in written and _same_section(name, default, written[name], models):
            found[name] = _beside(default, written[name], _within(name, models))
        if name in found and found[name] in (default, {}):
            del found[name]
    return found


def _same_section(name: str, default: Any, written: Any, models: list[type[BaseModel]]) -> bool:
    """Whether both describe a section of one kind."""
    if not isinstance(default, Mapping) or not isinstance(written, dict):
        return False
    kind = written.get("kind") or _implied(name, written, models)
    return kind is None or kind == default.get("kind", kind)


def _implied(name: str, written: dict[str, Any], models: list[type[BaseModel]]) -> str | None:
    """The kind that the fields of a section imply without naming it, as a path does."""
    fields = [model.model_fields[name] for model in models if name in model.model_fields]
    kinds = (implied_kind(field.metadata, written) for field in fields)
    return next(filter(None, kinds), None)


def _within(name: str, models: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """The models of a field's section, of all its kinds."""
    return [inner for model in models for inner in _models_of(name, model)]


def _models_of(name: str, model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    if name in model.model_fields:
        yield from models_in(model.model_fields[name].annotation)
