"""What the commands have in common that carry a flow on a registered model out: its file or name,
the day, how it is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from data_contracts.recipe.asking import AskingRecipe
    from flows.running.asking_run import Came

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound="AskingRecipe")
C = TypeVar("C", bound="Came")


def of_a_run(command: F) -> F:
    """The argument and the options of such a command."""
    return click.argument("recipe", metavar="NAME|FILE")(options_of_a_run(command))


def options_of_a_run(command: F) -> F:
    """How a run is described otherwise than its file says, and told."""
    for option in (
        click.option(
            "--json", "as_json", is_flag=True, help="Print the result as one JSON object."
        ),
        click.option(
            "--verbose", "-v", is_flag=True, help="Show every library's log and warnings."
        ),
        click.option(
            "--on",
            "day",
            type=click.DateTime(formats=["%Y-%m-%d"]),
            metavar="DATE",
            help="Day on which it is due; otherwise today.",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="FIELD=VALUE",
            help="Replace a field; may be given repeatedly.",
        ),
    ):
        command = option(command)
    return command


def find_asking(
    kind: type[R],
    name_or_file: str,
    overrides: tuple[str, ...],
    more: dict[str, Any] | None = None,
) -> R:
    """The file of such a flow by its path, or a deployment's by its name; overrides are laid over
    either, and so is what options of the command say (`more`).
    """
    from data_contracts.recipe.other_flows import load_section, parse_section
    from data_contracts.recipe.reading import merge, parse_set
    from flows.cli.named import find_named

    changes = {**dict(parse_set(text) for text in overrides), **(more or {})}
    if name_or_file.endswith((".yaml", ".yml", ".json")) or "/" in name_or_file:
        return load_section(kind, name_or_file, changes)
    found = find_named(name_or_file, kind.verb)
    return parse_section(kind, merge(found.recipe, changes), found.origin, found.base)


def run_in_terminal(
    verb: str,
    load: Callable[[], Callable[[], C]],
    lines: Callable[[C], Iterable[str]],
    *,
    verbose: bool,
    as_json: bool,
) -> C:
    """Run the flow, show how far it is, print what it came to (or the result as JSON).

    Args:
        verb: of the flow.
        load: imports the flow, and returns what runs it.
        lines: what a person is told of the result, beside its steps; marked up for rich.
    """
    from rich.console import Console

    from data_contracts.errors import printable_json
    from flows.cli.document import document
    from flows.cli.terminal import StageBars, how_to_look, run_flow, safe, stage_table
    from tasks.settings import Settings

    console, settings, started = Console(highlight=False, stderr=as_json), Settings(), time.time()
    with document(as_json) as out:
        result = run_flow(load, StageBars(console), settings, verbose=verbose)
        if as_json:
            print(printable_json(result.model_dump_json()), file=out)
            return result
    console.print(stage_table(f"{verb} {result.name}", result.stages))
    for warning in result.warnings:
        console.print(f"[bold yellow]note[/] {safe(warning)}", soft_wrap=True)
    console.print()
    for line in lines(result):
        console.print(line, soft_wrap=True)
    console.print(f"\n{time.time() - started:.0f} s in all. To look at this run:")
    for line in how_to_look(result, settings, result.report):
        console.print(line, soft_wrap=True)
    return result
