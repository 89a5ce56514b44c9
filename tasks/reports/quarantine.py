"""Refused rows as the quarantine holds them, and what the report shows of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_contracts.contract.contract import DataContract
from data_contracts.contract.frames import quarantine_schema
from data_contracts.contract.shown import shown_cell
from tasks.artifacts.parquet_parts import read_parts
from tasks.reports.findings import SAMPLES, Findings, Sample

MAX_REFUSED = 1_000  # different cells of a reason that are counted one by one


def places(
    folder: Path, positions: list[int], contract: DataContract, batch_rows: int
) -> dict[int, str]:
    """What rows are called: file, row and answer of each position."""
    found: dict[int, str] = {}
    start, wanted = 0, np.array(positions, np.int64)
    columns = ["file", "row", *contract.answer]
    for table in read_parts(folder, batch_rows, columns) if positions else ():
        inside = wanted[(wanted >= start) & (wanted < start + table.num_rows)]
        rows = table.take(pa.array(inside - start)).to_pylist()
        for position, row in zip(inside.tolist(), rows, strict=True):
            answers = [f"{role} {shown_cell(row[role])}" for role in contract.answer]
            found[position] = ", ".join([f"{row['file']} row {row['row']}", *answers])
        start += table.num_rows
    return found


def quarantined(
    table: pa.Table, reasons: np.ndarray, findings: Findings, contract: DataContract
) -> pa.Table:
    """The rows with their reasons, of the quarantine's schema; counted and sampled on the way.

    Args:
        reasons: of each row, a bit for each reason.
    """
    verdicts = findings.verdicts
    names = {mask: verdicts.named(mask) for mask in np.unique(reasons).tolist()}
    of_rows = [names[mask] for mask in reasons.tolist()]
    findings.first.update(of_row[0] for of_row in of_rows)
    for name, reason in contract.reasons.items():
        chosen = np.flatnonzero(reasons & verdicts.bits[name])
        samples = findings.samples.setdefault(name, [])
        shown = table.take(pa.array(chosen[: SAMPLES - len(samples)], pa.int64()))
        samples += [Sample.of(name, row, contract) for row in shown.to_pylist()]
        if reason.tallied:
            cells = table.column(reason.column).take(pa.array(chosen)).to_pylist()
            _tally(findings.refused.setdefault(name, Counter()), cells)
    table = table.append_column("reason", pa.array([of_row[0] for of_row in of_rows], pa.string()))
    table = table.append_column("reasons", pa.array(of_rows, pa.list_(pa.string())))
    schema = quarantine_schema(contract)
    return table.select(schema.names).cast(schema)


def _tally(counts: Counter[str], cells: list[str | None]) -> None:
    for cell in cells:
        if cell is not None and (cell in counts or len(counts) < MAX_REFUSED):
            counts[cell] += 1
