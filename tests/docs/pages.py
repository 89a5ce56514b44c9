"""The commands that the pages tell a reader to run.

    python -m tests.docs.pages docs/tutorial.md      carries them out as a shell does, with the time of each

A fenced block without a language is a shell's; what a command prints is marked `text`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
# What shells have, and what is no part of this project.
SHELL = {"cat", "cd", "cp", "curl", "docker", "echo", "eval", "export", "head", "kubectl", "ls",
         "mkdir", "pip", "printf", "rm", "source", "sudo", "systemctl", "test", "uv"}  # fmt: skip
FENCE = re.compile(r"^( *)```([\w-]*)[^\n]*\n(.*?)^\1```", re.S | re.M)


@dataclass(frozen=True)
class Command:
    """One command of a page: a line, or several where it goes on."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text.splitlines()[0]}"

    @property
    def calls(self) -> list[list[str]]:
        """The programs that it starts, each with its words; without redirections."""
        first = self.text.split("\n", 1)[0] if "<<" in self.text else self.text
        lexer = shlex.shlex(first, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        found: list[list[str]] = [[]]
        words = iter(lexer)
        for word in words:
            if word in ("|", "||", "&", "&&", ";"):
                found.append([])
            elif word.strip("<>&") == "":
                next(words, None)
            else:
                found[-1].append(word)
        return [call for call in map(without_variables, found) if call]


def without_variables(words: list[str]) -> list[str]:
    """The words behind `NAME=value`."""
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        words = words[1:]
    return words


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path, language: str = "") -> list[tuple[int, str]]:
    """The fenced blocks of a language: the line on which each begins, and its text."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: found.start()].count("\n") + 2, found[3])
        for found in FENCE.finditer(text)
        if found[2] in ({"", "sh", "bash", "console"} if not language else {language})
    ]


def commands(page: Path, of: tuple[int, str] | None = None) -> list[Command]:
    """The commands of a page's shell blocks, or of one of them."""
    given = blocks(page) if of is None else [of]
    return [one for block in given for one in _split(name_of(page), *block)]


def _split(page: str, line: int, block: str) -> Iterator[Command]:
    lines = block.splitlines()
    at = 0
    while at < len(lines):
        start, text = at, lines[at]
        if here := re.search(r"<<-?'?(\w+)'?", text):
            while lines[at] != here[1]:
                at += 1
            text = "\n".join(lines[start : at + 1])
        while text.endswith("\\"):
            at += 1
            text = text[:-1] + lines[at]
        at += 1
        if text.strip() and not text.lstrip().startswith("#"):
            yield Command(page, line + start, text)


def inline(page: Path) -> list[Command]:
    """Commands within a sentence, between backquotes: the ones of this project and its tools."""
    text = page.read_text(encoding="utf-8")
    text = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    programs = r"noisefold|prefect|mlflow|make|python -m"
    return [
        Command(name_of(page), text[: found.start()].count("\n") + 1, " ".join(found[1].split()))
        for found in re.finditer(rf"`((?:[A-Z_]+=\S+ )*(?:{programs}) [^`]+)`", text)
    ]


def environment(home: Path) -> dict[str, str]:
    """A user's shell, in which this checkout's command is on the path."""
    given = {
        key: one for key, one in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))
    }
    given.pop("NOISEFOLD_HOME", None)
    path = os.pathsep.join([str(home / "bin"), str(Path(sys.executable).parent), given["PATH"]])
    return {**given, "PATH": path, "PYTHONPATH": str(REPOSITORY)}


def main(page: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "bin").mkdir()
        command = home / "bin" / "noisefold"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m flows.cli.main "$@"\n')
        command.chmod(0o755)
        (home / "work").mkdir()
        begun = time.monotonic()
        for one in commands(REPOSITORY / page):
            print(f"$ {one.text.splitlines()[0]}", flush=True)
            start, before = time.monotonic(), os.times()
            subprocess.run(
                ["bash", "-euc", one.text], cwd=home / "work", env=environment(home), check=True
            )
            after = os.times()
            used = after[2] + after[3] - before[2] - before[3]
            print(f"# {time.monotonic() - start:.1f} s, {used:.1f} of them CPU time", flush=True)
        print(f"# {time.monotonic() - begun:.0f} s in all")


if __name__ == "__main__":
    main(sys.argv[1])
