"""`noisefold ask` in a terminal: questions in, what is answered to each as a person reads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import islice
from typing import Any

from data_contracts.errors import NoisefoldError, printable, printable_json
from flows.cli.document import document
from flows.cli.predict import LINES, Asked, check_encoding, plain_lines
from tasks.settings import Settings


def ask_in_terminal(
    questions: list[str],
    of: tuple[str | None, str, Mapping[str, Any]],
    command: str,
    *,
    as_json: bool,
) -> None:
    """Answer questions, or else the lines of standard input; blank ones are left out.

    Args:
        of: the model, its alias or version, and its parameters.
        command: by which it is asked.
    """
    check_encoding("The question", questions)
    model, alias, params = of
    asked = Asked(model, alias, [(name, str(one)) for name, one in params.items()], command)
    lines = (line.strip() for line in plain_lines(sys.stdin, True))
    given = iter(questions or filter(None, lines))
    batch = list(islice(given, LINES))
    if not batch:
        raise NoisefoldError("There is no question.", f'For example: noisefold {command} "…".')
    several = len(batch) > 1
    with ExitStack() as stack:
        out = stack.enter_context(document(True))
        predictor = asked.opened(stack, Settings())
        name = predictor.only_input
        while batch:
            answers = predictor.answer({name: batch})
            rows = zip(batch, answers.rows(), answers.reasons, strict=True)
            for question, answer, reason in rows:
                if as_json:
                    told = {name: question, **predictor.task.told(answer)}
                    told |= {} if reason is None else {"reason": reason}
                    print(printable_json(json.dumps(told, ensure_ascii=False)), file=out)
                    continue
                said = predictor.task.read_out(answer) if reason is None else f"No answer: {reason}"
                head = f"{question.strip()}\n\n" if several else ""
                print(printable(f"{head}{said}") + ("\n" if several else ""), file=out)
            batch = list(islice(given, LINES))
