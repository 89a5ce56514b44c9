"""What a translator says of given translations: nats of each pair, its end included.

Shapes: N pairs, B of a batch, S source and U target positions, P target positions of all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lightning_modules.kinds.heads import Positions
from lightning_modules.kinds.translate.head import Seen, Source, TranslateHead
from lightning_modules.kinds.translate.search import read_source
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.windows import encoded

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

_PADDED = 4_096  # positions of a batch, padding included


class Sides(NamedTuple):
    """A batch of pairs, padded; each side ends with the token that ends it."""

    source_BS: Tensor
    sources_B: Tensor  # lengths
    target_BU: Tensor
    targets_B: Tensor

    @property
    def source_mask_BS(self) -> Tensor:
        return _mask(self.source_BS, self.sources_B)

    @property
    def target_mask_BU(self) -> Tensor:
        return _mask(self.target_BU, self.targets_B)

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Sides:
        """From the ids of both sides of each."""
        source, sources = padded([one for one, _ in pairs])
        target, targets = padded([other for _, other in pairs])
        return cls(source, sources, target, targets)

    @classmethod
    def of_batch(cls, batch: Mapping[str, Tensor]) -> Sides:
        """From rows [source ids, target ids] with the number of the first, `context`."""
        rows = zip(batch["input_ids"].cpu().numpy(), batch["lengths"].tolist(), strict=True)
        contexts = batch["context"].tolist()
        pairs = [
            (ids[:first], ids[first:length])
            for (ids, length), first in zip(rows, contexts, strict=True)
        ]
        return cls.of_pairs(pairs).to(batch["input_ids"].device)

    def to(self, device: Any) -> Sides:
        return Sides(*(one.to(device) for one in self))


class Read(NamedTuple):
    """What a network makes of a batch, at the P target positions that are none of the padding."""

    seen: Seen
    source: Source
    row_P: Tensor
    at_P: Tensor
    targets_P: Tensor


def padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """(B, T) ids, 0 in the padding, and (B,) lengths."""
    lengths = np.array([len(ids) for ids in rows], np.int64)
    inside = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(inside.shape, np.int64)
    ids[inside] = np.concatenate(rows)
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def _mask(ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
    return torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B.unsqueeze(1)


def read_pairs(network: TextNetwork, sides: Sides, states_BSF: Tensor | None = None) -> Read:
    """Read sources and, each token after those before it, their targets.

    Args:
        states_BSF: of the sources, where they were read already.
    """
    head: Any = network.head
    if states_BSF is None:
        states_BSF = network.positions(sides.source_BS, sides.sources_B)
    read = Positions(states_BSF, network.embedding)
    source = head.source(read, sides.source_BS, sides.source_mask_BS)
    begin = torch.full_like(sides.target_BU[:, :1], head.eos_id)
    before_BU = torch.cat([begin, sides.target_BU[:, :-1]], dim=1)
    state_BUH, _ = head.decode(network.embedding, before_BU, source)
    seen = head.look(state_BUH, source)
    row, at = torch.nonzero(sides.target_mask_BU, as_tuple=True)
    counted = None if seen.counted is None else seen.counted[row, at]
    here = Seen(seen.read[row, at], seen.where[row, at], counted)
    return Read(here, source, row, at, sides.target_BU[row, at])


def said_by_dictionary(head: TranslateHead, sides: Sides, read: Read) -> Tensor | None:
    """(P, S) what the whole dictionary says of each target, for every source token."""
    if head.lexical is None:
        return None
    entries = head.lexical.entries()
    said_BUS = entries.of(
        sides.source_BS.cpu().numpy(), sides.target_BU.cpu().numpy(), entries.keys
    )
    return torch.from_numpy(said_BUS).to(read.row_P.device)[read.row_P, read.at_P]


@torch.inference_mode()
def nats_of(network: TextNetwork, sides: Sides, states_BSF: Tensor | None = None) -> np.ndarray:
    """(B, 2) nats and target tokens of each pair."""
    head: Any = network.head
    read = read_pairs(network, sides, states_BSF)
    said = said_by_dictionary(head, sides, read)
    whole, _ = head.of_targets(
        read.seen, head.deep(read.seen.read, read.source), read.targets_P, said
    )
    rows = len(sides.sources_B)
    nats = np.bincount(read.row_P.cpu().numpy(), -whole.double().cpu().numpy(), rows)
    return np.stack([nats, sides.targets_B.cpu().numpy()], axis=1)


def teacher_forced(bundle: Bundle, windows: pa.Table) -> np.ndarray:
    """(N, 2) nats and target tokens of each pair of a token table, in order."""
    pairs = pairs_of(windows)
    found = np.zeros((len(pairs), 2))
    network, window = bundle.network, bundle.windowing.max_length
    device = next(network.parameters()).device
    for some in _batches(pairs, window):
        sides = Sides.of_pairs([pairs[place] for place in some]).to(device)
        states = None
        if sides.source_BS.shape[1] > window:  # of one pair alone
            states = read_source(network, sides.source_BS[0].tolist(), window)
        found[some] = nats_of(network, sides, states)
    return found


def with_targets(bundle: Bundle, windows: pa.Table, translations: Sequence[str]) -> pa.Table:
    """The rows of a token table with other targets: what was answered."""
    end = bundle.network.head.eos_id
    given = encoded(bundle.lossless_tokenizer, list(translations))
    sources = [source.tolist() for source, _ in pairs_of(windows)]
    ids = [[*source, *said, end] for source, said in zip(sources, given, strict=True)]
    columns = {"input_ids": pa.array(ids, pa.list_(pa.int32())), "context": windows["context"]}
    return pa.table(columns)


def pairs_of(windows: pa.Table) -> list[tuple[np.ndarray, np.ndarray]]:
    """The ids of both sides of each row, each with the token that ends it."""
    lists = windows["input_ids"].combine_chunks()
    flat, ends = lists.flatten().to_numpy(), np.cumsum(np.diff(lists.offsets.to_numpy()))
    return [
        (ids[:first], ids[first:])
        for ids, first in zip(
            np.split(flat, ends[:-1]), windows["context"].to_numpy().tolist(), strict=True
        )
    ]


def _batches(pairs: Sequence[tuple[np.ndarray, np.ndarray]], window: int) -> Iterator[list[int]]:
    """Places of pairs of like length; one whose source is longer than a window stands alone."""
    sizes = [max(len(source), len(target)) for source, target in pairs]
    batch: list[int] = []
    for place in sorted(range(len(pairs)), key=lambda one: sizes[one]):
        alone = len(pairs[place][0]) > window
        if batch and (alone or (len(batch) + 1) * sizes[place] > _PADDED):
            yield batch
            batch = []
        batch.append(place)
        if alone:
            yield batch
            batch = []
    if batch:
        yield batch
