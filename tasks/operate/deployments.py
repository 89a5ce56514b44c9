"""From a recipe to every night: deployments of the flows, made and looked after through Prefect's
server.

A deployment made here has what those of prefect.yaml have. Its flow is named by its module, so that
a worker finds it in a checkout and in an installed package alike. Where it came from stands in a
label, by which the next `deploy` of the same recipe knows its own.

# Note [works in the state folder]
Prefect imports a flow with the folder of work first on the path of modules. In a folder of the
user's, a `tasks.py` or `flows/` of theirs would stand before ours; in the state folder there is
none. Nothing is lost by it: all paths in a deployed recipe are absolute.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentCreate,
    DeploymentScheduleCreate,
    WorkPoolCreate,
)
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import (
    ConcurrencyLimitStrategy,
    ConcurrencyOptions,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from data_contracts.errors import NoisefoldError
from data_contracts.yaml_text import read_yaml
from tasks.artifacts.store import digest_of
from tasks.operate.schedules import closes_zombies, due_times
from tasks.tracking.runs import user_name

RETRAIN = "retrain"
ENTRYPOINTS = {
    RETRAIN: "flows.retrain.retrain",
    "score": "flows.score.score",
    "queue": "flows.queue_rows.queue",
    "explain": "flows.explain.explain",
    "monitor": "flows.monitor.monitor",
    "tune": "flows.tune.tune",
}
POOL_TYPE, QUEUE = "process", "default"
ORIGIN = "noisefold.recipe_file"  # label of Prefect's: the file that a deployment was made from
# By its heartbeat a run is known to live (prefect-automations.yaml). Without the safe path modules
# of the user's own, beside which the worker was started, would stand before ours.
VARIABLES = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PYTHONSAFEPATH": "1"}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_INTERVAL = re.compile(r"(\d{1,6})\s*([smhdw])")

Rule = CronSchedule | IntervalSchedule


@dataclass(frozen=True)
class Wanted:
    """What is to be deployed.

    Args:
        subject: the name of what the flow is described by.
        words: what its runs do.
        rolls: each run reads other days.
        parameters: of the flow: the recipe itself, or the path of its file.
        origin: where the recipe stands: the path of its file.
        home: state folder, on the worker's machine.
        rule: None leaves the schedules as they are.
        replace: take the place of a deployment that was made from something else.
    """

    name: str
    flow: str
    subject: str
    words: str
    rolls: bool
    parameters: dict[str, Any]
    origin: str
    home: Path
    pool: str
    version: str
    rule: Rule | None = None
    paused: bool = False
    replace: bool = False


@dataclass(frozen=True)
class Deployed:
    """What came of it, and what was made beside it, a sentence each."""

    deployment: DeploymentResponse
    is_new: bool
    made: tuple[str, ...]


# --- the schedule ---------------------------------------------------------------------------------


def rule_of(cron: str | None, interval: str | None, zone: str) -> Rule | None:
    """The schedule that the options describe; None where there is none.

    Raises:
        NoisefoldError: what it can not be, or a schedule that never comes due.
    """
    if cron is not None and interval is not None:
        raise NoisefoldError(
            "Both --cron and --interval are given.", "Give one: a deployment has one schedule."
        )
    if cron is None and interval is None:
        return None
    check_zone(zone)
    rule = _interval(interval, zone) if interval is not None else _cron(cron or "", zone)
    if not due_times(rule, 1):
        raise NoisefoldError(
            f"--cron {cron!r} never comes due: there is no such day.", "Choose a day that there is."
        )
    return rule


def check_zone(zone: str) -> None:
    """Raises:
    NoisefoldError: no zone has that name; with the one that may be meant.
    """
    known = available_timezones()
    if zone in known:
        return
    cities = {name.rpartition("/")[2].lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(
        zone.rpartition("/")[2].lower().replace(" ", "_"), cities, 1, 0.7
    )
    meant = f" (did you mean {cities[near[0]]}?)" if near else ""
    raise NoisefoldError(
        f"--timezone {zone}: no time zone has that name{meant}.",
        "Name it as the IANA tables do: UTC, Asia/Shanghai, Europe/Berlin.",
    )


def _cron(text: str, zone: str) -> CronSchedule:
    try:
        if len(text.split()) != 5 and not text.startswith("@"):
            raise ValueError
        return CronSchedule(cron=text, timezone=zone)
    except ValueError:
        raise NoisefoldError(
            f"--cron {text!r} is no cron expression: expected five parts, minute, hour, day of the "
            "month, month and day of the week.",
            'For example --cron "0 3 * * *" (every day at 03:00) or "30 22 * * 1-5" (weekdays at '
            "22:30), in quotes.",
        ) from None


def _interval(text: str, zone: str) -> IntervalSchedule:
    found = _INTERVAL.fullmatch(text.strip().lower())
    length = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if length < timedelta(minutes=1):
        raise NoisefoldError(
            f"--interval {text!r}: expected a number and its unit, and at least a minute.",
            "For example --interval 6h, 90m or 1d (s, m, h, d and w are known).",
        )
    return IntervalSchedule(interval=length, timezone=zone)


# --- deploying ------------------------------------------------------------------------------------


def deploy(
    client: SyncPrefectClient, wanted: Wanted, flow: Any, schema: Any, zombies: dict[str, Any]
) -> Deployed:
    """Make the deployment, or bring it up to date, with its work pool and the automation that
    closes what a dead worker leaves, where they do not exist.

    Args:
        flow: the flow itself, and the schema of its parameters (`schema`).
        zombies: the automation, as prefect-automations.yaml has it.
    Raises:
        NoisefoldError: the name, or the name of the recipe, belongs to another one.
    """
    known = deployments(client, [wanted.flow])
    before = next((one for one in known if one.name == wanted.name), None)
    _refuse_another(wanted, before)
    _refuse_same_recipe(wanted, [one for one in known if one is not before])
    made = [*_pool(client, wanted.pool), *_zombies(client, zombies)]
    schedules = _schedules(wanted, before)
    # Each run of a rolling window reads other days: none is left out for its predecessor's sake.
    waits = not schedules or wanted.rolls
    strategy = ConcurrencyLimitStrategy.ENQUEUE if waits else ConcurrencyLimitStrategy.CANCEL_NEW
    try:
        asked = DeploymentCreate(
            name=wanted.name,
            flow_id=client.create_flow(flow),
            entrypoint=ENTRYPOINTS[wanted.flow],
            path=None,
            # See Note [works in the state folder].
            pull_steps=[{_SET_DIRECTORY: {"directory": str(wanted.home)}}],
            parameters=wanted.parameters,
            parameter_openapi_schema=schema,
            enforce_parameter_schema=True,
            schedules=schedules,
            paused=wanted.paused or (before is not None and before.paused),
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(collision_strategy=strategy),
            work_pool_name=wanted.pool,
            work_queue_name=QUEUE,
            job_variables={"env": {**VARIABLES, "NOISEFOLD_HOME": str(wanted.home)}},
            tags=["noisefold"],
            labels={ORIGIN: wanted.origin},
            description=_description(wanted),
            version=f"{wanted.version}-{digest_of(wanted.parameters)[:8]}",
        )
    except ValidationError as error:
        raise NoisefoldError(
            f"--name {wanted.name}: {error.errors()[0]['msg']}.", "Choose another name."
        ) from None
    payload = asked.model_dump(mode="json", exclude_unset=True)
    payload["concurrency_options"] = {"collision_strategy": strategy.value}
    answer = client.request("POST", "/deployments/", json=payload)
    answer.raise_for_status()
    done = client.read_deployment(answer.json()["id"])
    return Deployed(done, before is None, tuple(made))


_SET_DIRECTORY = "prefect.deployments.steps.set_working_directory"


def _schedules(wanted: Wanted, before: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    if wanted.rule is not None:
        return [DeploymentScheduleCreate(schedule=wanted.rule, active=True, slug="nightly")]
    return [
        DeploymentScheduleCreate(schedule=one.schedule, active=one.active, slug=one.slug)
        for one in (before.schedules if before is not None else [])
    ]


def _description(wanted: Wanted) -> str:
    reads = "reads its recipe anew by each run" if "recipe_file" in wanted.parameters else "deploy"
    how = (
        f"Each run {reads}."
        if reads != "deploy"
        else "Its recipe is the one of that moment: `noisefold deploy` again after a change."
    )
    return (
        f"{wanted.words} after `{wanted.origin}`, "
        f"deployed by {user_name()} with `noisefold deploy`. {how}"
    )


def _refuse_another(wanted: Wanted, before: DeploymentResponse | None) -> None:
    if before is None or wanted.replace:
        return
    origin = origin_of(before)
    if origin == wanted.origin:
        return
    other = f"from {origin}" if origin else "in another way (`prefect deploy`)"
    raise NoisefoldError(
        f"There is a deployment named {wanted.name} already, made {other}.",
        "Choose another name (`name:` in the recipe, or --name), or give --replace to put this "
        "recipe in its place.",
    )


def _refuse_same_recipe(wanted: Wanted, others: list[DeploymentResponse]) -> None:
    """Two deployments of one recipe name would write into one place by turns, each after its own: a
    model, or an experiment of MLflow's.
    """
    same = next((one for one in others if subject_name(one) == wanted.subject), None)
    if same is None:
        return
    raise NoisefoldError(
        f"The deployment {same.name} runs a {wanted.flow} named {wanted.subject} already, and both "
        "would write into one place.",
        f"Give this recipe another `name:`; or --name {same.name} to bring that one up to date; or "
        f"take it away with noisefold deploy --remove {same.name}.",
    )


def _pool(client: SyncPrefectClient, name: str) -> list[str]:
    try:
        client.read_work_pool(name)
        return []
    except ObjectNotFound:
        from prefect.workers.process import ProcessWorker

        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=name, type=POOL_TYPE, base_job_template=template)
        )
        return [f"Made the work pool {name} (type {POOL_TYPE})."]


def _zombies(client: SyncPrefectClient, automation: dict[str, Any]) -> list[str]:
    if any(closes_zombies(one) for one in client.read_automations()):
        return []
    from prefect.events.schemas.automations import AutomationCore

    made = AutomationCore.model_validate(automation)
    client.create_automation(made)
    return [f"Made the automation {made.name}, which closes the runs of a worker that dies."]


# --- looking after them ---------------------------------------------------------------------------


def deployments(
    client: SyncPrefectClient, flows: Sequence[str] = tuple(ENTRYPOINTS)
) -> list[DeploymentResponse]:
    """Of these flows, by name."""
    ours = FlowFilter(name=FlowFilterName(any_=list(flows)))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(flow_filter=ours, limit=200, offset=len(found)):
        found += page
    return sorted(found, key=lambda one: one.name)


def named(
    client: SyncPrefectClient, name: str, flows: Sequence[str] = tuple(ENTRYPOINTS)
) -> DeploymentResponse:
    """The deployment of that name, or of FLOW/NAME.

    Raises:
        NoisefoldError: there is none of that name, with those that there are; or there are several.
    """
    there = deployments(client, flows)
    found = [one for one in there if name in (one.name, f"{flow_of(one)}/{one.name}")]
    if len(found) == 1:
        return found[0]
    if found:
        names = [f"{flow_of(one)}/{name}" for one in found]
        raise NoisefoldError(
            f"{len(found)} deployments of this server are named {name}.",
            f"Say which: {' or '.join(names)}.",
        )
    known = [one.name for one in there]
    has = f"it has {', '.join(known)}" if known else "it has none"
    near = difflib.get_close_matches(name, known, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise NoisefoldError(
        f"There is no deployment named {name} on this server ({has}{meant}).",
        "noisefold deploy --list shows them all.",
    )


def origin_of(deployment: DeploymentResponse) -> str | None:
    """The file that `noisefold deploy` made it from; None where something else made it."""
    found = (deployment.labels or {}).get(ORIGIN)
    return None if found is None else str(found)


def flow_of(deployment: DeploymentResponse) -> str:
    """The name of its flow, by its entrypoint (`flows.score.score`, `flows/score.py:score`)."""
    found = re.split(r"[.:]", deployment.entrypoint or "")[-1]
    return found if found in ENTRYPOINTS else RETRAIN


def subject_name(deployment: DeploymentResponse) -> str | None:
    """Of what its runs are described by; None where it cannot be told, as of a file that is not
    here.
    """
    given = deployment.parameters
    described = given.get("recipe") or given.get("search")
    if described is None and (file := given.get("recipe_file")) is not None:
        try:
            described = read_yaml(file)
        except NoisefoldError:
            return None
    return str(described.get("name", "sample")) if isinstance(described, dict) else "sample"


def pause(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    """No schedule of it starts a run, until it is resumed; what runs goes on. Safe to repeat."""
    found = named(client, name)
    client.pause_deployment(found.id)
    return client.read_deployment(found.id)


def resume(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    """All its schedules start runs again, those that were inactive too. Safe to repeat."""
    found = named(client, name)
    client.resume_deployment(found.id)
    for schedule in found.schedules:
        if not schedule.active:
            client.update_deployment_schedule(found.id, schedule.id, active=True)
    return client.read_deployment(found.id)


def remove(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    """The deployment goes, with the runs that were planned; what has run stays."""
    found = named(client, name)
    client.delete_deployment(found.id)
    return found


ACTIONS: dict[str, Callable[[SyncPrefectClient, str], DeploymentResponse]] = {
    "pause": pause,
    "resume": resume,
    "remove": remove,
}
