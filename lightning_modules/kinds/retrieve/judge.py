"""How a finder of answers is judged: by the rank of the right one among all that there are.

An answer is right if the corpus gives it to that question, however the question is written; one
that two pages have in the same words counts once for each page. Shapes: N questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from data_contracts.errors import SourceError
from data_contracts.kinds.base import Metric
from data_contracts.kinds.retrieve import Retrieve
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.results import Block, Interval
from lightning_modules.evidence import Evidence, Floats
from lightning_modules.kinds.judging import JUDGES, Comparable, Rivals, RowFigure, with_slices
from lightning_modules.kinds.retrieve.abstention import Asked, fitted, probabilities
from lightning_modules.kinds.retrieve.figures import RECALLS, found_within, ranks, reciprocal
from lightning_modules.kinds.retrieve.head import vectors_of
from lightning_modules.kinds.retrieve.indexing import question_keys
from lightning_modules.kinds.retrieve.report import Judged, report_of, surest_wrong

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle
    from lightning_modules.kinds.retrieve.answers import Answers
    from lightning_modules.kinds.retrieve.head import RetrieveHead

ROLES = ("id", "question", "answer", "page", "link")  # of a validated row; the others are slices
FLOOR = "of BM25 over the words of the answers"
_COPIED = ("found", "found_link", "rank", "floor_rank")  # from `scored` to `answers`


class RetrieveJudge:
    """See `lightning_modules.kinds.judging.Judge`.

    `scored` has id; found, the best answer, and found_link; rank, that of the right answer, and
    floor_rank by BM25 (0: it is not among the answers); is_right; and the features by which the
    probability of the best answer is told, among all answers and without the right ones.
    """

    metrics: ClassVar[tuple[Metric, ...]] = Retrieve.metrics
    token_columns: ClassVar[tuple[str, ...]] = (
        "id", "window", "input_ids", "question_key", "question",
    )  # fmt: skip
    truth: ClassVar[tuple[str, ...]] = ("question", "answer", "page")
    fits: ClassVar[bool] = True
    exact: ClassVar[tuple[str, ...]] = ("id", "found", "rank")

    def __init__(
        self, facts: Mapping[str, Any], task: Retrieve, statistics: StatisticsConfig
    ) -> None:
        self.task, self.statistics = task, statistics
        self.abstention: dict[str, Any] = {"weights": [], "threshold": 0.0}
        self.choices = 0  # answers to choose from, once it is known

    @property
    def decided(self) -> Any:
        return self.abstention

    def facts(self) -> dict[str, Any]:
        return {"abstention": self.abstention, "answers": self.choices}

    def score(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        questions = windows["question"].to_pylist()
        keys = windows["question_key"].to_numpy()
        return _scored(bundle, windows["id"].to_pylist(), questions, keys)

    def fitted(self, rows: pa.Table, scored: pa.Table) -> Self:
        """With the probability of an answer, and the threshold of the promised precision."""
        there = scored.filter(pa.array(scored["rank"].to_numpy() > 0))
        if not len(there):
            return self
        judge, options = copy(self), self.task.abstain
        judge.abstention = fitted(_asked(there), options.unanswered, options.precision)
        return judge

    def tried(self, bundle: Bundle, rows: pa.Table, tokens: Path) -> Self:
        judge = copy(self)
        judge.choices = len(_answers(bundle))
        return judge

    def without_rows(self, tokens: Path) -> dict[str, tuple[str, ...]]:
        return {}

    def gaps(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        return []

    def warnings(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        if self.abstention["threshold"] < 1:
            return []
        precision = self.task.abstain.precision
        return [
            f"On the valid split no threshold gives the promised precision of {precision:.0%}, so "
            "that no question is answered. A lower task.abstain.precision answers some; null all."
        ]

    def evidence(self, rows: pa.Table, scored: pa.Table) -> Evidence:
        rank = _rank(rows, scored)
        told: list[Floats] = [np.ones(len(rank)), reciprocal(rank)]
        told += [found_within(rank, most).astype(float) for most in RECALLS]
        names = ["questions", "mrr", *(f"recall_at_{most}" for most in RECALLS)]
        if "is_right" in scored.column_names:
            given = self._given(scored).astype(float)
            told += [given, given * scored["is_right"].to_numpy()]
            names += ["answered", "precision"]
        if "floor_rank" in scored.column_names:
            floor = scored["floor_rank"].to_numpy()
            told += [reciprocal(floor), found_within(floor, 1).astype(float)]
            names += ["bm25_mrr", "bm25_recall_at_1"]
        figures, values = _Figures(tuple(names)), np.stack(told, axis=1)
        if "page" not in rows.column_names:
            return Evidence(values, figures)
        return Evidence(values, figures, groups=_groups(rows["page"]), unit="pages")

    def _sure(self, scored: pa.Table) -> Floats:
        """(N,) the probability of each best answer."""
        if "probability" in scored.column_names:
            return scored["probability"].to_numpy()
        return probabilities(_matrix(scored["features"]), self.abstention["weights"])

    def _given(self, scored: pa.Table) -> np.ndarray:
        """(N,) whether each best answer is given."""
        if "is_answered" in scored.column_names:
            return scored["is_answered"].to_numpy()
        return self._sure(scored) >= self.abstention["threshold"]

    def answers(self, rows: pa.Table, scored: pa.Table) -> pa.Table:
        """id, question, the row's answer and where it stands among all, what was found in its
        place, how sure that is, slices.
        """
        columns: dict[str, Any] = {"id": pa.array(scored["id"].to_pylist(), pa.string())}
        columns |= {name: rows[name] for name in ROLES[1:] if name in rows.column_names}
        columns |= {name: scored[name] for name in _COPIED if name in scored.column_names}
        sure = self._sure(scored)
        columns["reciprocal_rank"] = reciprocal(scored["rank"].to_numpy())
        columns["is_right"] = scored["is_right"]
        columns["probability"] = sure
        columns["is_answered"] = self._given(scored)
        return pa.table(with_slices(columns, rows, ROLES))

    def predictions(self, table: pa.Table) -> pa.Table:
        """id and rank, or id and a ranking: the texts of the best answers, the best first."""
        columns = table.column_names
        if "rank" in columns and pt.is_integer(table["rank"].type):
            if table["rank"].null_count:
                raise SourceError(
                    "Its column rank has nulls.", "Write 0 where the answer was not found."
                )
            own = ("rank", "is_right", "probability", "is_answered", "floor_rank")
            return table.select(["id", *(name for name in own if name in columns)])
        if "ranking" not in columns or not _is_list_of_texts(table["ranking"].type):
            raise SourceError(
                f"It has no column ranking, but {', '.join(columns)}.",
                "Give each id a list of the texts of the best answers, the best first, in a column "
                "ranking; or the place of the right one among all in a column rank.",
            )
        return table.select(["id", "ranking"])

    def unmeasured(self, rows: pa.Table) -> tuple[str, ...]:
        return ()

    def beside(self, scored: pa.Table) -> dict[str, float]:
        return {}

    def report(
        self, rows: pa.Table, scored: pa.Table, found: Mapping[str, Interval]
    ) -> list[Block]:
        judged = Judged(
            found, self.choices, self.task.abstain, self.abstention, _asked(scored),
            scored["rank"].to_numpy(),
        )  # fmt: skip
        texts = {name: rows[name] for name in ("question", "answer")}
        return report_of(judged, pa.table({**texts, "found": scored["found"]}))

    def worst(self, rows: pa.Table, scored: pa.Table) -> Sequence[int]:
        return surest_wrong(_asked(scored), self.abstention).tolist()

    # --- the gate

    def row_figure(self, predictions: pa.Table) -> RowFigure:
        return RowFigure("Reciprocal rank", predictions["reciprocal_rank"].to_numpy())

    def comparable(self, predictions: pa.Table, champion: Bundle) -> Comparable:
        every = np.ones(len(predictions), dtype=bool)
        if champion.kind == self.task.kind:
            return Comparable(every)
        why = f"The champion is of kind {champion.kind}, this one finds answers"
        return Comparable(every, fault=f"{why}: they cannot be compared.")

    def ask(self, bundle: Bundle, predictions: pa.Table) -> pa.Table:
        """The same questions among the other model's own answers."""
        questions = predictions["question"].to_pylist()
        keys = question_keys(questions)
        ids, right = predictions["id"].to_pylist(), predictions["answer"].to_pylist()
        found = _scored(bundle, ids, questions, keys, right)
        decided = bundle.facts["abstention"]
        sure = probabilities(_matrix(found["features"]), decided["weights"])
        return found.append_column("is_answered", pa.array(sure >= decided["threshold"]))

    def against(
        self, predictions: pa.Table, asked: pa.Table, champion: Bundle, name: str
    ) -> Rivals:
        ours, theirs = (self.evidence(predictions, one) for one in (predictions, asked))
        notes = []
        missing = int((asked["rank"].to_numpy() == 0).sum())
        if missing:
            notes.append(
                f"Of {missing:,} of these questions the right answer is not among the "
                f"{len(_answers(champion)):,} of {name}."
            )
        apart = {
            f"{one}_difference": ours.point()[one] - theirs.point()[one]
            for one in ("recall_at_1", "precision")
        }
        return Rivals(ours, theirs, f"of {name}", notes, apart)

    def against_constant(self, predictions: pa.Table, tokens: Path) -> Rivals | None:
        """This model beside BM25."""
        if "floor_rank" not in predictions.column_names:
            return None
        floor = pa.table({"rank": predictions["floor_rank"]})
        return Rivals(
            self.evidence(predictions, predictions), self.evidence(predictions, floor), FLOOR
        )


