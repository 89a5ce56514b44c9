"""What an operator does between the nights, in a terminal: put in order what died, and see whether
all is well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_contracts.errors import NoisefoldError, printable_json
from flows.cli.document import document
from flows.cli.terminal import check_prefect, quiet, safe, writable_home
from flows.running.environment import embed, switches
from tasks.settings import Settings

if TYPE_CHECKING:
    from data_contracts.recipe.recipe import Recipe
    from tasks.operate.finding import Line
    from tasks.operate.retention import Thing

_PLANNED = {"found": "green", "to run": "bold", "unknown": "yellow"}
_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@contextmanager
def prefect_at_hand(settings: Settings) -> Iterator[bool]:
    """Prefect's server of this state: the given one, the UI's, or a temporary one; False where none
    has ever run.

    Raises:
        ServiceUnavailable: PREFECT_API_URL is set and does not answer.
    """
    mode = embed(settings)
    check_prefect(mode)
    if mode == "temporary":
        if not has_database(settings):
            yield False
            return
        from flows.running import temporary_server

        temporary_server.start()
    yield True


def has_database(settings: Settings) -> bool:
    """Whether a temporary Prefect server of this state has something to tell."""
    home = Path(os.environ.get("PREFECT_HOME", settings.root / "prefect"))
    return "PREFECT_API_DATABASE_CONNECTION_URL" in os.environ or (home / "prefect.db").exists()


def plan_in_terminal(recipe: Recipe, day: date, *, as_json: bool) -> None:
    """What a retrain of the recipe that is due on a day would find and run, a line each."""
    settings, console = Settings(), Console(highlight=False)
    with document(as_json) as out, quiet(False):
        switches()
        from tasks.artifacts.store import ArtifactStore
        from tasks.operate.plan import plan

        store = ArtifactStore(settings.artifacts_url, settings.work)
        planned = plan(recipe.on(day), settings, store)
        if as_json:
            for one in planned:
                print(printable_json(json.dumps(asdict(one))), file=out)
            return
    table = Table(box=SIMPLE)
    for column in ("stage", "state", "why", "key"):
        table.add_column(column, overflow="fold")
    for one in planned:
        state = f"[{_PLANNED[one.state]}]{one.state}[/]"
        table.add_row(one.stage, state, safe(one.why), one.key or "")
    console.print(table)


def reconcile_in_terminal(*, dry_run: bool, as_json: bool) -> None:
    """Close what died and say so, a line each."""
    settings, console = Settings(), Console(highlight=False)
    with (
        document(as_json) as out,
        writable_home(settings),
        quiet(False),
        prefect_at_hand(settings) as prefect,
    ):
        from tasks.liveness.reconcile import reconcile

        found = reconcile(settings, prefect=prefect, dry_run=dry_run)
        if as_json:
            print(printable_json(json.dumps(asdict(found), ensure_ascii=False)), file=out)
            return
    for line in found.lines:
        console.print(safe(line), soft_wrap=True)


def doctor_in_terminal(*, as_json: bool, free_gigabytes: float) -> bool:
    """Print each finding as it is made; returns whether nothing fails."""
    settings, console = Settings(), Console(highlight=False)
    found: list[Line] = []
    with document(as_json) as out, quiet(False):
        for line in findings(settings, free_gigabytes):
            found.append(line)
            if not as_json:
                console.print(
                    f"[{_STYLE[line.state]}]{line.state:<5}[/] {line.check:<10} {safe(line.what)}",
                    soft_wrap=True,
                )
                if line.remedy:
                    console.print(f"{'':<16} → {safe(line.remedy)}", soft_wrap=True)
        well = all(line.state != "fail" for line in found)
        if as_json:
            content = {"well": well, "lines": [asdict(line) for line in found]}
            print(printable_json(json.dumps(content, ensure_ascii=False)), file=out)
    return well


def gc_in_terminal(*, keep: int, older_than_days: float, apply: bool, as_json: bool) -> None:
    """A row per thing that goes, a row per reason for those that stay, and the bytes."""
    settings, console = Settings(), Console(highlight=False)
    with document(as_json) as out, writable_home(settings), quiet(False), ExitStack() as opened:
        switches()
        prefect = apply and opened.enter_context(prefect_at_hand(settings))
        from tasks.operate.retention import collect, plan

        if apply:
            things = collect(settings, keep=keep, older_than_days=older_than_days, prefect=prefect)
        else:
            things = plan(settings, keep=keep, older_than_days=older_than_days)
        going = [thing for thing in things if thing.goes]
        freed = sum(thing.bytes for thing in going)
        if as_json:
            content = {
                "applied": apply,
                "bytes": freed,
                "things": [thing.facts() for thing in things],
            }
            print(printable_json(json.dumps(content, ensure_ascii=False)), file=out)
            return
    _print_going(console, going)
    _print_staying(console, [thing for thing in things if not thing.goes])
    done = "went" if apply else "would go; --apply removes them"
    told = f"{len(going)} of {len(things)} things, {freed / 1e6:,.1f} MB, {done}."
    console.print(told if going else "Nothing to do.")


def _print_going(console: Console, going: list[Thing]) -> None:
    if not going:
        return
    table = Table(title="goes", title_justify="left", box=SIMPLE)
    for column in ("what", "name", "made (UTC)", "kB"):
        table.add_column(column, overflow="fold", justify="right" if column == "kB" else "left")
    for thing in going:
        made, size = f"{thing.made:%Y-%m-%d %H:%M}", f"{thing.bytes / 1e3:,.0f}"
        table.add_row(thing.kind, safe(thing.name), made, size)
    console.print(table)


def _print_staying(console: Console, staying: list[Thing]) -> None:
    """A row per reason."""
    if not staying:
        return
    table = Table(title="stays", title_justify="left", box=SIMPLE)
    for column in ("what", "how many", "kB", "because"):
        is_number = column in ("how many", "kB")
        table.add_column(column, overflow="fold", justify="right" if is_number else "left")
    sizes: dict[tuple[str, str], list[int]] = {}
    for thing in staying:
        sizes.setdefault((thing.kind, thing.why), []).append(thing.bytes)
    for (kind, why), found in sizes.items():
        table.add_row(kind, str(len(found)), f"{sum(found) / 1e3:,.0f}", safe(why))
    console.print(table)


def findings(settings: Settings, free_gigabytes: float) -> Iterator[Line]:
    """This machine first: without a folder to write into, the servers are not asked."""
    switches()
    mode = None
    with suppress(OSError):
        mode = embed(settings)  # before Prefect is imported: it reads its settings then
    from tasks.operate.doctor import examine, examine_here
    from tasks.operate.finding import Line

    yield from examine_here(settings, free_gigabytes=free_gigabytes)
    if mode is None:
        return
    with ExitStack() as opened:
        try:
            prefect = opened.enter_context(prefect_at_hand(settings))
        except Exception as error:
            prefect = False
            cause, remedy = (
                (error.cause, error.remedy)
                if isinstance(error, NoisefoldError)
                else (str(error), "")
            )
            yield Line("Prefect", "fail", cause, remedy)
        yield from examine(settings, prefect)
