"""What a language model says of given documents: each is read whole, its state carried on.

A token row is a window [ids that stood before | ids to be predicted]; put together again, they are
the document [end of text, ids, end of text], of which the first `first` are given and all others
are predicted.

Shapes: B documents of a batch, T positions, P positions that are predicted, V tokens, K columns of
evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lightning_modules.kinds.generate.growing import Growing
from lightning_modules.network.network import TextNetwork

BLOCK = 1_000  # tokens of a document that are counted together
# Columns of evidence before those of the bins.
NATS, TOKENS, BYTES, HITS = range(4)
_CHUNK = 512  # positions that are read at once
_PADDED = 16_384  # positions of a batch, padding included
_VALUES = 1 << 22  # probabilities that are held at once


@dataclass(frozen=True)
class Document:
    """Token ids, of which all from `first` on are predicted, and the bytes of what they say."""

    ids: np.ndarray
    first: int
    bytes: int


def documents(
    flat: np.ndarray, lengths: np.ndarray, windows: np.ndarray, columns: dict[str, np.ndarray]
) -> Iterator[Document]:
    """The documents of a token table, in their order.

    Args:
        flat: the ids of all rows, one after the other.
        lengths: (N,) of the rows.
        windows: (N,) the row's place in its document, from 0.
        columns: `context` and `bytes` (N,).
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    rows = np.append(np.flatnonzero(windows == 0), len(windows))
    contexts, sizes = columns["context"], columns["bytes"]
    for first, end in pairwise(rows):
        parts = [flat[starts[first] : ends[first]]]
        parts += [flat[starts[row] + contexts[row] : ends[row]] for row in range(first + 1, end)]
        size = int(sizes[first:end].sum())
        yield Document(np.concatenate(parts), int(contexts[first]), size)


def documents_of(windows: pa.Table) -> list[Document]:
    """The documents of rows as a token table's file has them."""
    lists = windows["input_ids"].combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy())
    columns = {name: windows[name].to_numpy() for name in ("context", "bytes")}
    flat, numbers = lists.flatten().to_numpy(), windows["window"].to_numpy()
    return list(documents(flat, lengths, numbers, columns))


@torch.inference_mode()
def evidence_of(
    network: TextNetwork, given: Sequence[Document], bins: int, adaptive: bool = False
) -> list[np.ndarray]:
    """Per document (blocks, K) sums: nats, tokens, bytes, next tokens that were the likeliest, and
    for each bin of confidence its tokens, their confidence and their hits.

    A document's bytes are shared out over its blocks as its tokens are.

    Args:
        adaptive: the counted table goes on counting through each document, by itself.
    """
    found: list[np.ndarray] = [np.zeros((0, 0))] * len(given)
    for batch in _batches(given):
        evidence = _of_batch(network, [given[place] for place in batch], bins, adaptive)
        for place, one in zip(batch, evidence, strict=True):
            found[place] = one
    return found


def width(bins: int) -> int:
    """K."""
    return 4 + 3 * bins


def _batches(given: Sequence[Document]) -> Iterator[list[int]]:
    """Documents of like length together."""
    lengths = np.array([len(one.ids) for one in given])
    batch: list[int] = []
    for place in np.argsort(lengths, kind="stable"):
        longest = int(lengths[place])
        shortest = int(lengths[batch[0]]) if batch else longest
        unlike = longest > shortest + 16 + shortest // 4
        if batch and (unlike or (len(batch) + 1) * longest > _PADDED):
            yield batch
            batch = []
        batch.append(int(place))
    if batch:
        yield batch


