"""`noisefold backfill`: past nights carried out here, one after the other, and a table of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_contracts.errors import NoisefoldError, ServiceUnavailable, printable_json
from data_contracts.recipe.recipe import Recipe
from flows.cli.document import document
from flows.cli.terminal import StageBars, check_prefect, quiet, run_flow, safe, writable_home
from flows.running.environment import embed
from tasks.settings import Settings

if TYPE_CHECKING:
    from flows.running.summary import Retrained

MOST = 1000  # nights at once


@dataclass(frozen=True)
class Nights:
    """Which past nights are wanted.

    Args:
        first, last: days on which they were due, both inclusive.
        cron: of what is due; without it that of the deployment, or each day.
        zone: by whose clock; without it that of the deployment's schedule, or this machine's.
    """

    first: date
    last: date
    cron: str | None = None
    zone: str | None = None


@dataclass(frozen=True)
class Night:
    """What became of one of them."""

    day: str
    due: str
    state: Literal["done", "failed", "not run"]
    rows: int | None = None
    outcome: str | None = None
    metric: str | None = None
    value: float | None = None
    run: str | None = None  # its address in MLflow
    cause: str | None = None


def begin(*, verbose: bool) -> None:
    """Before anything imports Prefect, which reads its settings then."""
    settings = Settings()
    with writable_home(settings):
        embed(settings, verbose=verbose)


def deployed(name: str, settings: Settings) -> tuple[dict[str, Any], list[Any]] | None:
    """The parameters of the flow and the active schedules of a deployment, where a server that is
    up has one of that name; None where not.

    Raises:
        ServiceUnavailable: PREFECT_API_URL is set and does not answer.
    """
    with quiet(False):
        mode = embed(settings)
        if mode == "temporary":
            return None
        check_prefect(mode)
        from tasks.liveness.dead_runs import prefect_client
        from tasks.operate.deployments import RETRAIN, deployments

        with prefect_client() as client:
            retrains = deployments(client, [RETRAIN])
            found = next((one for one in retrains if one.name == name), None)
    if found is None:
        return None
    return found.parameters, [one.schedule for one in found.schedules if one.active]


def instants(nights: Nights, rules: Sequence[Any]) -> list[datetime]:
    """When the nights were due, the oldest first, one a day: a window is the same all day.

    Args:
        rules: schedules of a deployment, where neither cron nor zone is asked for.
    Raises:
        NoisefoldError: the days are the wrong way round, lie ahead, or nothing was due on them.
    """
    if nights.last < nights.first:
        raise NoisefoldError(
            f"--from {nights.first} lies after --to {nights.last}.", "Exchange them."
        )
    if (nights.last - nights.first).days >= MOST:
        raise NoisefoldError(
            f"{nights.first} to {nights.last} are more than {MOST:,} days.", "Go in parts."
        )
    zone = _zone(nights, rules)
    today = datetime.now(zone).date()
    if nights.last > today:
        raise NoisefoldError(
            f"--to {nights.last} lies ahead: today is {today}.",
            "Give a day that has come; a schedule sees to the others (noisefold deploy).",
        )
    if nights.cron is not None:
        from tasks.operate.deployments import rule_of

        rules = [rule_of(nights.cron, None, str(zone))]
    found = list(_due(nights, rules, zone)) if rules else _each_day(nights, zone)
    if not found:
        raise NoisefoldError(
            f"Nothing was due from {nights.first} to {nights.last} by that schedule.",
            'Choose other days, or --cron "0 3 * * *" for one a day.',
        )
    return found


def _zone(nights: Nights, rules: Sequence[Any]) -> tzinfo:
    from flows.running.due import by_machine

    if nights.zone is not None:
        from tasks.operate.deployments import check_zone

        check_zone(nights.zone)
        return ZoneInfo(nights.zone)
    zones = {getattr(rule, "timezone", None) or "UTC" for rule in rules}
    if len(zones) == 1:
        return ZoneInfo(zones.pop())
    here = by_machine().at.tzinfo or UTC
    # A clock without a name, as of a machine that TZ does not tell, is a plain offset to cron.
    return here if isinstance(here, ZoneInfo) or nights.cron is None else ZoneInfo("UTC")


def _each_day(nights: Nights, zone: tzinfo) -> list[datetime]:
    days = (nights.last - nights.first).days + 1
    return [
        datetime.combine(nights.first + timedelta(days=day), time(), tzinfo=zone)
        for day in range(days)
    ]


def _due(nights: Nights, rules: Iterable[Any], zone: tzinfo) -> Iterator[datetime]:
    from tasks.operate.schedules import due_times

    begin = datetime.combine(nights.first, time(), tzinfo=zone).astimezone(UTC)
    end = datetime.combine(nights.last + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
    seen: set[date] = set()
    while begin < end:
        page = [at for rule in rules for at in due_times(rule, MOST, begin, end) if at < end]
        for at in sorted(page):
            local = at.astimezone(zone)
            if local.date() not in seen:
                seen.add(local.date())
                yield local
        if len(page) < MOST:
            return
        begin = max(page) + timedelta(seconds=1)


def backfill_in_terminal(
    recipe: Recipe,
    when: Sequence[datetime],
    *,
    promote: bool,
    stop: bool,
    verbose: bool,
    as_json: bool,
) -> bool:
    """Carry the nights out in order; returns whether all of them ended well.

    Args:
        promote: let each compete for champion; otherwise they are judged, and no alias moves.
        stop: at the first night that fails; otherwise the others are carried out.
    """
    settings, console = Settings(), Console(highlight=False, stderr=as_json)
    _refuse_without_window(recipe)
    if recipe.training.warm_start != "never":
        text = "training.warm_start: each night starts from today's champion, which may know more."
        console.print(f"[bold yellow]note[/] {safe(text)}", soft_wrap=True)
    done: list[Night] = []
    with document(as_json) as out:
        try:
            for at in when:
                console.print(
                    f"[bold]{safe(recipe.name)}, due {at:%Y-%m-%d %H:%M}[/] "
                    f"({len(done) + 1} of {len(when)})",
                    soft_wrap=True,
                )
                night = _carry_out(recipe, at, settings, console, promote=promote, verbose=verbose)
                done.append(night)
                if as_json:
                    print(printable_json(json.dumps(asdict(night), ensure_ascii=False)), file=out)
                if night.state == "failed" and (stop or night.outcome == "unreachable"):
                    break
        finally:
            if not as_json:
                _print(console, [*done, *(_not_run(at) for at in when[len(done) :])])
    return len(done) == len(when) and all(night.state == "done" for night in done)


def _refuse_without_window(recipe: Recipe) -> None:
    if recipe.rolling_window is not None:
        return
    raise NoisefoldError(
        f"Recipe {recipe.name} has no rolling window, so a run of any day reads the same rows: "
        "there is no night to go back to.",
        "Dated files and source.window: {days: 28} give it one (docs/nights.md); noisefold retrain "
        "runs it now.",
    )


def _carry_out(
    recipe: Recipe,
    at: datetime,
    settings: Settings,
    console: Console,
    *,
    promote: bool,
    verbose: bool,
) -> Night:
    def load() -> Callable[[], Retrained]:
        from flows.retrain import retrain

        return lambda: retrain(recipe, as_of=at, move_aliases=promote)

    day, due = str(at.date()), at.isoformat(timespec="minutes")
    try:
        result = run_flow(load, StageBars(console), settings, verbose=verbose)
    except NoisefoldError as error:
        told = f"{error.cause} {error.remedy}".strip()
        console.print(f"[bold red]failed[/] {safe(told)}", soft_wrap=True)
        # The others would meet the same.
        away = "unreachable" if isinstance(error, ServiceUnavailable) else None
        return Night(day, due, "failed", outcome=away, cause=told)
    from flows.running.addresses import addresses

    metric = next((f"test/{name}" for name in result.headlines), None)
    figure = result.metrics.get(metric or "")
    return Night(
        day,
        due,
        "done",
        rows=next((one.rows_out for one in result.stages if one.name == "validate"), None),
        outcome=result.decision.outcome,
        metric=metric,
        value=None if figure is None else figure.value,
        run=addresses(settings).tracked_run(result.experiment_id, result.run_id),
    )


def _not_run(at: datetime) -> Night:
    return Night(str(at.date()), at.isoformat(timespec="minutes"), "not run")


def _print(console: Console, nights: list[Night]) -> None:
    metric = next((night.metric for night in nights if night.metric), "figure")
    table = Table(box=SIMPLE)
    for column in ("day", "rows", "outcome", metric):
        table.add_column(column, justify="right" if column in ("rows", metric) else "left")
    table.add_column("MLflow run, or why there is none", overflow="fold")
    for night in nights:
        told = (night.outcome or "").replace("_", " ") if night.state == "done" else night.state
        table.add_row(
            night.day,
            f"{night.rows:,}" if night.rows is not None else "–",
            safe(told),
            f"{night.value:.4f}" if night.value is not None else "–",
            # The whole of it stands above.
            safe(night.run or (night.cause or "").split("\n")[0]),
        )
    console.print(table)
    failed = [night for night in nights if night.state != "done"]
    if failed:
        text = (
            f"{len(failed)} of {len(nights)} nights are not done; the same command goes on there."
        )
        console.print(text, soft_wrap=True)
