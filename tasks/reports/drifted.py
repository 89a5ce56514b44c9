"""What a monitor found, for people."""

from __future__ import annotations

from data_contracts.artifacts import Drift
from data_contracts.results import Block, Cell, Table, Text
from tasks.reports.blocks import flat
from tasks.reports.html import render
from tasks.tracking.runs import Tracker


def log_drift(drift: Drift, tracker: Tracker) -> None:
    """Show it in the MLflow run: a metric for each signal's PSI and p, and the table. Safe to
    repeat.
    """
    figures = {"rows": drift.rows_out, "drifted": float(drift.drifted)}
    for one in drift.signals:
        figures |= {f"psi/{one.signal}": one.psi, f"p/{one.signal}": one.adjusted_p}
    tracker.log_metrics(figures)
    tracker.log_table(*flat(_table(drift)), "drift/signals.json")


def drift_page(drift: Drift) -> str:
    """The page of a monitor's run, as HTML."""
    title = "Drift" if drift.drifted else "No drift"
    return render("evaluation.html.j2", title=title, content=drift_blocks(drift))


def drift_blocks(drift: Drift) -> list[Block]:
    """What a person wants to see, in order."""
    blocks: list[Block] = [Text(warning, "note") for warning in drift.warnings]
    blocks.append(
        Text(
            f"{drift.rows_out:,} rows, of {drift.rows_in:,} that there are, beside "
            f"{drift.reference_rows:,} test rows of {drift.model}. Of those that were drawn, "
            f"{drift.refused:,} have no text."
        )
    )
    return [*blocks, _table(drift)]


def _table(drift: Drift) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (one.signal, "moved" if one.drifted else "", one.psi, one.adjusted_p, one.before, one.now)
        for one in drift.signals
    ]
    headings = ("signal", "", "PSI", "p, over all", "before: median (10 to 90 %)", "now")
    return Table(
        ("signal", "verdict", "psi", "adjusted_p", "before", "now"),
        tuple(rows), "signals", headings,
    )  # fmt: skip
