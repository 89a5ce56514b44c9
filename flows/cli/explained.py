"""`noisefold explain` in a terminal: texts in, their tokens coloured by what they add."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from data_contracts.errors import NoisefoldError, printable, printable_json
from flows.cli.document import document
from flows.cli.predict import check_encoding, plain_lines
from flows.cli.terminal import chosen_model, quiet, safe, writable_home
from flows.running.environment import switches
from tasks.engines.threads import threads_of_a_command
from tasks.settings import Settings

if TYPE_CHECKING:
    from lightning_modules.explaining.explain import Deletion, Explanation, Part
    from tasks.serving.explained import Explainer

_NAMED = 5  # tokens for the answer, and as many against it
_ROWS = 60  # of a table
# From white to these, by how much a token adds or takes: colours that every reader tells apart.
_FOR, _AGAINST = (33, 102, 172), (178, 24, 43)


def explain_in_terminal(
    texts: list[str], of: tuple[str | None, str], target: str | None, *, as_json: bool
) -> None:
    """Explain texts, or else the lines of standard input; blank lines are left out.

    Args:
        of: the model, and its alias or version.
    """
    check_encoding("The text", [*texts, target or ""])
    lines: Iterator[str] = iter(())
    if not texts:
        lines = filter(str.strip, plain_lines(sys.stdin, True))
        first = list(islice(lines, 1))
        if not first:
            raise NoisefoldError(
                "There is no text to explain.", 'For example: noisefold explain "…".'
            )
        lines = chain(first, lines)
    with ExitStack() as stack:
        out = stack.enter_context(document(as_json))
        explainer = _opened(stack, *of)
        for question in _questions(explainer, texts, lines):
            found = explainer.explain(question, target)
            told = explainer.task.told(found.answer)
            if as_json:
                content = {**found.as_json(), "answer": told, "model": explainer.uri}
                print(printable_json(json.dumps(content, ensure_ascii=False)), file=out)
            else:
                _show(Console(highlight=False), explainer, found)


def _opened(stack: ExitStack, model: str | None, alias: str) -> Explainer:
    settings = Settings()
    for context in (writable_home(settings), quiet(False), threads_of_a_command()):
        stack.enter_context(context)
    switches()
    from tasks.serving.explained import load_explainer

    return stack.enter_context(load_explainer(settings, chosen_model(settings, model), alias))


def _questions(
    explainer: Explainer, texts: Sequence[str], lines: Iterator[str]
) -> Iterator[dict[str, str]]:
    """A text for each column that the model is asked, from the command's words or from lines."""
    columns = explainer.bundle.asked
    if texts:
        if len(texts) % len(columns):
            raise NoisefoldError(
                f"{explainer.name} is asked {' and '.join(columns)} each time, and "
                f"{len(texts)} {'text is' if len(texts) == 1 else 'texts are'} given.",
                f"Give a text for each, in this order: {', '.join(columns)}.",
            )
        parts = iter(texts)
        for some in zip(*[parts] * len(columns), strict=True):
            yield dict(zip(columns, some, strict=True))
        return
    for number, line in enumerate(lines, 1):
        yield {columns[0]: line} if len(columns) == 1 else _fields(columns, number, line)


def _fields(columns: Sequence[str], number: int, line: str) -> dict[str, str]:
    try:
        given: Any = json.loads(line)
        found = {name: given[name] for name in columns}
    except (ValueError, KeyError, TypeError, RecursionError):
        found = {}
    if not found or not all(isinstance(one, str) for one in found.values()):
        raise NoisefoldError(
            f"Line {number} of standard input is no JSON object with the texts "
            f"{' and '.join(columns)}.",
            "Give one object a line, for example "
            + json.dumps(dict.fromkeys(columns, "…"), ensure_ascii=False)
            + ".",
        )
    return found


# --- what is shown


