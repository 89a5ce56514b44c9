"""How much a classifier doubts the label that it gives to a text.

Shapes: N texts, W windows, F features of a document. Does not ship.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightning_modules.doubting import DOUBTED, Doubted, Doubting, doubt_of
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.network.batching import by_length

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle


def doubted(bundle: Bundle, columns: Mapping[str, Sequence[str]], measure: str) -> Doubted:
    """
    Args:
        measure: one of `MEASURES`.
    """
    texts = list(columns["text"])
    proba = predict_proba(bundle, texts)
    labels = bundle.facts["labels"]
    return Doubted(
        [labels[place] for place in proba.argmax(axis=1)],
        proba.max(axis=1),
        doubt_of(proba, measure),
    )


@torch.inference_mode()
def vectors(bundle: Bundle, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
    """(N, F) the mean of each text's windows, of length 1."""
    texts = list(columns["text"])
    windows, document = bundle.encode(texts)
    found: np.ndarray | None = None
    for rows, ids, lengths in by_length(windows, bundle.pad_id):
        part = bundle.network.features(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        found = np.zeros((len(texts), part.shape[1]), np.float32) if found is None else found
        np.add.at(found, document[rows], part)
    assert found is not None  # there is a text, and each has a window
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


DOUBTED["classify"] = Doubting(doubted, vectors)
