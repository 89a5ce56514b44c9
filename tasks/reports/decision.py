"""A decision about a version, as a page and as a table."""

from __future__ import annotations

from typing import Any

from data_contracts.results import Check, PromotionDecision
from tasks.reports.readable import markdown, markdown_table
from tasks.reports.story import OUTCOMES


def decision_page(decision: PromotionDecision) -> str:
    """Reasons and bounds as Markdown, for both UIs."""
    table = [
        ("version", decision.version),
        ("champion before", decision.champion_before or "none"),
        ("rows compared", f"{decision.rows_compared:,}"),
        ("rows left out", f"{decision.rows_left_out:,}"),
    ]
    bounds = [
        (
            c.what,
            "–" if c.value is None else f"{c.value:.4f}",
            has_to_be(c),
            "yes" if c.passed else "NO",
        )
        for c in decision.checks
    ]
    parts = [
        f"# {OUTCOMES[decision.outcome]}: {markdown(decision.name)} version {decision.version}",
        markdown_table(["#", "reason"], list(enumerate(decision.reasons, 1))),
        markdown_table(["what", "value"], table),
        *([markdown_table(["bound", "value", "has to be", "holds"], bounds)] if bounds else []),
    ]
    return "\n\n".join(parts) + "\n"


def reasons_table(decision: PromotionDecision) -> tuple[list[str], list[list[Any]]]:
    """Every reason, and every bound with its value, as one table."""
    rows: list[list[Any]] = [["reason", text, None, None, None] for text in decision.reasons]
    rows += [["bound", c.what, c.value, has_to_be(c), c.passed] for c in decision.checks]
    return ["kind", "what", "value", "has to be", "holds"], rows


def has_to_be(check: Check) -> str:
    return f"{'≥' if check.kind == 'floor' else '≤'} {check.bound:g}"