def _show(console: Console, explainer: Explainer, found: Explanation) -> None:
    brief = explainer.task.brief(found.answer)
    said = ", ".join(f"{name} {value}" for name, value in brief.items() if value)
    console.print(safe(f"{said}   ({explainer.uri})"), soft_wrap=True)
    if found.target not in brief.values():
        console.print(safe(f"explained: {found.target}"), soft_wrap=True)
    if console.is_terminal and not console.no_color:
        for column, text in found.texts.items():
            console.print(coloured(text, [one for one in found.parts if one.column == column]))
    else:
        console.print(_table(found))
    console.print(safe("\n".join(_sentences(found))) + "\n", soft_wrap=True)


def coloured(text: str, parts: Sequence[Part]) -> Text:
    """A text with each part on a ground of blue, where it speaks for the answer, or of red."""
    most = max((abs(part.contribution) for part in parts), default=0) or 1.0
    shown, at = Text(), 0
    for part in parts:
        shown.append(printable(text[at : part.start]))
        shown.append(printable(text[part.start : part.end]), _style(part.contribution / most))
        at = part.end
    shown.append(printable(text[at:]))
    return shown


def _style(share: float) -> Style:
    """Of a contribution, from -1 to 1 of the largest."""
    strength = abs(share)
    if strength < 0.05:
        return Style.null()
    ground = [round(255 + strength * (one - 255)) for one in (_FOR if share > 0 else _AGAINST)]
    letters = "white" if strength > 0.6 else "black"
    return Style.parse(f"{letters} on rgb({ground[0]},{ground[1]},{ground[2]})")


def _table(found: Explanation) -> Table:
    """The tokens with their numbers, where there are no colours."""
    several = len(found.texts) > 1
    strongest = sorted(found.parts, key=lambda part: -abs(part.contribution))[:_ROWS]
    chosen = [part for part in found.parts if part in strongest]
    left = len(found.parts) - len(chosen)
    caption = f"the {len(chosen)} strongest of {len(found.parts)}" if left else None
    table = Table(caption=caption, caption_justify="left")
    for name in (*(["of"] if several else []), "token"):
        table.add_column(name)
    table.add_column("from", justify="right")
    table.add_column("adds", justify="right")
    for part in chosen:
        cells = [safe(part.text), str(part.start), f"{part.contribution:+.4f}"]
        table.add_row(*([safe(part.column)] if several else []), *cells)
    return table


def _sentences(found: Explanation) -> list[str]:
    """What the contributions are of, the strongest of them, and how they stood the check."""
    lines = [
        f"{found.words}: {found.score:.3f}; of unknown tokens {found.baseline:.3f}. The tokens add "
        f"{sum(part.contribution for part in found.parts):+.3f} "
        f"(off by {abs(found.error):.1g}, {found.steps} steps)."
    ]
    for words, parts in (("for", found.strongest), ("against", found.strongest[::-1])):
        sign = 1 if words == "for" else -1
        named = [part for part in parts if part.contribution * sign > 0][:_NAMED]
        if named:
            shown = ", ".join(f"{part.text} {part.contribution:+.3f}" for part in named)
            lines.append(f"Most {words} it: {shown}.")
    if found.deletion is not None:
        lines.append(deleted(found.deletion))
    return [*lines, *found.notes]


def deleted(check: Deletion) -> str:
    """What the check by deletion has shown, as a sentence."""
    many = f"{check.removed} strongest tokens" if check.removed > 1 else "strongest token"
    fewer = f"{check.removed} others" if check.removed > 1 else "another one"
    return (
        f"Without the {many} the score {_moves(check.strongest)}, without {fewer} at random "
        f"{_moves(check.random)} ({check.random_low:.3f} to {check.random_high:.3f} in 95 % of "
        "the draws)."
    )


def _moves(fall: float) -> str:
    return f"falls by {fall:.3f}" if fall >= 0 else f"rises by {-fall:.3f}"
