"""`noisefold predict` in a terminal: texts, lines and tables, and what is said of rows without an
answer.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from data_contracts.contract.usual_headers import USUAL_HEADERS
from data_contracts.errors import NoisefoldError, SourceError, printable_json
from data_contracts.urls import redacted
from flows.cli.document import document
from flows.cli.terminal import chosen_model, quiet, safe, writable_home
from flows.running.environment import switches
from tasks.engines.threads import threads_of_a_command
from tasks.settings import Settings

if TYPE_CHECKING:
    from data_contracts.tables.read import Format
    from tasks.serving.predict import Answers, Predictor
    from tasks.serving.predict_table import Done

LINES = 256  # answered at a time
_OPTIONS = {
    "url": "--input",
    "format": "--format",
    "encoding": "--encoding",
    "separator": "--separator",
}
_LOOKED_AT = 20  # lines of standard input


@dataclass(frozen=True)
class Asked:
    """The model that is asked, and how it is to answer: parameters as they are written.

    command: that asks it, where it asks models of its own kind alone.
    """

    model: str | None
    alias: str
    params: list[tuple[str, str]]
    command: str | None = None

    def opened(self, stack: ExitStack, settings: Settings) -> Predictor:
        predictor = opened(stack, settings, self.model, self.alias)
        task = predictor.task
        if self.command not in (None, task.command):
            raise NoisefoldError(
                f"{predictor.name} is no model that `noisefold {self.command}` asks, but a "
                f"{task.words[0].lower()}{task.words[1:]}.",
                f"Ask it by `noisefold {task.command}`, or name another one with --model.",
            )
        predictor.take_params(self.params)
        return predictor


def lines_in_terminal(
    texts: list[str], asked: Asked, *, as_json: bool, strict: bool, lines: bool
) -> None:
    """Answer texts, or else the lines of standard input, a table (or JSON Lines) per batch."""
    check_encoding("The text", texts)
    given = iter(texts) if texts else plain_lines(sys.stdin, lines)
    first = list(islice(given, LINES))
    if not any(text.strip() for text in first) and len(first) < LINES:
        raise NoisefoldError("There is no text to predict.", 'For example: noisefold predict "…".')
    settings, rows, refused = Settings(), 0, []
    with ExitStack() as stack:
        out = stack.enter_context(document(as_json))
        predictor = asked.opened(stack, settings)
        name = predictor.only_input
        batch = first
        while batch:
            answers = predictor.answer({name: batch})
            refused += [rows + row + 1 for row in answers.refused]
            rows += len(batch)
            if as_json:
                for text, line in zip(batch, _json_answers(answers, predictor), strict=True):
                    print(
                        printable_json(json.dumps({name: text, **line}, ensure_ascii=False)),
                        file=out,
                    )
            else:
                _print_table(batch, answers, predictor, asked.alias)
            batch = list(islice(given, LINES))
    _tell_refused(len(refused), rows, [f"number {row}" for row in refused[:5]], strict)


def check_encoding(what: str, texts: Iterable[str]) -> None:
    """
    Raises:
        NoisefoldError: what was typed holds bytes that are no text.
    """
    try:
        "".join(texts).encode()
    except UnicodeError:
        raise NoisefoldError(
            f"{what} is not in the terminal's encoding.", "Give it as UTF-8."
        ) from None


def plain_lines(stream: Iterable[str], wanted: bool) -> Iterator[str]:
    """The lines of standard input without their ends, those of Windows included.

    Raises:
        NoisefoldError: they are plainly those of a table, and nobody said that they are `wanted` as
            texts.
    """
    try:
        source = iter(stream)
        head = list(islice(source, _LOOKED_AT))
        if head:
            head[0] = head[0].removeprefix("\ufeff")
        if not wanted and (kind := _kind_of_table(head)):
            raise NoisefoldError(
                f"Standard input looks like a table ({kind}), and not like a text per line.",
                f"Give it as one: --input - --format {'jsonl' if kind == 'JSON Lines' else 'csv'} "
                f"--column NAME; "
                "or --lines, where each line is a text all the same.",
            )
        for line in chain(head, source):
            line.encode()
            yield line.rstrip("\n").removesuffix("\r")
    except UnicodeError:
        raise NoisefoldError(
            "The text is not in the terminal's encoding.", "Give it as UTF-8."
        ) from None


def _kind_of_table(head: list[str]) -> str:
    """What a table's first lines give it away as; empty where they may well be texts."""
    lines = [line.strip() for line in head if line.strip()]
    if len(lines) < 2:
        return ""
    if all(line.startswith("{") and line.endswith("}") for line in lines):
        try:
            return "JSON Lines" if all(isinstance(json.loads(line), dict) for line in lines) else ""
        except (ValueError, RecursionError):
            return ""
    for separator, name in (
        (",", "CSV"),
        ("\t", "CSV with tabs"),
        (";", "CSV with semicolons"),
        ("|", "CSV with |"),
    ):
        try:
            (header,) = csv.reader(lines[:1], delimiter=separator)
            fields = {
                len(record) for record in csv.reader(lines[1:-1] or lines[1:], delimiter=separator)
            }
        except (csv.Error, ValueError):
            continue
        known = {cell.strip().casefold() for cell in header} & USUAL_HEADERS
        if len(header) > 1 and known and (fields == {len(header)} or len(known) == len(header)):
            return f"{name}: {', '.join(cell.strip() for cell in header[:5])}"
    return ""


