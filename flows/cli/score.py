"""`noisefold score`: every row of a source, answered by a registered model, as a run of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from data_contracts.recipe.score import ScoreRecipe
    from flows.running.score_run import Scored


@click.command()
@click.argument("recipe", metavar="NAME|FILE")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Replace a field; may be given repeatedly.",
)
@click.option(
    "--on",
    "day",
    type=click.DateTime(formats=["%Y-%m-%d"]),
    metavar="DATE",
    help="Day on which it is due; otherwise today.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show every library's log and warnings.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def score(
    recipe: str, overrides: tuple[str, ...], day: datetime | None, verbose: bool, as_json: bool
) -> None:
    """Answer every row of a source with a registered model: a deployment of prefect.yaml by NAME,
    or a score FILE. Killed, the same command goes on behind the last answer.
    """
    score_in_terminal(find_score(recipe, overrides), day, verbose=verbose, as_json=as_json)


def find_score(name_or_file: str, overrides: tuple[str, ...]) -> ScoreRecipe:
    """A score's file by its path, or a deployment's by its name; overrides are laid over either."""
    from data_contracts.recipe.other_flows import load_section, parse_section
    from data_contracts.recipe.reading import merge, parse_set
    from data_contracts.recipe.score import ScoreRecipe
    from flows.cli.named import find_named

    changes = dict(parse_set(text) for text in overrides)
    if name_or_file.endswith((".yaml", ".yml", ".json")) or "/" in name_or_file:
        return load_section(ScoreRecipe, name_or_file, changes)
    found = find_named(name_or_file, "score")
    return parse_section(ScoreRecipe, merge(found.recipe, changes), found.origin, found.base)


def score_in_terminal(
    recipe: ScoreRecipe, day: datetime | None, *, verbose: bool, as_json: bool
) -> None:
    """Run the flow, show how far it is, print what it came to."""
    from rich.console import Console

    from data_contracts.errors import printable_json
    from flows.cli.document import document
    from flows.cli.terminal import StageBars, how_to_look, run_flow, safe, stage_table
    from tasks.settings import Settings

    console, settings, started = Console(highlight=False, stderr=as_json), Settings(), time.time()

    def load() -> Callable[[], Scored]:
        from flows.score import score as flow

        return lambda: flow(recipe, None, day)

    with document(as_json) as out:
        result = run_flow(load, StageBars(console), settings, verbose=verbose)
        if as_json:
            print(printable_json(result.model_dump_json()), file=out)
            return
    console.print(stage_table(f"score {result.score}", result.stages))
    for warning in result.warnings:
        console.print(f"[bold yellow]note[/] {safe(warning)}", soft_wrap=True)
    how = "holds these answers already" if result.same else "is written"
    answered = result.rows - result.refused
    console.print(
        safe(f"\n{answered:,} of {result.rows:,} rows answered by {result.model}."), soft_wrap=True
    )
    console.print(safe(f"{result.output} {how}."), soft_wrap=True)
    console.print(f"\n{time.time() - started:.0f} s in all. To look at this run:")
    for line in how_to_look(result, settings, result.report):
        console.print(line, soft_wrap=True)
