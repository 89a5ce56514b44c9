"""How a reader is judged: by its answers, as it is served, and by how sure it is of them.

Shapes: N questions (`lightning_modules.kinds.span.measured`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from data_contracts.kinds.base import Metric
from data_contracts.kinds.span import Span
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.results import Block, Interval
from lightning_modules.evidence import Evidence
from lightning_modules.kinds.judging import JUDGES, Comparable, Rivals, RowFigure, with_slices
from lightning_modules.kinds.span.calibration import (
    NEVER,
    least_answerable,
    logistic,
)
from lightning_modules.kinds.span.choosing import (
    ANSWERED,
    Answer,
    Decision,
    Found,
    answer_of,
    told,
)
from lightning_modules.kinds.span.floor import best_sentences
from lightning_modules.kinds.span.measured import Measured
from lightning_modules.kinds.span.report import Judged, report_of, worst_answers
from lightning_modules.kinds.span.scores import counts, officials
from lightning_modules.kinds.span.tables import (
    SIGNALS,
    answers_of,
    documents,
    signals_of,
    truths,
)
from lightning_modules.selective import threshold_of

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

# Of a validated row; the others are slices.
ROLES = ("id", "question", "context", "answer", "answer_start", "answers")
FLOOR = "of the sentence that matches its question best, as a whole"
_PLACE = ("start", "end")  # of the best span as its tokens have it, in characters


class SpanJudge:
    """See `lightning_modules.kinds.judging.Judge`.

    `scored` has id, the best span (start, end) and its signals, of a model of ours; or id,
    predicted and, where it is told, probability, of answers that stand in a file.
    """

    metrics: ClassVar[tuple[Metric, ...]] = Span.metrics
    token_columns: ClassVar[tuple[str, ...]] = ("id", "window", "input_ids", "context", "offsets")
    truth: ClassVar[tuple[str, ...]] = ("context", "answer", "answer_start", "answers")
    fits: ClassVar[bool] = True
    exact: ClassVar[tuple[str, ...]] = ("id", "predicted", "predicted_start", "outcome")

    def __init__(self, facts: Mapping[str, Any], task: Span, statistics: StatisticsConfig) -> None:
        self.unanswerable: bool = facts["unanswerable"]
        self.task, self.statistics = task, statistics
        self.decision = Decision()
        self.floor: np.ndarray | None = None  # (N, 2) of the best sentences, on the test rows

    # --- what it says

    def score(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        head: Any = bundle.network.head
        ids, found = [], list[Found]()
        for name, some in documents(windows):
            ids.append(name)
            found.append(answer_of(head.log_proba(bundle, some), some, self.task.choose))
        columns: dict[str, Any] = {"id": pa.array(ids, pa.large_string())}
        for place, name in enumerate(_PLACE):
            columns[name] = pa.array([one[place] for one in found], pa.int64())
        for place, name in enumerate(SIGNALS):
            columns[name] = pa.array([one.signals[place] for one in found], pa.float64())
        return pa.table(columns)

    def fitted(self, rows: pa.Table, scored: pa.Table) -> Self:
        """With the probability that an answer is right, and the thresholds that follow from it."""
        judge = copy(self)
        signals = signals_of(scored)
        every = Decision(least_answerable=0.0)
        best = [one.answer for one in self._answers(rows, scored, every)]
        exact, f1 = self._counts(best, rows).T
        right = logistic(signals, exact > 0)
        decision = Decision((right[0], right[1], right[2], right[3]), least_answerable=0.0)
        if self.unanswerable:
            there = np.array([any(texts) for texts in truths(rows)])
            odds = logistic(signals[:, 1:2], there)
            decision = Decision(decision.right, (odds[0], odds[1]))
            least = least_answerable(decision.proba_answerable(signals), f1, there)
            decision = Decision(decision.right, decision.answerable, least)
        if self.task.precision is not None:
            probability, outcome = decision.outcome(signals, self.unanswerable)
            answered = outcome == ANSWERED
            # An answer more, and that one wrong: few answers promise little.
            threshold = threshold_of(
                probability[answered],
                exact[answered] > 0,
                self.task.precision,
                never=NEVER,
                spare=1.0,
            )
            decision = Decision(
                decision.right, decision.answerable, decision.least_answerable, threshold
            )
        judge.decision = decision
        return judge

    def tried(self, bundle: Bundle, rows: pa.Table, tokens: Path) -> Self:
        """With the best matching sentence beside it."""
        judge = copy(self)
        judge.floor = self._counts(self._sentences(rows), rows)
        return judge

    def _answers(
        self, rows: pa.Table, scored: pa.Table, decision: Decision | None = None
    ) -> list[Answer]:
        """What is answered to each row."""
        decision = decision or self.decision
        columns = [rows["context"], *(scored[name] for name in _PLACE)]
        places = zip(*(one.to_pylist() for one in columns), strict=True)
        unanswerable = self.unanswerable
        return [
            told(Found(start, end, (one[0], one[1], one[2])), context, decision, unanswerable)
            for (context, start, end), one in zip(places, signals_of(scored).tolist(), strict=True)
        ]

    def _sentences(self, rows: pa.Table) -> list[str]:
        return best_sentences(rows["question"].to_pylist(), rows["context"].to_pylist())

    def _counts(self, said: Sequence[str | None], rows: pa.Table) -> np.ndarray:
        """(N, 2) exact match and F1."""
        return counts(said, truths(rows), rows["context"].to_pylist())

    @property
    def decided(self) -> str:
        return json.dumps(self.decision.as_json())

    def facts(self) -> dict[str, Any]:
        """What the valid split decided, and what a sentence as a whole scores."""
        found: dict[str, Any] = {
            "decision": self.decision.as_json(),
            "promised": self._promised,
        }
        if self.floor is not None:
            exact, f1 = self.floor.mean(axis=0)
            found |= {"sentence_exact_match": float(exact), "sentence_f1": float(f1)}
        return found

    @property
    def _promised(self) -> bool:
        return self.decision.threshold < NEVER

    def without_rows(self, tokens: Path) -> dict[str, tuple[str, ...]]:
        return {}

    def gaps(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        return []

    def warnings(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        if self._promised:
            return []
        return [
            f"No answer is given: none of the valid split was sure enough for task.precision "
            f"{self.task.precision:g}. A lower one is kept by some, or null answers all."
        ]

    # --- what is made of it

    def _measured(self, rows: pa.Table, scored: pa.Table) -> Measured:
        said, probability = self._said(rows, scored)
        answered = np.array([bool(one) for one in said])
        contexts = rows["context"].to_pylist()
        return Measured(self._counts(said, rows), answered, contexts, probability, self.floor)

    def _said(self, rows: pa.Table, scored: pa.Table) -> tuple[list[str | None], Any]:
        """Each answer, and the probabilities where they are told."""
        if "predicted" in scored.column_names:
            told_by = "probability" in scored.column_names
            probability = scored["probability"].to_numpy() if told_by else None
            return scored["predicted"].to_pylist(), probability
        answers = self._answers(rows, scored)
        return [one.answer for one in answers], np.array([one.probability for one in answers])

    def evidence(self, rows: pa.Table, scored: pa.Table) -> Evidence:
        return self._measured(rows, scored).evidence()

    def answers(self, rows: pa.Table, scored: pa.Table) -> pa.Table:
        """The row; predicted, predicted_start, probability, outcome; exact_match and f1 of it;
        slices.
        """
        answers = self._answers(rows, scored)
        counts = self._counts([one.answer for one in answers], rows)
        columns: dict[str, Any] = {"id": pa.array(scored["id"].to_pylist(), pa.string())}
        columns |= {name: rows[name] for name in ROLES[1:] if name in rows.column_names}
        columns |= {
            "predicted": pa.array([one.answer for one in answers], pa.string()),
            "predicted_start": pa.array([one.answer_start for one in answers], pa.int64()),
            "probability": pa.array([one.probability for one in answers], pa.float64()),
            "outcome": pa.array([one.outcome for one in answers], pa.string()),
            "exact_match": counts[:, 0],
            "f1": counts[:, 1],
        }
        return pa.table(with_slices(columns, rows, ROLES))

    def predictions(self, table: pa.Table) -> pa.Table:
        """id and predicted; probability where it is told of every row.

        A file has `predicted`, or `answer`; null or an empty text says that there is none.
        """
        found = pa.table({"id": table["id"], "predicted": answers_of(table)})
        if "probability" in table.column_names and not table["probability"].null_count:
            probability = table["probability"].cast(pa.float64())
            found = found.append_column("probability", probability)
        return found

    def unmeasured(self, rows: pa.Table) -> tuple[str, ...]:
        return ()

    def beside(self, scored: pa.Table) -> dict[str, float]:
        return {}

    def report(
        self, rows: pa.Table, scored: pa.Table, found: Mapping[str, Interval]
    ) -> list[Block]:
        signals = signals_of(scored)
        judged = Judged(
            measured=self._measured(rows, scored),
            found=found,
            answers=self._answers(rows, scored),
            right=truths(rows),
            answerable=self.decision.proba_answerable(signals) if self.unanswerable else None,
            decision=self.decision,
            precision=self.task.precision,
            official=officials(rows["context"].to_pylist()),
        )
        return report_of(judged, rows)

    def worst(self, rows: pa.Table, scored: pa.Table) -> Sequence[int]:
        one = self._measured(rows, scored)
        sure = np.zeros(len(one.counts)) if one.probability is None else one.probability
        return worst_answers(one.counts[:, 1], sure, one.answered).tolist()

    # --- the gate

    def row_figure(self, predictions: pa.Table) -> RowFigure:
        return RowFigure("F1", predictions["f1"].to_numpy())

    def comparable(self, predictions: pa.Table, champion: Bundle) -> Comparable:
        every = np.ones(len(predictions), dtype=bool)
        if champion.kind != self.task.kind:
            why = f"The champion is of kind {champion.kind}, this one finds answers in texts"
            return Comparable(every, fault=f"{why}: they cannot be compared.")
        return Comparable(every)

    def ask(self, bundle: Bundle, predictions: pa.Table) -> pa.Table:
        """Another model's answers, as it is served."""
        asked = {name: predictions[name].to_pylist() for name in bundle.asked}
        answers = bundle.predict(asked)
        return pa.table(
            {
                "predicted": pa.array(answers["answer"], pa.string()),
                "probability": pa.array(answers["probability"], pa.float64()),
            }
        )

    def against(
        self, predictions: pa.Table, asked: pa.Table, champion: Bundle, name: str
    ) -> Rivals:
        ours, theirs = (self.evidence(predictions, one) for one in (predictions, asked))
        exact = ours.point()["exact_match"] - theirs.point()["exact_match"]
        notes = []
        if champion.facts["unanswerable"] != self.unanswerable:
            one, other = ("may", "never") if self.unanswerable else ("never", "may")
            notes = [
                f"This model {one} say{'s' * (one == 'never')} that there is no answer, and the "
                f"champion {other} say{'s' * (other == 'never')} so."
            ]
        figures = {"exact_match_difference": exact}
        return Rivals(ours, theirs, f"of {name}", notes=notes, figures=figures)

    def against_constant(self, predictions: pa.Table, tokens: Path) -> Rivals:
        """This model beside the best matching sentence."""
        said = self._sentences(predictions)
        counts = self._counts(said, predictions)
        answered = np.array([bool(one) for one in said])
        contexts = predictions["context"].to_pylist()
        theirs = Measured(counts, answered, contexts).evidence()
        return Rivals(self.evidence(predictions, predictions), theirs, FLOOR)


JUDGES["span"] = SpanJudge
