"""Which files of this house a registered model of some kind needs: what `bundle.py` and the kind's
head import. An exported one needs what `exported.py` and the kind's `answering.py` do.

A served model has nothing but these files and the packages of `PACKAGES`, or of `WITHOUT_TORCH`.
They keep their dotted names, so that imports among them hold. The head of a kind that lives in
another package is also found in the room where `head_class` looks.
"""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from importlib.util import find_spec
from pathlib import Path

from lightning_modules.kinds.answering import ROOMS, answers_of
from lightning_modules.kinds.heads import head_class

PACKAGES = {"torch", "numpy", "safetensors", "tokenizers", "transformers"}
WITHOUT_TORCH = {"numpy", "onnxruntime", "tokenizers"}
_BUNDLE, _EXPORTED = "lightning_modules.bundle", "lightning_modules.exported"


def shipped_files(kind: str) -> list[Path]:
    """The files themselves, by path.

    Raises:
        ValueError: one of them imports what no served model has, naming both.
    """
    return sorted(_of_kind(kind).values())


def ship(kind: str, folder: Path) -> list[Path]:
    """Copy a kind's files below `folder`; returns the top folders that were made, for a search path
    that has it.

    Raises:
        ValueError: one of them imports what no served model has, naming both.
    """
    _copy(_of_kind(kind), folder)
    home = head_class(kind).__module__
    room = f"{ROOMS}.{kind}"
    if home != f"{room}.head":
        place = folder.joinpath(*room.split("."))
        place.mkdir(parents=True, exist_ok=True)
        (place / "__init__.py").touch()
        (place / "head.py").write_text(f"import {home}  # defines the head of {kind}\n")
    return _folders(folder)


def ship_exported(kind: str, folder: Path) -> list[Path]:
    """The same for a model that is served without torch.

    Raises:
        LookupError: models of this kind need torch to answer.
        ValueError: a file imports what such a model does not have, naming both.
    """
    _copy(_closure([_EXPORTED, answers_of(kind).__module__], WITHOUT_TORCH), folder)
    return _folders(folder)


def _copy(modules: Mapping[str, Path], folder: Path) -> None:
    for name, file in modules.items():
        parts = name.split(".")
        target = folder.joinpath(*parts, file.name) if _is_package(file) else None
        target = target or folder.joinpath(*parts[:-1], file.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _of_kind(kind: str) -> dict[str, Path]:
    return _closure([_BUNDLE, head_class(kind).__module__], PACKAGES)


def _closure(roots: Sequence[str], packages: Set[str]) -> dict[str, Path]:
    """Every module of ours that these import, directly or not, and its file."""
    ours = {root.partition(".")[0] for root in roots}
    found: dict[str, Path] = {}
    waiting = [*roots]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        spec = find_spec(name)
        if spec is not None and spec.origin is None:  # a folder without __init__.py
            continue
        if spec is None or spec.origin is None:
            raise ValueError(f"{name} has no file, so it cannot be shipped")
        found[name] = Path(spec.origin)
        for imported in _imports(name, found[name]):
            top = imported.partition(".")[0]
            if top in ours:
                waiting.append(imported)
            elif top not in packages | sys.stdlib_module_names:
                raise ValueError(f"{found[name]} imports {top}, which no served model has")
        if package := name.rpartition(".")[0]:
            waiting.append(package)
    return found


def _imports(name: str, file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, at its top or within its functions; not what a
    checker alone reads.
    """
    package = name if _is_package(file) else name.rpartition(".")[0]
    for node in _walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            yield base
            if base.partition(".")[0] in PACKAGES | sys.stdlib_module_names:
                continue
            yield from (
                f"{base}.{alias.name}" for alias in node.names if _is_module(base, alias.name)
            )


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            continue
        yield node
        yield from _walk(node)


def _is_module(package: str, name: str) -> bool:
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return any(
        (Path(place) / f"{name}.py").is_file() or (Path(place) / name / "__init__.py").is_file()
        for place in places or ()
    )


def _is_package(file: Path) -> bool:
    return file.name == "__init__.py"