class _Figures:
    """Figures of sums (S, K); what is not in them has none."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, sums: Floats) -> dict[str, Floats]:
        part = dict(zip(self.names, sums.T, strict=True))
        questions = np.maximum(part["questions"], 1)
        found = {name: part[name] / questions for name in self.names[1:] if name != "precision"}
        if "precision" in part:
            given = part["answered"]
            right = part["precision"] / np.where(given > 0, given, 1)
            found["precision"] = np.where(given > 0, right, np.nan)
        return found


def _scored(
    bundle: Bundle,
    ids: Sequence[str],
    questions: Sequence[str],
    keys: np.ndarray,
    right_texts: Sequence[str] | None = None,
) -> pa.Table:
    """Each question among the answers of a bundle.

    Args:
        keys: (N,) by which the answers to it are known.
        right_texts: (N,) a text that is right where no answer is known by the key.
    """
    head, answers = cast("RetrieveHead", bundle.network.head), _answers(bundle)
    numbers: dict[str, list[int]] = {}
    for number, text in enumerate(answers.texts if right_texts else ()):
        numbers.setdefault(text, []).append(number)
    columns: dict[str, list[Any]] = {
        name: []
        for name in (*_COPIED, "is_right", "features", "features_without")
        if name != "floor_rank" or head.lexicon is not None
    }
    vectors = vectors_of(bundle, questions)
    for row, question in enumerate(questions):
        parts = head.parts(vectors[row], question)
        right = answers.of_questions(keys[row : row + 1])
        if right_texts is not None and not right.any():
            right[numbers.get(right_texts[row], [])] = True
        best = head.ranked(parts, 2)
        without = head.ranked(parts, 2, right) if not right.all() else best
        first = int(best.numbers[0])
        told: dict[str, Any] = {
            "found": answers.texts[first],
            "found_link": answers.links[first],
            "rank": int(ranks(parts.sum(axis=0)[None], right[None])[0]),
            "is_right": bool(right[first]),
            "features": best.features.tolist(),
            "features_without": without.features.tolist(),
        }
        if head.lexicon is not None:
            told["floor_rank"] = int(ranks(parts[1:2], right[None])[0])
        for name, values in columns.items():
            values.append(told[name])
    types = {"found": pa.large_string(), "found_link": pa.string(), "rank": pa.int64()}
    arrays = {name: pa.array(values, types.get(name)) for name, values in columns.items()}
    return pa.table({"id": pa.array(list(ids), pa.large_string()), **arrays})


def _answers(bundle: Bundle) -> Answers:
    """Those that a loaded one chooses from."""
    answers = cast("RetrieveHead", bundle.network.head).answers
    assert answers is not None
    return answers


def _asked(scored: pa.Table) -> Asked:
    return Asked(
        _matrix(scored["features"]),
        _matrix(scored["features_without"]),
        scored["is_right"].to_numpy(),
    )


def _groups(pages: pa.ChunkedArray) -> np.ndarray:
    """(N,) the number of each row's page; a row without one is by itself."""
    found: dict[str, int] = {}
    return np.array(
        [
            -1 - row if page is None else found.setdefault(page, len(found))
            for row, page in enumerate(pages.to_pylist())
        ],
        np.int64,
    )


def _matrix(lists: pa.ChunkedArray) -> Floats:
    """(N, K) of lists of one length."""
    return np.array(lists.to_pylist(), np.float64).reshape(len(lists), -1)


def _rank(rows: pa.Table, scored: pa.Table) -> np.ndarray:
    """(N,) as `scored` tells it, or the place of a right text in its ranking."""
    if "rank" in scored.column_names:
        return scored["rank"].to_numpy()
    right: dict[int, set[str]] = {}
    keys = question_keys(rows["question"].to_pylist()).tolist()
    for key, answer in zip(keys, rows["answer"].to_pylist(), strict=True):
        right.setdefault(key, set()).add(answer)
    found = []
    for key, ranking in zip(keys, scored["ranking"].to_pylist(), strict=True):
        places = (place for place, text in enumerate(ranking or [], 1) if text in right[key])
        found.append(next(places, 0))
    return np.array(found, np.int64)


def _is_list_of_texts(kind: pa.DataType) -> bool:
    if not (pt.is_list(kind) or pt.is_large_list(kind)):
        return False
    return pt.is_string(kind.value_type) or pt.is_large_string(kind.value_type)


JUDGES["retrieve"] = RetrieveJudge
