"""Flows run from a terminal: progress while they work, a summary a person can read, no library
chatter.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from data_contracts.errors import NoisefoldError, printable, printable_json, stop_signal
from data_contracts.recipe.recipe import Recipe
from data_contracts.urls import redacted
from flows.cli.document import document
from flows.running.environment import embed, switches
from tasks.engines.threads import threads_of_a_command
from tasks.progress import Progress as Report
from tasks.progress import listening
from tasks.settings import Settings

if TYPE_CHECKING:
    from data_contracts.recipe.compared import Compared
    from data_contracts.recipe.comparison import Comparison
    from flows.running.grid import ComparisonRun
    from flows.running.summary import Retrained
    from tasks.reports.story import StageRecord

R = TypeVar("R")
_STYLE = {
    "ran": "green",
    "cached": "cyan",
    "retried": "yellow",
    "pruned": "yellow",
    "failed": "red",
    "running": "",
}


def safe(text: str) -> str:
    """Foreign text on the terminal: no control characters, no markup of rich's."""
    return escape(printable(text))


def run_in_terminal(recipe: Recipe, *, verbose: bool = False, as_json: bool = False) -> None:
    """Run the flow, show how far it is, print the summary (or the result as JSON, with progress on
    stderr).
    """
    console, settings, started = (
        Console(highlight=False, stderr=as_json),
        Settings(),
        time.monotonic(),
    )

    def load() -> Callable[[], Retrained]:
        from flows.retrain import retrain

        return lambda: retrain(recipe)

    with document(as_json) as out:
        result = run_flow(load, StageBars(console), settings, verbose=verbose)
        if as_json:
            print(printable_json(result.model_dump_json()), file=out)
            return
    print_summary(console, result, settings, time.monotonic() - started)


@dataclass(frozen=True)
class Selection:
    """Which cells of a comparison are to run, and where its table goes."""

    only: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path | None
    command: str  # that makes the whole table


def compare_in_terminal(
    comparison: Comparison, selection: Selection, *, run: bool, verbose: bool, as_json: bool
) -> None:
    """Run the cells that have not run (or none), and print the table."""
    console, settings = Console(highlight=False, stderr=as_json), Settings()
    # A slip in the selection is told before anything starts.
    comparison.cells(selection.only, selection.seeds)

    def load() -> Callable[[], ComparisonRun]:
        from flows.compare import compare

        return lambda: compare(
            comparison, selection.only, selection.seeds, selection.out, selection.command
        )

    with document(as_json) as stdout:
        if run:
            result = run_flow(load, CellBars(console), settings, verbose=verbose)
            table, look = result.table, how_to_look(result, settings)
        else:
            table, look = finished_table(comparison, settings, selection, verbose=verbose), []
        if as_json:
            print(printable_json(table.model_dump_json(exclude_none=True)), file=stdout)
            return
    print_table(console, table)
    if selection.out is not None:
        look = [f"Written to {selection.out} and {selection.out.with_suffix('.json')}.", *look]
    for line in look:
        console.print(safe(line), soft_wrap=True)


def finished_table(
    comparison: Comparison, settings: Settings, selection: Selection, *, verbose: bool
) -> Compared:
    """The table of what is finished; reads the store alone."""
    with quiet(verbose):
        switches()
        from flows.running.due import by_machine
        from tasks.comparing.board import Board
        from tasks.comparing.table import read_table, write_table

        before = read_table(selection.out) if selection.out is not None else None
        board = Board(comparison.on(by_machine().day), settings, selection.command, before)
        board.read()
    if selection.out is not None:
        write_table(board.table(), selection.out)
    return board.table()


