"""The bounds that a version has to keep to go live: the recipe's `promotion.bounds` and
`promotion.slices`.

Every bound is checked, and every one that does not hold is told; one that the recipe does not
set is not looked at. What cannot be measured does not hold: the F1 of a class without a test
row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.artifacts import EvaluationReport
from data_contracts.contract.scripts import script_of
from data_contracts.kinds.base import Metric, TaskConfig
from data_contracts.recipe.recipe import COSTS
from data_contracts.recipe.sections import COMMON_SLICES, Bound, PromotionConfig, SlicesConfig
from data_contracts.results import Check
from lightning_modules.kinds.judging import RowFigure
from tasks.serving.check import Served

_COSTS = {metric.name: metric for metric in COSTS}
# Bands of length, in characters: an English word is about six, a Chinese one about two.
_LENGTHS = (0, 20, 50, 100, 200, 500, 1000, 2000)


@dataclass(frozen=True)
class Sliced:
    """Test rows, and how good each answer is."""

    predictions: pa.Table  # see `Judge.answers`
    figure: RowFigure
    identified_by: tuple[str, ...]  # columns of it; the first one's text tells script and length
    own: tuple[str, ...] = ()  # slices of the kind, see `TaskConfig.slices`

    @property
    def texts(self) -> pa.ChunkedArray:
        return self.predictions[self.identified_by[0]]


def check_bounds(
    evaluation: EvaluationReport,
    sliced: Sliced,
    served: Served | None,
    config: PromotionConfig,
    task: TaskConfig,
) -> list[Check]:
    """Every bound that the recipe sets.

    Args:
        sliced: the rows of the test split.
        served: what serving it showed; None where it could not be served, which is a reason of
            its own.
    """
    checks: list[Check] = []
    for name, bound in config.bounds.items():
        if name in _COSTS:
            checks += _cost(_COSTS[name], served, bound)
        elif name.endswith("/*"):
            checks += _of_each(task.metric(name), evaluation, bound)
        else:
            checks.append(_of_test(name, task.metric(name), evaluation, bound))
    return checks if config.slices is None else [*checks, *slice_checks(sliced, config.slices)]


def _of_test(name: str, metric: Metric, evaluation: EvaluationReport, bound: Bound) -> Check:
    """A bound of one figure of the test split."""
    figure = evaluation.metrics.get(f"test/{name}")
    if metric.per is None:
        return _check(f"Test {metric.words}", figure and figure.value, bound)
    part = name.partition("/")[2]
    without = "" if figure else ", which has no test row,"
    return _check(
        f"Test {metric.words} of {metric.per} {part}{without}", figure and figure.value, bound
    )


def _of_each(metric: Metric, evaluation: EvaluationReport, bound: Bound) -> Iterator[Check]:
    """A bound of the figure of every part, also of one that no test row tells."""
    prefix = f"test/{metric.name}/"
    told = [name.removeprefix("test/") for name in evaluation.metrics if name.startswith(prefix)]
    untold = [f"{metric.name}/{part}" for part in evaluation.without_rows.get("test", ())]
    for name in (*told, *untold):
        yield _of_test(name, metric, evaluation, bound)


def _cost(metric: Metric, served: Served | None, bound: Bound) -> Iterator[Check]:
    if served is not None:
        yield _check(metric.words, getattr(served, metric.name), bound)


def slice_checks(sliced: Sliced, config: SlicesConfig) -> Iterator[Check]:
    """The mean figure of each slice that has rows enough for it to mean something."""
    for what, mean, rows in _slices(sliced, config):
        if rows >= config.min_rows:
            words = f"{sliced.figure.words} where {what} ({rows:,} rows):"
            yield _check(words, mean, Bound(min=config.min))


def small_slices(sliced: Sliced, config: SlicesConfig | None) -> list[str]:
    """The slices that decide nothing, as "language is fr (12 rows)"; none where no floor looks
    at slices."""
    if config is None:
        return []
    return [
        f"{what} ({rows:,} rows)"
        for what, _, rows in _slices(sliced, config)
        if rows < config.min_rows
    ]


def _slices(sliced: Sliced, config: SlicesConfig) -> Iterator[tuple[str, float, int]]:
    return all_slices(sliced, config.by or (*sliced.own, *COMMON_SLICES))


def all_slices(sliced: Sliced, columns: Iterable[str]) -> Iterator[tuple[str, float, int]]:
    """Each slice in words, the mean of its rows and their number.

    Args:
        columns: whose values are the slices; `language` and `length` are told from the text.
    """
    for column in columns:
        rows = pa.table(
            {"value": slice_values(sliced, column), "figure": pa.array(sliced.figure.values)}
        )
        groups = (
            rows.group_by("value")
            .aggregate([("figure", "mean"), ("figure", "count")])
            .sort_by("value")
        )
        for group in groups.to_pylist():
            value = "missing" if group["value"] is None else group["value"]
            yield f"{column} is {value}", group["figure_mean"], group["figure_count"]


def slice_values(sliced: Sliced, column: str) -> pa.ChunkedArray:
    """The slice of each row: a column's value, the band of its text's length, or the script that
    it is written in."""
    predictions = sliced.predictions
    if column == "language" and column not in predictions.column_names:
        scripts = map(script_of, sliced.texts.to_pylist())
        return pa.chunked_array([pa.array(scripts, pa.string())])
    if column != "length":
        # A slice column that bears a name of the table's own stands under another one.
        name = f"slice_{column}" if f"slice_{column}" in predictions.column_names else column
        return pc.cast(predictions[name], pa.string())
    lengths = pc.utf8_length(sliced.texts)
    bands = [
        f"over {low:,}" if high is None else f"{low + 1:,} to {high:,}" for low, high in _bands()
    ]
    index = pc.cast(pa.scalar(0), pa.int64())
    for edge in _LENGTHS[1:]:
        index = pc.add(index, pc.cast(pc.greater(lengths, edge), pa.int64()))
    return pc.take(pa.array(bands), index)


def bounds_in_words(config: PromotionConfig) -> str:
    """What the recipe sets, for a person: `macro_f1 at least 0.9, megabytes at most 50`."""
    words = [
        f"{name} at {'most' if bound.min is None else 'least'} {bound.value:g}"
        for name, bound in config.bounds.items()
    ]
    if config.slices is not None:
        words.append(f"each slice at least {config.slices.min:g}")
    return ", ".join(words)


def sentences(checks: list[Check]) -> tuple[list[str], list[str]]:
    """What does not hold, each by itself, and what does; of many that do, their number."""
    failed = [check.sentence() for check in checks if not check.passed]
    held = [check.sentence() for check in checks if check.passed]
    return failed, held if len(held) <= 6 else [f"{len(held)} bounds hold."]


def _bands() -> Iterator[tuple[int, int | None]]:
    yield from pairwise(_LENGTHS)
    yield _LENGTHS[-1], None


def _check(what: str, value: float | None, bound: Bound) -> Check:
    """What cannot be measured does not hold."""
    floor = bound.min is not None
    held = value is not None and (value >= bound.value if floor else value <= bound.value)
    return Check(
        what=what, value=value, kind="floor" if floor else "ceiling", bound=bound.value, passed=held
    )