@dataclass(frozen=True)
class TableRequest:
    """A table, where its answers go, and how both are read and written."""

    table: str
    output: str
    column: str | None
    kind: str | None
    encoding: str
    separator: str | None
    force: bool
    strict: bool


def table_in_terminal(asked: TableRequest, of: Asked, *, as_json: bool) -> None:
    """Answer a table; what became of it is told on standard error, or with --json as one object."""
    settings, to_stdout, table = Settings(), asked.output == "-", asked.table
    with ExitStack() as stack:
        out = stack.enter_context(document(as_json or to_stdout))
        if table == "-":
            table = str(_spooled(stack, asked.kind))
        bar = stack.enter_context(_Rows(Console(stderr=True, highlight=False)))
        predictor = of.opened(stack, settings)
        from data_contracts.recipe.source import FileSource
        from tasks.serving.answer_file import Output
        from tasks.serving.predict_table import predict_table

        source = FileSource.model_construct(
            url=table,
            format=asked.kind or "auto",
            encoding=asked.encoding,
            separator=_separator(asked.separator),
        )
        output = Output(asked.output, asked.force, out, "jsonl" if as_json else "csv")
        try:
            done = predict_table(
                predictor, source, output, column=asked.column, strict=asked.strict, progress=bar
            )
        except SourceError as error:
            raise SourceError(as_options(error.cause), as_options(error.remedy)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise NoisefoldError(
                f"The table cannot be read to its end: {redacted(str(error))}.",
                "Run the command again; nothing is half done.",
            ) from error
        if as_json and not to_stdout:
            content = {**asdict(done), "output": asked.output}
            print(printable_json(json.dumps(content, ensure_ascii=False)), file=out)
    _tell_done(done, asked.output)


def _separator(given: str | None) -> str | None:
    from data_contracts.recipe.source import FileSource

    try:
        return FileSource.one_character(given)
    except ValueError as error:
        raise NoisefoldError(
            f"--separator {given}: {error}.", 'For example --separator ";" or --separator tab.'
        ) from None


def as_options(text: str) -> str:
    """A fault of reading speaks of the recipe's fields; here the same things are options."""
    text = text.replace("; a relative path starts at the recipe's folder", "")
    text = text.replace(
        "Name the column in the contract, under columns.", "Name the column of the texts: --column."
    )
    return re.sub(
        r"source\.(url|format|encoding|separator)", lambda found: _OPTIONS[found[1]], text
    )


def opened(stack: ExitStack, settings: Settings, model: str | None, alias: str) -> Predictor:
    """The version, loaded quietly and with few threads until `stack` ends."""
    for context in (writable_home(settings), quiet(False), threads_of_a_command()):
        stack.enter_context(context)
    switches()
    from tasks.serving.predict import load_predictor

    return stack.enter_context(load_predictor(settings, chosen_model(settings, model), alias))


def _spooled(stack: ExitStack, kind: str | None) -> Path:
    if kind is None:
        raise NoisefoldError(
            "Standard input has no name that tells its format.",
            "Say which: --format csv, jsonl or parquet.",
        )
    from tasks.serving.predict_table import spool

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="noisefold-")))
    return spool(sys.stdin.buffer, folder, cast("Format", kind))


def _json_answers(answers: Answers, predictor: Predictor) -> Iterator[dict[str, Any]]:
    for answer, reason in zip(answers.rows(), answers.reasons, strict=True):
        told = predictor.task.told(answer)
        yield told if reason is None else {**told, "reason": reason}


def _print_table(texts: list[str], answers: Answers, predictor: Predictor, alias: str) -> None:
    title = f"{predictor.name} version {predictor.version} ({alias})"
    table = Table(title=safe(title), title_justify="left")
    briefs = [predictor.task.brief(answer) for answer in answers.rows()]
    first, *more = briefs[0]
    table.add_column(predictor.only_input)
    table.add_column(first)
    for name in more:
        table.add_column(name, justify="right")
    for text, brief, reason in zip(texts, briefs, answers.reasons, strict=True):
        if reason is None:
            table.add_row(safe(text), *map(safe, brief.values()))
        else:
            table.add_row(safe(text), f"[dim]{safe(reason)}[/]", *["–"] * len(more))
    Console(highlight=False).print(table)


def _tell_done(done: Done, output: str) -> None:
    console = Console(stderr=True, highlight=False)
    for plain, name in done.renamed.items():
        console.print(
            safe(f"The table has a column {plain} already: the model's is {name}."), soft_wrap=True
        )
    where = "" if output == "-" else f" Written to {output}."
    console.print(
        safe(f"{done.answered:,} of {done.rows:,} rows answered by {done.model}.{where}"),
        soft_wrap=True,
    )
    _tell_refused(done.refused, done.rows, done.first, False)


def _tell_refused(refused: int, rows: int, first: list[str], strict: bool) -> None:
    """On standard error, since the rows themselves say why."""
    if not refused:
        return
    if strict:
        from tasks.serving.predict_table import refused_rows

        raise refused_rows(refused, rows, first)
    more = "; …" if refused > len(first) else ""
    text = f"{refused:,} of {rows:,} have no text, and so no answer ({'; '.join(first)}{more})."
    Console(stderr=True, highlight=False).print(safe(text), soft_wrap=True, style="yellow")


class _Rows:
    """How many rows are answered, on a terminal."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self.task = self.bar.add_task("rows", total=None)

    def __enter__(self) -> _Rows:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, rows: int) -> None:
        self.bar.update(self.task, completed=rows)
