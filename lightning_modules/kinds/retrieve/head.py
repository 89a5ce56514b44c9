"""Two towers on one body, and shared words beside them.

    s(q, a) = e^w_0 cos(Q f(q), A f(a)) + sum_k e^w_k bm25_k(q, a)

f is the body's vector of a text, Q and A are matrices, of a text's windows the mean is taken;
bm25_k are the shared words and pieces of words of question and answer, and of question and page
(`lightning_modules.kinds.retrieve.terms`), and the weights w are learnt with the rest. The
probability that the best answer is right is a logistic function of its score, its lead and its
parts, whose weights the evaluation finds on the valid split.

Shapes: B questions, F size of a document's vector, D size of a tower's vector, A answers, W windows
of answers, K kinds of shared words.
This file is shipped inside the registered model: it imports torch and what ships with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.kinds.answering import AskedWronglyError
from lightning_modules.kinds.heads import Head
from lightning_modules.kinds.retrieve.answers import Answers
from lightning_modules.kinds.retrieve.terms import Lexicon

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

_COSINE, _WORDS = 20.0, 2.0  # the first weights of cosine and of shared words
_SHOWN = 1_000  # answers in a ranking at most


class Ranking(NamedTuple):
    """The best answers to one question."""

    numbers: np.ndarray  # (top,) best first; of equal scores the earlier one
    scores: np.ndarray  # (top,)
    features: np.ndarray  # what the probability of the first one is told by


class RetrieveHead(Head):
    """Vectors (B, D) of questions, each of length 1."""

    kind: ClassVar[str] = "retrieve"
    asked: ClassVar[tuple[str, ...]] = ("question",)
    compared: ClassVar[str] = "answers and their probabilities"

    def __init__(self, features: int, description: Mapping[str, Any]) -> None:
        super().__init__(features, description)
        size = description["vector_size"]
        lexical = description.get("lexical")
        self.lexicon = Lexicon.of(lexical) if lexical else None
        self.question_tower, self.answer_tower = (
            nn.Linear(features, size),
            nn.Linear(features, size),
        )
        first = [_COSINE, *[_WORDS] * self.views, *[_WORDS] * self.page_views]
        self.log_weights = nn.Parameter(torch.tensor(first).log())
        self.answers: Answers | None = None

    @property
    def views(self) -> int:
        """Kinds of words that a question shares with an answer."""
        return 0 if self.lexicon is None else len(self.lexicon.views)

    @property
    def page_views(self) -> int:
        """And with its page."""
        return self.views if self.lexicon is not None and self.lexicon.pages else 0

    def describe(self) -> dict[str, Any]:
        return {
            "vector_size": self.question_tower.weight.shape[0],
            "lexical": self.lexicon and self.lexicon._asdict(),
        }

    def readers(self) -> list[nn.Linear]:
        return [self.question_tower, self.answer_tower]

    def take_files(self, files: Mapping[str, bytes]) -> None:
        size = self.question_tower.weight.shape[0]
        self.answers = Answers.read(files, size, self.views, self.page_views)

    # --- what it makes of vectors

    def forward(self, document_BF: Tensor, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        return F.normalize(self.question_tower(document_BF), dim=-1)

    def of_windows(self, windows_WF: Tensor, answer_W: Tensor, answers: int) -> Tensor:
        """(answers, D) of answers from the body's vectors of their windows.

        Args:
            answer_W: the place of the answer that each is of.
        """
        return mean_direction(F.normalize(self.answer_tower(windows_WF), dim=-1), answer_W, answers)

    def scores(self, cosine: Tensor, shared: Tensor) -> Tensor:
        """(...) of (...) cosines and (..., K) shared words."""
        weights = self.log_weights.exp()
        return weights[0] * cosine + shared @ weights[1:]

    # --- what it answers

    @classmethod
    def fault(cls, facts: Mapping[str, Any]) -> str | None:
        try:
            decided = facts["abstention"]
            numbers = [*decided["weights"], decided["threshold"], facts["top"]]
        except (KeyError, TypeError):
            return "abstention or top"
        if not all(type(one) in (int, float) and math.isfinite(one) for one in numbers):
            return "abstention"
        if type(facts["top"]) is not int or not 1 <= facts["top"] <= _SHOWN:
            return "top"
        return None if isinstance(facts.get("notice"), str) else "notice"

    def check(self, facts: Mapping[str, Any], output: np.ndarray) -> str | None:
        weights = facts["abstention"]["weights"]
        if weights and len(weights) != len(self.log_weights) + _OF_SCORES + 1:
            return f"abstention has {len(weights)} weights"
        return None

    def parts(self, vector_D: np.ndarray, question: str) -> np.ndarray:
        """(1 + K, A) what each answer's score is the sum of.

        Args:
            vector_D: of the question, as `forward` gives it.
        """
        assert self.answers is not None  # a bundle that is loaded has them
        cosine = self.answers.vectors @ vector_D
        shared = self.answers.shared_words(question, self.lexicon)
        weights = self.log_weights.detach().exp().cpu().numpy()
        return np.concatenate([cosine[None, :], shared]) * weights[:, None]

    def ranked(self, parts: np.ndarray, top: int, without: np.ndarray | None = None) -> Ranking:
        """The best answers to a question.

        Args:
            parts: (1 + K, A) of its scores.
            without: (A,) such as are to be passed over.
        """
        scores = parts.sum(axis=0)
        if without is not None:
            scores = np.where(without, -np.inf, scores)
        most = min(max(top, 2), len(scores))
        best = np.argpartition(-scores, most - 1)[:most]
        best = best[np.lexsort((best, -scores[best]))]
        first = scores[best[0]]
        lead = first - scores[best[1]] if len(best) > 1 else np.float32(0)
        lead = lead if np.isfinite(lead) else np.float32(0)  # the only one that is not passed over
        share = -np.log(np.exp(scores - first, dtype=np.float64).sum())
        features = np.array([*parts[:, best[0]], lead, share], np.float64)
        return Ranking(best[:top], scores[best[:top]], features)

    def predict(
        self, bundle: Bundle, columns: Mapping[str, Sequence[Any]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        """`answer` (null where its probability is below the threshold), `link`, `probability`, the
        `ranking` as JSON and, where there is one, the `notice`, for each `question`.
        """
        top, threshold = asked_for(bundle, params)
        notice: str = bundle.facts["notice"]
        names = ("answer", "link", "probability", "ranking", *(("notice",) if notice else ()))
        found: dict[str, list[Any]] = {name: [] for name in names}
        questions = columns["question"]
        asked = [place for place, one in enumerate(questions) if one is not None]
        vectors = vectors_of(bundle, [questions[place] for place in asked])
        rows = dict(zip(asked, vectors, strict=True))
        for place, question in enumerate(questions):
            told: dict[str, Any] = dict.fromkeys(names)
            if question is not None:
                ranking = self.ranked(self.parts(rows[place], question), top)
                told = self._told(ranking, bundle.facts["abstention"], threshold)
                told |= {"notice": notice} if notice else {}
            for name in names:
                found[name].append(told[name])
        return found

    def _told(
        self, ranking: Ranking, abstention: Mapping[str, Any], threshold: float
    ) -> dict[str, Any]:
        answers = self.answers
        assert answers is not None
        first = int(ranking.numbers[0])
        sure = probability(ranking.features, abstention["weights"])
        given = sure >= threshold
        listed = [
            {
                "answer": answers.texts[number],
                "link": answers.links[number],
                "score": round(float(score), 4),
            }
            for number, score in zip(ranking.numbers.tolist(), ranking.scores, strict=True)
        ]
        return {
            "answer": answers.texts[first] if given else None,
            "link": answers.links[first] if given else None,
            "probability": sure,
            "ranking": json.dumps(listed, ensure_ascii=False),
        }

    @classmethod
    def differences(
        cls,
        facts: Mapping[str, Any],
        measured: Mapping[str, Sequence[Any]],
        answer: Mapping[str, Any],
    ) -> list[float]:
        """How far each probability is off; infinity for another answer, unless both have the same
        probability and the answer is as good.
        """
        rows = len(measured["question"])
        for name in ("answer", "probability"):
            if not isinstance(answer.get(name), list) or len(answer[name]) != rows:
                raise ValueError(f"it answers without {name}")
        away = []
        for place in range(rows):
            sure, served = measured["probability"][place], answer["probability"][place]
            off = abs(sure - served)
            same = answer["answer"][place] in (None, measured["found"][place])
            away.append(off if same else float("inf"))
        return away


def mean_direction(vectors_WD: Tensor, of_W: Tensor, texts: int) -> Tensor:
    """(texts, D): the mean of each text's windows, of length 1 again."""
    total = vectors_WD.new_zeros(texts, vectors_WD.shape[1])
    return F.normalize(total.index_add(0, of_W, vectors_WD), dim=-1)


