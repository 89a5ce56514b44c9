"""The recipe that a search has found, as a file that a person reads and `retrain` takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from data_contracts.recipe.overlay import told_by
from data_contracts.recipe.reading import load_recipe
from data_contracts.recipe.recipe import Recipe

_PATHS = (
    ("source", "url"),
    ("tokenizer", "path"),
    ("model", "encoder", "path"),
    ("model", "embedding", "vectors"),
)


def winner_recipe(recipe: Recipe, folder: Path | None = None) -> dict[str, Any]:
    """What the recipe says, its defaults left out.

    Args:
        folder: of the file that it is written to, at which its relative paths start; without one
            they stay as they are.
    """
    told = told_by(recipe)
    order = [name for name in type(recipe).model_fields if name in told]
    found = {name: told[name] for name in order}
    if found["source"].get("kind") == "files":
        found["source"] = recipe.source.model_dump(mode="json", exclude_defaults=True)
        found["source"] = {"kind": "files", **found["source"]}
    if folder is not None:
        for place in _PATHS:
            _replace(found, place, folder.resolve())
    return found


def winner_yaml(recipe: Recipe, heading: list[str], folder: Path) -> str:
    """The file's text: comments that say where it comes from, then the recipe."""
    comments = "".join(f"# {' '.join(line.split())}\n" for line in heading)
    document = winner_recipe(recipe, folder)
    return f"{comments}\n{yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=100)}"


def check_written(text: str, path: Path, recipe: Recipe) -> None:
    """Write the file whole, once it is clear that it says what was found.

    Raises:
        AssertionError: it reads as another recipe.
    """
    beside = path.with_name(f".{path.name}.tmp.yaml")
    beside.write_text(text, encoding="utf-8")
    try:
        written = load_recipe(beside)
        assert written.identity_of_run() == recipe.identity_of_run(), "another recipe was written"
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _replace(node: Any, place: tuple[str, ...], folder: Path) -> None:
    for key in place[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict) and node.get(place[-1]):
        node[place[-1]] = _relative(node[place[-1]], folder)


def _relative(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: _relative(part, folder) for key, part in value.items()}
    if not isinstance(value, str) or "://" in value or not Path(value).is_absolute():
        return value
    return os.path.relpath(value, folder)
