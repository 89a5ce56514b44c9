"""`noisefold deploy` in the terminal: what a flow is described by as a deployment that a schedule
starts, and what there is of them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_contracts.errors import NoisefoldError, printable_json
from data_contracts.urls import shown_url
from flows.cli.document import document
from flows.cli.terminal import check_prefect, quiet, safe, writable_home
from flows.running.environment import embed
from tasks.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

    from flows.cli.deployable import Deployable
    from tasks.operate.deployments import Deployed, Rule

# Of the checkout, by a link; in an installed package, a copy.
AUTOMATIONS = Path(__file__).parents[1] / "prefect-automations.yaml"
_TIMES = 3  # that are told


@dataclass(frozen=True)
class Asked:
    """What the command was asked for.

    Args:
        subject: what is deployed, of which flow.
        origin: where the recipe stands: its file, or the name by which prefect.yaml has it.
        file: the recipe's file, where runs are to read it anew.
    """

    subject: Deployable
    origin: str
    file: Path | None
    name: str | None
    pool: str
    paused: bool
    replace: bool
    checked: bool
    as_json: bool


@dataclass(frozen=True)
class When:
    """The options of the schedule."""

    cron: str | None
    interval: str | None
    zone: str | None


@contextmanager
def lasting_server(settings: Settings) -> Iterator[SyncPrefectClient]:
    """A client of a Prefect server that outlives the command: the one of PREFECT_API_URL, or that
    of `noisefold ui` on this state folder.

    Raises:
        NoisefoldError: there is none, or it does not answer.
    """
    with writable_home(settings), quiet(False):
        mode = embed(settings)
        if mode == "temporary":
            raise NoisefoldError(
                f"No Prefect server runs on the state folder {settings.root}, and schedules live "
                "on one.",
                "Start it in another terminal with `noisefold ui` and leave it running, or name "
                "one by PREFECT_API_URL=http://HOST:4200/api.",
            )
        check_prefect(mode)
        from tasks.liveness.dead_runs import prefect_client

        with prefect_client() as client:
            yield client


def deploy_in_terminal(asked: Asked, when: When) -> None:
    """Check what is to run, deploy it, and say when it runs next and what is missing for that."""
    settings, console = Settings(), Console(highlight=False)
    given = "PREFECT_API_URL" in os.environ
    with document(asked.as_json) as out, lasting_server(settings) as client:
        from tasks.operate.deployments import rule_of

        if when.zone is not None and when.cron is None and when.interval is None:
            raise NoisefoldError(
                "--timezone is of a schedule, and none is given.", "Give --cron or --interval too."
            )
        rule = rule_of(when.cron, when.interval, when.zone or "UTC")
        if asked.checked:
            asked.subject.check(settings)
        done = _deploy(client, asked, rule, settings)
        missing = list(_missing(client, done.deployment, given=given))
        if asked.as_json:
            content = {
                **facts(done.deployment),
                "new": done.is_new,
                "made": done.made,
                "missing": [{"what": what, "remedy": remedy} for what, remedy in missing],
            }
            print(printable_json(json.dumps(content, ensure_ascii=False)), file=out)
            return
        _tell(console, done, missing)


def _deploy(
    client: SyncPrefectClient, asked: Asked, rule: Rule | None, settings: Settings
) -> Deployed:
    import yaml
    from prefect.utilities.callables import parameter_schema

    from tasks.operate.deployments import ENTRYPOINTS, Wanted, deploy

    subject = asked.subject
    module, _, name = ENTRYPOINTS[subject.flow].rpartition(".")
    flow = getattr(import_module(module), name)
    wanted = Wanted(
        name=asked.name or subject.described.name,
        flow=subject.flow,
        subject=subject.described.name,
        words=subject.words,
        rolls=subject.rolls,
        parameters={"recipe_file": str(asked.file)}
        if asked.file is not None
        else {subject.field: subject.parameter()},
        origin=asked.origin,
        home=settings.root,
        pool=asked.pool,
        version=version("noisefold"),
        rule=rule,
        paused=asked.paused,
        replace=asked.replace,
    )
    (zombies,) = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))["automations"]
    schema = parameter_schema(flow).model_dump_for_openapi()
    return deploy(client, wanted, flow, schema, zombies)


def manage_in_terminal(action: str, name: str) -> None:
    """Pause, resume or remove a deployment, and say so."""
    console = Console(highlight=False)
    with lasting_server(Settings()) as client:
        from tasks.operate.deployments import ACTIONS

        found = ACTIONS[action](client, name)
        text = {
            "pause": f"is paused: its schedules start nothing. noisefold deploy --resume "
            f"{found.name} wakes it.",
            "resume": f"is awake. {_next(found) or 'It has no schedule.'}",
            "remove": "is removed. What its runs have made stays.",
        }[action]
        console.print(f"{safe(found.name)} {safe(text)}", soft_wrap=True)


def list_in_terminal(*, as_json: bool) -> None:
    """A row per deployment."""
    console = Console(highlight=False)
    with document(as_json) as out, lasting_server(Settings()) as client:
        from tasks.operate.deployments import deployments

        found = [facts(one) for one in deployments(client)]
        if as_json:
            for one in found:
                print(printable_json(json.dumps(one, ensure_ascii=False)), file=out)
            return
    if not found:
        console.print('Nothing is deployed: noisefold deploy FILE --cron "0 3 * * *"')
        return
    table = Table(box=SIMPLE)
    for column in ("name", "flow", "recipe", "schedule", "next", "pool"):
        table.add_column(column, overflow="fold")
    for one in found:
        following = "paused" if one["paused"] else (one["next"] or ["–"])[0]
        cells = (one["name"], one["flow"], one["recipe"])
        cells += (", ".join(one["schedules"]) or "by hand", following)
        table.add_row(*(safe(str(cell)) for cell in (*cells, one["pool"])))
    console.print(table)


def facts(deployment: DeploymentResponse) -> dict[str, Any]:
    """Of a deployment, as JSON."""
    from tasks.operate.deployments import flow_of, origin_of
    from tasks.operate.schedules import shown

    return {
        "name": deployment.name,
        "flow": flow_of(deployment),
        "id": str(deployment.id),
        "recipe": origin_of(deployment) or "(prefect deploy)",
        "paused": deployment.paused,
        "schedules": [shown(one) for one in deployment.schedules if one.active],
        "next": following(deployment),
        "pool": deployment.work_pool_name,
        "page": page(deployment),
    }


def following(deployment: DeploymentResponse) -> list[str]:
    """The next due times of its active schedules, each by the clock of its own zone."""
    from tasks.operate.schedules import due_times

    found = []
    for one in deployment.schedules:
        if one.active and not deployment.paused:
            zone = getattr(one.schedule, "timezone", None) or "UTC"
            found += [(due, zone) for due in due_times(one.schedule, _TIMES)]
    return [
        f"{due.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"
        for due, zone in sorted(found)[:_TIMES]
    ]


def page(deployment: DeploymentResponse) -> str:
    """Its address in Prefect's pages."""
    from prefect.utilities.urls import url_for

    return shown_url(url_for("deployment", deployment.id) or str(deployment.id))