def _of_batch(
    network: TextNetwork, given: list[Document], bins: int, adaptive: bool
) -> list[np.ndarray]:
    device = next(network.parameters()).device
    head: Any = network.head
    longest = max(len(one.ids) for one in given)
    ids_BT = np.full((len(given), longest), head.eos_id, np.int64)
    for row, one in enumerate(given):
        ids_BT[row, : len(one.ids)] = one.ids
    ends = np.array([len(one.ids) for one in given])
    firsts = np.array([one.first for one in given])
    contexts = head.contexts(torch.from_numpy(ids_BT))
    blocks = [-(-(len(one.ids) - one.first) // BLOCK) for one in given]
    found = [np.zeros((count, width(bins))) for count in blocks]
    table: Any = head.counted if adaptive else None
    growing = [] if table is None else [Growing(table, head.eos_id) for _ in given]
    carry = None
    for start in range(0, longest - 1, _CHUNK):
        stop = min(start + _CHUNK, longest - 1)
        read = torch.from_numpy(ids_BT[:, start:stop]).to(device)
        states, carry = network.read(read, carry)
        # The state at a position predicts the next one.
        target = np.arange(start, stop) + 1
        predicted = (target >= firsts[:, None]) & (target < ends[:, None])
        row, at = np.nonzero(predicted)
        step = max(1, _VALUES // head.decoder.weight.shape[0])
        for some in range(0, len(row), step):
            r, t = row[some : some + step], at[some : some + step]
            there = contexts[r, start + t]
            if growing:
                texts = [(growing[row], ids_BT[row]) for row in r]
                log_proba = _counted_on(head, states[r, t], texts, start + t)
            else:
                log_proba = head.next_log_proba(states[r, t], there)
            told = _told(log_proba, ids_BT[r, start + t + 1], bins)
            block = (start + t + 1 - firsts[r]) // BLOCK
            for document in np.unique(r):
                own = r == document
                np.add.at(found[document], block[own], told[own])
    for one, evidence in zip(given, found, strict=True):
        evidence[:, BYTES] = one.bytes * evidence[:, TOKENS] / max(1.0, evidence[:, TOKENS].sum())
    return found


def _counted_on(
    head: Any, states_PF: torch.Tensor, texts: list[tuple[Any, np.ndarray]], at: np.ndarray
) -> torch.Tensor:
    """(P, V) where each text's table has counted it up to the position; positions of a text come in
    order.

    Args:
        texts: (P,) the growing table and the ids of each position's text.
        at: (P,) the place of the last id that is read.
    """
    found = []
    for state, (growing, ids), place in zip(states_PF, texts, at, strict=True):
        growing.follow(ids[growing.read : place + 1].tolist())
        found.append(head.next_of_growing(state, growing))
    return torch.stack(found)


def _told(log_proba: torch.Tensor, targets: np.ndarray, bins: int) -> np.ndarray:
    """(P, K) what each position adds."""
    best, choice = log_proba.max(dim=-1)
    confidence = best.double().exp().cpu().numpy()
    hit = choice.cpu().numpy() == targets
    own = log_proba.gather(1, torch.from_numpy(targets).to(log_proba.device).unsqueeze(1))
    told = np.zeros((len(targets), width(bins)))
    told[:, NATS] = -own.squeeze(1).double().cpu().numpy()
    told[:, TOKENS] = 1
    told[:, HITS] = hit
    place = 4 + np.minimum((confidence * bins).astype(np.int64), bins - 1)
    rows = np.arange(len(targets))
    told[rows, place] = 1
    told[rows, place + bins] = confidence
    told[rows, place + 2 * bins] = hit
    return told


def figures(sums: np.ndarray, bins: int) -> dict[str, np.ndarray]:
    """(S,) each, of sums (S, K)."""
    nats, tokens = sums[:, NATS], np.maximum(sums[:, TOKENS], 1)
    counted = sums[:, 4 : 4 + bins]
    sure = sums[:, 4 + bins : 4 + 2 * bins]
    right = sums[:, 4 + 2 * bins : 4 + 3 * bins]
    return {
        "bits_per_byte": nats / np.log(2) / np.maximum(sums[:, BYTES], 1),
        # Where a network has gone astray, a number that can still be written.
        "perplexity": np.exp(np.minimum(nats / tokens, 700)),
        "accuracy": sums[:, HITS] / tokens,
        "ece": np.abs(sure - right).sum(axis=1) / np.maximum(counted.sum(axis=1), 1),
    }
