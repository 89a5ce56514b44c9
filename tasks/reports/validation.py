"""What validation found, for people: the summary, its HTML page and the message of a violation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.artifacts import RawCorpus
from data_contracts.contract.contract import SPLITS, DataContract
from data_contracts.contract.counts import per_split
from data_contracts.contract.days import Days, coverage, shown_spans
from data_contracts.contract.expectations import Result
from data_contracts.contract.rules import CorpusRule
from data_contracts.contract.shown import shown_cell
from data_contracts.errors import ContractViolation
from tasks.reports.findings import Findings
from tasks.reports.html import render

SHOWN_SPELLINGS = 5  # of categories, in sentences
MAX_SENTENCES = 40
SHOWN_VALUES = 100  # a column mapped to the wrong role may have a value per row
QUANTILES = {"shortest": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "longest": 1.0}


def sentences(raw: RawCorpus, contract: DataContract, findings: Findings) -> tuple[str, ...]:
    """What one should know of how the rows were read: nothing ambiguous is decided in silence."""
    categories = " and ".join(role.plural for role in contract.categories)
    told = [f"{one[0].upper()}{one[1:]}." for one in raw.told]
    told += [
        f"{one.rows:,} {categories} read as {shown_cell(one.read)} were written "
        f"{shown_cell(one.written)}."
        for one in raw.spelled[:SHOWN_SPELLINGS]
    ]
    if rest := raw.spelled[SHOWN_SPELLINGS:]:
        told.append(
            f"{sum(one.rows for one in rest):,} {categories} more were written otherwise than read "
            f"({len(rest):,} spellings)."
        )
    told += [
        f"{rows:,} rows left out, as the contract selects: {what}."
        for what, rows in raw.left_out.items()
    ]
    notes = contract.notes(findings.counts, findings.refused)
    return (*told, *notes[: max(0, MAX_SENTENCES - len(told))])


def summarise(
    contract: DataContract,
    findings: Findings,
    results: list[Result],
    rows: int,
    told: tuple[str, ...],
) -> dict[str, Any]:
    """Everything that the report shows, as plain JSON (also `report.json`)."""
    return {
        "told": list(told),
        "contract": {
            "name": contract.name,
            "version": contract.version,
            "description": contract.description,
        },
        "passed": all(result.success for result in results),
        "rows_in": rows,
        "rows_kept": sum(findings.kept.values()),
        "rows_quarantined": findings.first.total(),
        "splits": findings.kept,
        "expectations": [
            {
                "name": result.rule.name,
                "words": result.rule.words,
                "observed": result.observed,
                "shown": shown_value(result),
                "limit": result.rule.limit,
                "passed": result.success,
            }
            for result in results
        ],
        "row_checks": dict(findings.verdicts.broken),
        "reasons": [
            {
                "name": name,
                "words": reason.words,
                "rows": findings.found[name],
                "quarantined_first": findings.first[name],
                "samples": [asdict(sample) for sample in findings.samples.get(name, [])],
            }
            for name, reason in contract.reasons.items()
            if findings.found[name]
        ],
        "categories": {
            role.plural: _shares(contract, findings, role.name) for role in contract.categories
        },
        "characters": {
            text: {split: _quantiles(counts) for split, counts in of_text.items() if counts}
            for text, of_text in findings.lengths.items()
        },
    }


def _shares(contract: DataContract, findings: Findings, role: str) -> dict[str, Any]:
    """Rows of each value of a category, by split."""
    rows = per_split(findings.counts, role)
    names = list(contract.known(role) or sorted(set().union(*rows.values())))
    return {
        "hidden": max(0, len(names) - SHOWN_VALUES),
        "rows": {
            name: {split: rows[split][name] for split in SPLITS} for name in names[:SHOWN_VALUES]
        },
    }


def _quantiles(counts: Counter[int]) -> dict[str, int]:
    """Smallest number of characters that at least this share of the rows do not exceed.

    Args:
        counts: rows by number of characters.
    """
    lengths = sorted(counts)
    below = np.cumsum([counts[one] for one in lengths])
    return {
        name: lengths[int(np.searchsorted(below, max(1, q * below[-1])))]
        for name, q in QUANTILES.items()
    }


def days_held(spans: Sequence[Days]) -> str | None:
    """The days that the files are named for, and their gaps; None where the names tell none."""
    if not spans:
        return None
    found = coverage(Days(first=spans[0].first, last=spans[-1].last), spans)
    missing = f"; none for {shown_spans(found.missing)}" if found.missing else ""
    return f"{found.found} {'day' if found.found == 1 else 'days'}, {found.window}{missing}"


def shown_value(result: Result) -> str:
    assert isinstance(result.rule, CorpusRule)
    return result.rule.shown(result.observed)


def page(summary: dict[str, Any]) -> str:
    """One page without any reference outside itself; every value is escaped."""
    return render("validation.html.j2", **summary, split_names=SPLITS)


def violation(
    contract: DataContract, findings: Findings, results: list[Result], folder: Path
) -> ContractViolation:
    """Every failed expectation with what was seen and allowed, and cells to look at for those that
    cells explain.
    """
    failed = [result for result in results if not result.success]
    lines = [f"\n  - {_failure(result, contract, findings)}" for result in failed]
    return ContractViolation(
        f"The data break contract {contract.name} (version {contract.version}), "
        f"{len(failed)} of {len(results)} expectations failed:{''.join(lines)}\n",
        "Mend the source or change the contract's limits. Report and quarantined rows: "
        f"{folder / 'report.html'}",
    )


def _failure(result: Result, contract: DataContract, findings: Findings) -> str:
    rule = result.rule
    line = f"{rule.name}: {rule.words}, {shown_value(result)} (limit: {rule.limit})"
    reason = _explaining(rule.name, contract, findings)
    if reason is None:
        return line
    its_own = rule.name == f"{reason}_share"
    if cells := findings.samples.get(reason):
        # All reasons together are explained by the commonest one.
        because = "" if its_own else f" mostly {contract.reasons[reason].words},"
        line += f";{because} e.g. " + "; ".join(str(cell) for cell in cells[:3])
    if its_own and (advice := contract.reasons[reason].advice):
        line += f"; {advice}"
    return line


def _explaining(rule: str, contract: DataContract, findings: Findings) -> str | None:
    if rule in ("quarantine_share", "rows_kept"):
        return max(findings.first, key=lambda reason: findings.first[reason], default=None)
    reason = rule.removesuffix("_share")
    return reason if reason in contract.reasons else None
