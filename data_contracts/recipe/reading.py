"""Reading a recipe: from YAML or JSON, with overrides laid over it, every fault named by its
field."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from data_contracts.errors import RecipeError
from data_contracts.recipe import faults
from data_contracts.recipe.files import is_vector_file
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.source import SOURCES
from data_contracts.urls import redacted
from data_contracts.yaml_text import parse_yaml, read_yaml


def parse_recipe(
    data: Any,
    *,
    origin: str,
    base: Path | None = None,
    line: Callable[[tuple[Any, ...]], int | None] = lambda loc: None,
) -> Recipe:
    """Validate a mapping as a recipe; every fault is named by its field.

    Args:
        data: the parsed YAML or JSON.
        origin: what to call it in an error ("nightly.yaml", "deployment sample").
        base: folder from which relative paths in it start.
        line: in which a field stands, where that is known.
    Raises:
        RecipeError: with one line per fault.
    """
    if not isinstance(data, dict):
        raise RecipeError(
            f"{origin}: expected a mapping of sections, found {type(data).__name__}.",
            "See `noisefold recipe show`.",
        )
    if "source" not in data:
        told = _no_source(data)
        raise RecipeError(f"{origin}: {told}{'' if told.endswith('?') else '.'}", SOURCES)
    try:
        data = rebase(data, base) if base else data
        return Recipe.model_validate(data, context={"base": base})
    except ValidationError as error:
        raise RecipeError(
            f"{origin}: {faults.describe(error, Recipe, line)}",
            "`noisefold recipe schema` lists every field.",
        ) from None


def _no_source(data: dict[str, Any]) -> str:
    """A recipe that does not say what it reads, and which of its keys seem to."""
    unknown = [key for key in data if key not in Recipe.model_fields]
    hints = "".join(
        f"; {key}{faults.meant((key,), Recipe).replace(';', ':')}" for key in unknown[:5]
    )
    return f"source is missing, which says where the rows come from{hints}"


def load_recipe(path: str | Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML or JSON (safe loader: tags that would build objects are refused)."""
    data = merge(read_yaml(path), overrides or {})
    line = line_in(path)
    return parse_recipe(data, origin=str(path), base=Path(path).resolve().parent, line=line)


def recipe_at_night(path: str, beside: Recipe) -> Recipe:
    """The recipe of a run that was given a file.

    Args:
        beside: what stands in the run's other parameter, which must say nothing then: two recipes,
            of which one is passed over in silence, would be nobody's wish.
    Raises:
        RecipeError: the file is not there or cannot mean what it says; or both say something.
    """
    if beside != Recipe():
        raise RecipeError(
            f"recipe_file names {path}, and the parameter recipe describes {beside.name} as well.",
            "Leave one of the two out: recipe_file null, or recipe as it is by default.",
        )
    return load_recipe(path)


def merge(data: Any, overrides: dict[str, Any]) -> Any:
    """Lay dotted overrides (`training.max_epochs`) over nested sections; `data` stays as it was."""
    if not overrides:
        return data
    result: dict[str, Any] = dict(data) if isinstance(data, dict) else {}
    for dotted, value in overrides.items():
        keys, node = dotted.split("."), result
        for key in keys[:-1]:
            child = node.get(key)
            node[key] = dict(child) if isinstance(child, dict) else {}
            node = node[key]
        node[keys[-1]] = value
    return result


def parse_set(text: str) -> tuple[str, Any]:
    """`training.max_epochs=3` → ("training.max_epochs", 3); the value is read as YAML."""
    key, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[a-z_][\w]*(\.[\w]+)*", key.strip()):
        raise RecipeError(
            f"--set {redacted(text)}: expected section.field=value.",
            "For example --set training.max_epochs=3.",
        )
    try:
        return key.strip(), parse_yaml(value, f"--set {key.strip()}")
    except RecipeError:
        return key.strip(), value


def describe(error: ValidationError, root: type[BaseModel] | None = None) -> str:
    """pydantic's faults as `field: what is wrong (got …)`, one after the other."""
    return faults.describe(error, root or Recipe, lambda loc: None)


def rebase(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """Relative paths start at the recipe's own folder, wherever the command runs."""
    data = dict(data)
    model = data.get("model")
    if isinstance(model, dict):
        data["model"] = model = dict(model)
        embedding = model.get("embedding")
        if isinstance(embedding, dict) and (vectors := embedding.get("vectors")):
            moved = moved_path if is_vector_file(vectors) else _folder_or_name
            model["embedding"] = {**embedding, "vectors": moved(vectors, base)}
        if isinstance(encoder := model.get("encoder"), dict) and "path" in encoder:
            model["encoder"] = {**encoder, "path": _folder_or_name(encoder["path"], base)}
    for section, field in (("source", "url"), ("tokenizer", "path")):
        node = data.get(section)
        if isinstance(node, dict) and node.get(field):
            value = node[field]
            one = _folder_or_name if section == "tokenizer" else moved_path
            data[section] = {**node, field: _moved(value, base, one)}
    return data


def _moved(value: Any, base: Path, one: Callable[[Any, Path], Any]) -> Any:
    """A path, or several by split, by role, or by role within each split."""
    if isinstance(value, dict):
        return {key: _moved(part, base, one) for key, part in value.items()}
    return one(value, base)


def _folder_or_name(value: Any, base: Path) -> Any:
    """A hub name (`owner/model`) looks like a relative path; it is one where such a folder
    exists."""
    moved = moved_path(value, base)
    try:
        return (
            moved
            if isinstance(moved, str) and (moved.startswith("file") or Path(moved).exists())
            else value
        )
    except OSError:  # a name that no file can have
        return value


def moved_path(value: Any, base: Path) -> Any:
    """A relative path, from `base`; an absolute one or a URL as it is."""
    lite = re.fullmatch(
        r"(sqlite(?:\+\w+)?:///)([^/:?].*)", value if isinstance(value, str) else ""
    )
    if lite:
        return f"{lite[1]}{(base / lite[2]).absolute()}"
    if (
        not isinstance(value, str)
        or "://" in value
        or "::" in value
        or not value.strip()
        or Path(value).is_absolute()
    ):
        return value
    return str(base / value)


def line_in(path: str | Path) -> Callable[[tuple[Any, ...]], int | None]:
    """Where the fields of a YAML file stand, by its lines; the file was read before and is
    small."""

    def line(loc: tuple[Any, ...]) -> int | None:
        try:
            node = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (OSError, ValueError, yaml.YAMLError):
            return None
        found = None
        for part in loc:
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            elif (
                isinstance(node, yaml.SequenceNode)
                and isinstance(part, int)
                and part < len(node.value)
            ):
                pair = (node.value[part], node.value[part])
            else:
                pair = None
            if pair is None:
                break
            found, node = pair[0].start_mark.line + 1, pair[1]
        return found

    return line
