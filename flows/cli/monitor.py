"""`noisefold monitor`: whether new rows are still like those that a model was measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from flows.cli.asking import find_asking, of_a_run, run_in_terminal

if TYPE_CHECKING:
    from flows.running.monitor_run import Monitored

DRIFT = 3  # exit code of an alarm, where one is asked for


@click.command()
@of_a_run
@click.option("--exit-code", is_flag=True, help="End with 3 where rows have drifted, for a script.")
@click.option(
    "--retrain",
    "deployment",
    metavar="DEPLOYMENT",
    help="Look at nothing now: have the Prefect server run this deployment at each drift.",
)
@click.pass_context
def monitor(  # noqa: PLR0913 - click gives each option by its name
    context: click.Context,
    recipe: str,
    overrides: tuple[str, ...],
    day: datetime | None,
    verbose: bool,
    as_json: bool,
    exit_code: bool,
    deployment: str | None,
) -> None:
    """Compare new rows with those that a registered model was measured on: a deployment of
    prefect.yaml by NAME, or a monitor FILE. An alarm on rows like those is as rare as its alpha.
    """
    from data_contracts.recipe.monitor import MonitorRecipe

    described = find_asking(MonitorRecipe, recipe, overrides)
    if deployment is not None:
        _retrain_at_drift(described.model, deployment)
        return

    def load() -> Callable[[], Monitored]:
        from flows.monitor import monitor as flow

        return lambda: flow(described, None, day)

    result = run_in_terminal("monitor", load, _lines, verbose=verbose, as_json=as_json)
    if exit_code and result.drifted:
        context.exit(DRIFT)


def _retrain_at_drift(model: str, deployment: str) -> None:
    from flows.cli.deploy import lasting_server
    from flows.cli.terminal import safe
    from tasks.settings import Settings

    with lasting_server(Settings()) as client:
        from tasks.operate.on_drift import retrain_on_drift

        click.echo(safe(retrain_on_drift(client, model, deployment)))


def _lines(result: Monitored) -> Iterator[str]:
    from flows.cli.terminal import safe

    for one in result.signals:
        mark = "[bold red]moved[/]" if one.drifted else "     "
        figures = f"{one.signal:<14} PSI {one.psi:6.3f}  p {one.adjusted_p:8.2g}  "
        yield f"{mark} {safe(figures)}{safe(one.before)} → {safe(one.now)}"
    word = "[bold red]Drift[/]" if result.drifted else "[bold green]No drift[/]"
    beside = f"{result.looked_at:,} rows beside {result.reference_rows:,} of {result.model}"
    yield f"{word}: {safe(beside)}."
