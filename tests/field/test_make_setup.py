"""`make setup` on a machine that lacks something says what, and the way out, in place of pip's
words.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.pipeline.conftest import REPOSITORY

# Stands for a Python of that version, and for the one in the environment that it makes: `pip`
# cannot find torch.
PYTHON = """#!/bin/sh
case "$*" in
  --version) echo "Python {version}" ;;
  -c*) exit {unsupported} ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *torch*) printf '%s\\n' "{said}" >&2; exit 1 ;;
  *) echo "no call was expected: $*" >&2; exit 9 ;;
esac
"""
NOT_FOUND = "ERROR: No matching distribution found for torch==2.13.0+cpu"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "requirements", tmp_path / "requirements")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(REPOSITORY / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    return tmp_path


def has(machine: Path, command: str, version: str, said: str = NOT_FOUND) -> None:
    unsupported = int(version.rpartition(".")[0] not in ("3.11", "3.12", "3.13"))
    file = machine / "bin" / command
    file.write_text(PYTHON.format(version=version, unsupported=unsupported, said=said))
    file.chmod(0o755)


def setup(machine: Path, *arguments: str) -> str:
    """What `make setup`, which fails, says. The path holds this machine's tools, and of Pythons the
    ones given.
    """
    for command in ("python3.11", "python3.12", "python3.13", "python3", "python"):
        if not (machine / "bin" / command).exists():
            has(machine, command, "3.10.12")
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHON", "TORCH", "MAKEFLAGS")
    }
    path = os.pathsep.join([str(machine / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        ["make", "setup", *arguments], cwd=machine, env={**environment, "PATH": path}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode != 0 and not list(machine.glob(".venv/.installed*"))
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", ["3.11.9", "3.12.4", "3.13.0"])
def test_without_a_source_of_torch_the_ways_to_one_are_named(machine: Path, version: str) -> None:
    has(machine, f"python{version.rpartition('.')[0]}", version)
    told = setup(machine, "TORCH=cpu")
    assert f"no source for torch's CPU build (torch==2.13.0+cpu, Python {version}" in told
    assert (
        "PIP_EXTRA_INDEX_URL=" in told and "TORCH=cuda make setup" in told and "ERROR" not in told
    )


def test_another_fault_of_pip_is_shown_as_it_is(machine: Path) -> None:
    has(machine, "python3.11", "3.11.9", said="ERROR: THESE PACKAGES DO NOT MATCH THE HASHES")
    told = setup(machine, "TORCH=cpu")
    assert "DO NOT MATCH THE HASHES" in told and "no source" not in told


def test_without_a_supported_python_the_versions_are_named(machine: Path) -> None:
    told = setup(machine)
    assert "needs Python 3.11, 3.12 or 3.13, and none is on the path (Python 3.10.12)" in told
    assert "make setup PYTHON=" in told


def test_a_python_that_was_named_is_judged_too(machine: Path) -> None:
    has(machine, "python3.11", "3.11.9")
    has(machine, "newest", "3.14.1")
    told = setup(machine, f"PYTHON={machine / 'bin' / 'newest'}")
    assert "newest is no Python 3.11, 3.12 or 3.13 (Python 3.14.1)" in told


def test_an_environment_of_another_python_is_not_built_upon(machine: Path) -> None:
    (machine / ".venv" / "bin").mkdir(parents=True)
    has(machine, "old", "3.10.1")
    shutil.copy2(machine / "bin" / "old", machine / ".venv" / "bin" / "python")
    assert ".venv was made with Python 3.10.1" in setup(machine)
