"""Which tokens speak for a label: its log-odds, as the model is served.

    s = log p(label | text) - log(1 - p(label | text))

The windows' probabilities are joined and divided by the temperature as in an answer
(`lightning_modules.kinds.classify.answering`), so that each window counts as it does there.

Shapes: W windows, T positions, G n-grams, C classes. Does not ship.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from data_contracts.errors import NoisefoldError
from lightning_modules.explaining.asked import (
    EXPLAINED,
    Asked,
    Read,
    body_lookups,
    read_text,
    spread_ngrams,
)
from lightning_modules.explaining.gradients import Lookup
from lightning_modules.kinds.classify.answering import log_proba
from lightning_modules.kinds.classify.head import ClassifyHead
from lightning_modules.kinds.classify.wide import WideLogits
from lightning_modules.network.encoders.ngrams import hashed_ngrams

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle


def explained(bundle: Bundle, question: Mapping[str, str], target: str | None) -> Asked:
    """
    Args:
        target: a label; None: the one that the model gives.
    Raises:
        NoisefoldError: the model has no such label, or the text cannot be explained.
    """
    text, network, temperature = question["text"], bundle.network, bundle.facts["temperature"]
    read = read_text(bundle, "text", text)
    place = _place(bundle, text, target)
    lookups = body_lookups(bundle, read)
    wide = cast(ClassifyHead, network.head).wide
    if wide is not None:
        lookups.append(Lookup(wide.table, lambda rows: _spread(wide, read, rows)))

    def scores(copies: int) -> Tensor:
        log_proba_KWC = read.run(network, copies).double().log_softmax(dim=-1)
        return _log_odds(log_proba_KWC.logsumexp(dim=1) / temperature, place)

    def again(texts: Sequence[Mapping[str, str]]) -> np.ndarray:
        proba = log_proba(bundle, [one["text"] for one in texts])
        return _log_odds(torch.from_numpy(proba) / temperature, place).numpy()

    label = bundle.facts["labels"][place]
    return Asked(
        texts={"text": text},
        target=label,
        words=f"log-odds of {label}, in nats",
        tokens=read.tokens,
        positions_WT=read.positions_WT,
        lookups=lookups,
        scores=scores,
        again=again,
    )


def _place(bundle: Bundle, text: str, target: str | None) -> int:
    labels: list[str] = bundle.facts["labels"]
    if len(labels) < 2:
        raise NoisefoldError("The model has one label only.", "There is nothing to explain.")
    if target is None:
        return int(log_proba(bundle, [text])[0].argmax())
    if target not in labels:
        near = difflib.get_close_matches(target, labels, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        shown = ", ".join(labels[:20]) + (" and more" if len(labels) > 20 else "")
        raise NoisefoldError(
            f"The model has no label {target!r}.{hint}", f"Give one of its own: {shown}."
        )
    return labels.index(target)


def _log_odds(scaled_NC: Tensor, place: int) -> Tensor:
    """(N,) of one class, whatever is added to all logits of a row."""
    others = [one for one in range(scaled_NC.shape[1]) if one != place]
    return scaled_NC[:, place] - scaled_NC[:, others].logsumexp(dim=1)


def _spread(wide: WideLogits, read: Read, rows_WG: np.ndarray) -> np.ndarray:
    """(W, T): what a bucket adds, in equal shares to all n-grams that fell into it."""
    windows, positions = read.shape
    hashed = hashed_ngrams(read.ids_WT, read.lengths_W, wide.max_n, len(wide.idf))[0].numpy()
    distinct, counts = (one.numpy() for one in wide.distinct(read.ids_WT, read.lengths_W))
    found = np.zeros(hashed.shape)
    for window in range(windows):
        first = np.flatnonzero(counts[window])
        # Buckets ascend in `distinct`, each where it first stands.
        at = first[np.searchsorted(distinct[window, first], hashed[window])]
        found[window] = rows_WG[window, at] / counts[window, at]
    return spread_ngrams(found, positions, wide.max_n)


EXPLAINED["classify"] = explained