def run_flow(
    load: Callable[[], Callable[[], R]], bars: StageBars, settings: Settings, *, verbose: bool
) -> R:
    """Start Prefect, import the flow (`load`) meanwhile, run it and show how far it is."""
    console = bars.console
    with writable_home(settings), quiet(verbose):
        mode = embed(settings, verbose=verbose)
        check_prefect(mode)
        with (
            console.status("Starting Prefect …")
            if console.is_terminal
            else contextlib.nullcontext()
        ):
            server = start_temporary_server() if mode == "temporary" else None
            flow = load()
            if server is not None:
                server.join()
        with bars, listening(bars), heartbeat_off(mode), named_process():
            try:
                return flow()
            except NoisefoldError:
                raise
            except Exception as error:
                if stop := stop_signal(error):
                    raise stop from error
                if verbose:
                    raise
                raise NoisefoldError(
                    redacted(f"{type(error).__name__}: {error}"),
                    "Finished stages are kept: the same command goes on from there. The traceback "
                    "is in "
                    f"{settings.root / 'logs' / 'noisefold.log'}; --verbose shows it here.",
                ) from error


def chosen_model(settings: Settings, given: str | None) -> str:
    """The model that a command is about; told on standard error where nobody named it."""
    from tasks.tracking.versions import choose_model

    name, note = choose_model(settings, given)
    if note:
        Console(stderr=True, highlight=False).print(safe(note), soft_wrap=True)
    return name


def history_in_terminal(model: str | None, limit: int, as_json: bool) -> None:
    """The aliases and their moves, the newest last."""
    settings, console = Settings(), Console(highlight=False)
    with document(as_json) as out, writable_home(settings), quiet(False):
        switches()
        from tasks.operate.releases import history

        model = chosen_model(settings, model)
        found = history(settings, model)
        moves = found.moves[-limit:] if limit > 0 else found.moves
        if as_json:
            for move in moves:
                print(printable_json(move.model_dump_json(by_alias=True)), file=out)
            return
    now = (
        ", ".join(f"{alias} {version}" for alias, version in sorted(found.aliases.items()))
        or "no alias is set"
    )
    console.print(f"[bold]{safe(model)}[/]: {safe(now)}")
    table = Table(box=SIMPLE)
    for column in ("when (UTC)", "who", "by", "alias", "from", "to", "why"):
        table.add_column(
            column, overflow="fold", justify="right" if column in ("from", "to") else "left"
        )
    for move in moves:
        when = move.when[:19].replace("T", " ")
        cells = (
            when,
            move.who,
            move.by,
            move.alias,
            move.before or "–",
            move.after or "–",
            move.why,
        )
        table.add_row(*(safe(cell) for cell in cells))
    console.print(table)
    if len(moves) < len(found.moves):
        console.print(f"{len(found.moves) - len(moves):,} older moves: --limit 0 shows all.")


def release_in_terminal(
    action: Literal["promote", "rollback"],
    model: str | None,
    why: str,
    *,
    unchecked: bool,
    version: str = "",
) -> None:
    """Move the champion by hand and say what was done."""
    settings, console = Settings(), Console(highlight=False)
    with writable_home(settings), quiet(False), threads_of_a_command():
        switches()
        from tasks.operate.releases import promote_version, rollback

        model = chosen_model(settings, model)
        if action == "promote":
            done = promote_version(settings, model, version, why, checked=not unchecked)
        else:
            done = rollback(settings, model, why, checked=not unchecked)
    before = f", which was {done.before}" if done.before and done.moved else ""
    console.print(
        f"{safe(model)}: champion is version [bold green]{done.champion}[/]{before}.",
        soft_wrap=True,
    )
    console.print(f"  · {safe(done.note)}", soft_wrap=True)
    if action == "rollback" and done.moved and done.before:
        text = f"  · No retrain makes version {done.before} champion again; noisefold promote can."
        console.print(text, soft_wrap=True)


class StageBars:
    """A bar per stage on a terminal; a line per finished stage where the output goes to a file."""

    def __init__(self, console: Console) -> None:
        self.console, self.live = console, console.is_terminal
        self.progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not self.live,
        )
        self.tasks: dict[str, TaskID] = {}
        self.started: dict[str, float] = {}

    def __enter__(self) -> StageBars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, report: Report) -> None:
        if report.state == "measured":
            return
        if report.state == "told":
            self.console.print(f"{report.stage:<9} {safe(report.note)}", soft_wrap=True)
            return
        if report.stage not in self.tasks:
            self.tasks[report.stage] = self.progress.add_task(report.stage, total=None, note="")
            self.started[report.stage] = time.monotonic()
        finished = report.state != "running"
        note = safe(report.note)
        if finished:
            note = f"[{_STYLE[report.state]}]{report.state}[/]"
        total = 1 if finished else report.total
        done = 1 if finished and report.state != "failed" else report.done
        self.progress.update(self.tasks[report.stage], completed=done, total=total, note=note)
        if finished and not self.live:
            seconds = time.monotonic() - self.started[report.stage]
            self.console.print(f"{report.stage:<9} {report.state:<8} {seconds:6.1f} s")