def _next(deployment: DeploymentResponse) -> str:
    times = following(deployment)
    return f"It comes due next at {', '.join(times)}." if times else ""


def _missing(
    client: SyncPrefectClient, deployment: DeploymentResponse, *, given: bool
) -> Iterator[tuple[str, str]]:
    """What keeps its runs from being carried out, and the way out of each."""
    from tasks.operate.deployments import flow_of
    from tasks.operate.schedules import of_pools

    if deployment.paused:
        yield "It is paused.", f"noisefold deploy --resume {deployment.name}"
    if not deployment.schedules:
        start = f"prefect deployment run {flow_of(deployment)}/{deployment.name}"
        yield "It has no schedule: it runs when somebody starts it.", f"{start}, or deploy --cron"
    for line in of_pools(client, [deployment]):
        start = "prefect worker start"
        yield (
            line.what,
            line.remedy.replace(start, worker(given=given)).replace(
                "Start one: ", "Start one in another terminal, and leave it running: "
            ),
        )


def worker(*, given: bool) -> str:
    """The command that starts a worker of this server, with what its environment needs."""
    variables = {} if given else {"PREFECT_API_URL": os.environ["PREFECT_API_URL"]}
    if tracking := os.environ.get("MLFLOW_TRACKING_URI"):
        variables["MLFLOW_TRACKING_URI"] = shown_url(tracking)
    beside = str(Path(sys.executable).with_name("prefect"))
    command = (
        "prefect" if shutil.which("prefect") else min(beside, os.path.relpath(beside), key=len)
    )
    prefix = "".join(f"{name}={shlex.quote(value)} " for name, value in variables.items())
    return f"{prefix}{command} worker start"


def _tell(console: Console, done: Deployed, missing: list[tuple[str, str]]) -> None:
    deployment = done.deployment
    how = "deployed" if done.is_new else "brought up to date"
    console.print(f"[bold green]{safe(deployment.name)}[/] is {how}.", soft_wrap=True)
    for text in done.made:
        console.print(f"  · {safe(text)}", soft_wrap=True)
    for place, due in enumerate(following(deployment)):
        console.print(f"  {'' if place else 'next':<6} {safe(due)}", soft_wrap=True)
    console.print(f"  {'page':<6} {safe(page(deployment))}", soft_wrap=True)
    for what, remedy in missing:
        console.print(f"[bold yellow]missing[/] {safe(what)}", soft_wrap=True)
        console.print(f"        → {safe(remedy)}", soft_wrap=True)
