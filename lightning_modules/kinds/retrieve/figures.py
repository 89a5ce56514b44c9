"""Ranks of right answers, and the figures that follow from them.

Shapes: B questions, A answers, N ranks.
"""

from __future__ import annotations

import numpy as np

DEEPEST = 10  # rank beyond which an answer is as good as not found
RECALLS = (1, 5, 10)


def ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(B,) the place of the best right answer; one that is as good and wrong stands before it. 0
    where none is right.

    Args:
        scores: (B, A)
        right: (B, A)
    """
    best = np.where(right, scores, -np.inf).max(axis=1)
    before = (~right & (scores >= best[:, None])).sum(axis=1)
    return np.where(right.any(axis=1), before + 1, 0)


def reciprocal(rank: np.ndarray) -> np.ndarray:
    """(N,) 1 / rank, 0 beyond the tenth and where there is none."""
    found = (rank >= 1) & (rank <= DEEPEST)
    return np.where(found, 1 / np.maximum(rank, 1), 0.0)


def found_within(rank: np.ndarray, most: int) -> np.ndarray:
    """(N,) whether a right answer stands among the first ones."""
    return (rank >= 1) & (rank <= most)


def figures_of(rank: np.ndarray) -> dict[str, float]:
    """mrr and the recalls, by name."""
    recalls = {f"recall_at_{most}": float(found_within(rank, most).mean()) for most in RECALLS}
    return {"mrr": float(reciprocal(rank).mean()), **recalls}
