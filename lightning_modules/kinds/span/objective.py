"""The span of a context that answers a question, learnt from rows that say where it stands.

Every window of a row has the whole question. The loss is the negative log-likelihood of its answer
among all spans of the window and none of them, which is what a window without the answer has to
say.

Shapes: B windows, T positions, L longest answer in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from torch import Tensor

from data_contracts.errors import TrainingError
from data_contracts.kinds.span import Span
from lightning_modules.kinds.base import TOKENS, Batch, Loss, Objective
from lightning_modules.kinds.span.choosing import Decision
from lightning_modules.kinds.span.head import SpanHead
from lightning_modules.kinds.span.recurring import with_recurring
from lightning_modules.kinds.span.validation import Validation, targets_of
from lightning_modules.kinds.span.windows import Window, separator, tokens_of, windows_of
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import load_lossless, special_ids
from lightning_modules.network.windows import Windowing

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle
    from lightning_modules.kinds.base import SharedTokens
    from lightning_modules.training.data import TokenTable

_MOST = 0.99  # share of the train answers that the longest span has room for


class _Row(NamedTuple):
    """A row of a token table."""

    id: str
    window: int
    of: Window
    start: int  # position of the answer's first token; -1: it has none here
    end: int


class SpanModel(Objective):
    """Negative log-likelihood summed over windows.

    `facts`: `script` and `unanswerable`, from the contract.
    """

    kind: ClassVar[str] = "span"
    token_schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("context", pa.int32()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("opening", pa.int32()),
            ("closing", pa.int32()),
            ("offsets", pa.list_(pa.int32())),
        ]
    )
    learnt: ClassVar[tuple[str, ...] | None] = ("context", "start", "end", "opening", "closing")
    task: Span

    def __init__(self, task: Span, facts: Mapping[str, Any]) -> None:
        super().__init__(task, facts)
        self.sep_id = self.closing = self.mask_id = 0
        self.max_answer = 1
        self._reader: tuple[Tokenizer, Tokenizer] | None = None

    # --- rows to tokens

    def texts(self, rows: pa.Table) -> Iterator[str]:
        """Each question, and each context once for the rows that follow one another with it."""
        yield from rows["question"].to_pylist()
        before = None
        for context in rows["context"].to_pylist():
            if context != before:
                yield context
            before = context

    def encode(self, rows: pa.Table, tokenizer: Tokenizer, windowing: Windowing) -> pa.Table:
        """A row a window. Of the train split, windows that cut an answer in two are left out, where
        another one holds it whole."""
        sep_id = separator(tokenizer, windowing)
        if sep_id is None:
            raise TrainingError(
                "The tokenizer has no token to stand between a question and its context.",
                "Give one that ends or pads a text ([SEP], [EOS], [PAD]), or have one trained.",
            )
        windows = windows_of(
            self._lossless(tokenizer),
            windowing,
            sep_id,
            rows["question"].to_pylist(),
            rows["context"].to_pylist(),
        )
        splits = rows["split"].to_pylist() if "split" in rows.column_names else [None] * len(rows)
        found: list[_Row] = []
        for some, row, split in zip(windows, _answers(rows), splits, strict=True):
            found += _placed(some, *row, only_whole=split == "train")
        around = len(windowing.prefix_ids), len(windowing.suffix_ids)
        return _table(found, around, pa.schema([*TOKENS, *self.token_schema]))

    def _lossless(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer as one that takes special tokens in a text for text."""
        if self._reader is None or self._reader[0] is not tokenizer:
            self._reader = tokenizer, load_lossless(tokenizer.to_str().encode())
        return self._reader[1]

    # --- tokens to a network

    def prepare(self, train: TokenTable) -> None:
        """The longest answer is chosen here, once."""
        begin, closing = train.columns["context"], train.columns["closing"]
        answered = train.columns["start"] >= 0
        if not answered.any():
            raise TrainingError(
                "No row of the train split has an answer, so there is none to learn.",
                "Give rows whose answer stands in their context.",
            )
        self.sep_id = int(train.ids[train.starts[0] + begin[0] - 1])
        self.closing = int(closing[0])
        self.mask_id = special_ids(load_lossless(self.tokenizer_json))[1]
        lengths = (train.columns["end"] - train.columns["start"] + 1)[answered]
        longest = int(np.quantile(lengths, _MOST, method="higher"))
        self.max_answer = min(self.task.max_answer or longest, int(lengths.max()))

    def head(self) -> dict[str, Any]:
        sizes = self.task.reader
        return {
            "sep_id": self.sep_id,
            "closing": self.closing,
            "max_answer": self.max_answer,
            "reader": {
                "attention": sizes.attention_size,
                "mixed": sizes.mixed_size,
                "hidden_sizes": [[sizes.hidden_size, sizes.hidden_size]],
                "rank": sizes.rank,
            },
        }

    def weigh(self, network: TextNetwork, batches: Callable[[], Iterator[Batch]]) -> None:
        """idf of each token, log((1 + n) / (1 + n_t)) / log(1 + n): of n contexts, n_t have it."""
        idf = _head(network).idf
        counts, total = np.zeros(len(idf)), 0
        for batch in batches():
            ids_BT, position_T = batch["input_ids"].numpy(), np.arange(batch["input_ids"].shape[1])
            inside_BT = position_T < batch["lengths"].numpy()[:, None]
            inside_BT &= position_T >= batch["context"].numpy()[:, None]
            rows = np.broadcast_to(np.arange(len(ids_BT))[:, None], ids_BT.shape)[inside_BT]
            different = np.unique(np.stack([rows, ids_BT[inside_BT]]), axis=1)
            counts += np.bincount(different[1], minlength=len(counts))
            total += len(ids_BT)
        rare = np.log((1 + total) / (1 + counts)) / math.log(1 + max(1, total))
        idf.copy_(torch.from_numpy(rare.astype(np.float32)))

    def carry_over(self, network: TextNetwork, source: Bundle, tokens: SharedTokens) -> set[str]:
        """What counts is counted anew, of another vocabulary's tokens."""
        counted = _head(network).idf.clone()
        taken = super().carry_over(network, source, tokens)
        _head(network).idf.copy_(counted)
        return taken - {"idf"}

    # --- batches to a loss

    def loss(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> Loss:
        given = len(batch["lengths"])
        if self.task.recurring:
            idf = _head(network).idf.cpu().numpy()
            batch = with_recurring(batch, self.task.recurring, idf, self.mask_id)
        log_proba_BS = network(batch["input_ids"], batch["lengths"])
        targets_B = targets_of(batch, len(_head(network).lengths))
        nats_B = -log_proba_BS.gather(1, targets_B.unsqueeze(1)).squeeze(1)
        if len(nats_B) == given:
            return Loss(nats_B.sum(), given)
        # Told is the loss of the rows that were given, over as many terms.
        told = nats_B[:given].detach().mean() * len(nats_B)
        return Loss(nats_B.sum(), len(nats_B), told)

    def validation(self, table: TokenTable) -> Validation:
        return Validation(table, self.tokenizer_json, self.facts)

    # --- what ships

    def served(self) -> dict[str, Any]:
        decision = {"decision": Decision().as_json()}
        return {**self.facts, **self.task.served_facts(decision)}


def _answers(rows: pa.Table) -> Iterator[tuple[str, int, int]]:
    """id, and where the answer begins and ends in characters (-1 where there is none), by row."""
    names = rows.column_names
    ids = rows["id"].to_pylist()
    answers = rows["answer"].to_pylist() if "answer" in names else [None] * len(ids)
    starts = rows["answer_start"].to_pylist() if "answer_start" in names else [None] * len(ids)
    for name, answer, start in zip(ids, answers, starts, strict=True):
        place = -1 if start is None or not answer else int(start)
        yield name, place, place + len(answer or "")


def _placed(
    windows: Sequence[Window], name: str, start: int, end: int, *, only_whole: bool
) -> Iterator[_Row]:
    """The windows of one row, each with where its answer stands.

    A window that cuts the answer in two has none, or is left out. Where none holds it whole, what
    the first of these holds is the answer.
    """
    places = [tokens_of(one.offsets, start, end) if start >= 0 else None for one in windows]
    touched = [number for number, place in enumerate(places) if place is not None]
    last = len(windows) - 1
    whole = [
        number
        for number in touched
        if (number == 0 or windows[number].offsets[0, 0] <= start)
        and (number == last or windows[number].offsets[-1, 1] >= end)
    ]
    kept = whole or touched[:1]
    window = 0
    for number, (one, place) in enumerate(zip(windows, places, strict=True)):
        if place is not None and number in kept:
            first, final = (one.begin + token for token in place)
            yield _Row(name, window, one, first, final)
        elif place is None or not only_whole:
            yield _Row(name, window, one, -1, -1)
        else:
            continue
        window += 1


def _table(rows: Sequence[_Row], around: tuple[int, int], schema: pa.Schema) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([row.id for row in rows], pa.string()),
            "window": pa.array([row.window for row in rows], pa.int32()),
            "input_ids": pa.array([row.of.ids for row in rows], pa.list_(pa.int32())),
            "length": pa.array([len(row.of.ids) for row in rows], pa.int32()),
            "context": pa.array([row.of.begin for row in rows], pa.int32()),
            "start": pa.array([row.start for row in rows], pa.int32()),
            "end": pa.array([row.end for row in rows], pa.int32()),
            "opening": pa.array([around[0]] * len(rows), pa.int32()),
            "closing": pa.array([around[1]] * len(rows), pa.int32()),
            "offsets": pa.array([row.of.offsets.ravel() for row in rows], pa.list_(pa.int32())),
        },
        schema=schema,
    )


def _head(network: TextNetwork) -> SpanHead:
    return cast(SpanHead, network.head)
