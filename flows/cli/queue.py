"""`noisefold queue`: the rows of a source that are most worth labelling, as a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.asking import find_asking, of_a_run, run_in_terminal

if TYPE_CHECKING:
    from data_contracts.recipe.queue import QueueRecipe
    from flows.running.queue_run import Queued


@click.command()
@of_a_run
@click.option(
    "--input",
    "-i",
    "table",
    metavar="PATH",
    help="Table of rows without labels; NAME|FILE is a recipe of a retrain then.",
)
@click.option("--output", "-o", metavar="PATH", help="Where the queue goes.")
@click.option(
    "--format",
    metavar="FORMAT",
    help="table (.csv, .jsonl, .parquet); label_studio (.json) or prodigy (.jsonl), tasks with "
    "what the model suggests.",
)
@click.option("--rows", type=click.IntRange(1, 100_000), help="How many; 100 by default.")
@click.option(
    "--by",
    type=click.Choice(["margin", "entropy", "least_confident", "bald"]),
    help="What counts as doubt; margin by default.",
)
@click.option("--spread/--no-spread", default=None, help="Not many rows that are alike.")
@click.option("--version", help="Alias or version number; champion by default.")
@click.option("--force", "replace", is_flag=True, help="Replace what --output names.")
def queue(  # noqa: PLR0913 - click gives each option by its name
    recipe: str,
    overrides: tuple[str, ...],
    day: datetime | None,
    verbose: bool,
    as_json: bool,
    table: str | None,
    output: str | None,
    **wished: Any,
) -> None:
    """Choose the rows that are most worth labelling: a deployment of prefect.yaml by NAME, or a
    queue FILE.

    \b
    noisefold queue queue.yaml
    noisefold queue mails.yaml --input new.csv --output to-label.csv --rows 200

    The rows that the model doubts most, and not many that are alike: the column of the answer is
    empty, for a person to fill in, with the model's suggestion beside it. Rows that have an answer,
    or that the model was trained on, are left out. Filled in, the file is a source like any other.
    With --input the recipe of a retrain tells the model and the columns.
    """
    from data_contracts.recipe.queue import QueueRecipe
    from data_contracts.recipe.reading import moved_path

    if not wished["replace"]:
        del wished["replace"]
    changes = {name: value for name, value in wished.items() if value is not None}
    if output is not None:
        changes["output"] = moved_path(output, Path.cwd())
    described = (
        find_asking(QueueRecipe, recipe, overrides, changes)
        if table is None
        else _of_a_recipe(recipe, overrides, {"source": {"url": table}, **changes})
    )

    def load() -> Callable[[], Queued]:
        from flows.queue_rows import queue as flow

        return lambda: flow(described, None, day)

    run_in_terminal("queue", load, _lines, verbose=verbose, as_json=as_json)


def _of_a_recipe(
    name_or_file: str, overrides: tuple[str, ...], wished: dict[str, Any]
) -> QueueRecipe:
    """A queue of a table, by the champion of a retrain's recipe, under its contract's columns."""
    from data_contracts.errors import NoisefoldError
    from data_contracts.recipe.other_flows import parse_section
    from data_contracts.recipe.queue import QueueRecipe
    from data_contracts.recipe.reading import merge, parse_set
    from flows.cli.main import find_recipe

    if "output" not in wished:
        raise NoisefoldError("Where the queue goes is not said.", "Name a file: --output.")
    recipe = find_recipe(name_or_file, ())
    columns, asked = recipe.contract.sources, [one.name for one in recipe.task.inputs]
    described: dict[str, Any] = {"name": recipe.name, "model": recipe.model_name, **wished}
    if len(asked) == 1:
        described["column"] = columns.get(asked[0])
    if recipe.contract.answer:
        described["answer"] = columns.get(recipe.contract.answer[0])
    described = merge(described, dict(parse_set(text) for text in overrides))
    return parse_section(QueueRecipe, described, name_or_file, Path.cwd())


def _lines(result: Queued) -> Iterator[str]:
    from flows.cli.terminal import safe
    from tasks.reports.queued import left_out

    how = "holds this queue already" if result.same else "is written"
    told = f"{result.queued:,} of {result.rows:,} rows, chosen by {result.model}."
    yield safe(f"{told} {left_out(result)}".rstrip())
    yield safe(f"{result.output} {how}.")
