"""Which tokens carried an answer, and whether taking them away changes it more than chance does.

The contributions are integrated gradients (`lightning_modules.explaining.gradients`). The check is
deletion: how far the score falls without the fifth of the pieces that add most to it, beside how
far it falls without as many chosen at random (comprehensiveness, DeYoung 2020,
https://arxiv.org/abs/1911.03429).

Shapes: N tokens, P pieces, R draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_modules.explaining.asked import Asked, asked_of
from lightning_modules.explaining.gradients import TOLERANCE, Integrated, integrated
from lightning_modules.explaining.pieces import Piece, pieces_of, without

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

REMOVED = 0.2  # of the pieces
DRAWS = 40
_SEED = 0  # of the draws: the same text has the same explanation
_FEWEST = 5  # pieces, of which a fifth is one


@dataclass(frozen=True)
class Part:
    """Whole characters of a text, and what they add to the score."""

    column: str
    text: str
    start: int  # code points of the text as it was given
    end: int
    contribution: float


@dataclass(frozen=True)
class Deletion:
    """How far the score falls without the strongest pieces, and without as many at random.

    random_low, random_high: between which 95 % of the draws lie.
    """

    removed: int
    strongest: float
    random: float
    random_low: float
    random_high: float

    @property
    def better(self) -> bool:
        """Whether the explanation is better than almost every choice at random."""
        return self.strongest > self.random_high


@dataclass(frozen=True)
class Explanation:
    """What carried the answer to one question.

    elsewhere: what the special tokens round a window have of n-grams that they stand in.
    error: by how much the contributions miss the difference of the scores.
    deletion: None where there are too few pieces.
    """

    texts: dict[str, str]
    answer: dict[str, Any]
    target: str
    words: str
    score: float
    baseline: float
    parts: tuple[Part, ...]
    elsewhere: float
    error: float
    steps: int
    deletion: Deletion | None
    notes: tuple[str, ...]

    @property
    def strongest(self) -> list[Part]:
        """The parts, those that add most first."""
        return sorted(self.parts, key=lambda part: (-part.contribution, part.start))

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the parts as tokens."""
        told = asdict(self)
        tokens = told.pop("parts")
        return {**told.pop("texts"), **told, "tokens": tokens, "notes": list(self.notes)}


def explain(
    bundle: Bundle, question: Mapping[str, str], target: str | None = None, *, check: bool = True
) -> Explanation:
    """Explain a bundle's answer to one question.

    Args:
        question: a text for each column that the model is asked.
        target: what to explain in place of the answer that the model gives, as the kind has it: a
            label, the place of an answer in the ranking.
        check: by deletion.
    Raises:
        NoisefoldError: models of this kind cannot be explained, or not with this question.
    """
    asked = asked_of(bundle, question, target)
    contributions, found = token_contributions(asked)
    pieces = pieces_of(asked.texts, asked.tokens)
    values = np.array([contributions[list(piece.tokens)].sum() for piece in pieces])
    exact = 0.0 if asked.exact is None else float(asked.exact.sum())
    deletion = deletion_of(asked, pieces, values, found.score + exact) if check else None
    answer = {name: rows[0] for name, rows in bundle.predict(columns_of(question)).items()}
    parts = [
        Part(one.column, asked.texts[one.column][one.start : one.end], one.start, one.end, float(v))
        for one, v in zip(pieces, values, strict=True)
    ]
    return Explanation(
        texts=dict(asked.texts),
        answer=answer,
        target=asked.target,
        words=asked.words,
        score=found.score + exact,
        baseline=found.baseline,
        parts=tuple(parts),
        elsewhere=float(found.positions_WT[asked.positions_WT < 0].sum()),
        error=found.error,
        steps=found.steps,
        deletion=deletion,
        notes=tuple(_notes(found, deletion, check)),
    )


def columns_of(question: Mapping[str, str]) -> dict[str, list[str]]:
    """One question as columns of one row."""
    return {name: [text] for name, text in question.items()}


def token_contributions(asked: Asked) -> tuple[np.ndarray, Integrated]:
    """(N,) what each token adds to the score, and how it was found."""
    shape = (asked.positions_WT.shape[0], asked.positions_WT.shape[1])
    found = integrated(asked.scores, asked.lookups, shape)
    return by_token(asked, found.positions_WT), found


def by_token(asked: Asked, values_WT: np.ndarray) -> np.ndarray:
    """(N,) from what each position adds, summed over the windows that a token stands in."""
    inside = asked.positions_WT >= 0
    sums = np.bincount(
        asked.positions_WT[inside], weights=values_WT[inside], minlength=len(asked.tokens)
    )
    return sums if asked.exact is None else sums + asked.exact


def deletion_of(
    asked: Asked, pieces: Sequence[Piece], values: np.ndarray, score: float
) -> Deletion | None:
    """What taking pieces away does to the score; None where there are too few."""
    free = [number for number, piece in enumerate(pieces) if asked.fixed.isdisjoint(piece.tokens)]
    if len(free) < _FEWEST:
        return None
    count = math.ceil(REMOVED * len(free))
    strongest = sorted(free, key=lambda number: (-values[number], number))[:count]
    generator = np.random.default_rng(_SEED)
    draws = [generator.choice(free, count, replace=False).tolist() for _ in range(DRAWS)]
    texts = [without(asked.texts, pieces, chosen) for chosen in (strongest, *draws)]
    fall = score - np.asarray(asked.again(texts))
    low, high = np.quantile(fall[1:], [0.025, 0.975])
    return Deletion(count, float(fall[0]), float(fall[1:].mean()), float(low), float(high))


def _notes(found: Integrated, deletion: Deletion | None, check: bool) -> list[str]:
    notes = []
    if not found.converged:
        notes.append(
            f"The contributions miss the difference of the scores by {found.error:+.3g} after "
            f"{found.steps} steps, more than {TOLERANCE:.0%} of their sizes: take them as rough."
        )
    if check and deletion is None:
        notes.append("The text is too short to be checked by deletion.")
    if deletion is not None and not deletion.better:
        notes.append(
            "Without the strongest tokens the score falls no further than without others chosen "
            "at random: trust the colours little here."
        )
    return notes
