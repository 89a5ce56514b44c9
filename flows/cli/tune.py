"""`noisefold tune`: a search for a better recipe, here and now."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data_contracts.errors import NoisefoldError

if TYPE_CHECKING:
    from rich.console import Console

    from data_contracts.recipe.search import Search
    from data_contracts.recipe.searched import Searched
    from flows.running.tuning import SearchRun


@click.command()
@click.argument("search", metavar="NAME|FILE")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.yaml",
    help="Write the winner here, a recipe.",
)
@click.option("--force", is_flag=True, help="Replace what --out names.")
@click.option("--budget", metavar="10m", help="CPU time of the trainings, in place of the file's.")
@click.option("--trials", type=int, metavar="N", help="Most trials, in place of the file's.")
@click.option("--report", is_flag=True, help="Run nothing: what there is by now.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Replace a field of the recipe that all trials share; may be given repeatedly.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show every library's log and warnings.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
def tune(  # noqa: PLR0913 - click gives each option by its name
    search: str,
    out: Path | None,
    force: bool,
    budget: str | None,
    trials: int | None,
    report: bool,
    overrides: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> None:
    """Search for a better recipe, after a search FILE or a deployment of prefect.yaml by NAME.

    \b
    noisefold tune search.yaml --budget 10m --out winner.yaml
    noisefold retrain winner.yaml

    Trials are judged on the valid split. The same command goes on where it stopped, and with a
    larger budget where it ended.
    """
    from flows.cli.main import shown

    given = {"budget": budget, "trials": trials}
    changed = {name: value for name, value in given.items() if value is not None}
    found = find_search(search, overrides, changed)
    if out is not None:
        check_out(out, force=force)
    options = [
        *(part for text in overrides for part in ("--set", text)),
        *(part for name, value in changed.items() for part in (f"--{name}", str(value))),
    ]
    command = shlex.join(["noisefold", "tune", shown(search), *options])
    asked = Asked(found, command, out, run=not report, verbose=verbose, as_json=as_json)
    tune_in_terminal(asked)


def find_search(name_or_file: str, overrides: tuple[str, ...], changed: dict[str, Any]) -> Search:
    """A search file, or a deployment's search by its name.

    Args:
        overrides: of the recipe.
        changed: fields of the search that the command names.
    Raises:
        RecipeError: with one line per fault.
    """
    from data_contracts.recipe.reading import parse_set
    from data_contracts.recipe.search_file import parse_search
    from data_contracts.yaml_text import read_yaml
    from flows.cli.main import find_recipe
    from flows.cli.named import find_named

    if name_or_file.endswith((".yaml", ".yml", ".json")) or "/" in name_or_file:
        data, base = read_yaml(name_or_file), Path(name_or_file).resolve().parent
        origin = name_or_file
    else:
        named = find_named(name_or_file, "tune")
        data, base, origin = named.recipe, named.base, named.origin
    if isinstance(data, dict):
        data = {**data, **changed}
    changes = dict(parse_set(text) for text in overrides)

    def find(name: str, folder: Path) -> Any:
        return find_recipe(name, overrides, folder)

    return parse_search(data, origin, base, changes, find)


def check_out(out: Path, *, force: bool) -> None:
    """Before anything runs: a winner that cannot be written has cost its search.

    Raises:
        NoisefoldError: it is there already, or its folder is not.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise NoisefoldError(
            f"--out {out}: the winner is a recipe.", "Give it a name that ends in .yaml."
        )
    if out.exists() and not force:
        raise NoisefoldError(
            f"{out} is there already.", "Choose another name, or give --force to replace it."
        )
    if not out.resolve().parent.is_dir():
        raise NoisefoldError(f"{out}: there is no folder {out.parent}.", "Make it first.")


@dataclass(frozen=True)
class Asked:
    """What the command was asked for."""

    search: Search
    command: str
    out: Path | None
    run: bool
    verbose: bool
    as_json: bool


def tune_in_terminal(asked: Asked) -> None:
    """Run the search (or nothing), print what was found, write the winner."""
    from rich.console import Console

    from data_contracts.errors import printable_json
    from flows.cli.document import document
    from flows.cli.terminal import how_to_look, safe
    from tasks.settings import Settings

    console, settings = Console(highlight=False, stderr=asked.as_json), Settings()
    look: list[str] = []
    with document(asked.as_json) as stdout:
        if asked.run:
            result = run_search(asked.search, asked.command, console, verbose=asked.verbose)
            found, look = result.found, how_to_look(result, settings)
        else:
            found = _so_far(asked)
        if asked.out is not None:
            look = [*_write_winner(asked, found), *look]
        if asked.as_json:
            print(printable_json(found.model_dump_json(exclude_none=True)), file=stdout)
            return
    print_search(console, found)
    for line in look:
        console.print(safe(line), soft_wrap=True)


def run_search(search: Search, command: str, console: Console, *, verbose: bool) -> SearchRun:
    """The flow, with its progress on the terminal."""
    from flows.cli.terminal import TrialBars, run_flow
    from tasks.settings import Settings

    def load() -> Callable[[], SearchRun]:
        from flows.tune import tune as flow

        return lambda: flow(search, command)

    return run_flow(load, TrialBars(console), Settings(), verbose=verbose)


def _so_far(asked: Asked) -> Searched:
    from flows.cli.terminal import quiet
    from flows.running.environment import switches
    from tasks.settings import Settings

    with quiet(asked.verbose):
        switches()
        from flows.running.due import by_machine
        from tasks.searching.board import finished_search

        search = asked.search.on(by_machine().day)
        found = finished_search(search, Settings(), asked.command)
    if found is None:
        raise NoisefoldError(
            f"The search {asked.search.name} has not run on these rows.",
            "Leave --report out to run it.",
        )
    return found


def _write_winner(asked: Asked, found: Searched) -> list[str]:
    from tasks.searching.table import sentences
    from tasks.searching.winner import check_written, winner_yaml

    assert asked.out is not None
    if found.winner is None:
        return [f"{asked.out} is not written: there is no winner."]
    won = found.trial(found.winner)
    recipe = asked.search.recipe_of(won.overrides, asked.search.seeds[0])
    heading = [f"Found by `{found.command}`.", *sentences(found)]
    text = winner_yaml(recipe, heading, asked.out.resolve().parent)
    check_written(text, asked.out, recipe)
    return [f"Wrote {asked.out}. Read it through, then: noisefold retrain {asked.out}"]


def print_search(console: Console, found: Searched, most: int = 12) -> None:
    """The finalists, the best trials, and what they come to."""
    from rich.box import SIMPLE
    from rich.table import Table

    from flows.cli.terminal import safe
    from tasks.reports.html import cell
    from tasks.searching.table import finalists_table, sentences, trials_table

    console.print(f"[bold]{safe(found.name)}[/], {found.valid_rows:,} valid rows")
    for block in (trials_table(found, most), finalists_table(found)):
        if block is None:
            continue
        table = Table(box=SIMPLE)
        for column in block.columns:
            left = column in ("trial", "state", "changes")
            table.add_column(column, justify="left" if left else "right", overflow="fold")
        for row in block.rows:
            table.add_row(*(safe(str(cell(value))) for value in row))
        console.print(table)
    if (left := len(found.trials) - most) > 0:
        console.print(f"And {left:,} more trials: --json has them all.")
    for line in sentences(found):
        console.print(safe(line), soft_wrap=True)
