"""`noisefold score`: every row of a source, answered by a registered model, as a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from flows.cli.asking import find_asking, of_a_run, run_in_terminal

if TYPE_CHECKING:
    from flows.running.score_run import Scored


@click.command()
@of_a_run
def score(
    recipe: str, overrides: tuple[str, ...], day: datetime | None, verbose: bool, as_json: bool
) -> None:
    """Answer every row of a source with a registered model: a deployment of prefect.yaml by NAME,
    or a score FILE. Killed, the same command goes on behind the last answer.
    """
    from data_contracts.recipe.score import ScoreRecipe

    described = find_asking(ScoreRecipe, recipe, overrides)

    def load() -> Callable[[], Scored]:
        from flows.score import score as flow

        return lambda: flow(described, None, day)

    run_in_terminal("score", load, _lines, verbose=verbose, as_json=as_json)


def _lines(result: Scored) -> Iterator[str]:
    from flows.cli.terminal import safe

    how = "holds these answers already" if result.same else "is written"
    answered = result.rows - result.refused
    yield safe(f"{answered:,} of {result.rows:,} rows answered by {result.model}.")
    yield safe(f"{result.output} {how}.")
