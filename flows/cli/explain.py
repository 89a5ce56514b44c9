"""`noisefold explain`: what carried the answers to texts at hand, or to the rows of a source as a
run of its own. Light: the command line imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from data_contracts.errors import NoisefoldError
from flows.cli.asking import find_asking, options_of_a_run, run_in_terminal

if TYPE_CHECKING:
    from flows.running.explain_run import Explained


@click.command()
@click.argument("texts", nargs=-1)
@click.option(
    "--model",
    metavar="NAME",
    help="Registered model; without it noisefold-sample, or the only one that there is.",
)
@click.option("--version", "alias", help="Alias or version number; champion by default.")
@click.option(
    "--target",
    metavar="ANSWER",
    help="Explain this in place of the model's own answer: a label; of a ranking the place (1 is "
    "the best); of a text that is read, words in it.",
)
@click.option(
    "--rows",
    "described",
    metavar="NAME|FILE",
    help="Explain the rows of a source, as a run of its own: a deployment of prefect.yaml, or a "
    "file.",
)
@options_of_a_run
def explain(  # noqa: PLR0913 - click gives each option by its name
    texts: tuple[str, ...],
    model: str | None,
    alias: str | None,
    target: str | None,
    described: str | None,
    overrides: tuple[str, ...],
    day: datetime | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Tell which tokens of TEXTS, or of the lines of standard input, carried the champion's answer.

    \b
    noisefold explain "the room was cold and the staff were rude"
    noisefold explain --target positive --json < reviews.txt
    noisefold explain --rows explanations.yaml

    Integrated gradients: what the tokens add sums up to the score of the answer above that of
    unknown tokens. Each explanation is checked by deletion: how far the score falls without its
    strongest fifth, and without as many tokens at random. A model that is asked two texts (a
    question and its context) takes them one after the other, or from standard input as JSON Lines.
    Killed, --rows goes on behind the last row that is explained.
    """
    if described is not None:
        if texts or model or alias or target:
            raise NoisefoldError(
                "--rows explains the rows of a source, and something else is named to explain.",
                "Say it in the file, or by --set: model=…, version=…, target=….",
            )
        _explain_rows(described, overrides, day, verbose=verbose, as_json=as_json)
        return
    if overrides or day or verbose:
        raise NoisefoldError(
            "--set, --on and --verbose are of a run of its own, and none is named.",
            "Leave them out, or name it: --rows FILE.",
        )
    from flows.cli.explained import explain_in_terminal

    explain_in_terminal(list(texts), (model, alias or "champion"), target, as_json=as_json)


def _explain_rows(
    name_or_file: str,
    overrides: tuple[str, ...],
    day: datetime | None,
    *,
    verbose: bool,
    as_json: bool,
) -> None:
    from data_contracts.recipe.explain import ExplainRecipe

    described = find_asking(ExplainRecipe, name_or_file, overrides)

    def load() -> Callable[[], Explained]:
        from flows.explain import explain as flow

        return lambda: flow(described, None, day)

    run_in_terminal("explain", load, _lines, verbose=verbose, as_json=as_json)


def _lines(result: Explained) -> Iterator[str]:
    from flows.cli.terminal import safe

    how = "holds these explanations already" if result.same else "is written"
    explained = result.rows - result.refused
    yield safe(f"{explained:,} of {result.rows:,} answers of {result.model} explained.")
    yield safe(f"{result.output} {how}.")
