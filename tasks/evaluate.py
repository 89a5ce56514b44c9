"""evaluate: a trained model on the held-out rows, with intervals, a page and every prediction.

What the figures are, and what a person wants to see of them, is the kind's own (its `Judge`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as dataset
import pyarrow.parquet as pq

from data_contracts.artifacts import EvaluationReport, TokenDataset, TrainedModel, ValidatedCorpus
from data_contracts.errors import NoisefoldError
from data_contracts.kinds.base import TaskConfig
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import COMMON_SLICES, StatisticsConfig
from data_contracts.results import Block, Interval, Text
from data_contracts.tables.take import take_rows
from lightning_modules.kinds.judging import Judge, judge_of
from lightning_modules.network.batching import cut
from tasks.artifacts.store import ArtifactStore, RowDigest, digest_of
from tasks.gate import Sliced, all_slices
from tasks.progress import report
from tasks.reports import blocks as drawn
from tasks.reports.html import render
from tasks.reports.preview import preview
from tasks.stage import Here, RunContext, stage
from tasks.tracking.runs import Tracker

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

SEED = 0  # of the resamples: the same rows give the same intervals in every run
_MOST_SLICES = 40
_DOCUMENTS, _TOKENS = 2048, 1 << 20  # scored at a time, at most


def _tell(evaluation: EvaluationReport, run: RunContext) -> None:
    with run.tracker.once("evaluate", evaluation.key) as fresh:
        if fresh:
            log_evaluation(evaluation, run.recipe.task, run.store, run.tracker)


@stage(EvaluationReport, version=6, shaped_by=("task", "statistics"), tell=_tell)
def evaluate(
    here: Here, model: TrainedModel, tokens: TokenDataset, corpus: ValidatedCorpus
) -> dict[str, Any]:
    """Measure the model on the test split, as it will be registered.

    Effects: report, tables and predictions below the store's key; the figures in the MLflow
    run. Safe to repeat.
    Raises:
        NoisefoldError: where the test split is empty, or the valid split of a kind that fits to it.
    """
    # Here: a rerun that finds everything done loads no torch.
    from lightning_modules.bundle import Bundle
    from lightning_modules.reparameterizations.noise_left import load_noise
    from tasks.reports.explained import explained_errors

    recipe = here.recipe
    trained = here.open(model)
    bundle = Bundle.load(trained / "bundle", model.digest)
    bundle.noise = load_noise(trained)
    judge = judge_of(recipe.task, tokens.facts, recipe.statistics)
    folder, rows = here.open(tokens), here.open(corpus)
    valid = tokens.splits["valid"] if judge.fits else 0
    total = valid + tokens.splits["test"]
    if judge.fits:
        scored = score_split(judge, bundle, folder / "valid.parquet", 0, total)
        truth = read_rows(rows, "valid", scored["id"], ["id", *judge.truth])
        judge = judge.fitted(truth, scored)
    scored = score_split(judge, bundle, folder / "test.parquet", valid, total)
    of_test = read_rows(rows, "test", scored["id"])
    judge = judge.tried(bundle, of_test, folder)
    without = judge.without_rows(folder)
    bundle.facts = {**bundle.facts, **recipe.task.served_facts(judge.facts())}
    blocks = explained_errors(judge, bundle, of_test, scored)
    told = write_report(
        judge, of_test, scored, without, recipe.statistics, here.out, explained=blocks
    )
    return told | _slices(judge, recipe, here.out)


def _slices(judge: Judge, recipe: Recipe, out: Path) -> dict[str, Any]:
    """How good the answers are on parts of the test rows."""
    predictions = pq.read_table(out / "predictions.parquet")
    figure = judge.row_figure(predictions)
    sliced = Sliced(predictions, figure, recipe.contract.identified_by, recipe.task.slices)
    columns = dict.fromkeys((*recipe.task.slices, *recipe.contract.columns.slices, *COMMON_SLICES))
    found = sorted(all_slices(sliced, columns), key=lambda one: -one[2])
    return {"row_figure": figure.words, "slices": found[:_MOST_SLICES]}


def log_evaluation(
    evaluation: EvaluationReport, task: TaskConfig, store: ArtifactStore, tracker: Tracker
) -> None:
    """Show the report in the MLflow run: the figures of the whole split as metrics, all of them
    with their bounds as a table, the files in `evaluation/`.

    Safe to repeat: the same values and files under the same names.
    """
    found = headlines(evaluation, task)
    tracker.log_metrics({name: one.value for name, one in found.items()})
    folder = store.open(evaluation)
    tracker.log_folder(folder, "evaluation")
    rows = [[name, one.value, one.low, one.high] for name, one in evaluation.metrics.items()]
    tracker.log_table(["figure", "value", "low", "high"], rows, "evaluation/figures.json")
    tracker.log_table(*preview(folder / "predictions.parquet"), "evaluation/predictions.json")


def headlines(evaluation: EvaluationReport, task: TaskConfig) -> dict[str, Interval]:
    """The few figures of the whole split that people look for first, in the kind's order."""
    first = task.metrics[0]
    names = [f"test/{one.name}" for one in task.metrics if one.headline or one is first]
    return {name: evaluation.metrics[name] for name in names if name in evaluation.metrics}


