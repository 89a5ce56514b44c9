"""Every command in a page is one that there is: its name, its options, their values.

Carried out are those of docs/tutorial.md and of README's own-data block (`test_tutorial.py`). All
others are read by the very parsers that would read them, and run nothing: click's for noisefold
and mlflow, Prefect's own for prefect; of `make` the target, of `python -m` the module is looked up.
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from importlib.util import find_spec
from uuid import UUID

import click
import pytest

from flows.cli.main import main
from tests.docs.pages import PAGES, REPOSITORY, SHELL, Command, commands, inline, name_of

MAKE = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M)


def parsed(program: click.Command, name: str, words: list[str], *, whole: bool = True) -> None:
    """
    Args:
        whole: nothing may be left out, as it may in a sentence.
    Raises:
        click.ClickException: as the command line would.
    """
    context: click.Context | None = None
    while isinstance(program, click.Group):
        context = program.make_context(name, [*words], parent=context, resilient_parsing=False)
        found, command, words = program.resolve_command(context, [*context._protected_args, *context.args])  # fmt: skip
        assert found is not None and command is not None
        name, program = found, command
    try:
        program.make_context(name, [*words], parent=context)
    except (click.MissingParameter, click.BadOptionUsage) as fault:
        # Within a sentence an option may be named without its value.
        if whole or (
            not fault.format_message().endswith("requires an argument.")
            and not isinstance(fault, click.MissingParameter)
        ):
            raise


@cache
def mlflow() -> click.Command:
    with warnings.catch_warnings():
        # Of its own type hints, as it is imported.
        warnings.simplefilter("ignore", UserWarning)
        from mlflow.cli import cli
    return cli


def prefect(words: list[str]) -> None:
    from prefect.cli._app import _app

    # What a page calls ID is a UUID.
    words = [str(UUID(int=0)) if word == "ID" else word for word in words]
    words = [word for word in words if word not in ("--no-prompt", "--prompt")]
    _app.parse_args(words, exit_on_error=False, print_error=False)


def read(call: list[str], *, whole: bool) -> None:
    program, *words = call
    if not whole and words == ["…"]:
        return
    if program == "noisefold":
        parsed(main, "noisefold", words, whole=whole)
    elif program == "mlflow":
        parsed(mlflow(), "mlflow", words, whole=whole)
    elif program == "prefect":
        prefect(words)
    elif program == "make":
        targets = [word for word in words if "=" not in word]
        assert set(targets) <= set(MAKE), f"make has no target {targets}"
    elif program in ("python", "python3") and words[:1] == ["-m"]:
        if words[1] == "noisefold":
            read(["noisefold", *words[2:]], whole=whole)
        assert find_spec(words[1]) is not None, f"there is no module {words[1]}"
    else:
        assert program in {"python", "python3", "git", *SHELL}, f"{program} is not known here"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_is_one_that_there_is(page) -> None:
    told = [*((one, True) for one in commands(page)), *((one, False) for one in inline(page))]
    faults = [
        f"{command}: {fault}"
        for command, whole in told
        for call in command.calls
        if (fault := fault_of(call, whole=whole))
    ]
    assert faults == []


def fault_of(call: list[str], *, whole: bool) -> str | None:
    """What the parser that would read a command says against it."""
    try:
        read(call, whole=whole)
    except click.exceptions.Exit:
        return None  # --help and --version
    except click.ClickException as fault:
        return fault.format_message()
    except Exception as fault:
        known = isinstance(fault, AssertionError | ValueError | ModuleNotFoundError)
        if not known and not type(fault).__module__.startswith("cyclopts"):
            raise
        return str(fault) or type(fault).__name__
    return None


@pytest.mark.parametrize(
    "line",
    [
        "noisefold retrain mails.yaml --sett training.max_epochs=1",
        "noisefold retrian mails.yaml",
        "noisefold predict --format xlsx a b",
        "noisefold promote 7",
        "prefect deploy --al",
        "prefect work-pol create noisefold --type process",
        "mlflow models serv -m models:/x",
        "mlflow models serve --modell-uri models:/x",
        "make retrian",
        "python -m benchmarks.gold",
        "noisefould doctor",
        "cat a.txt | noisefold predict --modell x",
    ],
)
def test_a_slip_of_the_pen_is_found(line) -> None:
    calls = Command("a page", 1, line).calls
    assert any(fault_of(call, whole=True) for call in calls)


def test_blocks_comments_and_continued_lines_are_read_as_a_shell_reads_them(tmp_path) -> None:
    page = REPOSITORY / "docs" / "x.md"
    block = "cat > a <<'X'\nnoisefold x\nX\n# no\nA=b noisefold plan \\\n  r.yaml > out # yes\n"
    found = commands(page, (7, block))
    assert [(one.line, one.calls) for one in found] == [
        (7, [["cat"]]),
        (11, [["noisefold", "plan", "r.yaml"]]),
    ]
