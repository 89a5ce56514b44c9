"""The test of the house: what knows a kind of task stands in its room, and nowhere else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from data_contracts.kinds.base import TaskConfig
from flows.cli.main import main

REPOSITORY = Path(__file__).resolve().parent.parent
# What classification is made of, and every kind's own package. "label" of a deployment is
# Prefect's; "text" of a message is what webhooks call it.
WORDS = re.compile(r"label|macro_f1|probability_|class_weights", re.I)
OF_OTHERS = {"tasks/operate/deployments.py"}
OF_MESSAGES = {"tasks/operate/notify.py"}
# A command may bear the name of the kind that it asks: `noisefold translate`.
OF_COMMANDS = {"flows/cli/main.py"}
KINDS = re.compile(r"(data_contracts|lightning_modules)\.kinds\.(?!base|judging|heads|answering)")


def code_of(file: Path) -> list[tuple[int, str]]:
    """Names, attributes, arguments, modules and texts without a space, with their lines: no prose."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "arg", "name", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found.append((line, value))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            # In quotes, so that a column named "text" is told from a variable of that name.
            found += [] if " " in node.value.strip() else [(line, f'"{node.value}"')]
    return found


@pytest.mark.parametrize("package", ["flows", "tasks"])
def test_no_stage_and_no_flow_knows_a_kind(package: str) -> None:
    for file in sorted((REPOSITORY / package).rglob("*.py")):
        name = file.relative_to(REPOSITORY).as_posix()
        for line, word in code_of(file):
            assert not KINDS.match(word), f"{name}:{line} imports the kind {word}"
            command = name in OF_COMMANDS and word in main.commands
            named = word.strip('"') in TaskConfig.KINDS and not command
            assert not named, f"{name}:{line} names the kind {word}"
            assert word != '"text"' or name in OF_MESSAGES, f"{name}:{line} names a column {word}"
            if name not in OF_OTHERS:
                assert not WORDS.search(word), f"{name}:{line} knows {word}"
