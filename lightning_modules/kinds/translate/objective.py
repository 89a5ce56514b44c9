"""The same text in another language, learnt from pairs.

A row is [source tokens, end, target tokens, end]. A target token is told by the source, by the
target tokens before it and by the dictionary, if there is one.

Shapes: B pairs, S source and U target positions, P target positions of all pairs, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from data_contracts.errors import TrainingError
from data_contracts.kinds.translate import Translate
from lightning_modules.kinds.base import (
    TOKENS,
    Batch,
    Loss,
    Objective,
    SharedTokens,
    copy_rows,
)
from lightning_modules.kinds.translate.counting import Pairs, dictionaries
from lightning_modules.kinds.translate.head import TranslateHead
from lightning_modules.kinds.translate.lexical import Entries
from lightning_modules.kinds.translate.scoring import Read, Sides, read_pairs
from lightning_modules.kinds.translate.segmentation import Merges
from lightning_modules.kinds.translate.validation import Validation
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import eos_id, load_tokenizer
from lightning_modules.network.windows import Windowing, encoded
from lightning_modules.reparameterizations import redraw

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle
    from lightning_modules.training.data import TokenTable


class _Pass(NamedTuple):
    """What one pass over a batch comes to."""

    nats: Tensor  # what is minimized, summed over the targets
    terms: int
    nll: Tensor  # of the model, not differentiated
    proba: Tensor  # (P, V) of the network by itself, as logarithms


_PARTS = 4  # of the train split, each of which is read with the dictionary of the others
_TABLES = ("bias", "tokens.weight", "softmax.weight")  # of the head, a row for each token


class TranslationModel(Objective):
    """Negative log-likelihood summed over the target tokens.

    `facts`: `source_script` and `target_script`, from the contract.
    """

    kind: ClassVar[str] = "translate"
    token_schema: ClassVar[pa.Schema] = pa.schema([("context", pa.int32())])
    task: Translate

    def __init__(self, task: Translate, facts: Mapping[str, Any]) -> None:
        super().__init__(task, facts)
        self.eos_id = 0
        self.counted: tuple[Entries, list[tuple[Entries, np.ndarray]]] | None = None
        self.train: TokenTable | None = None
        self.merges: Merges | None = None

    # --- rows to tokens

    def texts(self, rows: pa.Table) -> Iterator[str]:
        yield from rows["source"].to_pylist()
        yield from rows["target"].to_pylist()

    def encode(self, rows: pa.Table, tokenizer: Tokenizer, windowing: Windowing) -> pa.Table:
        """A row a pair; those of train and valid that are longer than a window have none."""
        end = eos_id(tokenizer)
        if end is None:
            raise TrainingError(
                "The tokenizer has no token for the end of a text.",
                "Give one that has ([EOS], </s>, <|endoftext|>), or train one: tokenizer.kind bpe.",
            )
        sides = [encoded(tokenizer, rows[name].to_pylist()) for name in ("source", "target")]
        pairs = [([*source, end], [*target, end]) for source, target in zip(*sides, strict=True)]
        table = pa.table(
            {
                "id": rows["id"],
                "window": pa.array(np.zeros(len(pairs), np.int32)),
                "input_ids": pa.array(
                    [source + target for source, target in pairs], pa.list_(pa.int32())
                ),
                "length": pa.array(
                    [len(source) + len(target) for source, target in pairs], pa.int32()
                ),
                "context": pa.array([len(source) for source, _ in pairs], pa.int32()),
            },
            schema=pa.schema([*TOKENS, *self.token_schema]),
        )
        if "split" not in rows.column_names:
            return table
        longest = pa.array([max(map(len, pair)) for pair in pairs], pa.int32())
        fits = pc.less_equal(longest, windowing.max_length)
        return table.filter(pc.or_(fits, pc.equal(rows["split"], "test")))

    # --- tokens to a network

    def prepare(self, train: TokenTable) -> None:
        """The dictionaries are counted here, once for all epochs."""
        self.eos_id = int(train.ids[train.starts[0] + train.lengths[0] - 1])
        self.train = train
        self.merges = self._merges()
        if self.task.lexical is None:
            return
        options = self.task.lexical
        contexts = train.columns["context"]
        rows = np.arange(len(train))
        if len(train) > options.max_pairs:
            step = len(train) / options.max_pairs
            rows = np.unique((np.arange(options.max_pairs) * step).astype(np.int64))
        # Row numbers of the table tell the part, of those that are counted and of all others.
        pairs = Pairs(train.ids, train.starts[rows], contexts[rows], train.lengths[rows])
        whole, parts = dictionaries(
            pairs,
            load_tokenizer(self.tokenizer_json).get_vocab_size(),
            rows % _PARTS,
            iterations=options.iterations,
            max_entries=options.max_entries,
        )
        self.counted = whole, [(one, one.keys) for one in parts]

    def _merges(self) -> Merges | None:
        if not self.task.bpe_dropout:
            return None
        try:
            return Merges(self.tokenizer_json)
        except ValueError as error:
            raise TrainingError(
                f"task.bpe_dropout undoes merges of the tokenizer, and {error}.",
                "Set it to 0, or train a tokenizer that merges: tokenizer.kind bpe.",
            ) from None

    def head(self) -> dict[str, Any]:
        decoder = self.task.decoder.model_dump()
        if (layers := decoder.pop("num_layers", None)) is not None:
            decoder["feedforward_sizes"] = [decoder.pop("feedforward_size")] * layers
        lexical = None
        if self.counted is not None:
            lexical = {"sources": len(self.counted[0].seen), "entries": len(self.counted[0].proba)}
        return {
            "eos_id": self.eos_id,
            "decoder": decoder,
            "tied": self.task.tied,
            "lexical": lexical,
        }

    def weigh(self, network: TextNetwork, batches: Callable[[], Iterator[Batch]]) -> None:
        head = _head(network)
        for table in (head.tokens, head.softmax):
            if table is not None:
                nn.init.normal_(table.weight, std=float(network.embedding.weight.detach().std()))
        if head.lexical is not None and self.counted is not None:
            head.lexical.take(self.counted[0])

    def carry_over(self, network: TextNetwork, source: Bundle, tokens: SharedTokens) -> set[str]:
        """What counts is counted anew; tables are taken row by row, matched by the token's text."""
        if source.kind != self.kind:
            return set()
        taken: set[str] = set()
        old = source.network.head.state_dict()
        for name, tensor in network.head.state_dict().items():
            known = old.get(name)
            if known is None or name.startswith("lexical."):
                continue
            if name in _TABLES:
                if copy_rows(tensor, known, tokens.pairs):
                    taken.add(name)
            elif known.shape == tensor.shape:
                tensor.copy_(known)
                taken.add(name)
        return taken

    # --- batches to a loss

    def batch(self, table: TokenTable, rows: np.ndarray) -> Batch:
        """Also `part` (B,), of the train split."""
        batch = table.batch(rows)
        if table is self.train:
            batch["part"] = torch.from_numpy(rows % _PARTS)
        return batch

    def loss(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> Loss:
        """The model's NLL, and beside it the smoothed one of the network by itself: where the
        dictionary says all, the network would have nothing left to learn from.
        """
        sides = self._segmented(Sides.of_batch(batch))
        one = self._pass(network, sides, batch)
        if not self.task.r_drop:
            return Loss(one.nats, one.terms, one.nll)
        # Noise and dropout of its own, still a function of (seed, step) alone.
        redraw(network, int(torch.randint(2**62, ()).item()))
        other = self._pass(network, sides, batch)
        apart = (one.proba.exp() - other.proba.exp()) * (one.proba - other.proba)
        nats = (one.nats + other.nats + self.task.r_drop * apart.sum() / 2) / 2
        return Loss(nats, one.terms, (one.nll + other.nll) / 2)

    def _pass(self, network: TextNetwork, sides: Sides, batch: Mapping[str, Tensor]) -> _Pass:
        head = _head(network)
        read = read_pairs(network, sides)
        deep_PV = head.deep(read.seen.read, read.source)
        said = self._said(sides, batch, read)
        whole, deep = head.of_targets(read.seen, deep_PV, read.targets_P, said)
        smoothing = self.task.label_smoothing
        own = deep
        if smoothing:
            own = (1 - smoothing) * deep + smoothing * deep_PV.mean(dim=-1)
        minimized = own if said is None else whole + own
        return _Pass(-minimized.sum(), len(own), -whole.sum().detach(), deep_PV)

    def _segmented(self, sides: Sides) -> Sides:
        """The batch with merges undone by chance."""
        if self.merges is None:
            return sides
        pairs = []
        numbers = zip(*(one.tolist() for one in (sides.sources_B, sides.targets_B)), strict=True)
        for row, (source, target) in enumerate(numbers):
            one = sides.source_BS[row, :source].cpu().numpy()
            other = sides.target_BU[row, :target].cpu().numpy()
            share = self.task.bpe_dropout
            pairs.append((self.merges.undone(one, share), self.merges.undone(other, share)))
        return Sides.of_pairs(pairs).to(sides.source_BS.device)

    def _said(self, sides: Sides, batch: Mapping[str, Tensor], read: Read) -> Tensor | None:
        """(P, S) what the dictionary of the other parts says of each target."""
        if self.counted is None:
            return None
        source, target = sides.source_BS.cpu().numpy(), sides.target_BU.cpu().numpy()
        parts = batch["part"].cpu().numpy()
        said_BUS = np.zeros((*target.shape, source.shape[1]), np.float32)
        for part, (entries, keys) in enumerate(self.counted[1]):
            rows = np.flatnonzero(parts == part)
            if len(rows):
                said_BUS[rows] = entries.of(source[rows], target[rows], keys)
        return torch.from_numpy(said_BUS).to(read.row_P.device)[read.row_P, read.at_P]

    def terms(self, table: TokenTable) -> int:
        return int((table.lengths - table.columns["context"]).sum())

    def validation(self, table: TokenTable) -> Validation:
        return Validation(table, self.tokenizer_json, self.facts)

    # --- what ships

    def served(self) -> dict[str, Any]:
        return {**self.facts, **self.task.served_facts({})}


def _head(network: TextNetwork) -> TranslateHead:
    return cast(TranslateHead, network.head)
