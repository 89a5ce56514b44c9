"""evaluate: a trained model on the held-out rows, with intervals, plots and every prediction."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.artifacts import (
    EvaluationReport,
    Interval,
    TokenDataset,
    TrainedModel,
    ValidatedCorpus,
)
from data_contracts.errors import NoisefoldError
from data_contracts.recipe.recipe import EvaluationConfig
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify import figures as m
from lightning_modules.network.batching import cut
from tasks.artifacts.parquet_parts import take_rows
from tasks.artifacts.store import ArtifactStore, RowDigest, digest_of
from tasks.label_rows import labels_without_rows, missing_labels
from tasks.progress import report
from tasks.reports.plots import draw_confusion_matrix, draw_per_class_f1, draw_reliability
from tasks.reports.readable import markdown, markdown_table, with_interval, write_csv
from tasks.stage import Here, RunContext, stage
from tasks.tracking.runs import Tracker

SEED = 0  # of the resamples: the same rows give the same intervals in every run
_DOCUMENTS, _TOKENS = 2048, 1 << 20  # scored at a time, at most
_BOUNDED_CLASSES = (
    50  # with more classes, MLflow gets their F1 without bounds; the report has them all
)


@dataclass(frozen=True)
class Scored:
    """One split as the model sees it: N documents, their class numbers, and log-probabilities (N, C)."""

    ids: list[str]
    labels: np.ndarray
    log_proba: np.ndarray


def _tell(evaluation: EvaluationReport, run: RunContext) -> None:
    with run.tracker.once("evaluate", evaluation.key) as fresh:
        if fresh:
            log_evaluation(evaluation, run.store, run.tracker)


@stage(EvaluationReport, version=2, shaped_by=("evaluation",), tell=_tell)
def evaluate(
    here: Here, model: TrainedModel, tokens: TokenDataset, corpus: ValidatedCorpus
) -> dict[str, Any]:
    """Measure the model on the test split, as it will be registered.

    A temperature is fitted on the valid split in any case, if the rows can tell one, and both sets of figures are
    reported; those under their plain names carry it only where the recipe says so.

    Effects: report, tables, plots and predictions below the store's key; the figures in the MLflow run. Safe to repeat.
    Raises:
        NoisefoldError: where the valid or the test split is empty.
    """
    bundle, folder = Bundle.load(here.open(model) / "bundle", model.digest), here.open(tokens)
    if tuple(bundle.labels) != tokens.labels:
        raise ValueError(
            f"the bundle's labels {bundle.labels} are not those of the tokens {tokens.labels}"
        )
    valid = score_split(
        bundle, folder / "valid.parquet", 0, sum(tokens.splits[s] for s in ("valid", "test"))
    )
    test = score_split(
        bundle,
        folder / "test.parquet",
        len(valid.ids),
        len(valid.ids) + tokens.splits["test"],
    )
    temperature = m.fit_temperature(valid.log_proba, valid.labels)
    without = labels_without_rows(folder, tokens.labels)
    corpus_folder, config = here.open(corpus), here.recipe.evaluation
    return write_report(test, temperature, tokens.labels, without, corpus_folder, config, here.out)


def log_evaluation(evaluation: EvaluationReport, store: ArtifactStore, tracker: Tracker) -> None:
    """Show the report in the MLflow run: every figure with its bounds, and the files under `evaluation/`.

    Safe to repeat: the same values and files under the same names.
    """
    fitted = evaluation.temperature_why_not is None
    values: dict[str, float] = {"evaluation/temperature": evaluation.temperature} if fitted else {}
    many = sum(name.startswith("test/f1/") for name in evaluation.metrics) > _BOUNDED_CLASSES
    for name, interval in evaluation.metrics.items():
        values[name] = interval.value
        if not (many and name.startswith("test/f1/")):
            values |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    tracker.log_metrics(values)
    tracker.log_folder(store.open(evaluation), "evaluation")


def score_split(bundle: Bundle, path: Path, done: int = 0, total: int | None = None) -> Scored:
    """Run the network over the token windows of one split."""
    table = pq.read_table(path, columns=["id", "window", "input_ids", "label"])
    # Windows of a document stand together and count from 0, so a document starts at each 0.
    starts = np.flatnonzero(table["window"].to_numpy() == 0)
    if not len(starts):
        raise NoisefoldError(
            f"The {path.stem} split has no rows, so nothing can be measured.",
            "Give it rows, or raise its share in the contract (splits).",
        )
    ends = np.append(starts[1:], table.num_rows)
    document = np.repeat(np.arange(len(starts)), ends - starts)
    parts = []
    tokens = np.add.reduceat(pc.list_value_length(table["input_ids"]).to_numpy(), starts)
    for documents in cut(tokens, _TOKENS, _DOCUMENTS):
        first, last = documents.start, documents.stop - 1
        windows = slice(starts[first], ends[last])
        input_ids = (
            table["input_ids"].slice(windows.start, windows.stop - windows.start).to_pylist()
        )
        parts.append(bundle.log_proba_of_windows(input_ids, document[windows] - first))
        report("evaluate", done + last + 1, total)
    heads = table.select(["id", "label"]).filter(pa.array(table["window"].to_numpy() == 0))
    return Scored(
        heads["id"].to_pylist(), heads["label"].to_numpy().astype(np.int64), np.concatenate(parts)
    )


def write_report(
    test: Scored,
    temperature: m.Temperature,
    labels: Sequence[str],
    without: dict[str, tuple[str, ...]],
    corpus: Path,
    config: EvaluationConfig,
    out: Path,
) -> dict[str, Any]:
    """Everything that is measured, below `out`; returns the manifest's facts."""
    applied, fitted = (
        config.temperature and temperature.why_not is None,
        temperature.why_not is None,
    )
    plain, scaled = test.log_proba, m.apply_temperature(test.log_proba, temperature.value)
    served, other = (scaled, plain) if applied else (plain, scaled)
    options = {
        "samples": config.bootstrap_samples,
        "confidence": config.confidence,
        "seed": SEED,
        "bins": config.ece_bins,
    }
    scores = m.score(test.labels, served, **options)
    others = m.score(test.labels, other, **options) if fitted else None
    predictions = prediction_table(test, served, labels, read_rows(corpus, test.ids))
    pq.write_table(predictions, out / "predictions.parquet", compression="zstd")
    confusion = m.confusion_matrix(test.labels, served.argmax(axis=1), len(labels))
    other_name = "uncalibrated" if applied else "calibrated"
    metrics = {f"test/{name}": interval for name, interval in scores.overall.items()}
    if others is not None:
        metrics |= {
            f"test/{other_name}/{name}": others.overall[name] for name in ("nll", "brier", "ece")
        }
    by_class = zip(class_metric_names("test/f1/", labels), scores.per_class["f1"], strict=True)
    metrics |= {name: interval for name, interval in by_class if interval is not None}
    warnings = missing_labels(without, len(labels))
    if config.temperature and temperature.why_not:
        warnings.append(
            f"No temperature is applied, though the recipe asks for one: {temperature.why_not}."
        )

    errors = confident_errors(predictions, config.worst_errors)
    content = {
        "rows": len(test.ids),
        "labels": list(labels),
        "confidence": config.confidence,
        "bootstrap_samples": config.bootstrap_samples,
        "temperature": {
            "fitted": temperature.value if fitted else None,
            "why_not": temperature.why_not,
            "applied": applied,
            "fitted_on": "valid",
        },
        "warnings": warnings,
        "without_rows": without,
        "metrics": _plain(scores.overall),
        **({f"metrics_{other_name}": _plain(others.overall)} if others else {}),
        "per_class": per_class_rows(labels, scores),
        "worst_classes": [labels[c] for c in worst_classes(scores)],
        "confusion_matrix": confusion.tolist(),
        "confident_errors": errors,
    }
    (out / "report.json").write_text(
        json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8"
    )
    (out / "report.md").write_text(report_page(content, scores, others), encoding="utf-8")
    write_tables(content, out)
    draw_confusion_matrix(confusion, labels, out / "confusion_matrix.png")
    table = m.reliability(test.labels, served, bins=config.ece_bins)
    draw_reliability(table, scores.overall["ece"], out / "reliability_diagram.png")
    draw_per_class_f1(
        scores.per_class["f1"], scores.support, labels, config.confidence, out / "per_class_f1.png"
    )
    rows = RowDigest(["id", "label", "predicted"])
    rows.update(predictions)
    return {
        "digest": digest_of(
            rows.hexdigest(),
            {name: i.model_dump() for name, i in metrics.items()},
            temperature.value,
        ),
        "rows_in": len(test.ids),
        "rows_out": predictions.num_rows,
        "metrics": metrics,
        "temperature": temperature.value,
        "temperature_why_not": temperature.why_not,
        "temperature_applied": applied,
        "without_rows": without,
        "warnings": tuple(warnings),
    }


