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
from data_contracts.contract.days import Days, coverage, shown_spans
from data_contracts.contract.expectations import REASONS, Result, shown_count, shown_share
from data_contracts.errors import ContractViolation, printable
from data_contracts.tables.labels import look_alikes
from tasks.reports.findings import Findings, meant, shown_cell

SHOWN_SPELLINGS = 5  # of labels, in sentences
MAX_SENTENCES = 40
SHOWN_LABELS = 100  # a column mapped to the wrong role may have a label per row
QUANTILES = {"shortest": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "longest": 1.0}


_ADVICE = {
    "duplicate_id": "where the column does not name rows, set columns.id: null",
    "relabelled": "whose label counts is set by conflicts.keep",
    "unknown_split": "train, valid and test are known in their usual spellings; null: drawn",
}


def sentences(raw: RawCorpus, contract: DataContract, findings: Findings) -> tuple[str, ...]:
    """What a person should know of how the rows were read: nothing ambiguous is decided in silence."""
    told = [f"{one[0].upper()}{one[1:]}." for one in raw.told]
    told += [
        f"{one.rows:,} labels read as {shown_cell(one.read)} were written {shown_cell(one.written)}."
        for one in raw.spelled[:SHOWN_SPELLINGS]
    ]
    if rest := raw.spelled[SHOWN_SPELLINGS:]:
        told.append(
            f"{sum(one.rows for one in rest):,} labels more were written otherwise than read ({len(rest):,} spellings)."
        )
    told += [
        f"{rows:,} rows left out, as the contract selects: {what}."
        for what, rows in raw.left_out.items()
    ]
    rows = sum(findings.labels.values(), Counter())
    for group in look_alikes(rows)[:SHOWN_SPELLINGS]:
        named = ", ".join(f"{shown_cell(label)} ({rows[label]:,} rows)" for label in group[:10])
        told.append(
            f"Labels that differ in writing alone: {named}. If they are one, mend the source."
        )
    for label, count in sorted(findings.unknown.items(), key=lambda item: (-item[1], item[0])):
        if (near := meant(label, contract)) and len(told) < MAX_SENTENCES:
            told.append(f"{count:,} rows have the unknown label {shown_cell(label)}{near}.")
    return tuple(told)


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
                "name": result.expectation.name,
                "words": result.expectation.words,
                "observed": result.observed,
                "shown": shown_value(result),
                "limit": result.expectation.limit,
                "passed": result.success,
            }
            for result in results
        ],
        "row_checks": findings.row_checks,
        "reasons": [
            {
                "name": reason,
                "words": words,
                "rows": findings.found[reason],
                "quarantined_first": findings.first[reason],
                "samples": [asdict(sample) for sample in findings.samples.get(reason, [])],
            }
            for reason, words in REASONS.items()
            if findings.found[reason]
        ],
        "labels": _label_shares(contract, findings),
        "characters": {
            split: _quantiles(counts) for split, counts in findings.lengths.items() if counts.any()
        },
    }


def _label_shares(contract: DataContract, findings: Findings) -> dict[str, Any]:
    names = list(contract.labels.values or sorted(set().union(*findings.labels.values())))
    return {
        "hidden": max(0, len(names) - SHOWN_LABELS),
        "rows": {
            name: {split: findings.labels[split][name] for split in SPLITS}
            for name in names[:SHOWN_LABELS]
        },
    }


def _quantiles(counts: np.ndarray) -> dict[str, int]:
    """Smallest number of characters that at least this share of the rows do not exceed."""
    below = np.cumsum(counts)
    return {
        name: int(np.searchsorted(below, max(1, q * below[-1]))) for name, q in QUANTILES.items()
    }


def days_held(spans: Sequence[Days]) -> str | None:
    """The days that the files are named for, and the gaps between them; None where names tell none."""
    if not spans:
        return None
    found = coverage(Days(first=spans[0].first, last=spans[-1].last), spans)
    missing = f"; none for {shown_spans(found.missing)}" if found.missing else ""
    return f"{found.found} {'day' if found.found == 1 else 'days'}, {found.window}{missing}"


def shown_value(result: Result) -> str:
    show = shown_share if result.expectation.name.endswith("_share") else shown_count
    return show(result.observed)


def render(summary: dict[str, Any]) -> str:
    """One page without any reference outside itself; every value is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
    )
    environment.filters |= {"share": shown_share, "count": shown_count}
    template = Path(__file__).with_name("validation.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(summary, split_names=SPLITS)


def violation(
    contract: DataContract, findings: Findings, results: list[Result], folder: Path
) -> ContractViolation:
    """Every failed expectation with what was seen and allowed, and cells to look at for those that cells explain."""
    failed = [result for result in results if not result.success]
    lines = []
    for result in failed:
        expectation = result.expectation
        line = f"{expectation.name}: {expectation.words}, {shown_value(result)} (limit: {expectation.limit})"
        reason = _explaining(expectation.name, findings)
        if reason and (cells := findings.samples.get(reason)):
            # All reasons together are explained by the commonest one.
            because = f" mostly {REASONS[reason]}," if expectation.name != f"{reason}_share" else ""
            line += f";{because} e.g. " + "; ".join(str(cell) for cell in cells[:3])
        if expectation.name == f"{reason}_share" and (advice := _advice(reason, contract)):
            line += f"; {advice}"
        lines.append(f"\n  - {line}")
    return ContractViolation(
        f"The data break contract {contract.name} (version {contract.version}), "
        f"{len(failed)} of {len(results)} expectations failed:{''.join(lines)}\n",
        f"Mend the source or change the contract's limits. Report and quarantined rows: {folder / 'report.html'}",
    )


def _advice(reason: str | None, contract: DataContract) -> str:
    if reason == "bad_label" and contract.labels.values is not None:
        values = contract.labels.values
        return f"the contract has {', '.join(map(shown_cell, values[:10]))}{', …' if len(values) > 10 else ''}"
    return _ADVICE.get(reason or "", "")


def _explaining(name: str, findings: Findings) -> str | None:
    if name in ("quarantine_share", "rows_kept"):
        return max(findings.first, key=lambda reason: findings.first[reason], default=None)
    reason = name.removesuffix("_share")
    return reason if reason in REASONS else None
