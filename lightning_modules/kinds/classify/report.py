"""A classifier's report as blocks: figures, classes, confusion, reliability, the surest errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_contracts.results import Bars, Block, Curve, Interval, Matrix, Table, Text
from data_contracts.tables.take import take_rows
from lightning_modules.evidence import Floats
from lightning_modules.kinds.classify import figures as m

_WORST = 5  # classes that are named
_OF_A_CLASS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Told:
    """How the answers were given and what of them is to be shown."""

    labels: tuple[str, ...]
    temperature: m.Temperature
    applied: bool  # the registered model carries the temperature
    other: str  # the name before the figures that are not the registered model's
    bins: int
    confidence: float  # of the intervals
    most_errors: int


def report_of(
    told: Told,
    rows: pa.Table,
    labels: np.ndarray,
    log_proba: Floats,
    found: Mapping[str, Interval],
    selective: Sequence[Block] = (),
) -> list[Block]:
    """The blocks in their order.

    Args:
        rows: id and text of N rows.
        labels: (N,) class numbers.
        log_proba: (N, C) as the registered model answers.
        found: the figures of `ClassifyJudge.evidence`.
        selective: what is told of how sure the answers are.
    """
    predicted = log_proba.argmax(axis=1)
    support = np.bincount(labels, minlength=len(told.labels))
    classes = _classes(told.labels, support, found)
    errors = confident_errors(told, rows, labels, log_proba)
    worst = ", ".join(_worst_first(told.labels, found)[:_WORST])
    return [
        *_figures(told, found),
        _reliability(told, labels, log_proba, found["ece"]),
        *selective,
        Text("Classes", "heading"),
        Text(f"Worst first: {worst}."),
        classes,
        _f1_bars(told, support, found),
        _confusion(told.labels, labels, predicted),
        Text("Most confident errors", "heading"),
        errors,
    ]


def surest_errors(
    ids: pa.ChunkedArray, labels: np.ndarray, log_proba: Floats, most: int
) -> np.ndarray:
    """Numbers of the rows that are told another label than theirs, the surest first."""
    confidence = np.exp(log_proba).max(axis=1)
    wrong = np.flatnonzero(log_proba.argmax(axis=1) != labels)
    heads = pa.table(
        {
            "id": pa.array(ids.to_pylist(), pa.string()).take(wrong),
            "confidence": confidence[wrong],
            "place": wrong,
        }
    )
    surest = heads.sort_by([("confidence", "descending"), ("id", "ascending")])
    return surest["place"].to_numpy()[:most]


def confident_errors(told: Told, rows: pa.Table, labels: np.ndarray, log_proba: Floats) -> Table:
    """The errors that the model was surest of: mislabelled rows and blind spots gather here."""
    predicted = log_proba.argmax(axis=1)
    confidence = np.exp(log_proba).max(axis=1)
    places = surest_errors(rows["id"], labels, log_proba, told.most_errors)
    few = take_rows(rows.select(["id", "text"]), places).to_pylist()
    return Table(
        ("id", "label", "predicted", "confidence", "text"),
        tuple(
            (
                row["id"],
                told.labels[labels[place]],
                told.labels[predicted[place]],
                float(confidence[place]),
                row["text"],
            )
            for place, row in zip(places, few, strict=True)
        ),
        name="errors",
    )


def _figures(told: Told, found: Mapping[str, Interval]) -> list[Block]:
    """How the model is registered, and each figure so and otherwise."""
    overall = [name for name in found if "/" not in name]
    if told.temperature.why_not is not None:
        why = f"no other could be fitted ({told.temperature.why_not})"
        rows = tuple((name, found[name]) for name in overall)
        columns = ("figure", "at temperature 1 (registered)")
        return [Text(f"The model is registered at temperature 1; {why}."), Table(columns, rows)]
    fitted = f"at the fitted temperature {told.temperature.value:.3f}"
    served, other = (fitted, "at temperature 1") if told.applied else ("at temperature 1", fitted)
    # What a temperature does not change has one value, under its plain name.
    rows = tuple(
        (name, found[name], found.get(f"{told.other}/{name}", found[name])) for name in overall
    )
    return [
        Text(f"The model is registered {served}; the column on the right shows it {other}."),
        Table(("figure", f"{served} (registered)", other), rows),
    ]


def _of_classes(
    name: str, labels: Sequence[str], found: Mapping[str, Interval]
) -> list[Interval | None]:
    """(C,) a figure of each class; None where it has no row."""
    return [found.get(f"{name}/{part}") for part in m.part_names(labels)]


def _worst_first(labels: Sequence[str], found: Mapping[str, Interval]) -> list[str]:
    """Labels that have rows, by F1 upwards."""
    held = [
        (one.value, c) for c, one in enumerate(_of_classes("f1", labels, found)) if one is not None
    ]
    return [labels[c] for _, c in sorted(held)]


def _classes(labels: Sequence[str], support: np.ndarray, found: Mapping[str, Interval]) -> Table:
    columns = [_of_classes(name, labels, found) for name in _OF_A_CLASS]
    return Table(
        ("label", "rows", *_OF_A_CLASS),
        tuple(
            (label, int(rows), *figures)
            for label, rows, *figures in zip(labels, support, *columns, strict=True)
        ),
        name="per_class",
        headings=("label", "rows", "precision", "recall", "F1"),
    )


def _f1_bars(told: Told, support: np.ndarray, found: Mapping[str, Interval]) -> Bars:
    return Bars(
        name="per_class_f1",
        title="F1 by class",
        words="F1",
        parts=told.labels,
        values=tuple(_of_classes("f1", told.labels, found)),
        rows=tuple(support.tolist()),
        note=f"{told.confidence:.0%} bootstrap intervals",
    )


def _confusion(labels: Sequence[str], true: np.ndarray, predicted: np.ndarray) -> Matrix:
    counts = m.confusion_matrix(true, predicted, len(labels))
    return Matrix(
        name="confusion_matrix",
        title="Confusion matrix",
        parts=tuple(labels),
        counts=tuple(map(tuple, counts.tolist())),
        note="rows; shade: share of the true class",
    )


def _reliability(told: Told, labels: np.ndarray, log_proba: Floats, ece: Interval) -> Curve:
    table = m.reliability(labels, log_proba, bins=told.bins)
    known = [(x, y) if count else (None, None) for x, y, count in _bins(table)]
    return Curve(
        name="reliability_diagram",
        title="Reliability",
        x_words="confidence",
        y_words="accuracy",
        edges=tuple(table.edges.tolist()),
        rows=tuple(table.count.tolist()),
        x=tuple(x for x, _ in known),
        y=tuple(y for _, y in known),
        note=f"expected calibration error {ece.value:.3f} ({ece.low:.3f} to {ece.high:.3f}); "
        "dashed: perfectly calibrated",
        diagonal=True,
    )


def _bins(table: m.Reliability) -> list[tuple[Any, ...]]:
    columns = (table.confidence, table.accuracy, table.count)
    return list(zip(*(column.tolist() for column in columns), strict=True))
