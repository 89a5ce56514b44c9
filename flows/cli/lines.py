"""Texts in, a line of answer for each, in a terminal and from file to file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from data_contracts.errors import NoisefoldError, SourceError
from flows.cli.document import document
from flows.cli.predict import (
    Asked,
    TableRequest,
    as_options,
    check_encoding,
    table_in_terminal,
)
from flows.cli.terminal import safe
from tasks.settings import Settings


@dataclass(frozen=True)
class Request:
    """A file, where its answers go, and how both are read and written."""

    file: str | None
    output: str | None
    column: str | None
    encoding: str
    force: bool
    as_json: bool


def answer_in_terminal(
    texts: list[str],
    request: Request,
    of: tuple[str | None, str, Mapping[str, Any]],
    command: str,
) -> None:
    """Answer texts, a file, or else the lines of standard input.

    Args:
        of: the model, its alias or version, and its parameters.
        command: by which it is asked.
    """
    model, alias, params = of
    written = [(name, str(value)) for name, value in params.items()]
    asked = Asked(model, alias, written, command)
    file = None if request.file == "-" else request.file
    output = None if request.output == "-" else request.output
    _check(texts, request, file)
    if file is not None and not _plain(file):
        table = TableRequest(
            file, output or "-", request.column, None, request.encoding, None, request.force, False
        )
        table_in_terminal(table, asked, as_json=request.as_json)
        return
    settings = Settings()
    with ExitStack() as stack:
        out = stack.enter_context(document(True))
        predictor = asked.opened(stack, settings)
        from tasks.serving.predict_lines import Lines, lines_of, predict_file, read_lines

        lines = Lines(predictor, as_json=request.as_json)
        if texts:
            lines.answer([f"{text}\n" for text in texts], out)
        elif file is None:
            lines.answer(read_lines(sys.stdin.buffer, "standard input", request.encoding), out)
        else:
            source = lines_of(file, request.encoding)
            try:
                predict_file(lines, source, output, request.force, out)
            except SourceError as error:
                raise SourceError(as_options(error.cause), as_options(error.remedy)) from error
            if output is not None:
                Console(stderr=True, highlight=False).print(
                    safe(
                        f"{lines.answered:,} of {lines.read:,} lines answered by {predictor.uri}. "
                        f"Written to {output}."
                    ),
                    soft_wrap=True,
                )


def _check(texts: list[str], request: Request, file: str | None) -> None:
    """
    Raises:
        NoisefoldError: what is given does not go together.
    """
    if texts and request.file is not None:
        raise NoisefoldError("Both texts and --input are given.", "Give one of them.")
    if file is None and request.output not in (None, "-"):
        raise NoisefoldError(
            "--output is about a file, and there is none.", "Name one with --input."
        )
    if request.column is not None and (file is None or _plain(file)):
        raise NoisefoldError(
            "--column is about a table, and there is none.",
            "Name one with --input: its name ends in .csv, .jsonl, .json or .parquet.",
        )
    check_encoding("The text", texts)


def _plain(name: str) -> bool:
    from tasks.serving.predict_lines import is_plain

    return is_plain(name)
