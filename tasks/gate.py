"""The bounds that a version has to keep to go live: floors and ceilings of the recipe's section `promotion`.

Every bound is checked, and every one that does not hold is told; one that the recipe does not set is not looked at.
What cannot be measured does not hold: the F1 of a class without a test row.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.artifacts import EvaluationReport
from data_contracts.recipe.recipe import PromotionConfig
from data_contracts.results import Check
from tasks.reports.model_card import script
from tasks.serving.check import Served

# Bands of length, in characters: an English word is about six, a Chinese one about two.
_LENGTHS = (0, 20, 50, 100, 200, 500, 1000, 2000)


def check_bounds(
    evaluation: EvaluationReport,
    predictions: pa.Table,
    served: Served | None,
    config: PromotionConfig,
) -> list[Check]:
    """Every bound that the recipe sets.

    Args:
        predictions: of the test split, see `Judge.answers`.
        served: what serving it showed; None where it could not be served, which is a reason of its own.
    """
    metrics = evaluation.metrics
    floors = (
        ("accuracy", "accuracy", config.min_accuracy),
        ("macro_f1", "macro-F1", config.min_macro_f1),
    )
    ceilings = (("nll", "NLL", config.max_nll), ("ece", "ECE", config.max_ece))
    checks = [
        _floor(f"Test {shown}", metrics[f"test/{name}"].value, bound)
        for name, shown, bound in floors
        if bound
    ]
    checks += [
        _ceiling(f"Test {shown}", metrics[f"test/{name}"].value, bound)
        for name, shown, bound in ceilings
        if bound is not None
    ]
    if config.min_class_f1:
        prefix = "test/f1/"
        checks += [
            _floor(f"F1 of class {name.removeprefix(prefix)}", interval.value, config.min_class_f1)
            for name, interval in metrics.items()
            if name.startswith(prefix)
        ]
        checks += [
            _floor(f"F1 of class {label}, which has no test row,", None, config.min_class_f1)
            for label in evaluation.without_rows.get("test", ())
        ]
    if config.min_slice_accuracy:
        checks += slice_checks(predictions, config)
    if served is not None and config.max_megabytes is not None:
        checks.append(_ceiling("Size in MB", served.megabytes, config.max_megabytes))
    if served is not None and config.max_milliseconds_per_text is not None:
        checks.append(
            _ceiling(
                "CPU milliseconds per text",
                served.milliseconds_per_text,
                config.max_milliseconds_per_text,
            )
        )
    return checks


def slice_checks(predictions: pa.Table, config: PromotionConfig) -> Iterator[Check]:
    """Accuracy of each value of each slice column that has rows enough for the figure to mean something."""
    for what, accuracy, rows in _slices(predictions, config):
        if rows >= config.min_slice_rows:
            yield _floor(
                f"Accuracy where {what} ({rows:,} rows):", accuracy, config.min_slice_accuracy
            )


def small_slices(predictions: pa.Table, config: PromotionConfig) -> list[str]:
    """The slices that decide nothing, as "language is fr (12 rows)"; none where no floor looks at slices."""
    if not config.min_slice_accuracy:
        return []
    return [
        f"{what} ({rows:,} rows)"
        for what, _, rows in _slices(predictions, config)
        if rows < config.min_slice_rows
    ]


def _slices(predictions: pa.Table, config: PromotionConfig) -> Iterator[tuple[str, float, int]]:
    """Each slice in words, its accuracy and its rows."""
    for column in config.slices:
        found = pa.table(
            {"value": slice_values(predictions, column), "correct": predictions["correct"]}
        )
        groups = (
            found.group_by("value")
            .aggregate([("correct", "mean"), ("correct", "count")])
            .sort_by("value")
        )
        for value, accuracy, rows in zip(
            *(groups[name].to_pylist() for name in groups.column_names), strict=True
        ):
            yield f"{column} is {'missing' if value is None else value}", accuracy, rows


def slice_values(predictions: pa.Table, column: str) -> pa.ChunkedArray:
    """The slice of each row: a column's value, the band of its text's length, or the script that it is written in."""
    if column == "language" and column not in predictions.column_names:
        return pa.chunked_array(
            [pa.array(map(script, predictions["text"].to_pylist()), pa.string())]
        )
    if column != "length":
        # A slice column that bears a name of the table's own stands under another one.
        name = f"slice_{column}" if f"slice_{column}" in predictions.column_names else column
        return pc.cast(predictions[name], pa.string())
    lengths = pc.utf8_length(predictions["text"])
    bands = [
        f"over {low:,}" if high is None else f"{low + 1:,} to {high:,}" for low, high in _bands()
    ]
    index = pc.cast(pa.scalar(0), pa.int64())
    for edge in _LENGTHS[1:]:
        index = pc.add(index, pc.cast(pc.greater(lengths, edge), pa.int64()))
    return pc.take(pa.array(bands), index)


def sentences(checks: list[Check]) -> tuple[list[str], list[str]]:
    """What does not hold, each by itself, and what does; of many that do, their number."""
    failed = [check.sentence() for check in checks if not check.passed]
    held = [check.sentence() for check in checks if check.passed]
    return failed, held if len(held) <= 6 else [f"{len(held)} bounds hold."]


def _bands() -> Iterator[tuple[int, int | None]]:
    yield from pairwise(_LENGTHS)
    yield _LENGTHS[-1], None


def _floor(what: str, value: float | None, bound: float) -> Check:
    return Check(
        what=what,
        value=value,
        kind="floor",
        bound=bound,
        passed=value is not None and value >= bound,
    )


def _ceiling(what: str, value: float, bound: float) -> Check:
    return Check(what=what, value=value, kind="ceiling", bound=bound, passed=value <= bound)
