"""The next token, learnt from documents or from pairs of prompt and completion.

A document is [end of text, its tokens, end of text], a pair the same of the prompt, put as the
contract's template has it, and the completion, whose tokens alone are learnt. A row is a window of
it; rows hold one document each, so no document sees another, and rows of like length share a batch.

Shapes: B rows of a batch, T tokens of a row, P positions that are predicted, M longest context of
the counted table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from torch import Tensor

from data_contracts.errors import TrainingError
from data_contracts.kinds.generate import Generate
from lightning_modules.kinds.base import (
    TOKENS,
    Batch,
    Loss,
    Objective,
    SharedTokens,
    copy_rows,
)
from lightning_modules.kinds.generate.counted import CountedTable, cross_fitted
from lightning_modules.kinds.generate.head import GenerateHead
from lightning_modules.kinds.generate.scoring import documents, evidence_of, figures
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import eos_id
from lightning_modules.network.windows import Windowing, encoded
from lightning_modules.starting.backbone import output_embeddings

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle
    from lightning_modules.training.data import TokenTable

_PARTS = 10  # of the train split, each of which is read with the counts of the others
_BINS = 15  # of the calibration error, which training does not tell


class LanguageModel(Objective):
    """Negative log-likelihood summed over the tokens that are predicted.

    `facts`: `form` ("text" or "pairs") and `template`, from the contract.
    """

    kind: ClassVar[str] = "generate"
    token_schema: ClassVar[pa.Schema] = pa.schema([("context", pa.int32()), ("bytes", pa.int64())])
    task: Generate

    def __init__(self, task: Generate, facts: Mapping[str, Any]) -> None:
        super().__init__(task, facts)
        self.eos_id = 0
        self.grams: np.ndarray | None = None  # (P, M + 1) tokens of the train split, with contexts
        self.said: np.ndarray | None = None  # (ids, 2, orders) of the train split
        self.said_of: TokenTable | None = None

    # --- rows to tokens

    def texts(self, rows: pa.Table) -> Iterator[str]:
        if self.facts["form"] == "text":
            yield from rows["text"].to_pylist()
            return
        yield from self._before(rows)
        yield from rows["completion"].to_pylist()

    def _before(self, rows: pa.Table) -> list[str]:
        """What stands before each completion."""
        template = self.facts["template"]
        return [template.replace("{prompt}", one) for one in rows["prompt"].to_pylist()]

    def encode(self, rows: pa.Table, tokenizer: Tokenizer, windowing: Windowing) -> pa.Table:
        end = eos_id(tokenizer)
        if end is None:
            raise TrainingError(
                "The tokenizer has no token for the end of a text.",
                "Give one that has ([EOS], </s>, <|endoftext|>), or train one: tokenizer.kind bpe.",
            )
        if self.facts["form"] == "text":
            said = rows["text"].to_pylist()
            before = [[]] * len(said)
        else:
            said = rows["completion"].to_pylist()
            before = encoded(tokenizer, self._before(rows))
        columns: dict[str, list[Any]] = {name: [] for name in (*TOKENS.names, "context", "bytes")}
        tokens = encoded(tokenizer, said)
        for name, text, first, then in zip(
            rows["id"].to_pylist(), said, before, tokens, strict=True
        ):
            whole = [end, *first, *then, end]
            for number, (ids, context) in enumerate(windows(whole, 1 + len(first), windowing)):
                columns["id"].append(name)
                columns["window"].append(number)
                columns["input_ids"].append(ids)
                columns["length"].append(len(ids))
                columns["context"].append(context)
                # Of the whole document, at its first row.
                columns["bytes"].append(0 if number else len(text.encode()))
        return pa.table(columns, schema=pa.schema([*TOKENS, *self.token_schema]))

    # --- tokens to a network

    def prepare(self, train: TokenTable) -> None:
        """Each document begins with the end of another one. What counting says is made here, once
        for all epochs: eight bytes for each token and order.
        """
        self.eos_id = int(train.ids[train.starts[0]])
        if self.task.counted is None:
            return
        longest = self.task.counted.order - 1
        predicted = _places(train) >= np.repeat(train.columns["context"], train.lengths)
        self.grams = _grams(train, longest, self.eos_id)[predicted]
        size = 1 + int(self.grams.max())
        said = cross_fitted(self.grams, longest, size, _PARTS)
        self.said = np.zeros((len(train.ids), 2, longest + 1), np.float32)
        self.said[predicted, 0] = np.log(said.proba)
        self.said[predicted, 1] = np.log1p(said.seen)
        self.said_of = train

    def head(self) -> dict[str, Any]:
        counted = self.task.counted and CountedTable.nothing(self.task.counted.order - 1)
        return {"eos_id": self.eos_id, "counted": counted}

    @torch.no_grad()
    def start_from(self, network: TextNetwork, backbone: str) -> None:
        """The decoder is what the backbone was trained with."""
        decoder = _head(network).decoder
        decoder.weight.copy_(output_embeddings(backbone, len(decoder.weight)))
        decoder.bias.zero_()

    def weigh(self, network: TextNetwork, batches: Callable[[], Iterator[Batch]]) -> None:
        counted = _head(network).counted
        if counted is not None and self.grams is not None:
            counted.count([self.grams])

    def carry_over(self, network: TextNetwork, source: Bundle, tokens: SharedTokens) -> set[str]:
        """What counts is counted anew; the decoder is taken row by row, matched by the token's
        text.
        """
        if source.kind != self.kind:
            return set()
        taken: set[str] = set()
        old = source.network.head.state_dict()
        for name, tensor in network.head.state_dict().items():
            known = old.get(name)
            if known is None or name.startswith("counted."):
                continue
            if name.startswith("decoder."):
                if copy_rows(tensor, known, tokens.pairs):
                    taken.add(name)
            elif known.shape == tensor.shape:
                tensor.copy_(known)
                taken.add(name)
        return taken

    # --- batches to a loss

    def batch(self, table: TokenTable, rows: np.ndarray) -> Batch:
        """Also `said` (B, T, 2, orders), what counting says of the train split's tokens."""
        batch = table.batch(rows)
        if table is self.said_of:
            assert self.said is not None  # both are made together
            at = table.starts[rows, None] + np.arange(batch["input_ids"].shape[1])
            # What stands in the padding is not read.
            batch["said"] = torch.from_numpy(self.said[np.minimum(at, len(self.said) - 1)])
        return batch

    def loss(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> Loss:
        """The model's NLL, and beside it that of the network by itself: where the table says all,
        the network would have nothing left to learn from.
        """
        ids_BT = batch["input_ids"]
        states_BTF, _ = network.read(ids_BT[:, :-1])
        row, at = _predicted(batch)
        said = None
        if "said" in batch:
            proba_PE, seen_PE = batch["said"][row, at + 1].unbind(1)
            said = (proba_PE, seen_PE)
        states_PF, targets_P = states_BTF[row, at], ids_BT[row, at + 1]
        whole, deep = _head(network).of_targets(states_PF, targets_P, said)
        if said is None:
            return Loss(-whole.sum(), len(row))
        return Loss(-(whole + deep).sum(), len(row), -whole.sum().detach())

    def terms(self, table: TokenTable) -> int:
        return int((table.lengths - table.columns["context"]).sum())

    def validation(self, table: TokenTable) -> Validation:
        return Validation(table)

    # --- what ships

    def served(self) -> dict[str, Any]:
        said = self.task.served_facts({})
        return {"form": self.facts["form"], "template": self.facts["template"], **said}


class Validation:
    """A split's figures: every document is read whole, as the evaluation of the test split does."""

    def __init__(self, table: TokenTable) -> None:
        self.table = table
        self.network: TextNetwork | None = None

    def add(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> None:
        """A batch says which network; windows of a document are read one after the other below."""
        self.network = network

    def metrics(self) -> dict[str, float]:
        assert self.network is not None  # a split that is empty is refused before
        table = self.table
        first = np.diff(table.documents, prepend=-1) != 0
        windows = np.where(first, 0, 1)
        given = list(documents(table.ids, table.lengths, windows, table.columns))
        sums = np.sum([one.sum(axis=0) for one in evidence_of(self.network, given, _BINS)], axis=0)
        found = {name: float(value[0]) for name, value in figures(sums[None, :], _BINS).items()}
        del found["ece"]
        return {"loss": float(sums[0] / max(1.0, sums[1])), **found}


def _head(network: TextNetwork) -> GenerateHead:
    return cast(GenerateHead, network.head)


def _predicted(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Row and place (P,) of each state that predicts the next token."""
    target_T = torch.arange(1, batch["input_ids"].shape[1], device=batch["lengths"].device)
    after = target_T >= batch["context"].unsqueeze(1)
    row, at = torch.nonzero(after & (target_T < batch["lengths"].unsqueeze(1)), as_tuple=True)
    return row, at


def _places(table: TokenTable) -> np.ndarray:
    """The place of each id in its row."""
    return np.arange(len(table.ids)) - np.repeat(table.starts, table.lengths)


def _grams(table: TokenTable, longest: int, end: int) -> np.ndarray:
    """(ids, M + 1): each id after the M before it; before a row there is the end of a text."""
    place = _places(table)
    grams = np.full((len(table.ids), longest + 1), end, np.int32)
    for back in range(longest + 1):
        some = np.flatnonzero(place >= back)
        grams[some, longest - back] = table.ids[some - back]
    return grams


def windows(
    ids: Sequence[int], first: int, windowing: Windowing
) -> Iterator[tuple[Sequence[int], int]]:
    """The rows of a document: ids, and how many of them are given.

    A row has at most `max_length` + 1 ids, of which the last is predicted alone; every id from
    `first` on is predicted in one row. The first row begins with the document's first id. Where
    what is given leaves no room, its later half of a row is read.
    """
    size = windowing.max_length + 1
    if first > size // 2 and len(ids) > size:
        kept = size // 2 - 1
        ids = [ids[0], *ids[first - kept : first], *ids[first:]]
        first = 1 + kept
    yield ids[:size], first
    done = size
    while done < len(ids):
        # The last row is as long as the others, so that it may be given more.
        start = min(done - windowing.overlap - 1, len(ids) - size)
        yield ids[start : start + size], done - start
        done = start + size