def read_rows(corpus: Path, ids: Sequence[str]) -> pa.Table:
    """Text and slices of the test rows, in the order of `ids`."""
    table = pq.read_table(corpus / "corpus", filters=[("split", "==", "test")])
    places = pc.index_in(pa.array(ids, table["id"].type), value_set=table["id"])
    if places.null_count:
        raise ValueError(
            f"{places.null_count} test rows of the tokens are not in the corpus they were made from"
        )
    return take_rows(table, places.to_numpy()).drop_columns(["split"])


def prediction_table(
    test: Scored, log_proba: np.ndarray, labels: Sequence[str], rows: pa.Table
) -> pa.Table:
    """One row per document. `probabilities` follows the label order in the schema's metadata (`noisefold.labels`)."""
    names, proba = np.array(labels, dtype=object), np.exp(log_proba)
    predicted = log_proba.argmax(axis=1)
    columns: dict[str, Any] = {
        "id": pa.array(test.ids, pa.string()),
        "text": rows["text"],
        "label": pa.array(names[test.labels], pa.string()),
        "predicted": pa.array(names[predicted], pa.string()),
        "confidence": proba.max(axis=1),
        "correct": predicted == test.labels,
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(proba.ravel()), len(labels)),
    }
    slices = {name: rows[name] for name in rows.column_names if name not in {"id", "text", "label"}}
    # A slice column may bear one of our names; ours stand.
    table = pa.table(columns | {f"slice_{k}" if k in columns else k: v for k, v in slices.items()})
    return table.replace_schema_metadata(
        {"noisefold.labels": json.dumps(list(labels), ensure_ascii=False)}
    )


