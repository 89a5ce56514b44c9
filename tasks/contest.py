"""The rule by which a version becomes champion, without any effect.

On rows that neither model was trained on, the paired bootstrap interval of (challenger's first
metric - champion's) has to lie on the better side of the margin. Where there is no champion, a
constant answer takes its place, if the kind of task has one, and the interval has to lie on the
better side of 0. What the two models show on a row, the kind's judge says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_contracts.contract.frames import joined
from data_contracts.kinds.base import Metric
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.results import Interval
from lightning_modules.kinds.judging import Judge, Rivals
from tasks.gate import bounds_in_words
from tasks.progress import report
from tasks.serving.fetched import Champion
from tasks.tokenize import text_hashes

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

SEED = 0
_ROWS = 2048  # asked at a time


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may pass, why, and on what evidence."""

    passed: bool
    reasons: list[str]
    evidence: dict[str, Any]  # fields of a `PromotionDecision`


def first_champion(
    judge: Judge, predictions: pa.Table, tokens: Path, trained: NDArray[np.uint64], recipe: Recipe
) -> Verdict:
    """Whether a version does better than a constant answer, on its test rows without those that it
    was trained on.

    Args:
        tokens: the folder of its token tables.
        trained: hashes of what it was trained on.
    """
    config = recipe.promotion
    bounds = f"bounds: {bounds_in_words(config) or 'none set'}"
    if not config.beat_constant:
        why = (
            f"No version is champion, so the bounds decide ({bounds}; promotion.beat_constant is "
            "off)."
        )
        return Verdict(True, [why], {})
    seen = _seen(predictions, recipe, trained)
    rows = predictions.filter(pa.array(~seen))
    left_out = _left_out(int(seen.sum()))
    evidence: dict[str, Any] = {"rows_compared": len(rows), "rows_left_out": int(seen.sum())}
    why = (
        "No version is champion, so it has to beat a constant answer, and the bounds decide "
        f"({bounds})."
    )
    if too_few := _too_few(len(rows), recipe):
        return Verdict(False, [why, *left_out, too_few], evidence)
    rivals = judge.against_constant(rows, tokens)
    if rivals is None:
        why = (
            f"No version is champion, and this kind of task has no constant answer to beat, so the "
            f"bounds decide ({bounds})."
        )
        return Verdict(True, [why], {})
    passed, difference, told = _told(rivals, judge.metrics[0], 0, len(rows), "rows", recipe)
    reasons = [why, *left_out, *told]
    if not passed:
        reasons.append(
            "promotion.beat_constant: false lets the bounds alone decide on a first champion."
        )
    return Verdict(
        passed, reasons, {**evidence, "over_constant": difference, "notes": rivals.figures}
    )


def compare(
    judge: Judge,
    predictions: pa.Table,
    champion: Champion,
    trained: NDArray[np.uint64],
    recipe: Recipe,
) -> Verdict:
    """Champion and challenger on the same rows: unseen by both in training, and such that both can
    be asked.
    """
    comparable = judge.comparable(predictions, champion.bundle)
    seen = _seen(predictions, recipe, trained, champion.train_texts)
    rows = predictions.filter(pa.array(comparable.rows & ~seen))
    evidence: dict[str, Any] = {
        "rows_compared": len(rows),
        "rows_left_out": len(predictions) - len(rows),
    }
    reasons = [*comparable.told, *_left_out(int(seen.sum()))]
    if fault := comparable.fault or _too_few(len(rows), recipe):
        return Verdict(False, [*reasons, fault], evidence)
    asked = ask(judge, champion.bundle, rows)
    rivals = judge.against(rows, asked, champion.bundle, f"version {champion.version}")
    margin = recipe.promotion.margin
    passed, difference, told = _told(
        rivals, judge.metrics[0], margin, len(rows), "shared rows", recipe
    )
    evidence |= {"difference": difference, "notes": rivals.figures}
    return Verdict(passed, [*reasons, *told], evidence)


def ask(judge: Judge, bundle: Bundle, rows: pa.Table) -> pa.Table:
    """What a model shows on rows, asked in parts of bounded size."""
    parts: list[pa.Table] = []
    for first in range(0, len(rows), _ROWS):
        some = rows.slice(first, _ROWS)
        parts.append(judge.ask(bundle, some))
        report("promote", first + len(some), len(rows))
    return pa.concat_tables(parts)


def _told(
    rivals: Rivals, metric: Metric, margin: float, count: int, rows: str, recipe: Recipe
) -> tuple[bool, Interval, list[str]]:
    """Whether ours passes, the difference, and the sentences that say so."""
    statistics = recipe.statistics
    difference = _paired(rivals, metric, statistics)
    higher = metric.better == "higher"
    better = difference.low > -margin if higher else difference.high < margin
    side, bound = ("above", "lower") if higher else ("below", "upper")
    edge = f"{'-' if higher else ''}{margin:g}" if margin else "0"
    ours, theirs = (one.point()[metric.name] for one in (rivals.ours, rivals.theirs))
    sentence = (
        f"{metric.begins} {ours:.4f} less {theirs:.4f}, that "
        f"{rivals.whose}, on {count:,} {rows}: {difference.value:+.4f} "
        f"({statistics.confidence:.0%} interval {difference.low:+.4f} to {difference.high:+.4f}); "
        f"the {bound} bound is {'' if better else 'not '}{side} {edge}."
    )
    fault = [] if rivals.fault is None else [rivals.fault]
    return better and not fault, difference, [*rivals.notes, sentence, *fault]


def _paired(rivals: Rivals, metric: Metric, config: StatisticsConfig) -> Interval:
    from lightning_modules.evidence import paired

    return paired(
        rivals.ours,
        rivals.theirs,
        metric,
        samples=config.paired_samples,
        confidence=config.confidence,
        seed=SEED,
    )


def _seen(predictions: pa.Table, recipe: Recipe, *trained: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(N,) whether a model was trained on the row, by what may stand in one split alone."""
    hashes = text_hashes(joined(recipe.contract.kept_apart, predictions))
    return np.logical_or.reduce([np.isin(hashes, each) for each in trained])


def _left_out(seen: int) -> list[str]:
    return [f"{seen:,} test rows that a model was trained on are left out."] if seen else []


def _too_few(rows: int, recipe: Recipe) -> str | None:
    fewest = recipe.contract.splits.min_rows
    if rows >= fewest:
        return None
    return f"{rows:,} rows are left to compare; the contract asks for {fewest:,} (splits.min_rows)."