def score_split(
    judge: Judge, bundle: Bundle, path: Path, done: int = 0, total: int | None = None
) -> pa.Table:
    """What the kind's `score` says of each document of a split, in parts of bounded size."""
    table = pq.read_table(path, columns=list(judge.token_columns))
    # Windows of a document stand together and count from 0, so a document starts at each 0.
    starts = np.flatnonzero(table["window"].to_numpy() == 0)
    if not len(starts):
        raise NoisefoldError(
            f"The {path.stem} split has no rows, so nothing can be measured.",
            "Give it rows, or raise its share in the contract (splits).",
        )
    ends = np.append(starts[1:], table.num_rows)
    parts = []
    tokens = np.add.reduceat(pc.list_value_length(table["input_ids"]).to_numpy(), starts)
    for documents in cut(tokens, _TOKENS, _DOCUMENTS):
        first = starts[documents.start]
        windows = table.slice(first, ends[documents.stop - 1] - first)
        parts.append(judge.score(bundle, windows))
        report("evaluate", done + documents.stop, total)
    return pa.concat_tables(parts)


def write_report(  # noqa: PLR0913 - what a report is made of, by name
    judge: Judge,
    rows: pa.Table,
    scored: pa.Table,
    without: Mapping[str, tuple[str, ...]],
    statistics: StatisticsConfig,
    out: Path,
    *,
    explained: Sequence[Block] = (),
) -> dict[str, Any]:
    """Everything that is measured, below `out`; returns the manifest's own fields.

    Args:
        explained: what carried some of the answers.
    """
    from lightning_modules.evidence import figures

    evidence = judge.evidence(rows, scored)
    found = figures(evidence, statistics.figure_samples, statistics.confidence, SEED)
    answers = judge.answers(rows, scored)
    pq.write_table(answers, out / "predictions.parquet", compression="zstd")
    warnings = judge.warnings(without)
    on_page = {metric.name for metric in judge.metrics if metric.shown == "page"}
    metrics = {
        name: value for name, value in found.items() if name.partition("/")[0] not in on_page
    }
    blocks = [
        *(Text(warning, "note") for warning in warnings),
        Text(
            f"{rows.num_rows:,} test rows. Intervals: {statistics.confidence:.0%} percentile "
            f"bootstrap, {statistics.figure_samples:,} resamples of the {evidence.unit}."
        ),
        *judge.report(rows, scored, found),
        *explained,
    ]
    content = {
        "rows": rows.num_rows,
        "confidence": statistics.confidence,
        "bootstrap_samples": statistics.figure_samples,
        **judge.facts(),
        "warnings": warnings,
        "without_rows": without,
        "metrics": {name: value.model_dump() for name, value in metrics.items()},
    }
    write_pages(content, blocks, out)
    digest = RowDigest(list(judge.exact))
    digest.update(answers)
    of_test = {f"test/{name}": value for name, value in metrics.items()}
    plain = {name: value.model_dump() for name, value in of_test.items()}
    return {
        "digest": digest_of(digest.hexdigest(), plain, judge.decided),
        "rows_in": rows.num_rows,
        "rows_out": answers.num_rows,
        "metrics": of_test,
        "facts": judge.facts(),
        "without_rows": without,
        "warnings": tuple(warnings),
    }


def write_pages(content: dict[str, Any], blocks: list[Block], out: Path) -> None:
    """`report.json`, `report.html`, the blocks themselves, and a file for each table that has a
    name.
    """
    text = json.dumps(content | drawn.as_json(blocks), indent=2, ensure_ascii=False)
    (out / "report.json").write_text(text, encoding="utf-8")
    (out / drawn.FILE).write_text(drawn.dump(blocks), encoding="utf-8")
    page = render("evaluation.html.j2", title="Evaluation", content=blocks)
    (out / "report.html").write_text(page, encoding="utf-8")
    drawn.write_files(blocks, out)


def read_rows(
    corpus: Path, split: str, ids: pa.ChunkedArray, columns: list[str] | None = None
) -> pa.Table:
    """Rows of a split in the order of `ids`: all columns, or of those that are named such as are
    there.
    """
    if columns is not None:
        there = dataset.dataset(corpus / "corpus").schema.names
        columns = [name for name in columns if name in there]
    table = pq.read_table(corpus / "corpus", columns=columns, filters=[("split", "==", split)])
    places = pc.index_in(ids.cast(table["id"].type), value_set=table["id"])
    if places.null_count:
        raise ValueError(
            f"{places.null_count} {split} rows of the tokens are not in the corpus they were made "
            "from"
        )
    if "split" in table.column_names:
        table = table.drop_columns(["split"])
    return take_rows(table, places.to_numpy())