_OF_SCORES = 2  # features beside the parts of a score: its lead, its share of all


def probability(features: np.ndarray, weights: Sequence[float]) -> float:
    """That an answer of these features is right; 1 where nothing was decided yet.

    Args:
        weights: of the features, and last what is added.
    """
    if not weights:
        return 1.0
    x = float(features @ np.array(weights[:-1])) + weights[-1]
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, x))))


def vectors_of(bundle: Bundle, questions: Sequence[str]) -> np.ndarray:
    """(B, D) of questions."""
    if not questions:
        head: Any = bundle.head
        return np.zeros((0, head.question_tower.weight.shape[0]), np.float32)
    windows, document = bundle.encode(list(questions))
    found: list[Tensor] = []
    places: list[np.ndarray] = []
    for rows, output in bundle.run(windows):
        found.append(torch.from_numpy(output))
        places.append(rows)
    of_W = torch.from_numpy(document[np.concatenate(places)])
    vectors = mean_direction(torch.cat(found), of_W, len(questions))
    return vectors.numpy()


def asked_for(bundle: Bundle, params: Mapping[str, Any]) -> tuple[int, float]:
    """How many answers a ranking has, and from which probability on the first is given.

    Raises:
        AskedWronglyError: naming the parameter and what it may be.
    """
    top, threshold = params.get("top"), params.get("threshold")
    top = bundle.facts["top"] if top is None else top
    threshold = bundle.facts["abstention"]["threshold"] if threshold is None else threshold
    if type(top) is not int or not 1 <= top <= _SHOWN:
        raise AskedWronglyError(f"top is {top!r}, and has to be a whole number from 1 to {_SHOWN}")
    if type(threshold) not in (int, float) or not 0 <= threshold <= 1:
        raise AskedWronglyError(f"threshold is {threshold!r}, and has to lie between 0 and 1")
    return top, float(threshold)