def confident_errors(predictions: pa.Table, count: int) -> list[dict[str, Any]]:
    """The errors that the model was surest of: mislabelled rows and blind spots gather here."""
    heads = predictions.select(["id", "confidence", "correct"]).append_column(
        "place", pa.array(np.arange(predictions.num_rows))
    )
    wrong = heads.filter(pc.invert(heads["correct"])).sort_by(
        [("confidence", "descending"), ("id", "ascending")]
    )
    few = take_rows(predictions, wrong["place"].slice(0, count).to_numpy())
    return few.select(["id", "label", "predicted", "confidence", "text"]).to_pylist()


def worst_classes(scores: m.Scores, count: int = 5) -> list[int]:
    """Classes that have test rows, by F1 upwards."""
    held = {
        c: interval.value
        for c, interval in enumerate(scores.per_class["f1"])
        if interval is not None
    }
    return sorted(held, key=held.__getitem__)[:count]


def per_class_rows(labels: Sequence[str], scores: m.Scores) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "rows": int(scores.support[c]),
            **_plain({n: v[c] for n, v in scores.per_class.items()}),
        }
        for c, label in enumerate(labels)
    ]


def class_metric_names(prefix: str, labels: Sequence[str]) -> list[str]:
    """Label names as MLflow allows them in a metric: letters of any script, digits, `_ - . :` and spaces."""
    names: list[str] = []
    for number, label in enumerate(labels):
        name = prefix + (re.sub(r"[^\w.\-: ]", "_", label).strip(". ")[:150] or f"class_{number}")
        names.append(f"{name}_{number}" if name in names else name)
    return names


def write_tables(content: dict[str, Any], out: Path) -> None:
    labels, names = content["labels"], ("precision", "recall", "f1")
    header = ["label", "rows", *(f"{n}{bound}" for n in names for bound in ("", "_low", "_high"))]
    rows = (
        [
            r["label"],
            r["rows"],
            *(r[n] and r[n][b] for n in names for b in ("value", "low", "high")),
        ]
        for r in content["per_class"]
    )
    write_csv(out / "per_class.csv", header, rows)
    matrix = (
        [label, *counts] for label, counts in zip(labels, content["confusion_matrix"], strict=True)
    )
    write_csv(out / "confusion_matrix.csv", ["true \\ predicted", *labels], matrix)
    columns = ["id", "label", "predicted", "confidence", "text"]
    write_csv(
        out / "errors.csv",
        columns,
        ([error[c] for c in columns] for error in content["confident_errors"]),
    )


def report_page(content: dict[str, Any], scores: m.Scores, others: m.Scores | None) -> str:
    """The report as one page of Markdown."""
    temperature, share = content["temperature"], f"{content['confidence']:.0%}"
    served, other, beside = (
        "at temperature 1",
        "",
        f"no other could be fitted ({temperature['why_not']})",
    )
    if others is not None:
        other, beside = f"at the fitted temperature {temperature['fitted']:.3f}", ""
        served, other = (other, served) if temperature["applied"] else (served, other)
        beside = f"the column on the right shows it {other}"
    header = ["figure", f"{served} (registered)", *([other] if others else [])]
    figures = [
        (n, with_interval(i), *([with_interval(others.overall[n])] if others else []))
        for n, i in scores.overall.items()
    ]
    classes = [
        (
            row["label"],
            row["rows"],
            *(with_interval(row[n] and Interval(**row[n])) for n in ("precision", "recall", "f1")),
        )
        for row in content["per_class"]
    ]
    errors = [
        (e["id"], e["label"], e["predicted"], f"{e['confidence']:.3f}", e["text"])
        for e in content["confident_errors"]
    ]
    parts = [
        "# Evaluation",
        *(f"**Note.** {markdown(warning, 2000)}" for warning in content["warnings"]),
        f"{content['rows']:,} test rows. Intervals: {share} percentile bootstrap, {content['bootstrap_samples']:,} "
        f"resamples of the rows. The model is registered {served}; {markdown(beside)}.",
        markdown_table(header, figures),
        "![](reliability_diagram.png)",
        "## Classes",
        f"Worst first: {', '.join(markdown(label) for label in content['worst_classes'])}.",
        markdown_table(["label", "rows", "precision", "recall", "F1"], classes),
        "![](per_class_f1.png)",
        "![](confusion_matrix.png)",
        "## Most confident errors",
        markdown_table(["id", "label", "predicted", "confidence", "text"], errors)
        if errors
        else "None.",
    ]
    return "\n\n".join(parts) + "\n"


def _plain(intervals: Mapping[str, Interval | None]) -> dict[str, Any]:
    return {name: interval and interval.model_dump() for name, interval in intervals.items()}
