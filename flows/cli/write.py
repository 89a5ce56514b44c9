"""`noisefold write` in a terminal: a text that goes on as it is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from data_contracts.errors import printable, printable_json
from flows.cli.document import document
from flows.cli.predict import check_encoding, opened
from tasks.settings import Settings


def write_in_terminal(
    prompt: str, model: str | None, alias: str, params: Mapping[str, Any], *, as_json: bool
) -> None:
    """Write on from a prompt, which is shown first; with `as_json` the whole answer at its end."""
    text = sys.stdin.read() if prompt == "-" else prompt
    check_encoding("The prompt", [text])
    said = {name: value for name, value in params.items() if value not in (None, ())}
    given = {
        name: list(value) if isinstance(value, tuple) else value for name, value in said.items()
    }
    with ExitStack() as opening:
        out = opening.enter_context(document(as_json))
        predictor = opened(opening, Settings(), model, alias)
        whole: dict[str, Any] = {}
        shown = text  # before the first piece, once it is clear that there is one
        for piece in predictor.stream(text, given):
            if not as_json:
                print(printable(shown + piece["piece"]), end="", flush=True)
            shown = ""
            whole = piece["answer"] or whole
        if as_json:
            line = json.dumps({predictor.only_input: text, **whole}, ensure_ascii=False)
            print(printable_json(line), file=out)
        else:
            print()
