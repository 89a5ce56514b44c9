"""Reading what flows other than a retrain are described by, as a recipe is read: from YAML or JSON,
overrides laid over it, every fault named by its field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from data_contracts.errors import RecipeError
from data_contracts.recipe import faults
from data_contracts.recipe.reading import line_in, merge, moved_path, rebase
from data_contracts.section import Section
from data_contracts.yaml_text import read_yaml

S = TypeVar("S", bound=Section)


def load_section(kind: type[S], path: str | Path, overrides: dict[str, Any] | None = None) -> S:
    """Read the file of a flow's description.

    Raises:
        RecipeError: with one line per fault, each naming its field.
    """
    data = merge(read_yaml(path), overrides or {})
    return parse_section(kind, data, str(path), Path(path).resolve().parent, path)


def parse_section(
    kind: type[S], data: Any, origin: str, base: Path, file: str | Path | None = None
) -> S:
    """Validate a mapping as the description of a flow.

    Args:
        origin: what to call it in an error ("score.yaml", "deployment scored").
        base: folder from which relative paths in it start.
        file: whose lines the faults name; None: no line is known.
    Raises:
        RecipeError: with one line per fault.
    """
    if not isinstance(data, dict):
        raise RecipeError(
            f"{origin}: expected a mapping of fields, found {type(data).__name__}.",
            f"Its fields are {', '.join(kind.model_fields)}.",
        )
    data = rebase(data, base)
    if "output" in kind.model_fields and data.get("output"):
        data["output"] = moved_path(data["output"], base)
    line = line_in(file) if file is not None else _no_line
    try:
        return kind.model_validate(data, context={"base": base})
    except ValidationError as error:
        raise RecipeError(
            f"{origin}: {faults.describe(error, kind, line)}",
            f"Its fields are {', '.join(kind.model_fields)}.",
        ) from None


def section_at_night(kind: type[S], path: str | None, beside: S | None) -> S:
    """What a run is described by that was given a file, or fields; one of the two.

    Raises:
        RecipeError: neither is given, or both; or the file cannot mean what it says.
    """
    if path is not None and beside is not None:
        raise RecipeError(
            f"recipe_file names {path}, and the parameter recipe describes something as well.",
            "Leave one of the two out.",
        )
    if path is not None:
        return load_section(kind, path)
    if beside is None:
        raise RecipeError(
            "The run was given neither a recipe nor a recipe_file.",
            f"Give a recipe with {', '.join(kind.model_fields)}.",
        )
    return beside


def _no_line(_: tuple[Any, ...]) -> None:
    return None
