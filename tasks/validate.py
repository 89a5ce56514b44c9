"""validate: judge a raw corpus by its contract; keep the good rows, quarantine the others with
their reasons.

Comes in: `RawCorpus`. Goes out: `ValidatedCorpus` with `corpus/part-*.parquet`,
`quarantine.parquet`, `report.json` and `report.html`. Past the contract's limits it raises
`ContractViolation` and leaves report and quarantine in the work folder, for the person who has to
look.

Two passes over the Parquet parts. The first runs the row suite on each batch and gathers the
verdicts (`data_contracts.contract.verdicts`, 27 bytes a row, which alone grow with the data); the
second writes. Safe to repeat: everything is a function of the rows and the contract.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect.artifacts import create_markdown_artifact

from data_contracts.artifacts import RawCorpus, ValidatedCorpus
from data_contracts.contract.contract import SPLITS, DataContract
from data_contracts.contract.counts import per_split
from data_contracts.contract.expectations import (
    Result,
    corpus_frame,
    corpus_suite,
    pandas_frame,
    row_suite,
)
from data_contracts.contract.frames import arrow_schema, quarantine_schema, raw_schema, row_frame
from data_contracts.contract.verdicts import RowJudge, Verdicts, aggregates
from data_contracts.errors import ContractViolation
from tasks.artifacts.parquet_parts import PartWriter, read_parts
from tasks.artifacts.store import RowDigest
from tasks.progress import report, tell
from tasks.reports.findings import Findings
from tasks.reports.preview import preview
from tasks.reports.quarantine import places, quarantined
from tasks.reports.readable import markdown
from tasks.reports.validation import days_held, page, sentences, summarise, violation
from tasks.stage import Here, RunContext, stage
from tasks.tracking.data_sets import of_corpus
from tasks.tracking.runs import Tracker

MAX_TOLD = 8  # sentences in the terminal; the report has all


def _tell(corpus: ValidatedCorpus, run: RunContext) -> None:
    """The report goes to the MLflow run and to Prefect, and the data set to MLflow."""
    tracker, name = run.tracker, run.recipe.contract.name
    with tracker.once("validate", corpus.key) as fresh:
        if fresh:
            folder = run.store.open(corpus)
            for file in ("report.html", "report.json", "quarantine.parquet"):
                tracker.log_file(folder / file, "validation")
            tracker.log_table(*preview(folder / "quarantine.parquet"), "validation/quarantine.json")
            days = days_held(run.made[RawCorpus].days)
            profile = {"quarantined": corpus.rows_in - corpus.rows_out}
            about = {**profile, **({"days": days} if days else {})}
            tracker.log_data_sets(of_corpus(corpus, run.recipe.source, folder, about))
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
    """Judge every row, write the good ones and the quarantine, and hold the whole to the contract's
    limits.

    The report goes to the MLflow run and to Prefect, passed or failed. Safe to repeat.
    Raises:
        ContractViolation: naming every failed expectation with its share, limit and sample cells.
            Never retried.
    """
    contract, batch_rows = here.recipe.contract, here.recipe.execution.batch_rows
    failed = here.keep / "failed"
    shutil.rmtree(failed, ignore_errors=True)
    folder = here.open(raw)
    findings = Findings(_judge_rows(folder, raw, contract, batch_rows))
    digest = _write_rows(folder, here.out, findings, contract, raw, batch_rows)
    kept, quarantined = sum(findings.kept.values()), sum(findings.first.values())
    if kept + quarantined != raw.rows_out:
        raise RuntimeError(f"{raw.rows_out} rows came in, {kept} + {quarantined} went out")
    results = _judge_corpus(findings, contract)
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
    facts = contract.learn(findings.counts)
    return {
        "digest": digest.hexdigest(*facts.values()),
        "rows_in": raw.rows_out,
        "rows_out": kept,
        "contract_name": contract.name,
        "contract_version": contract.version,
        "facts": facts,
        "splits": findings.kept,
        "quarantined": {
            name: findings.first[name] for name in contract.reasons if findings.first[name]
        },
        "category_rows": _category_rows(findings, contract),
        "warnings": tuple(told),
    }


# --- first pass: judge ----------------------------------------------------------------------------


def _judge_rows(folder: Path, raw: RawCorpus, contract: DataContract, batch_rows: int) -> Verdicts:
    rows, suite, judge = raw.rows_out, row_suite(contract), RowJudge(contract, raw.rows_out)
    judged = 0
    for table in read_parts(folder, batch_rows):
        _check_schema(table.schema, contract)
        results = suite.run(pandas_frame(row_frame(contract, table)))
        judge.add(table, {result.rule.name: result.positions for result in results})
        judged += table.num_rows
        report("validate", judged / 2, rows)
    return judge.finish()


def _check_schema(schema: pa.Schema, contract: DataContract) -> None:
    """Arrow types come first: type expectations on pandas strings would say nothing reliable."""
    expected = raw_schema(contract)
    for column in expected:
        there = schema.field(column.name).type if column.name in schema.names else "missing"
        if there != column.type:
            raise ContractViolation(
                f"Column {column.name!r} of the raw corpus is {there}, the contract "
                f"{contract.name} has {column.type}.",
                "Ingest the source again with this contract.",
            )


# --- second pass: write ---------------------------------------------------------------------------


def _write_rows(
    folder: Path,
    out: Path,
    findings: Findings,
    contract: DataContract,
    raw: RawCorpus,
    batch_rows: int,
) -> RowDigest:
    """Kept rows into parts, the others into the quarantine; counts of both on the way."""
    schema, refused = arrow_schema(contract), quarantine_schema(contract)
    digest, start, verdicts = RowDigest(schema.names), 0, findings.verdicts
    named = places(folder, sorted(set(verdicts.instead.values())), contract, batch_rows)
    instead = {lost: named[counts] for lost, counts in verdicts.instead.items()}
    for role in contract.texts:
        # A count for each length that occurs: a text may have millions of characters.
        findings.lengths[role.name] = {split: Counter() for split in SPLITS}
    with (
        PartWriter(out / "corpus", schema, batch_rows) as parts,
        pq.ParquetWriter(out / "quarantine.parquet", refused, compression="zstd") as quarantine,
    ):
        for table in read_parts(folder, batch_rows):
            reasons = verdicts.reasons[start : start + table.num_rows]
            kept = table.filter(pa.array(reasons == 0)).select(schema.names)
            if kept.num_rows:
                parts.write(kept)
                digest.update(kept)
                _count(kept, findings, contract)
            if kept.num_rows < table.num_rows:
                bad = np.flatnonzero(reasons)
                taken = table.take(pa.array(bad))
                counting = [instead.get(start + at) for at in bad.tolist()]
                taken = taken.append_column("counts_instead", pa.array(counting, pa.string()))
                quarantine.write_table(quarantined(taken, reasons[bad], findings, contract))
            start += table.num_rows
            report("validate", (raw.rows_out + start) / 2, raw.rows_out)
    return digest


def _count(kept: pa.Table, findings: Findings, contract: DataContract) -> None:
    findings.counts.update(contract.count(kept))
    splits = np.array(kept["split"].to_pylist())
    for split in SPLITS:
        findings.kept[split] += int(np.count_nonzero(splits == split))
    for role in contract.texts:
        measured = pc.utf8_length(kept[role.name])
        lengths = measured.drop_null().to_numpy().astype(np.int64)
        present = splits[measured.is_valid().to_numpy()]
        for split, counts in findings.lengths[role.name].items():
            there, times = np.unique(lengths[present == split], return_counts=True)
            counts.update(dict(zip(there.tolist(), times.tolist(), strict=True)))


# --- the corpus as a whole ------------------------------------------------------------------------


def _judge_corpus(findings: Findings, contract: DataContract) -> list[Result]:
    found = aggregates(contract, findings.verdicts, findings.kept, findings.counts)
    suite = corpus_suite(contract)
    frame = corpus_frame({rule.name: found[rule.name] for rule in suite.rules})
    return [replace(one, observed=found[one.rule.name]) for one in suite.run(frame)]


def _category_rows(
    findings: Findings, contract: DataContract
) -> dict[str, dict[str, dict[str, int]]]:
    return {
        role.name: {
            split: dict(sorted(rows.items()))
            for split, rows in per_split(findings.counts, role.name).items()
        }
        for role in contract.categories
    }


def _write_report(folder: Path, summary: dict[str, Any]) -> None:
    text = json.dumps(summary, ensure_ascii=False, indent=2)
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(page(summary), encoding="utf-8")


def publish(text: str, tracker: Tracker) -> None:
    """The outcome as a Prefect artifact, with the address of the whole page in the MLflow run."""
    address = tracker.run_url(artifact="validation/report.html")
    create_markdown_artifact(f"{text}\n\n[The whole report]({address})\n", key="validation-report")
