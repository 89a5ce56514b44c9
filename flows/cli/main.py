"""The `noisefold` command: a thin door to the flows. Heavy imports stand inside the commands that
need them.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data_contracts.errors import NoisefoldError, RecipeError, printable, stop_signal
from flows.cli.explain import explain
from flows.cli.export import export
from flows.cli.monitor import monitor
from flows.cli.params import OfParams, written_params
from flows.cli.queue import queue
from flows.cli.score import score
from flows.cli.tune import tune
from flows.running.signals import dropped_are_sent_again

if TYPE_CHECKING:
    from data_contracts.recipe.recipe import Recipe

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Friendly(click.Group):
    """Shows a fault that the user can mend as cause and remedy, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with terminable():
                return super().invoke(ctx)
        except NoisefoldError as error:
            show_error(error.cause, error.remedy)
            ctx.exit(1)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except BaseException as error:
            stop = stop_signal(error)
            if stop is None:
                raise
            click.echo(
                "Stopped. What is finished is kept; the same command goes on from there.", err=True
            )
            ctx.exit(130 if isinstance(stop, KeyboardInterrupt) else 143)


class Terminated(BaseException):
    """SIGTERM arrived."""


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that processes are ended and runs are closed on
    the way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_it(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, raise_it)
    try:
        with dropped_are_sent_again():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.group(cls=Friendly, context_settings=CONTEXT)
@click.version_option(package_name="noisefold", prog_name="noisefold")
def main() -> None:
    """Retrain text classifiers on a schedule: train with noise on the weights, fold it away, ship a
    plain network.

    State lives in $NOISEFOLD_HOME (default .noisefold); MLFLOW_TRACKING_URI and PREFECT_API_URL
    point at real servers.
    """


main.add_command(explain)
main.add_command(export)
main.add_command(queue)

_set = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Replace a field; may be given repeatedly.",
)


main.add_command(score)
main.add_command(monitor)
main.add_command(tune)

_DAY = click.DateTime(formats=["%Y-%m-%d"])
_model = click.option(
    "--model",
    metavar="NAME",
    help="Registered model; without it noisefold-sample, or the only one that there is.",
)


@main.command()
@click.argument("recipe", default="sample", metavar="[NAME|FILE]")
@_set
@click.option("--verbose", "-v", is_flag=True, help="Show every library's log and warnings.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result as one JSON object instead of the summary.",
)
def retrain(recipe: str, overrides: tuple[str, ...], verbose: bool, as_json: bool) -> None:
    """Run a retrain here and now: a deployment of prefect.yaml by NAME, or a recipe FILE."""
    parsed = find_recipe(recipe, overrides)
    from flows.cli.terminal import run_in_terminal

    run_in_terminal(parsed, verbose=verbose, as_json=as_json)


