"""validate: judge a raw corpus by its contract; keep the good rows, quarantine the others with their reasons.

Comes in: `RawCorpus`. Goes out: `ValidatedCorpus` with `corpus/part-*.parquet`, `quarantine.parquet`, `report.json` and
`report.html`. Past the contract's limits it raises `ContractViolation` and leaves report and quarantine in the work
folder, for the person who has to look.

Two passes over the Parquet parts. The first runs the row suite on each batch and notes 27 bytes per row (hashes of the
text, the label and the id, split, reasons), from which repeats, corrections and leaks follow; the second writes. Only
those 27 bytes grow with the data. Safe to repeat: everything is a function of the rows and the contract.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect.artifacts import create_markdown_artifact

from data_contracts.artifacts import RawCorpus, ValidatedCorpus
from data_contracts.contract.contract import SPLITS, DataContract
from data_contracts.contract.expectations import (
    REASONS,
    ROW_REASONS,
    Result,
    arrow_schema,
    corpus_frame,
    corpus_suite,
    raw_schema,
    row_frame,
    row_suite,
)
from data_contracts.contract.text import hash64, text_hash
from data_contracts.errors import ContractViolation
from tasks.artifacts.parquet_parts import PartWriter, read_parts
from tasks.artifacts.store import RowDigest
from tasks.progress import report, tell
from tasks.reports.findings import SAMPLES, Findings, Sample, shown_cell
from tasks.reports.readable import markdown
from tasks.reports.validation import (
    days_held,
    render,
    sentences,
    summarise,
    violation,
)
from tasks.stage import Here, RunContext, stage
from tasks.tracking.runs import Tracker

BITS = {reason: 1 << position for position, reason in enumerate(REASONS)}
_LABEL_FAULTS = sum(BITS[reason] for reason in ("several_labels", "nested_label", "unnamed_class"))
MAX_TRACED = 100_000  # relabelled rows of which it is said which row counts instead
MAX_TOLD = 8  # sentences in the terminal; the report has all
MAX_UNKNOWN = 1_000  # unknown labels that are counted one by one
QUARANTINE_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "file")]
    + [("row", pa.int64())]
    + [(name, pa.string()) for name in ("split", "label", "text", "reason")]
    + [("reasons", pa.list_(pa.string())), ("counts_instead", pa.string())]
)


def _tell(corpus: ValidatedCorpus, run: RunContext) -> None:
    """The report goes to the MLflow run and to Prefect, and the data set to MLflow."""
    tracker, name = run.tracker, run.recipe.contract.name
    with tracker.once("validate", corpus.key) as fresh:
        if fresh:
            folder = run.store.open(corpus)
            for file in ("report.html", "report.json", "quarantine.parquet"):
                tracker.log_file(folder / file, "validation")
            days = days_held(run.made[RawCorpus].days)
            profile = {"rows": corpus.rows_out, **corpus.splits, **({"days": days} if days else {})}
            tracker.log_dataset(name, corpus.digest, corpus.uri, profile)
    tracker.log_metrics(
        {
            "rows/in": corpus.rows_in,
            "rows/kept": corpus.rows_out,
            "rows/quarantined": corpus.rows_in - corpus.rows_out,
            **{f"rows/{split}": rows for split, rows in corpus.splits.items()},
        }
    )
    for sentence in corpus.warnings[:MAX_TOLD]:
        tell("validate", sentence)
    reasons = "\n".join(
        f"| {reason} | {rows:,} |" for reason, rows in corpus.quarantined.items() if rows
    )
    table = f"\n\n| quarantined for | rows |\n|---|--:|\n{reasons}" if reasons else ""
    notes = (
        "\n\n" + "\n".join(f"- {markdown(one, 1000)}" for one in corpus.warnings)
        if corpus.warnings
        else ""
    )
    publish(f"# {name}: {corpus.rows_out:,} of {corpus.rows_in:,} rows kept{table}{notes}", tracker)


def _tell_fault(fault: BaseException, run: RunContext) -> None:
    """A refused corpus has a report as well."""
    if not isinstance(fault, ContractViolation):
        return
    if fault.report is not None:
        run.tracker.log_folder(fault.report, "validation")
    publish(f"# {run.recipe.contract.name}: refused\n\n{markdown(fault.cause, 4000)}", run.tracker)


@stage(ValidatedCorpus, version=2, shaped_by=("contract",), tell=_tell, tell_fault=_tell_fault)
def validate(here: Here, raw: RawCorpus) -> dict[str, Any]:
    """Judge every row, write the good ones and the quarantine, and hold the whole to the contract's limits.

    The report goes to the MLflow run and to Prefect, passed or failed. Safe to repeat.
    Raises:
        ContractViolation: naming every failed expectation with its share, limit and sample cells. Never retried.
    """
    contract, batch_rows = here.recipe.contract, here.recipe.execution.batch_rows
    failed = here.keep / "failed"
    shutil.rmtree(failed, ignore_errors=True)
    folder = here.open(raw)
    findings = _judge_rows(folder, raw, contract, batch_rows)
    digest = _write_rows(folder, here.out, findings, contract, raw, batch_rows)
    kept, quarantined = sum(findings.kept.values()), sum(findings.first.values())
    if kept + quarantined != raw.rows_out:
        raise RuntimeError(f"{raw.rows_out} rows came in, {kept} + {quarantined} went out")
    results = _judge_corpus(findings, contract, raw.rows_out)
    told = sentences(raw, contract, findings)
    summary = {
        **summarise(contract, findings, results, raw.rows_out, told),
        "days": days_held(raw.days),
    }
    _write_report(here.out, summary)
    if not all(result.success for result in results):
        failed.mkdir(parents=True)
        for name in ("report.html", "report.json", "quarantine.parquet"):
            shutil.copy2(here.out / name, failed / name)
        fault = violation(contract, findings, results, failed)
        fault.report = failed
        raise fault
    labels = contract.labels.values or sorted(set().union(*findings.labels.values()))
    return {
        "digest": digest.hexdigest(list(labels)),
        "rows_in": raw.rows_out,
        "rows_out": kept,
        "contract_name": contract.name,
        "contract_version": contract.version,
        "labels": tuple(labels),
        "splits": findings.kept,
        "quarantined": {
            reason: findings.first[reason] for reason in REASONS if findings.first[reason]
        },
        "label_rows": {split: dict(sorted(findings.labels[split].items())) for split in SPLITS},
        "warnings": tuple(told),
    }


# --- first pass: judge ------------------------------------------------------------------------------------------------


def _judge_rows(folder: Path, raw: RawCorpus, contract: DataContract, batch_rows: int) -> Findings:
    rows, suite = raw.rows_out, row_suite(contract)
    findings = Findings(np.zeros(rows, np.uint16))
    findings.row_checks = {expectation.name: 0 for expectation in suite.expectations}
    texts, labels, ids = (np.zeros(rows, np.uint64) for _ in range(3))
    splits = np.zeros(rows, np.int8)
    start, numbers = 0, {split: number for number, split in enumerate(SPLITS)}
    for table in read_parts(folder, batch_rows):
        _check_schema(table.schema, contract)
        reasons = findings.reasons[start : start + table.num_rows]
        for result in suite.run(row_frame(table)):
            findings.row_checks[result.expectation.name] += len(result.positions)
            reasons[list(result.positions)] |= BITS[result.expectation.reason or ""]
        reasons[(reasons & _LABEL_FAULTS) != 0] &= ~np.uint16(
            BITS["bad_label"]
        )  # said already, and better
        stop = start + table.num_rows
        good = (reasons == 0).tolist()
        texts[start:stop] = [
            text_hash(t) if g else 0 for t, g in zip(table["text"].to_pylist(), good, strict=True)
        ]
        ids[start:stop] = [hash64(one) for one in table["id"].to_pylist()]
        cells = table["label"].to_pylist()
        hashes = {label: hash64(label or "") for label in dict.fromkeys(cells)}
        labels[start:stop] = [hashes[label] for label in cells]
        splits[start:stop] = [numbers.get(split, 0) for split in table["split"].to_pylist()]
        start = stop
        report("validate", start / 2, rows)
    for reason in ROW_REASONS:
        findings.found[reason] = int(np.count_nonzero(findings.reasons & BITS[reason]))
    _judge_against_others(findings, contract, texts, labels, ids, splits)
    return findings


def _check_schema(schema: pa.Schema, contract: DataContract) -> None:
    """The Arrow types come first: type expectations on pandas strings would say nothing reliable."""
    expected = raw_schema(contract)
    for column in expected:
        there = schema.field(column.name).type if column.name in schema.names else "missing"
        if there != column.type:
            raise ContractViolation(
                f"Column {column.name!r} of the raw corpus is {there}, the contract {contract.name} has {column.type}.",
                "Ingest the source again with this contract.",
            )


def _judge_against_others(
    findings: Findings,
    contract: DataContract,
    texts: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray,
    splits: np.ndarray,
) -> None:
    """Repeated ids, other labels of the same text, repeated texts and leaks, among the rows without a fault so far."""
    repeated = _note(
        findings, "duplicate_id", _later_of_equals(ids, np.flatnonzero(findings.reasons == 0))
    )
    findings.reasons[repeated] |= BITS["duplicate_id"]
    good = np.flatnonzero(findings.reasons == 0)
    relabelled = _note(
        findings, "relabelled", _relabelled(findings, contract, texts, labels, splits, good)
    )
    if (
        contract.conflicts.keep == "none"
    ):  # such a text stands nowhere any more, so it leaks nothing
        good = np.setdiff1d(good, relabelled)
    # Sorted by text, then split, then position: np.lexsort is stable and takes its last key first.
    order = good[np.lexsort((splits[good], texts[good]))]
    same_text = texts[order][1:] == texts[order][:-1]
    # The last row of each run of equal texts stands in the latest split that has the text.
    ends = np.append(np.flatnonzero(~same_text), len(order) - 1) if len(order) else np.zeros(0, int)
    latest = np.repeat(splits[order][ends], np.diff(ends, prepend=-1))
    leaked = order[splits[order] < latest]
    if contract.conflicts.keep != "all":
        findings.reasons[relabelled] |= BITS["relabelled"]
        good = np.setdiff1d(good, relabelled)
    order = good[np.lexsort((labels[good], splits[good], texts[good]))]
    same = np.ones(max(0, len(order) - 1), bool)
    for values in (texts, splits, labels):
        same &= values[order][1:] == values[order][:-1]
    for reason, positions, policy in (
        ("duplicate", order[1:][same], contract.duplicates),
        ("leaked", leaked, contract.leakage),
    ):
        _note(findings, reason, positions)
        if policy.action == "quarantine":
            findings.reasons[positions] |= BITS[reason]


def _relabelled(
    findings: Findings,
    contract: DataContract,
    texts: np.ndarray,
    labels: np.ndarray,
    splits: np.ndarray,
    good: np.ndarray,
) -> np.ndarray:
    """Rows whose text has another label that counts in their split, by the contract's section `conflicts`."""
    if not len(good):
        return good
    keep = contract.conflicts.keep
    order = good[np.lexsort((splits[good], texts[good]))]
    new = np.append(
        True, (texts[order][1:] != texts[order][:-1]) | (splits[order][1:] != splits[order][:-1])
    )
    group, starts = np.cumsum(new) - 1, np.flatnonzero(new)
    ends = np.append(starts[1:], len(order)) - 1
    label = labels[order]
    disputed = np.logical_or.reduceat(label != label[starts][group], starts)[group]
    if keep == "none":
        return order[disputed]
    winning = label == label[starts if keep == "earliest" else ends][group]
    lost = disputed & ~winning
    # The first row of the label that counts: later ones are repeats of it.
    first = np.minimum.reduceat(np.where(winning, order, len(texts)), starts)[group]
    if keep != "all":
        findings.instead = dict(
            zip(order[lost][:MAX_TRACED].tolist(), first[lost][:MAX_TRACED].tolist(), strict=True)
        )
    return order[lost]


