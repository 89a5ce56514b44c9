"""The table of a comparison as Markdown, and its cells as JSON."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from data_contracts.artifacts import Interval
from data_contracts.recipe.comparison import Compared, Row, Spread
from tasks.artifacts.store import write_durably
from tasks.reports.readable import code, listed, markdown

HEADER = (
    *(
        "variant",
        "seeds",
        "valid macro-F1",
        "accuracy",
        "macro-F1",
        "NLL",
        "Brier",
        "ECE",
        "ECE floor",
    ),
    *("Δ accuracy", "Δ macro-F1", "Δ NLL", "parameters", "MB", "CPU s to train", "texts/s"),
)
_VALID = ("valid_macro_f1", 100, 1)
_COMPARED = (("accuracy", 100, 1), ("macro_f1", 100, 1), ("nll", 1, 3))
_FIGURES = (_VALID, *_COMPARED, ("brier", 1, 3), ("ece", 100, 1), ("ece_floor", 100, 1))


def cells_of(row: Row, baseline: str) -> list[str]:
    """One line of the table as plain text, in the order of HEADER."""
    seeds = f"{row.finished}/{row.planned}"
    if not row.finished:
        return [row.variant, seeds, *["failed" if row.failed else "not run"] * (len(HEADER) - 2)]
    figures = [
        _with_spread(row.figures[name], scale, digits) if name in row.figures else "–"
        for name, scale, digits in _FIGURES
    ]
    other = "baseline" if row.variant == baseline else "–"
    differences = [
        _with_bounds(row.differences[name], scale, digits) if name in row.differences else other
        for name, scale, digits in _COMPARED
    ]
    facts = row.facts
    costs = [
        "–" if value is None else text.format(value)
        for value, text in (
            (facts.parameters, "{:,}"),
            (None if facts.bytes is None else facts.bytes / 1e6, "{:.2f}"),
            (facts.cpu_seconds_train, "{:,.1f}"),
            (facts.texts_per_second, "{:,.0f}"),
        )
    ]
    return [row.variant, seeds, *figures, *differences, *costs]


def as_markdown(table: Compared) -> str:
    """The table with what a reader needs to judge and to repeat it."""
    lines = [cells_of(row, table.baseline) for row in table.rows]
    share = f"{table.confidence:.0%}"
    rows = (
        f"{table.test_rows:,} test rows" if table.test_rows else "The rows have not been read yet"
    )
    notes = [
        f"{rows}. Mean ± standard deviation over seeds; accuracy, macro-F1 and ECE in points, NLL in nats. Valid "
        "macro-F1, of the epoch that was kept, is the figure to choose by; the others are of the test rows. Δ: from "
        f"{markdown(table.baseline)}, with {share} intervals: paired bootstrap over the test rows "
        f"({table.bootstrap_samples:,} resamples), averaged over the seeds that both have finished. "
        f"ECE over {table.ece_bins} bins; its floor is what a perfectly "
        "calibrated model with the same confidences would be expected to show on as many rows. MB: all "
        "that predicting needs. texts/s: from text to label, per second of one CPU thread.",
        *remarks(table),
    ]
    return "\n".join(
        [
            f"# {table.name}\n",
            *([f"{code(table.command)}\n"] if table.command else []),
            f"| {' | '.join(HEADER)} |",
            "|---|" + "--:|" * (len(HEADER) - 1),
            *(f"| {' | '.join([markdown(name), *rest])} |" for name, *rest in lines),
            "",
            "\n\n".join(notes),
            "",
        ]
    )


def remarks(table: Compared) -> list[str]:
    """What was not measured, what has not run, what failed and why, and what other programs chose."""
    waiting: dict[str, list[str]] = {row.variant: [] for row in table.rows}
    failed = []
    for cell in table.cells:
        if cell.state == "not run":
            waiting[cell.variant].append(str(cell.seed))
        elif cell.state == "failed":
            failed.append(
                f"Failed: {markdown(cell.variant)}, seed {cell.seed}: {markdown(cell.cause)}"
            )
    empty = [row.variant for row in table.rows if not row.planned]
    runs = "; ".join(
        [
            *(
                f"{markdown(name)} (seeds {', '.join(seeds)})"
                for name, seeds in waiting.items()
                if seeds
            ),
            *(f"{markdown(name)} (no predictions file)" for name in empty),
        ]
    )
    chosen = [
        f"{markdown(r.variant)}: {markdown(r.facts.chosen)}." for r in table.rows if r.facts.chosen
    ]
    unknown = []
    if table.unmeasured:
        names = markdown(listed(table.unmeasured))
        unknown.append(
            f"No test row has the label {names}: nothing is known of it, macro-F1 is the mean over the others."
        )
    return [*unknown, *([f"Not run: {runs}."] if runs else []), *failed, *chosen]


def write_table(table: Compared, out: Path) -> None:
    """`out`, and the cells beside it as JSON; each appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_durably(out, as_markdown(table).encode())
    write_durably(out.with_suffix(".json"), as_json(table).encode())


def read_table(out: Path) -> Compared | None:
    """The table that `write_table` left at `out`; None where there is none that can be read."""
    try:
        return Compared.model_validate_json(out.with_suffix(".json").read_bytes())
    except (OSError, ValidationError):
        return None


def as_json(table: Compared) -> str:
    return table.model_dump_json(indent=1, exclude_none=True) + "\n"


def _with_spread(value: Spread, scale: float, digits: int) -> str:
    sd = "" if value.sd is None else f" ± {scale * value.sd:.{digits}f}"
    return f"{scale * value.mean:.{digits}f}{sd}"


def _with_bounds(value: Interval, scale: float, digits: int) -> str:
    mean, low, high = (f"{scale * v:+.{digits}f}" for v in (value.value, value.low, value.high))
    return f"{mean} ({low} to {high})"
