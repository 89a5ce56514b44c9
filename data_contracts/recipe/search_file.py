"""A search as a file has it: its recipe found, its relative paths placed, its faults named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data_contracts.errors import RecipeError
from data_contracts.recipe.overlay import overrides_from, rebased
from data_contracts.recipe.reading import describe, merge, parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.search import Search


def parse_search(
    data: Any,
    origin: str,
    base: Path,
    changes: dict[str, Any],
    find: Callable[[str, Path], Recipe],
) -> Search:
    """Validate a mapping as a search; every fault is named by its field.

    Args:
        origin: what to call it in an error.
        base: folder from which relative paths in it start.
        changes: of the recipe that the trials share.
        find: a recipe by the name or the path that the search gives, and `base`.
    Raises:
        RecipeError: with one line per fault.
    """
    if not isinstance(data, dict):
        raise RecipeError(
            f"{origin}: expected a mapping, found {type(data).__name__}.",
            "docs/tune.md describes the file.",
        )
    data, recipe = dict(data), data.get("recipe")
    if isinstance(recipe, str):
        data["recipe"] = find(recipe, base)
    elif isinstance(recipe, dict):
        shared = merge(recipe, changes)
        data["recipe"] = parse_recipe(shared, origin=f"{origin}, recipe", base=base)
    if isinstance(space := data.get("space"), dict):
        data["space"] = {key: _choices_from(str(key), one, base) for key, one in space.items()}
    if isinstance(named := data.get("candidates"), dict):
        data["candidates"] = {name: overrides_from(base, one) for name, one in named.items()}
    try:
        return Search.model_validate(data)
    except ValidationError as error:
        raise RecipeError(
            f"{origin}: {describe(error, Search)}", "docs/tune.md describes the file."
        ) from None


def _choices_from(dotted: str, one: Any, base: Path) -> Any:
    if isinstance(one, list):
        return [rebased(dotted, value, base) for value in one]
    if isinstance(one, dict) and isinstance(one.get("choices"), list):
        return {**one, "choices": [rebased(dotted, value, base) for value in one["choices"]]}
    return one