def _note(findings: Findings, reason: str, positions: np.ndarray) -> np.ndarray:
    findings.found[reason] = len(positions)
    return positions


def _later_of_equals(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    order = positions[np.argsort(values[positions], kind="stable")]
    return order[1:][values[order][1:] == values[order][:-1]]


# --- second pass: write -----------------------------------------------------------------------------------------------


def _write_rows(
    folder: Path,
    out: Path,
    findings: Findings,
    contract: DataContract,
    raw: RawCorpus,
    batch_rows: int,
) -> RowDigest:
    """Kept rows into parts, the others into the quarantine; counts of both on the way."""
    schema = arrow_schema(contract)
    digest, start = RowDigest(schema.names), 0
    places = _places(folder, sorted(set(findings.instead.values())), batch_rows)
    instead = {lost: places[counts] for lost, counts in findings.instead.items()}
    findings.lengths = {
        split: np.zeros(contract.text.max_characters + 1, np.int64) for split in SPLITS
    }
    with (
        PartWriter(out / "corpus", schema, batch_rows) as parts,
        pq.ParquetWriter(
            out / "quarantine.parquet", QUARANTINE_SCHEMA, compression="zstd"
        ) as quarantine,
    ):
        for table in read_parts(folder, batch_rows):
            reasons = findings.reasons[start : start + table.num_rows]
            kept = table.filter(pa.array(reasons == 0)).select(schema.names)
            if kept.num_rows:
                parts.write(kept)
                digest.update(kept)
                _count(kept, findings)
            if kept.num_rows < table.num_rows:
                bad = np.flatnonzero(reasons)
                taken = table.take(pa.array(bad))
                counting = [instead.get(start + at) for at in bad.tolist()]
                taken = taken.append_column("counts_instead", pa.array(counting, pa.string()))
                quarantine.write_table(_quarantine(taken, reasons[bad], findings, contract))
            start += table.num_rows
            report("validate", (raw.rows_out + start) / 2, raw.rows_out)
    return digest


def _places(folder: Path, positions: list[int], batch_rows: int) -> dict[int, str]:
    """What rows are called: file, row and label of each position."""
    found: dict[int, str] = {}
    start, wanted = 0, np.array(positions, np.int64)
    for table in read_parts(folder, batch_rows, ["file", "row", "label"]) if positions else ():
        inside = wanted[(wanted >= start) & (wanted < start + table.num_rows)]
        rows = table.take(pa.array(inside - start)).to_pylist()
        for position, row in zip(inside.tolist(), rows, strict=True):
            found[position] = f"{row['file']} row {row['row']}, label {shown_cell(row['label'])}"
        start += table.num_rows
    return found


def _count(kept: pa.Table, findings: Findings) -> None:
    lengths = row_frame(kept)["characters"].to_numpy(dtype=np.int64)
    splits = np.array(kept["split"].to_pylist())
    for split in SPLITS:
        chosen = splits == split
        findings.labels[split].update(kept["label"].filter(pa.array(chosen)).to_pylist())
        findings.lengths[split] += np.bincount(
            lengths[chosen], minlength=len(findings.lengths[split])
        )


def _quarantine(
    table: pa.Table, reasons: np.ndarray, findings: Findings, contract: DataContract
) -> pa.Table:
    names = {
        bits: [reason for reason, bit in BITS.items() if bits & bit]
        for bits in np.unique(reasons).tolist()
    }
    of_rows = [names[bits] for bits in reasons.tolist()]
    findings.first.update(of_row[0] for of_row in of_rows)
    for reason in REASONS:
        samples = findings.samples.setdefault(reason, [])
        wanted = np.flatnonzero(reasons & BITS[reason])[: SAMPLES - len(samples)]
        samples += [
            Sample.of(reason, row, contract)
            for row in table.take(pa.array(wanted, pa.int64())).to_pylist()
        ]
    for label in table.filter(pa.array((reasons & BITS["bad_label"]) != 0))["label"].to_pylist():
        if label is not None and (label in findings.unknown or len(findings.unknown) < MAX_UNKNOWN):
            findings.unknown[label] += 1
    table = table.append_column("reason", pa.array([of_row[0] for of_row in of_rows], pa.string()))
    table = table.append_column("reasons", pa.array(of_rows, pa.list_(pa.string())))
    return table.select(QUARANTINE_SCHEMA.names).cast(QUARANTINE_SCHEMA)


# --- the corpus as a whole --------------------------------------------------------------------------------------------


def _judge_corpus(findings: Findings, contract: DataContract, rows: int) -> list[Result]:
    facts = {f"{reason}_share": findings.found[reason] / rows for reason in REASONS}
    kept, train = findings.kept, findings.labels["train"]
    for split in SPLITS:
        facts |= {f"{split}_not_empty": kept[split], f"{split}_rows": kept[split]}
    # A label of the contract that is not there at all has a share too: none.
    counts = [train[label] for label in contract.labels.values or train]
    facts |= {
        "rows_kept": sum(kept.values()),
        "quarantine_share": findings.first.total() / rows,
        "label_count": len(train),
        "smallest_label_share": min(counts, default=0) / max(1, kept["train"]),
        "largest_label_share": max(counts, default=0) / max(1, kept["train"]),
    }
    suite = corpus_suite(contract)
    frame = corpus_frame(
        {expectation.name: facts[expectation.name] for expectation in suite.expectations}
    )
    return [
        Result(one.expectation, one.success, facts[one.expectation.name], one.positions)
        for one in suite.run(frame)
    ]


def _write_report(folder: Path, summary: dict[str, Any]) -> None:
    text = json.dumps(summary, ensure_ascii=False, indent=2)
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(render(summary), encoding="utf-8")


def publish(text: str, tracker: Tracker) -> None:
    """The outcome as a Prefect artifact, with the address of the whole page in the MLflow run."""
    page = f"{tracker.run_url()}/artifacts/validation/report.html"
    create_markdown_artifact(f"{text}\n\n[The whole report]({page})\n", key="validation-report")