@main.command()
@click.argument("recipe", default="sample", metavar="[NAME|FILE]")
@_set
@click.option(
    "--on", "day", type=_DAY, metavar="DATE", help="Day on which it is due; otherwise today."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per stage.")
def plan(recipe: str, overrides: tuple[str, ...], day: datetime | None, as_json: bool) -> None:
    """Say which stages a retrain would find finished, which it would run, and why. Runs nothing."""
    parsed = find_recipe(recipe, overrides)
    from flows.cli.operate import plan_in_terminal
    from flows.running.due import by_machine

    plan_in_terminal(parsed, day.date() if day else by_machine().day, as_json=as_json)


@main.command()
@click.argument("recipe", required=False, metavar="[NAME|FILE]")
@_set
@click.option("--cron", metavar="EXPRESSION", help='When it is due, such as "0 3 * * *".')
@click.option("--interval", metavar="6h", help="Or how often: a number and s, m, h, d or w.")
@click.option(
    "--timezone",
    "zone",
    metavar="ZONE",
    help="Of the schedule, such as Asia/Shanghai; UTC without it.",
)
@click.option(
    "--flow",
    type=click.Choice(["retrain", "score", "queue", "explain", "monitor", "tune"]),
    help="What FILE describes; a retrain without it, and of a NAME what prefect.yaml says.",
)
@click.option("--name", metavar="NAME", help="Of the deployment; otherwise the recipe's name.")
@click.option(
    "--work-pool",
    "pool",
    default="noisefold",
    show_default=True,
    metavar="POOL",
    help="Whose worker carries it out; made, as a process pool, where there is none.",
)
@click.option("--paused", is_flag=True, help="Deploy it asleep; --resume wakes it.")
@click.option(
    "--by-path",
    is_flag=True,
    help="Each run reads FILE anew; otherwise the recipe is the one of now.",
)
@click.option(
    "--replace", is_flag=True, help="Take the place of another recipe's deployment of that name."
)
@click.option("--unchecked", is_flag=True, help="Even if its source is not there yet.")
@click.option(
    "--list",
    "listing",
    is_flag=True,
    help="Show the deployments that there are, and when each is due.",
)
@click.option("--pause", metavar="NAME", help="Its schedules start nothing until --resume.")
@click.option("--resume", metavar="NAME", help="Wake it, and all its schedules.")
@click.option("--remove", metavar="NAME", help="Take it away; what it has trained stays.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per deployment.")
def deploy(  # noqa: PLR0913 - click gives each option by its name
    recipe: str | None,
    overrides: tuple[str, ...],
    cron: str | None,
    interval: str | None,
    zone: str | None,
    flow: str | None,
    name: str | None,
    pool: str,
    paused: bool,
    by_path: bool,
    replace: bool,
    unchecked: bool,
    listing: bool,
    pause: str | None,
    resume: str | None,
    remove: str | None,
    as_json: bool,
) -> None:
    """Have a recipe retrained on a schedule, or look after what is deployed. What the other
    commands read from a file (score, queue, explain --rows, monitor, tune) is deployed as well.

    \b
    noisefold deploy mails.yaml --cron "0 3 * * *" --timezone Asia/Shanghai
    noisefold deploy mails.yaml           # after a change of the file; the schedule stays
    noisefold deploy scores.yaml --flow score --cron "0 5 * * *"
    noisefold deploy --list
    noisefold deploy --pause mails        # and --resume mails, --remove mails

    It needs a Prefect server: that of `noisefold ui` on this state folder, or PREFECT_API_URL. The
    recipe and the first rows of its source are checked before. Paths and the state folder are those
    of this command, so deploy on the machine of the worker.
    """
    managed = {"pause": pause, "resume": resume, "remove": remove}
    named = [(action, target) for action, target in managed.items() if target is not None]
    asked = [*(["RECIPE"] if recipe else []), *(["--list"] if listing else [])]
    asked += [f"--{action}" for action, _ in named]
    if len(asked) != 1:
        told = " and ".join(asked) + " are given" if asked else "Nothing is named to deploy"
        raise NoisefoldError(
            f"{told}.", "Give a recipe, or one of --list, --pause, --resume and --remove."
        )
    from flows.cli import deploy as door

    if listing:
        door.list_in_terminal(as_json=as_json)
        return
    for action, target in named:
        door.manage_in_terminal(action, target)
        return
    assert recipe is not None
    is_file = recipe.endswith((".yaml", ".yml", ".json")) or "/" in recipe
    if by_path and (overrides or not is_file):
        raise NoisefoldError(
            "--by-path is for a recipe FILE as it stands, "
            f"and {'--set changes it' if overrides else recipe + ' names none'}.",
            "Leave out --by-path, or write the change into the file.",
        )
    from flows.cli.deployable import find_deployable

    found = find_deployable(flow, recipe, overrides, is_file=is_file)
    if by_path and found.flow == "tune":
        raise NoisefoldError(
            "--by-path: a search is deployed as it stands, with the recipe that it names.",
            "Leave out --by-path, and deploy again after a change.",
        )
    path = Path(recipe).resolve()
    door.deploy_in_terminal(
        door.Asked(
            subject=found,
            origin=str(path) if is_file else f"{recipe} of prefect.yaml",
            file=path if by_path else None,
            name=name,
            pool=pool,
            paused=paused,
            replace=replace,
            checked=not unchecked,
            as_json=as_json,
        ),
        door.When(cron, interval, zone),
    )


@main.command()
@click.argument("recipe", metavar="NAME|FILE")
@click.option(
    "--from",
    "first",
    required=True,
    type=_DAY,
    metavar="DATE",
    help="First day on which a run was due.",
)
@click.option("--to", "last", required=True, type=_DAY, metavar="DATE", help="And the last one.")
@click.option(
    "--cron",
    metavar="EXPRESSION",
    help="What of these days was due; otherwise the deployment's schedule, or each day.",
)
@click.option(
    "--timezone",
    "zone",
    metavar="ZONE",
    help="By whose clock; otherwise the deployment's schedule's, or this machine's.",
)
@click.option(
    "--promote", is_flag=True, help="Let each compete for champion; otherwise no alias moves."
)
@click.option(
    "--stop",
    is_flag=True,
    help="Stop at the first night that fails; otherwise go on, and tell at the end.",
)
@_set
@click.option("--verbose", "-v", is_flag=True, help="Show every library's log and warnings.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per night.")
@click.pass_context
def backfill(  # noqa: PLR0913 - click gives each option by its name
    context: click.Context,
    recipe: str,
    first: datetime,
    last: datetime,
    cron: str | None,
    zone: str | None,
    promote: bool,
    stop: bool,
    overrides: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> None:
    """Run the nights of past days here, the oldest first: a retrain per day that was due.

    \b
    noisefold backfill mails.yaml --from 2026-11-01 --to 2026-11-07

    NAME is a deployment of the server, with its schedule, or of prefect.yaml. Each night reads the
    window of days that it would have read. What is finished is found, so the same command goes on
    where it stopped. An old night is registered and judged, and takes nobody's place unless
    --promote is given. The exit code is 1 where a night failed.
    """
    from flows.cli.backfill import Nights, backfill_in_terminal, begin, instants

    begin(verbose=verbose)
    nights = Nights(first.date(), last.date(), cron, zone)
    parsed, rules = deployed_recipe(recipe, overrides)
    when = instants(nights, [] if cron else rules)
    well = backfill_in_terminal(
        parsed, when, promote=promote, stop=stop, verbose=verbose, as_json=as_json
    )
    if not well:
        context.exit(1)


def deployed_recipe(recipe: str, overrides: tuple[str, ...]) -> tuple[Recipe, list[Any]]:
    """A recipe file, a deployment of the server with its active schedules, or one of
    prefect.yaml.
    """
    from flows.cli.backfill import deployed
    from tasks.settings import Settings

    is_file = recipe.endswith((".yaml", ".yml", ".json")) or "/" in recipe
    found = None if is_file else deployed(recipe, Settings())
    if found is None:
        return find_recipe(recipe, overrides), []
    from data_contracts.recipe.reading import merge, parse_recipe, parse_set

    parameters, rules = found
    if (file := parameters.get("recipe_file")) is not None:
        return find_recipe(file, overrides), rules
    changes = dict(parse_set(text) for text in overrides)
    data = merge(parameters.get("recipe") or {"source": {"kind": "sample"}}, changes)
    return parse_recipe(data, origin=f"deployment {recipe}"), rules


@main.command()
@click.argument("file")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE.md",
    help="Table; FILE.json has its cells.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="VARIANT",
    help="Run this variant alone; may be given repeatedly.",
)
@click.option("--seeds", metavar="0,1", help="Run these of the grid's seeds alone.")
@click.option("--report", is_flag=True, help="Run nothing: the table of what is finished.")
@_set
@click.option("--verbose", "-v", is_flag=True, help="Show every library's log and warnings.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result as one JSON object instead of the table.",
)
def compare(  # noqa: PLR0913 - click gives each option by its name
    file: str,
    out: Path | None,
    only: tuple[str, ...],
    seeds: str | None,
    report: bool,
    overrides: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> None:
    """Compare variants of a recipe on the same rows, after a grid FILE; goes on where it stopped.

    --set changes the recipe that all variants share.
    """
    from data_contracts.recipe.comparison import load_comparison
    from data_contracts.recipe.reading import parse_set

    changes = dict(parse_set(text) for text in overrides)
    grid = load_comparison(file, changes, lambda name, base: find_recipe(name, overrides, base))
    if out is not None and out.suffix != ".md":
        raise NoisefoldError(
            f"--out {out}: the table is Markdown.", "Give it a name that ends in .md."
        )
    try:
        chosen = tuple(int(seed) for seed in seeds.split(",")) if seeds else ()
    except ValueError:
        raise NoisefoldError(
            f"--seeds {seeds}: expected whole numbers.", "For example --seeds 0,1."
        ) from None
    from flows.cli.terminal import Selection, compare_in_terminal

    # The command that makes the whole table: cells may have come from several, each with a
    # selection of its own.
    options = [*(("--set", text) for text in overrides), *([("--out", shown(out))] if out else [])]
    command = shlex.join(
        ["noisefold", "compare", shown(file), *(part for option in options for part in option)]
    )
    selection = Selection(only, chosen, out, command)
    compare_in_terminal(grid, selection, run=not report, verbose=verbose, as_json=as_json)


def shown(path: str | Path) -> str:
    """A path as it may stand in a file that others read: relative, or its name alone."""
    path = Path(path)
    if not path.is_absolute():
        return path.as_posix()
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.name


@main.command()
@click.argument("texts", nargs=-1)
@_model
@click.option(
    "--version", "alias", default="champion", show_default=True, help="Alias or version number."
)
@click.option(
    "--input",
    "-i",
    "table",
    metavar="FILE",
    help="A table of texts: a path or URL; - is standard input.",
)
@click.option(
    "--column", "-c", metavar="NAME", help="Its column of texts; otherwise text, or the only one."
)
@click.option(
    "--output", "-o", metavar="FILE", help="The table with the answers; - or none: standard output."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl", "json", "parquet"]),
    help="Of --input; otherwise its name's.",
)
@click.option("--encoding", default="utf-8", show_default=True, help="Text encoding of --input.")
@click.option(
    "--separator", help="Between the cells of --input; otherwise told by its name or its header."
)
@click.option("--force", is_flag=True, help="Replace what --output names.")
@click.option(
    "--strict",
    is_flag=True,
    help="Fail where a text is missing or empty; otherwise its row has no answer.",
)
@click.option(
    "--lines", is_flag=True, help="Standard input is a text per line, though it looks like a table."
)
@click.option(
    "--param",
    "params",
    metavar="NAME=VALUE",
    multiple=True,
    help="How a model that writes answers, as `write` has it (temperature=0.5); may be given "
    "repeatedly. Otherwise as its recipe says.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per line instead of a table."
)
def predict(  # noqa: PLR0913 - click gives each option by its name
    texts: tuple[str, ...],
    model: str | None,
    alias: str,
    table: str | None,
    column: str | None,
    output: str | None,
    kind: str | None,
    encoding: str,
    separator: str | None,
    force: bool,
    strict: bool,
    lines: bool,
    params: tuple[str, ...],
    as_json: bool,
) -> None:
    """Answer TEXTS, the lines of standard input, or the rows of a table, with the champion.

    \b
    noisefold predict "where is my parcel?"
    noisefold predict --input mails.csv --column body --output answers.parquet

    Tables are CSV, JSON or Parquet, by their names, compressed ones included. All columns are
    carried along; what the model answers (label, probability_<label>), reason and model are
    appended. A text that is missing or empty gets no answer, and the reason; how many did is told
    on standard error.
    """
    from flows.cli.predict import Asked, TableRequest, lines_in_terminal, table_in_terminal

    asked_of = Asked(model, alias, written_params(params))
    if table is None:
        for option, given in (("--column", column), ("--output", output), ("--format", kind)):
            if given is not None:
                raise NoisefoldError(
                    f"{option} is about a table, and there is none.", "Name one with --input."
                )
        lines_in_terminal(list(texts), asked_of, as_json=as_json, strict=strict, lines=lines)
        return
    if texts:
        raise NoisefoldError("Both texts and --input are given.", "Give one of them.")
    asked = TableRequest(table, output or "-", column, kind, encoding, separator, force, strict)
    table_in_terminal(asked, asked_of, as_json=as_json)


@main.command(cls=OfParams)
@click.argument("prompt", default="")
@_model
@click.option(
    "--version", "alias", default="champion", show_default=True, help="Alias or version number."
)
@click.option("--json", "as_json", is_flag=True, help="The whole answer as one JSON object.")
def write(prompt: str, model: str | None, alias: str, as_json: bool, **params: Any) -> None:
    """Write on from PROMPT with the champion of a language model; - is standard input.

    \b
    noisefold write "ROMEO:" --temperature 0.7 --max-tokens 500

    The text comes as it is written. The same model, prompt, parameters and seed give the same text
    on one machine.
    """
    from flows.cli.write import write_in_terminal

    write_in_terminal(prompt, model, alias, params, as_json=as_json)


@main.command(cls=OfParams)
@click.argument("texts", nargs=-1)
@_model
@click.option(
    "--version",
    "--alias",
    "alias",
    default="champion",
    show_default=True,
    help="Alias or version number.",
)
@click.option(
    "--input",
    "-i",
    "file",
    metavar="FILE",
    help="A text a line, or a table (.csv, .jsonl, .json, .parquet): a path or URL; - is standard "
    "input.",
)
@click.option(
    "--output",
    "--out",
    "-o",
    metavar="FILE",
    help="The translations, line by line, or the table with them; - or none: standard output.",
)
@click.option("--column", "-c", metavar="NAME", help="A table's column of texts; otherwise source.")
@click.option("--encoding", default="utf-8", show_default=True, help="Text encoding of --input.")
@click.option("--force", is_flag=True, help="Replace what --output names.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per text.")
def translate(  # noqa: PLR0913 - click gives each option by its name
    texts: tuple[str, ...],
    model: str | None,
    alias: str,
    file: str | None,
    output: str | None,
    column: str | None,
    encoding: str,
    force: bool,
    as_json: bool,
    **params: Any,
) -> None:
    """Translate TEXTS, the lines of standard input, or a file, with the champion.

    \b
    noisefold translate "Ein Hund läuft."
    noisefold translate --input test.de --output test.en --beam 8
    noisefold translate --input mails.csv --column body --output mails-en.csv

    A line of text gives one line, under its own number: blank ones stay blank, and line ends stay
    as they are. Of a table all columns are carried along, as predict does.
    """
    from flows.cli.lines import Request, answer_in_terminal

    said = {name: value for name, value in params.items() if value is not None}
    request = Request(file, output, column, encoding, force, as_json)
    command = click.get_current_context().info_name or ""
    answer_in_terminal(list(texts), request, (model, alias, said), command)


@main.command(cls=OfParams)
@click.argument("questions", nargs=-1)
@_model
@click.option(
    "--version", "alias", default="champion", show_default=True, help="Alias or version number."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per question.")
def ask(
    questions: tuple[str, ...], model: str | None, alias: str, as_json: bool, **params: Any
) -> None:
    """Answer QUESTIONS, or those of standard input, one a line, with the champion.

    \b
    noisefold ask "How do I send a parcel back?"
    noisefold ask --top 3 --json < questions.txt

    Each answer comes with its source and its probability; below the model's threshold it says that
    nobody has answered this, and what comes nearest. Tables: noisefold predict.
    """
    from flows.cli.ask import ask_in_terminal

    said = {name: value for name, value in params.items() if value is not None}
    command = click.get_current_context().info_name or ""
    ask_in_terminal(list(questions), (model, alias, said), command, as_json=as_json)


_unchecked = click.option(
    "--unchecked", is_flag=True, help="Even if it does not serve as it was measured."
)


@main.command()
@_model
@click.option("--limit", "-n", default=20, show_default=True, help="Newest moves to show; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per move, the oldest first.")
def history(model: str | None, limit: int, as_json: bool) -> None:
    """Show who is champion, and every move of an alias: when, who, from, to, why."""
    from flows.cli.terminal import history_in_terminal

    history_in_terminal(model, limit, as_json)


@main.command()
@click.argument("version")
@_model
@click.option("--why", required=True, help="For the ledger.")
@_unchecked
def promote(version: str, model: str | None, why: str, unchecked: bool) -> None:
    """Make VERSION (a number, or an alias such as challenger) champion, once it serves as it was
    measured.
    """
    from flows.cli.terminal import release_in_terminal

    release_in_terminal("promote", model, said(why), unchecked=unchecked, version=version)


@main.command()
@_model
@click.option("--why", default="Rolled back by hand.", show_default=True, help="For the ledger.")
@_unchecked
def rollback(model: str | None, why: str, unchecked: bool) -> None:
    """Make the previous champion champion again; safe to repeat.

    No retrain makes the version that goes champion again; `noisefold promote` can.
    """
    from flows.cli.terminal import release_in_terminal

    release_in_terminal("rollback", model, said(why), unchecked=unchecked)


def said(why: str) -> str:
    if not why.strip():
        raise NoisefoldError("--why is empty.", "Say why in a sentence: it stands in the ledger.")
    return why.strip()


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
def reconcile(dry_run: bool, as_json: bool) -> None:
    """Close runs, leases and temporary folders whose process is gone; safe to repeat, and beside
    runs that live.
    """
    from flows.cli.operate import reconcile_in_terminal

    reconcile_in_terminal(dry_run=dry_run, as_json=as_json)


@main.command()
@click.option(
    "--free",
    default=5.0,
    show_default=True,
    metavar="GB",
    help="Space that has to be free on each disk.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
@click.pass_context
def doctor(context: click.Context, free: float, as_json: bool) -> None:
    """Look whether all is well, and say what to do: servers, versions, disks, dead runs, champions,
    schedules.

    Changes nothing. The exit code is 1 where something fails.
    """
    from flows.cli.operate import doctor_in_terminal

    if not doctor_in_terminal(as_json=as_json, free_gigabytes=free):
        context.exit(1)


@main.command()
@click.option(
    "--keep",
    default=5,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=1),
    help="Newest retrains of each recipe, versions of each model and moves of the ledger that keep "
    "all they need.",
)
@click.option(
    "--older-than",
    default=30.0,
    show_default=True,
    metavar="DAYS",
    type=click.FloatRange(min=0),
    help="What is younger stays.",
)
@click.option("--apply", is_flag=True, help="Remove it; without this, only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print everything found as one JSON object.")
def gc(keep: int, older_than: float, apply: bool, as_json: bool) -> None:
    """Remove old artifacts and model versions that nothing needs; a dry run unless --apply is
    given.

    What an alias, a run under way, the newest runs of a recipe or the last moves of the ledger need
    stays, and so does a version that was rolled back. With --apply no run starts meanwhile; one
    that is under way is not disturbed.
    """
    from flows.cli.operate import gc_in_terminal

    gc_in_terminal(keep=keep, older_than_days=older_than, apply=apply, as_json=as_json)


@main.command()
@click.option(
    "--webhook",
    metavar="URL",
    envvar="NOISEFOLD_WEBHOOK",
    help="Of Slack, Mattermost, Google Chat or a receiver of your own, which gets JSON with the "
    "field text. Also by the variable NOISEFOLD_WEBHOOK.",
)
@click.option(
    "--email",
    "to",
    multiple=True,
    metavar="ADDRESS",
    help="Who gets mail; may be given repeatedly.",
)
@click.option(
    "--smtp",
    metavar="SERVER",
    help="smtp://HOST:25, starttls://USER@HOST:587 or smtps://USER@HOST:465; the password by the "
    "variable NOISEFOLD_SMTP_PASSWORD.",
)
@click.option(
    "--sender", metavar="ADDRESS", help="Whom mail comes from; otherwise the first --email."
)
@click.option("--promotions", is_flag=True, help="Tell of new champions too.")
@click.option("--test", is_flag=True, help="Send a test message by all that is set up.")
@click.option("--remove", is_flag=True, help="Take all of it away.")
def notify(  # noqa: PLR0913 - click gives each option by its name
    webhook: str | None,
    to: tuple[str, ...],
    smtp: str | None,
    sender: str | None,
    promotions: bool,
    test: bool,
    remove: bool,
) -> None:
    """Have somebody told of runs that fail, crash or start too late.

    \b
    noisefold notify --webhook https://hooks.example.com/… --test
    noisefold notify --email you@example.com --smtp smtp://mail.example.com:25

    The Prefect server sends: addresses and passwords stand in its blocks, as secrets. A second call
    replaces what the first one set. Without an option it says what there is.
    """
    from flows.cli.notify import Told, notify_in_terminal

    notify_in_terminal(Told(webhook, to, smtp, sender, promotions), test=test, remove=remove)


@main.command()
@click.option("--prefect-port", default=4200, show_default=True)
@click.option("--mlflow-port", default=5000, show_default=True)
def ui(prefect_port: int, mlflow_port: int) -> None:
    """Serve the Prefect and MLflow UIs on this machine's state until Ctrl-C."""
    from flows.cli.ui import serve

    serve(prefect_port, mlflow_port)


@main.group("recipe", cls=Friendly)
def recipe_group() -> None:
    """Look at, check and describe recipes."""


@recipe_group.command()
@click.argument("recipe", default="sample", metavar="[NAME|FILE]")
@_set
def show(recipe: str, overrides: tuple[str, ...]) -> None:
    """Print the whole recipe as YAML, defaults filled in."""
    import yaml

    document = find_recipe(recipe, overrides).model_dump(mode="json")
    text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
    shown = (
        text if text.replace("\n", "").isprintable() else yaml.safe_dump(document, sort_keys=False)
    )
    click.echo(shown, nl=False)


@recipe_group.command()
@click.argument("recipe", default="sample", metavar="[NAME|FILE]")
@_set
@click.option("--no-data", is_flag=True, help="Look at the recipe alone, and not at its source.")
def check(recipe: str, overrides: tuple[str, ...], no_data: bool) -> None:
    """Say whether a retrain would start well: every field of the recipe, and the first rows of its
    source.

    The source is opened, and its first 10,000 rows are judged by the contract.
    """
    parsed = find_recipe(recipe, overrides)
    click.echo(
        f"{printable(recipe)}: valid. Recipe {parsed.name}, model {parsed.model_name}, experiment "
        f"{parsed.experiment}."
    )
    if parsed.source.kind != "sample" and not no_data:
        from flows.cli.drafts import check_in_terminal

        check_in_terminal(parsed)


class OfRows(click.Command):
    """Has an option for each column that some kind of contract gives a role, known once it runs."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self.roles_are_there:
            from flows.cli.drafts import roles

            known = {name for one in self.params for name in (one.name, *one.opts)}
            here = next(at for at, one in enumerate(self.params) if one.name == "id")
            self.params[here:here] = [
                click.Option(
                    [f"--{role.replace('_', '-')}"],
                    metavar="COLUMN",
                    help=f"Column of the {role}; without FILE, a text file of them, one a line.",
                )
                for role in roles()
                if role not in known
            ]
            self.roles_are_there = True
        return super().get_params(ctx)

    roles_are_there = False


def _rows(command: Callable[..., None]) -> Callable[..., None]:
    """The rows that a command looks at, and how they are read."""
    for option in reversed(
        (
            click.argument("files", nargs=-1, metavar="FILE|FOLDER|GLOB|URL"),
            click.option(
                "--train", metavar="FILE", help="Rows of the train split, in place of FILE."
            ),
            click.option(
                "--valid",
                metavar="FILE",
                help="Rows of the valid split; left out, it is drawn from train.",
            ),
            click.option(
                "--test",
                metavar="FILE",
                help="Rows of the test split; left out, it is drawn from train.",
            ),
            click.option("--id", metavar="COLUMN", help="Column of unique row names."),
            click.option("--split", metavar="COLUMN", help="Column of train, valid and test."),
            click.option(
                "--encoding",
                help="Of CSV, JSON and text files, such as gb18030; otherwise found by their "
                "bytes.",
            ),
            click.option(
                "--separator",
                help="Of CSV cells: comma, semicolon, tab, bar or a character; otherwise found.",
            ),
            click.option(
                "--format",
                "format_",
                help="csv, jsonl, json, parquet or text; otherwise told by the name.",
            ),
            click.option(
                "--documents",
                help="What of plain text is a row: file, paragraph or line; otherwise file.",
            ),
            click.option("--name", help="Name of the data set; otherwise the file's or folder's."),
            click.option("--kind", help="Kind of task; otherwise told by the rows."),
        )
    ):
        command = option(command)
    return command


@recipe_group.command(cls=OfRows)
@_rows
@click.option(
    "--contract", "contract_file", help="Contract of these rows; otherwise one is drafted."
)
@click.option("--backbone", help="Folder of a pretrained model, if one is at hand.")
@click.option(
    "--measure",
    "budget",
    metavar="10m",
    help="Train what is worth trying, for so much CPU time, and write what did best on valid.",
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False), help="Write here instead of to the terminal."
)
def suggest(
    contract_file: str | None,
    backbone: str | None,
    budget: str | None,
    output: str | None,
    **asked: Any,
) -> None:
    """Write a recipe for the rows of a file, a folder or a glob, with a sentence of why for each
    choice.
    """
    from flows.cli.drafts import suggest_in_terminal

    suggest_in_terminal(asked, contract_file, backbone, output, budget)


@recipe_group.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from data_contracts.recipe.recipe import Recipe

    click.echo(json.dumps(Recipe.model_json_schema(), indent=2, ensure_ascii=False))


@main.group("contract", cls=Friendly)
def contract_group() -> None:
    """Draft data contracts."""


@contract_group.command(cls=OfRows)
@_rows
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False), help="Write here instead of to the terminal."
)
def infer(output: str | None, **asked: Any) -> None:
    """Draft a contract from the rows of a file, a folder or a glob: CSV, JSON Lines, Parquet or
    plain text, a path or a URL.
    """
    from flows.cli.drafts import infer_in_terminal

    infer_in_terminal(asked, output)


def find_recipe(name_or_file: str, overrides: tuple[str, ...], base: Path = Path()) -> Recipe:
    """A recipe file by its path (from `base`), or a deployment's recipe by its name; overrides are
    laid over either.
    """
    from data_contracts.recipe.reading import load_recipe, merge, parse_recipe, parse_set
    from flows.cli.named import find_named

    changes = dict(parse_set(text) for text in overrides)
    is_file = name_or_file.endswith((".yaml", ".yml", ".json"))
    if not is_file and (base / name_or_file).suffix and (base / name_or_file).exists():
        raise RecipeError(
            f"{name_or_file} is no recipe: a recipe is a file that ends in .yaml.",
            f"For rows, `noisefold recipe suggest {shlex.quote(name_or_file)} -o FILE.yaml` writes "
            f"one.",
        )
    if is_file or "/" in name_or_file:
        return load_recipe(base / name_or_file, changes)
    found = find_named(name_or_file, "retrain")
    data = merge(found.recipe, changes)
    return parse_recipe(data, origin=found.origin, base=found.base)


def show_error(cause: str, remedy: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from data_contracts.urls import redacted

    console = Console(stderr=True, highlight=False)
    console.print(
        Text("error: ", style="bold red") + Text(printable(redacted(cause))), soft_wrap=True
    )
    if remedy:
        console.print(Text("       ") + Text(printable(remedy)), soft_wrap=True)


if __name__ == "__main__":
    main()