class CellBars(StageBars):
    """A bar for all cells and one per stage of the current cell; a line per cell where the output
    goes to a file.
    """

    def __call__(self, report: Report) -> None:
        if report.stage == "cell":
            self._cell(report)
        elif self.live or "cell" not in self.started:
            super().__call__(report)

    def _cell(self, report: Report) -> None:
        if "cell" not in self.tasks:
            self.started["cell"] = time.monotonic()
            self.tasks["cell"] = self.progress.add_task("cells", note="")
        for stage in [name for name in self.tasks if name != "cell"]:
            self.progress.remove_task(self.tasks.pop(stage))
        done, total = round(report.done), round(report.total or 0)
        note = f"{min(done + 1, total)} of {total}: {safe(report.note)}"
        self.progress.update(self.tasks["cell"], completed=done, total=total, note=note)
        if report.state == "running":
            self.started["this cell"] = time.monotonic()
        elif not self.live:
            seconds = time.monotonic() - self.started["this cell"]
            self.console.print(
                f"{f'{done}/{total}':<9} {report.state:<8} {seconds:6.1f} s  {safe(report.note)}"
            )


class TrialBars(StageBars):
    """A bar per stage of the training in work; a line per training that is over."""

    def __call__(self, report: Report) -> None:
        if report.stage != "trial":
            if self.live or "trial" not in self.started:
                super().__call__(report)
        elif report.state == "running":
            self.started.setdefault("trial", time.monotonic())
            for stage in list(self.tasks):
                self.progress.remove_task(self.tasks.pop(stage))
        else:
            style = _STYLE[report.state]
            self.console.print(f"[{style}]{report.state:<8}[/] {safe(report.note)}")


def print_table(console: Console, compared: Compared) -> None:
    """How good, how different from the baseline, at what cost: three tables narrow enough for a
    terminal.
    """
    from tasks.comparing.table import for_terminal, remarks

    console.print(
        f"[bold]{compared.name}[/], {compared.test_rows:,} test rows; Δ from "
        f"{safe(compared.baseline)}"
    )
    for columns, lines in for_terminal(compared):
        table = Table(box=SIMPLE)
        for column in columns:
            table.add_column(column, justify="left" if column == "variant" else "right")
        for line in lines:
            table.add_row(*(safe(cell.replace(" to ", ", ")) for cell in line))
        console.print(table)
    for remark in remarks(compared):
        console.print(safe(remark), soft_wrap=True)


