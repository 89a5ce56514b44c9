"""From what is said of each window to one answer of a question, and how sure that one is.

    o(s) = p(s) / p(none)     in each window, of each span and none of them
    O    = sum of o over all windows and spans

A window that holds nothing says so, and leaves the choice to the others: the odds of a span against
none are what windows have in common. Of the chosen span, log o(s) - log O says how far it leads,
log O whether there is an answer at all, and the share of O on spans that overlap it whether the
place is right. A logistic regression on these, fitted on the valid split, is the probability that
the answer is right.

Shapes: W windows, T positions, L longest answer in tokens, K spans that are looked at.
This file is shipped inside the registered model: it imports torch, numpy and what ships with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.kinds.span.windows import Window, whole_characters

ANSWERS = ("answer", "answer_start", "probability", "outcome")
ANSWERED, UNANSWERABLE, ABSTAINED = "answered", "unanswerable", "abstained"
_LOOKED_AT = 40  # spans, from which that of the highest expected F1 is chosen
_FAR = 30.0  # nats; what is surer than this says no more


class Found(NamedTuple):
    """The best span of a question, in code points of its context, and what speaks for it.

    start, end: as the tokens have it; the same where there is no token.
    signals: the lead, the odds and the place, in nats.
    """

    start: int
    end: int
    signals: tuple[float, float, float]


class Answer(NamedTuple):
    answer: str | None
    answer_start: int | None
    probability: float
    outcome: str


@dataclass(frozen=True)
class Decision:
    """What the valid split decides of the answers.

    right: intercept and weights of the signals, in the logit that the span is right.
    answerable: intercept and weight of the odds, in the logit that there is an answer.
    least_answerable: below this probability of an answer, there is none.
    threshold: below this probability of being right, the answer is kept back.
    """

    right: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 0.0)
    answerable: tuple[float, float] = (0.0, 1.0)
    least_answerable: float = 0.5
    threshold: float = 0.0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Decision:
        """From JSON.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        right = tuple(float(one) for one in given["right"])
        answerable = tuple(float(one) for one in given["answerable"])
        least, threshold = float(given["least_answerable"]), float(given["threshold"])
        numbers = (*right, *answerable, least, threshold)
        if len(right) != 4 or len(answerable) != 2 or not all(map(math.isfinite, numbers)):
            raise ValueError("it has to be of four and two finite weights and two probabilities")
        return cls((right[0], *right[1:]), (answerable[0], answerable[1]), least, threshold)

    def as_json(self) -> dict[str, Any]:
        return {
            name: [*value] if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    def proba_right(self, signals: Any) -> Any:
        """Of signals (..., 3)."""
        values = np.asarray(signals, np.float64)
        return _sigmoid(self.right[0] + values @ np.array(self.right[1:]))

    def proba_answerable(self, signals: Any) -> Any:
        values = np.asarray(signals, np.float64)
        return _sigmoid(self.answerable[0] + values[..., 1] * self.answerable[1])

    def outcome(self, signals: Any, unanswerable: bool) -> tuple[Any, Any]:
        """The probability that what is said is right, and what it is, of signals (..., 3).

        Args:
            unanswerable: whether there are questions without an answer.
        """
        right = np.asarray(self.proba_right(signals))
        answerable = np.asarray(self.proba_answerable(signals))
        none = (answerable < self.least_answerable) & unanswerable
        probability = np.where(none, 1 - answerable, right)
        outcome = np.where(none, UNANSWERABLE, ANSWERED)
        return probability, np.where(probability < self.threshold, ABSTAINED, outcome)


def answer_of(log_proba_WS: Tensor, windows: Sequence[Window], choose: str) -> Found:
    """The best span over all windows of one question.

    Args:
        log_proba_WS: (W, 1 + T L) of a head.
        choose: `likeliest`, or `expected_f1`: that whose characters overlap most, by F1, with what
            else is likely.
    """
    width = windows[0].begin + len(windows[0].offsets)
    if not len(windows[0].offsets):
        return Found(0, 0, (0.0, -_FAR, 0.0))
    odds_WS = log_proba_WS[:, 1:] - log_proba_WS[:, :1]
    most = odds_WS.shape[1] // len(windows[0].ids)
    odds_WTL = odds_WS.view(len(windows), -1, most)[:, windows[0].begin : width]
    best = odds_WTL.flatten().topk(min(_LOOKED_AT, odds_WTL.numel()))
    spans = np.stack(np.unravel_index(best.indices.numpy(), odds_WTL.shape), axis=1)
    place = chosen(best.values.numpy(), spans, windows) if choose == "expected_f1" else 0
    number, first, length = (int(one) for one in spans[place])
    total = float(odds_WTL.flatten().logsumexp(dim=0))
    offsets = windows[number].offsets
    last = min(first + length, len(offsets) - 1)
    near = float(_overlapping(odds_WTL[number], first, last))
    lead = float(best.values[place]) - total
    signals = (max(lead, -_FAR), min(max(total, -_FAR), _FAR), max(near - total, -_FAR))
    return Found(int(offsets[first, 0]), int(offsets[first : last + 1, 1].max()), signals)


def chosen(odds_K: np.ndarray, spans_K3: np.ndarray, windows: Sequence[Window]) -> int:
    """The place of the span of the highest expected F1, in characters."""
    weights = np.exp(odds_K - odds_K.max())
    starts, ends = [], []
    for number, first, length in spans_K3.tolist():
        offsets = windows[number].offsets
        starts.append(offsets[first, 0])
        ends.append(offsets[min(first + length, len(offsets) - 1), 1])
    start, end = np.array(starts), np.array(ends)
    shared = np.minimum.outer(end, end) - np.maximum.outer(start, start)
    sizes = np.maximum(end - start, 1)
    f1 = 2 * np.clip(shared, 0, None) / np.add.outer(sizes, sizes)
    return int(np.argmax(f1 @ weights))


def _overlapping(odds_TL: Tensor, first: int, last: int) -> Tensor:
    """log of the odds of all spans that share a token with one."""
    start_T1 = torch.arange(len(odds_TL)).unsqueeze(1)
    end_TL = start_T1 + torch.arange(odds_TL.shape[1])
    apart_TL = (start_T1 > last) | (end_TL < first)
    return odds_TL.masked_fill(apart_TL, -torch.inf).flatten().logsumexp(dim=0)


def told(found: Found, context: str, decision: Decision, unanswerable: bool) -> Answer:
    """What is said to whoever asked."""
    start, end = whole_characters(context, found.start, found.end)
    if end == start:  # a context of white space
        return Answer(None, None, 0.0, ABSTAINED)
    probability, outcome = decision.outcome(found.signals, unanswerable)
    if str(outcome) != ANSWERED:
        return Answer(None, None, float(probability), str(outcome))
    return Answer(context[start:end], start, float(probability), ANSWERED)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
