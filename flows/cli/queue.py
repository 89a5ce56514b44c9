"""The command `noisefold queue`. Light: the command line imports it."""

from __future__ import annotations

import click


@click.command()
@click.argument("recipe", metavar="NAME|FILE")
@click.option(
    "--input", "-i", "table", required=True, metavar="PATH", help="Table of rows without labels."
)
@click.option(
    "--output",
    "-o",
    required=True,
    metavar="PATH",
    help="Where the queue goes: .csv, .jsonl or .parquet.",
)
@click.option(
    "--rows", default=100, show_default=True, type=click.IntRange(1, 100_000), help="How many."
)
@click.option(
    "--by",
    "measure",
    default="margin",
    show_default=True,
    type=click.Choice(["margin", "entropy", "least_confident"]),
    help="What counts as doubt.",
)
@click.option("--spread/--no-spread", default=True, help="Not many rows that are alike.")
@click.option(
    "--version", "alias", default="champion", show_default=True, help="Alias or version number."
)
@click.option("--force", is_flag=True, help="Replace what --output names.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON object.")
def queue(  # noqa: PLR0913 - click gives each option by its name
    recipe: str,
    table: str,
    output: str,
    rows: int,
    measure: str,
    spread: bool,
    alias: str,
    force: bool,
    as_json: bool,
) -> None:
    """Choose the rows that are most worth labelling, by the champion of a recipe.

    \b
    noisefold queue mails.yaml --input new.csv --output to-label.csv --rows 200

    The rows that the model doubts most, and not many that are alike, under the columns that the
    recipe's contract names: the answer's is empty, for a person to fill in, with the model's
    suggestion beside it. Rows that have an answer, or that the model was trained on, are left out.
    Filled in, the file is a source like any other.
    """
    from flows.cli.main import find_recipe
    from flows.cli.queued import Given, queue_in_terminal

    given = Given(table, output, force, alias)
    queue_in_terminal(find_recipe(recipe, ()), given, (rows, measure, spread), as_json=as_json)
