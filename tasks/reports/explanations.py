"""Explanations of a source's rows, for people: how they stood their check, and the first texts with
their tokens coloured.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as dataset

from data_contracts.artifacts import Explanations
from data_contracts.results import Block, Highlights, Marked, Text
from tasks.reports import blocks
from tasks.reports.html import pieces_of, render
from tasks.reports.readable import markdown
from tasks.serving.asked_rows import AskedRows
from tasks.tracking.runs import Tracker

SHOWN = 20  # texts that are coloured
_LONGEST = 4_000  # characters of such a text
_STRONG = 0.3  # of the most that any token adds: what is marked where there are no colours


def dump_shown(read: Iterable[tuple[AskedRows, pa.Table]], folder: Path) -> None:
    """Write the first texts with what their tokens add, for the pages.

    Args:
        read: rows, and the table of their explanations, from the first on.
    """
    shown: list[Marked] = []
    for rows, answers in read:
        for place, told in enumerate(answers.to_pylist()):
            if told["tokens"] is not None and len(shown) < SHOWN:
                texts = {name: cells[place] for name, cells in rows.asked.items()}
                shown += _marked(f"{told['file']}, row {told['row']}", texts, told)
        if len(shown) >= SHOWN:
            break
    content = blocks.dump([Highlights("explained", tuple(shown))])
    (folder / blocks.FILE).write_text(content, encoding="utf-8")


def _marked(name: str, texts: dict[str, str | None], told: dict) -> list[Marked]:
    """A text for each column that was asked."""
    several = sum(bool(text) for text in texts.values()) > 1
    return [
        Marked(
            title=f"{name}{f', {column}' if several else ''}: {told['words']}, {told['score']:.3f}",
            text=text,
            parts=tuple(
                (one["start"], one["end"], one["contribution"])
                for one in told["tokens"]
                if one["column"] == column
            ),
            note=told["notes"] or "",
        )
        for column, text in texts.items()
        if text and len(text) <= _LONGEST
    ]


def log_explanations(explanations: Explanations, folder: Path, tracker: Tracker) -> None:
    """Show them in the MLflow run: counts, and how they stood their check. Safe to repeat."""
    counts = {"rows": explanations.rows_in, "refused": explanations.refused}
    tracker.log_metrics({**counts, **_checked(folder)})


def _checked(folder: Path) -> dict[str, float]:
    """How far scores fall without the strongest tokens and without others, in the mean, and the
    share of rows whose strongest are better than almost every choice at random.
    """
    rows = dataset.dataset(sorted(map(str, folder.glob("part-*.parquet"))))
    names = ["deletion_strongest", "deletion_random", "deletion_random_high"]
    table = rows.to_table(columns=names).drop_null()
    if not len(table):
        return {}
    strongest, random, high = (table[name].to_numpy() for name in names)
    return {
        "deletion_strongest": float(strongest.mean()),
        "deletion_random": float(random.mean()),
        "deletion_better_share": float(np.mean(strongest > high)),
    }


def sentences(explanations: Explanations, folder: Path) -> list[str]:
    """What came of it."""
    explained = explanations.rows_in - explanations.refused
    lines = [
        f"{explained:,} of {explanations.rows_in:,} answers of {explanations.model} explained."
    ]
    if checked := _checked(folder):
        lines.append(
            "Checked by deletion: without the strongest fifth of its tokens a score falls by "
            f"{checked['deletion_strongest']:.2f} in the mean, without as many at random by "
            f"{checked['deletion_random']:.2f}; {checked['deletion_better_share']:.0%} of the "
            "explanations are better than almost every choice at random."
        )
    return lines


def explained_page(explanations: Explanations, folder: Path) -> str:
    """The page of explanations, as HTML."""
    content: list[Block] = [Text(warning, "note") for warning in explanations.warnings]
    content += [Text(line) for line in sentences(explanations, folder)]
    content += [
        Text("The first texts", "heading"),
        Text("Blue speaks for the answer that is explained, red against it."),
        *_shown(folder),
    ]
    return render("evaluation.html.j2", title="Explanations", content=content)


def explained_markdown(folder: Path) -> str:
    """The first texts as Markdown, which has no colours: bold is what speaks for the answer, struck
    through what speaks against it.
    """
    parts = ["**Bold** speaks for the answer that is explained, ~~struck through~~ against it."]
    for block in _shown(folder):
        if isinstance(block, Highlights):
            for one in block.texts:
                line = "".join(_as_markdown(*piece) for piece in pieces_of(one))
                parts.append(f"#### {markdown(one.title)}\n\n{line}")
    return "\n\n".join(parts) + "\n"


def _as_markdown(text: str, share: float) -> str:
    # Within a line; a space beside it is what parts words.
    escaped = markdown(text, _LONGEST) if text.strip() else ""
    before, behind = " " * text[:1].isspace(), " " * (text[-1:].isspace() and bool(escaped))
    if abs(share) >= _STRONG and any(map(str.isalnum, text)):
        mark = "**" if share > 0 else "~~"
        escaped = f"{mark}{escaped}{mark}"
    return f"{before}{escaped}{behind}"


def _shown(folder: Path) -> list[Block]:
    return blocks.load((folder / blocks.FILE).read_text(encoding="utf-8"))
