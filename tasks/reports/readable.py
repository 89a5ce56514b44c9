"""Tables that people open: text that came from data is shown as text, whatever it holds."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_contracts.errors import printable
from data_contracts.results import Interval

_FORMULA = re.compile(r"^(\s*[=+\-@＝＋－＠]|[\x00-\x1f\x7f])")
# Marks that mean something anywhere, an underscore that is not within a word, and marks that begin
# a heading or a list.
_MARKUP = re.compile(r"([\\`*\[\]|<>&~$]|(?<![^\W_])_|_(?![^\W_])|^[#+=-])")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?= |$)")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """UTF-8 with a byte-order mark, which spreadsheets need to tell Chinese from noise."""
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([csv_cell(cell) for cell in header])
        writer.writerows([csv_cell(cell) for cell in row] for row in rows)


def csv_cell(value: Any) -> Any:
    """A text that a spreadsheet would run gets an apostrophe (OWASP, "CSV Injection")."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Every cell is escaped."""
    lines = [
        "| " + " | ".join(markdown(cell) for cell in header) + " |",
        "|" + " --- |" * len(header),
    ]
    return "\n".join(
        lines + ["| " + " | ".join(markdown(cell) for cell in row) + " |" for row in rows]
    )


def markdown(value: Any, limit: int = 300) -> str:
    """Text as one line of Markdown that means just itself: no markup, no HTML, no link."""
    text = shorten(" ".join(str(value).split()), limit)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    text = _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", text)).replace("://", ":\\//")
    # Renderers make links of bare www. and mail addresses as well.
    return re.sub(r"(www)\.", r"\1\\.", text, flags=re.I).replace("@", "\\@")


def code(value: str) -> str:
    """Text as a code span of one line."""
    return f"`{printable(value).replace(chr(10), ' ').replace('`', chr(39)) or ' '}`"


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fit(text: str, limit: int, rest: str = "…") -> str:
    """Markdown of at most `limit` characters: whole paragraphs, and what stands for the others."""
    if len(text) <= limit:
        return text
    room = text[: limit - len(rest) - 2]
    return f"{room.rpartition(chr(10) * 2)[0] or room}\n\n{rest}"


def with_interval(value: Interval | None, digits: int = 3) -> str:
    """0.912 (0.898 to 0.925); a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value.value:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"
