"""Overrides by dotted field, laid over a recipe as `--set` does it: the variants of a comparison
and the trials of a search.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from data_contracts.recipe import faults
from data_contracts.recipe.defaults import without_defaults
from data_contracts.recipe.reading import merge, parse_recipe, rebase
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import BITS, WarmStartConfig

BIT_FIELDS = tuple(f"execution.{name}" for name in BITS)
VARIED = ("task", "tokenizer", "window", "model", "training", "distillation")
"""The sections of a recipe that a variant or a trial may change."""
_NAME = re.compile(r"[^\x00-\x1f\ud800-\udfff{}|`]{1,60}")


def is_name(name: str) -> bool:
    """Whether a variant or a candidate may be called so, in tables and as a tag."""
    return bool(_NAME.fullmatch(name)) and name == name.strip()


def overlaid(recipe: Recipe, overrides: dict[str, Any], origin: str) -> Recipe:
    """The recipe with these fields replaced; a section given as a mapping replaces its own.

    Raises:
        RecipeError: where that makes no recipe, with one line per fault; `origin` is its name.
    """
    return parse_recipe(merge(told_by(recipe), overrides), origin=origin)


def told_by(recipe: Recipe) -> dict[str, Any]:
    """What the recipe says, without its defaults: what it leaves open stays open, so that an
    override which changes a section's kind meets no stale field.
    """
    stated = without_defaults(
        recipe.model_dump(mode="json", exclude_unset=True), recipe.task, Recipe
    )
    return {"source": recipe.source.model_dump(mode="json"), **stated}


def misplaced(dotted: str, value: Any, who: str, whose: str) -> str | None:
    """Why a field is none to change; None where it is one.

    Args:
        who: would change it ("a variant").
        whose: seeds set `training.seed` ("the grid's").
    """
    section, _, field = dotted.partition(".")
    if (now := faults.new_name(dotted)) is not None:
        return f"{dotted}: is {now} now"
    if section not in VARIED and dotted not in BIT_FIELDS:
        return (
            f"{dotted}: {who} may change {', '.join(VARIED)}; the rows and how they "
            "are measured are the same for all"
        )
    if section == "training" and (
        field == "seed" or (not field and isinstance(value, dict) and "seed" in value)
    ):
        return f"{dotted}: {whose} seeds set training.seed"
    return None


def leans_on(recipe: Recipe, work: str, part: str) -> str | None:
    """What of a recipe may be another model by the time that the next part of the work begins; None
    where all is said.
    """
    start = recipe.training.warm_start
    if start == "champion":
        return (
            "training.warm_start must be never, or a {model, version}: what a champion knew is "
            f"no part of the {work}"
        )
    if isinstance(start, WarmStartConfig) and start.version is None:
        return (
            f"training.warm_start.version must be a number: every {part} starts from the same "
            "version"
        )
    if recipe.distillation is not None and recipe.distillation.version is None:
        return f"distillation.version must be a number: every {part} learns from the same version"
    return None


def measured_otherwise(one: Recipe, shared: Recipe) -> str | None:
    """The option by which one recipe's figures are measured in another way than those of the shared
    one; None where all are the same.
    """
    for option, value in shared.task.noted.items():
        if one.task.noted.get(option) != value:
            return (
                f"task.{option} has to be {value}, as in the recipe that all "
                "share: the rows and how they are measured are the same for all"
            )
    return None


def overrides_from(base: Path, overrides: Any) -> Any:
    """Relative paths in overrides start at a file's folder."""
    return (
        {dotted: rebased(dotted, value, base) for dotted, value in overrides.items()}
        if isinstance(overrides, dict)
        else overrides
    )


def rebased(dotted: str, value: Any, base: Path) -> Any:
    """The value of a field, with the relative paths in it starting at `base`."""
    node = rebase(merge({}, {dotted: value}), base)
    for key in dotted.split("."):
        node = node[key]
    return node
