"""The table of a comparison as Markdown, and its cells as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from data_contracts.errors import listed
from data_contracts.kinds.base import Metric, TaskConfig
from data_contracts.recipe.compared import Compared, Row, Spread
from data_contracts.results import Interval
from tasks.artifacts.store import write_durably
from tasks.reports.readable import code, markdown

FIRST = ("variant", "seeds")
COSTS = ("parameters", "MB", "CPU s to train", "texts/s")


def columns_of(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The figures that have a column: those that say so, and the first of the kind in any case."""
    return tuple(one for one in metrics if one.column or one is metrics[0])


def metrics_of(table: Compared) -> tuple[Metric, tuple[Metric, ...]]:
    """The figure to choose by, and those of the table's kind that have a column."""
    task = TaskConfig.KINDS[table.kind]
    columns = columns_of(task.metrics)
    return (task.metric(table.chosen_by) if table.chosen_by else columns[0]), columns


def heading(metric: Metric) -> str:
    return metric.column or metric.words


def header_of(chosen: Metric, metrics: Sequence[Metric]) -> tuple[str, ...]:
    return (
        *FIRST,
        f"valid {heading(chosen)}",
        *(heading(one) for one in metrics),
        *(f"Δ {heading(one)}" for one in metrics if one.compared),
        *COSTS,
    )


def cells_of(row: Row, baseline: str, chosen: Metric, metrics: Sequence[Metric]) -> list[str]:
    """One line of the table as plain text, in the order of `header_of`."""
    seeds = f"{row.finished}/{row.planned}"
    if not row.finished:
        rest = len(header_of(chosen, metrics)) - len(FIRST)
        return [row.variant, seeds, *["failed" if row.failed else "not run"] * rest]
    names = [f"valid_{chosen.name}", *(one.name for one in metrics)]
    figures = [
        _with_spread(row.figures[name], one) if name in row.figures else "–"
        for name, one in zip(names, (chosen, *metrics), strict=True)
    ]
    other = "baseline" if row.variant == baseline else "–"
    differences = [
        _with_bounds(row.differences[one.name], one) if one.name in row.differences else other
        for one in metrics
        if one.compared
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


def for_terminal(table: Compared) -> list[tuple[list[str], list[list[str]]]]:
    """How good, how different from the baseline, at what cost: headings and lines of each."""
    chosen, metrics = metrics_of(table)
    header = header_of(chosen, metrics)
    lines = [
        dict(zip(header, cells_of(r, table.baseline, chosen, metrics), strict=True))
        for r in table.rows
    ]
    own = [heading(one) for one in metrics if one.shown == "everywhere"]
    differences = [f"Δ {heading(one)}" for one in metrics if one.compared]
    groups = (
        [*FIRST, *own],
        ["variant", f"valid {heading(chosen)}", *differences],
        ["variant", *COSTS],
    )
    return [(columns, [[line[name] for name in columns] for line in lines]) for columns in groups]


def as_markdown(table: Compared) -> str:
    """The table with what a reader needs to judge and to repeat it."""
    chosen, metrics = metrics_of(table)
    header = header_of(chosen, metrics)
    lines = [cells_of(row, table.baseline, chosen, metrics) for row in table.rows]
    return "\n".join(
        [
            f"# {table.name}\n",
            *([f"{code(table.command)}\n"] if table.command else []),
            f"| {' | '.join(header)} |",
            "|---|" + "--:|" * (len(header) - 1),
            *(f"| {' | '.join([markdown(name), *rest])} |" for name, *rest in lines),
            "",
            "\n\n".join([_how_to_read(table, chosen, metrics), *remarks(table)]),
            "",
        ]
    )


def _how_to_read(table: Compared, chosen: Metric, metrics: Sequence[Metric]) -> str:
    rows = (
        f"{table.test_rows:,} test rows" if table.test_rows else "The rows have not been read yet"
    )
    units: dict[str, list[str]] = {}
    for one in metrics:
        if one.unit:
            units.setdefault(one.unit, []).append(heading(one))
    in_units = ", ".join(f"{listed(names)} in {unit}" for unit, names in units.items())
    sentences = [
        f"{rows}.",
        f"Mean ± standard deviation over seeds{'; ' if in_units else ''}{in_units}.",
        f"Valid {heading(chosen)}, of the epoch that was kept, is the figure to choose by; the "
        "others are of the test rows.",
        f"Δ: from {markdown(table.baseline)}, with {table.confidence:.0%} intervals: paired "
        f"bootstrap over the test rows, those that belong together drawn together "
        f"({table.bootstrap_samples:,} resamples), averaged over the seeds that both have "
        "finished.",
        *(one.note.format(**table.settings) for one in metrics if one.note),
        "MB: all that predicting needs. texts/s: from text to answer, per second of one CPU "
        "thread.",
    ]
    return " ".join(sentences)


def remarks(table: Compared) -> list[str]:
    """What was not measured, has not run or failed, and what other programs chose."""
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
        part = next(one.per for one in TaskConfig.KINDS[table.kind].metrics if one.per)
        unknown.append(
            f"No test row has the {part} {names}: nothing is known of it, and means over all "
            f"{part}s are means over the others."
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


def _with_spread(value: Spread, metric: Metric) -> str:
    sd = "" if value.sd is None else f" ± {metric.scale * value.sd:.{metric.digits}f}"
    return f"{metric.scale * value.mean:.{metric.digits}f}{sd}"


def _with_bounds(value: Interval, metric: Metric) -> str:
    scaled = (metric.scale * each for each in (value.value, value.low, value.high))
    mean, low, high = (f"{each:+.{metric.digits}f}" for each in scaled)
    return f"{mean} ({low} to {high})"