def stage_table(title: str, stages: Iterable[StageRecord]) -> Table:
    """How each step of a run went."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("stage", "state", "rows in", "rows out", "seconds"):
        table.add_column(column, justify="left" if column in ("stage", "state") else "right")
    for stage in stages:
        state = f"[{_STYLE[stage.state]}]{stage.state}[/]"
        table.add_row(stage.name, state, *stage.shown, f"{stage.seconds:.1f}")
    return table


def print_summary(console: Console, result: Retrained, settings: Settings, seconds: float) -> None:
    """Stages, metrics with their intervals, what became champion and why, and how to look at it."""
    from flows.running.summary import days_read, headline

    console.print(stage_table(f"retrain {result.recipe}", result.stages))
    for days in days_read(result):
        console.print(f"days read: {safe(days)}", soft_wrap=True)
    metrics = Table(
        title=f"test split, {result.confidence:.0%} intervals",
        title_justify="left",
        title_style="bold",
    )
    for column in ("metric", "value", "from", "to"):
        metrics.add_column(column, justify="left" if column == "metric" else "right")
    for name, figure in headline(result).items():
        metrics.add_row(name, f"{figure.value:.4f}", f"{figure.low:.4f}", f"{figure.high:.4f}")
    console.print(metrics)
    for warning in result.warnings:
        console.print(f"[bold yellow]note[/] {safe(warning)}", soft_wrap=True)

    decision = result.decision
    verdict = {
        "promoted": "[bold green]champion[/]",
        "already_champion": "[bold cyan]champion already[/]",
        "would_pass": "judged only: it would pass",
        "would_not_pass": "judged only: it would not pass",
    }
    console.print(
        f"\n{safe(result.model_uri)} is "
        f"{verdict.get(decision.outcome, '[bold yellow]not promoted[/]')}"
    )
    for reason in decision.reasons:
        console.print(f"  · {safe(reason)}", soft_wrap=True)
    console.print(f"\n{seconds:.0f} s in all. To look at this run:")
    for line in how_to_look(result, settings, result.report):
        console.print(line, soft_wrap=True)


class Tracked(Protocol):
    """The result of a flow, as far as it says where it is to be seen."""

    @property
    def experiment_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def tracking_uri(self) -> str: ...
    @property
    def flow_run_id(self) -> str: ...


def how_to_look(result: Tracked, settings: Settings, report: str = "") -> list[str]:
    from flows.running.addresses import addresses

    there = addresses(settings)
    embedded = not result.tracking_uri.startswith("http")
    home = (
        f"NOISEFOLD_HOME={shlex.quote(str(settings.home))} "
        if os.environ.get("NOISEFOLD_HOME")
        else ""
    )
    command = (
        "noisefold"
        if shutil.which("noisefold")
        else os.path.relpath(Path(sys.executable).with_name("noisefold"))
    )
    serve = [f"  {home}{command} ui      # serves both"] if embedded and not there.running else []
    return [
        *serve,
        *([f"  Report   {report}"] if report else []),
        f"  MLflow   {there.tracked_run(result.experiment_id, result.run_id)}",
        f"  Prefect  {there.flow_run(result.flow_run_id)}",
    ]


@contextlib.contextmanager
def quiet(verbose: bool) -> Iterator[None]:
    """Keep warnings and log lines that a user can do nothing about off the terminal; `--verbose`
    shows them all.
    """
    if verbose:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (
            "mlflow",
            "great_expectations",
            "lightning",
            "pytorch_lightning",
            "alembic",
            "prefect",
        ):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield


@contextlib.contextmanager
def writable_home(settings: Settings) -> Iterator[None]:
    """Fail at once, and clearly, where the state folder cannot be written."""
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
        # One of a common name is taken away by another run that the same line of a crontab starts.
        with tempfile.TemporaryFile(dir=settings.root):
            pass
    except OSError as error:
        raise NoisefoldError(
            f"The state folder {settings.root} cannot be written ({error.strerror}).",
            "Set NOISEFOLD_HOME to a folder that this user may write and that has space.",
        ) from None
    yield


def check_prefect(mode: str) -> None:
    from tasks.tracking.runs import probe

    if mode == "given":
        probe(
            os.environ["PREFECT_API_URL"].rstrip("/") + "/health",
            "Prefect server",
            "PREFECT_API_URL",
        )


def start_temporary_server() -> threading.Thread:
    """Boot Prefect's temporary server while the flow's imports run: both take seconds, and neither
    needs the other.
    """
    from flows.running import temporary_server

    thread = threading.Thread(target=temporary_server.start, daemon=True)
    thread.start()
    return thread


def named_process() -> contextlib.AbstractContextManager[object]:
    """The flow run bears its process from its first moment on, so that it can be closed if the
    process dies then.
    """
    from prefect import tags

    from tasks.liveness.lease import this_process

    return tags(this_process().tag)


@contextlib.contextmanager
def heartbeat_off(mode: str) -> Iterator[None]:
    """A flow's end waits one second for its heartbeat thread; nobody watches the heartbeat of a
    temporary server.
    """
    if mode != "temporary":
        yield
        return
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
