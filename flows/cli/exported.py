"""`noisefold export` in a terminal."""

from __future__ import annotations

import json
import shlex
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from data_contracts.errors import printable_json
from flows.cli.document import document
from flows.cli.terminal import chosen_model, quiet, safe, writable_home
from flows.running.environment import switches
from tasks.engines.threads import threads_of_a_command
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.serving.export import Export


def export_in_terminal(
    of: tuple[str | None, str], folder: str, *, int8: bool, as_json: bool
) -> None:
    """Export a version, and say how it answers.

    Args:
        of: the model, and its alias or version.
    """
    settings = Settings()
    with ExitStack() as stack:
        out = stack.enter_context(document(as_json))
        for context in (writable_home(settings), quiet(False), threads_of_a_command()):
            stack.enter_context(context)
        switches()
        from tasks.serving.export import export

        name = chosen_model(settings, of[0])
        done = export(settings, name, of[1], Path(folder), "int8" if int8 else "fp32")
    if as_json:
        print(printable_json(json.dumps(asdict(done), ensure_ascii=False)), file=out)
    else:
        _show(Console(highlight=False), done)


def _show(console: Console, done: Export) -> None:
    words = {"fp32": "float32", "int8": "weights of 8 bits"}[done.precision]
    console.print(
        f"{safe(done.model)} is written to {safe(done.folder)}: ONNX, {words}, "
        f"{done.bytes / 1e6:.2f} MB (it has {done.bytes_before / 1e6:.2f}).",
        soft_wrap=True,
    )
    console.print(
        f"Of {done.rows:,} test rows {done.same_answers:.2%} have the same answer; numbers lie at "
        f"most {done.largest_difference:.2g} apart.",
        soft_wrap=True,
    )
    console.print("\nTo serve it, where torch need not be:")
    console.print(
        f"  mlflow models serve --model-uri {shlex.quote(done.folder)} --env-manager local",
        soft_wrap=True,
    )
