"""A decoder that looks at the source, and a dictionary beside it where there is one.

    p(w | source, before) = g_0 softmax(E tanh(W [h ; c]) + b)_w + g_1 sum_s a_s p_lex(w | source_s)

h is the decoder's state, a where it looks, c = sum_s a_s h_s what it sees there, E the table of
token vectors, p_lex the dictionary, and the shares g a softmax of what the network reads of both
and of how often the tokens that it looks at were counted (Gu 2016, https://arxiv.org/abs/1603.06393
has a copy in its place).

Shapes: B pairs, S source and U target positions, P target positions of all pairs, F size of a
source state, D size of a token's vector, V tokens.
This file is shipped inside the registered model: it imports torch and what ships with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from lightning_modules.kinds.answering import AskedWronglyError
from lightning_modules.kinds.heads import Head, Positions
from lightning_modules.kinds.translate.decoders import DECODERS, attention
from lightning_modules.kinds.translate.lexical import LexicalTable
from lightning_modules.kinds.translate.search import Search, Translation, translated
from lightning_modules.network.spelling import Spelling

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

_ANSWERS = ("translation", "log_probability", "tokens")
_BOUND = 4.0  # of what the shares are a softmax of
_LEAST = 1e-12  # probability by the dictionary, below which its logarithm is cut off


class Source(NamedTuple):
    """A source, or several of a batch, as it is looked at from every target position."""

    states_BSF: Tensor
    keys_BSA: Tensor
    mask_BS: Tensor
    memory: Any  # of the decoder
    seen_BS: Tensor | None  # log(1 + how often each token was counted)
    table_VD: Tensor  # of the softmax


class Seen(NamedTuple):
    """What target positions see of their source."""

    read: Tensor  # (..., H + F) the decoder's state, and what it looks at
    where: Tensor  # (..., S)
    counted: Tensor | None  # (...) how often that was counted, as a logarithm


class TranslateHead(Head):
    """Log-probabilities (B, V) of the first target token."""

    kind: ClassVar[str] = "translate"
    reads: ClassVar[Literal["document", "states", "positions"]] = "positions"
    asked: ClassVar[tuple[str, ...]] = ("source",)
    compared: ClassVar[str] = "translations"

    def __init__(self, features: int, description: Mapping[str, Any]) -> None:
        super().__init__(features, description)
        size, tokens = description["embedding_dim"], description["head_size"]
        self.eos_id: int = description["eos_id"]
        decoder = description["decoder"]
        self.decoder = DECODERS[decoder["kind"]](size, features, decoder)
        inner: int = self.decoder.output_size
        self.align, self.align_key = nn.Linear(inner, inner), nn.Linear(features, inner)
        self.output = nn.Linear(inner + features, size)
        self.bias = nn.Parameter(torch.zeros(tokens))
        tied: bool = description["tied"]
        self.tokens = None if tied else nn.Embedding(tokens, size)
        self.softmax = None if tied else nn.Embedding(tokens, size)
        lexical = description.get("lexical")
        self.lexical = LexicalTable(lexical) if lexical else None
        self.gate = nn.Linear(inner + features + 1, 2) if lexical else None
        self._spelling: tuple[Tokenizer, Spelling] | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "head_size": len(self.bias),
            "eos_id": self.eos_id,
            "decoder": self.decoder.describe(),
            "tied": self.tokens is None,
            "lexical": self.lexical and self.lexical.describe(),
        }

    # --- what it makes of states

    def forward(self, read: Positions, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        position_T = torch.arange(input_ids_BT.shape[1], device=lengths_B.device)
        mask_BT = position_T < lengths_B.unsqueeze(1)
        source = self.source(read, input_ids_BT, mask_BT)
        begin = torch.full_like(input_ids_BT[:, :1], self.eos_id)
        state_BUH, _ = self.decode(read.embedding, begin, source)
        seen = self.look(state_BUH, source)
        return torch.stack(
            [
                self.log_proba(Seen(*_row(seen, row)), source, self.words(ids[:length]))[0]
                for row, (ids, length) in enumerate(zip(input_ids_BT, lengths_B, strict=True))
            ]
        )

    def source(self, read: Positions, input_ids_BS: Tensor, mask_BS: Tensor) -> Source:
        """What of sources is made once, whatever is decoded of them."""
        states = read.states_BTF
        seen = None
        if self.lexical is not None:
            seen = torch.log1p(self.lexical.seen[input_ids_BS])
        own = read.embedding if self.softmax is None else self.softmax
        memory = self.decoder.prepare(states, mask_BS)
        return Source(states, self.align_key(states), mask_BS, memory, seen, self._table(own))

    def _table(self, table: Any) -> Tensor:
        """(V, D) as it is used: with its noise, while training."""
        if type(table) is nn.Embedding:
            return table.weight
        return table(torch.arange(len(self.bias), device=self.bias.device))

    def decode(
        self, embedding: nn.Module, target_BU: Tensor, source: Source, carry: Any = None
    ) -> tuple[Tensor, Any]:
        """The decoder's state (B, U, H) at each of these tokens, and what to go on from."""
        table = embedding if self.tokens is None else self.tokens
        return self.decoder(table(target_BU), source.memory, carry)

    def look(self, state_BUH: Tensor, source: Source) -> Seen:
        where_BUS = attention(self.align(state_BUH), source.keys_BSA, source.mask_BS)
        read = torch.cat([state_BUH, where_BUS @ source.states_BSF], dim=-1)
        if source.seen_BS is None:
            return Seen(read, where_BUS, None)
        return Seen(read, where_BUS, (where_BUS @ source.seen_BS.unsqueeze(-1)).squeeze(-1))

    def deep(self, read_PR: Tensor, source: Source) -> Tensor:
        """(P, V) the network by itself: natural logarithms."""
        out_PD = torch.tanh(self.output(read_PR))
        return (out_PD @ source.table_VD.t() + self.bias).log_softmax(dim=-1)

    def shares(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """log g (P) of the network and of the dictionary."""
        assert self.gate is not None and seen.counted is not None  # asked where there is one
        read = self.gate(torch.cat([seen.read, seen.counted.unsqueeze(-1) / _BOUND], dim=-1))
        # A share that has become next to nothing could not grow any more.
        shares = (_BOUND * torch.tanh(read / _BOUND)).log_softmax(dim=-1)
        return shares[..., 0], shares[..., 1]

    def of_targets(
        self, seen: Seen, deep_PV: Tensor, targets_P: Tensor, said_PS: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """log p (P,) of given tokens, of the whole and of the network by itself.

        Args:
            seen: of these positions.
            said_PS: what the dictionary says of each, for every source token.
        """
        deep_P = deep_PV.gather(1, targets_P.unsqueeze(1)).squeeze(1)
        if said_PS is None:
            return deep_P, deep_P
        of_network, of_words = self.shares(seen)
        words_P = (seen.where * said_PS).sum(dim=-1).clamp_min(_LEAST).log()
        return torch.logaddexp(of_network + deep_P, of_words + words_P), deep_P

    def words(self, source_S: Tensor) -> Tensor | None:
        """(S, V) what the dictionary has for each token of one source."""
        return None if self.lexical is None else self.lexical.rows(source_S)

    def log_proba(self, seen: Seen, source: Source, words_SV: Tensor | None) -> Tensor:
        """(P, V) natural logarithms, for positions of one source."""
        deep_PV = self.deep(seen.read, source)
        if words_SV is None:
            return deep_PV
        of_network, of_words = self.shares(seen)
        said_PV = seen.where[..., : len(words_SV)] @ words_SV
        said_PV = said_PV.clamp_min(_LEAST).log() + of_words.unsqueeze(-1)
        return torch.logaddexp(of_network.unsqueeze(-1) + deep_PV, said_PV)

    # --- what it answers

    def spelling(self, tokenizer: Tokenizer) -> Spelling:
        """By which no character is broken; made once for a tokenizer."""
        if self._spelling is None or self._spelling[0] is not tokenizer:
            self._spelling = tokenizer, Spelling(tokenizer, len(self.bias), self.eos_id)
        return self._spelling[1]

    @classmethod
    def fault(cls, facts: Mapping[str, Any]) -> str | None:
        try:
            Search.of(facts["search"])
        except (KeyError, TypeError, ValueError):
            return "search"
        scripts = ("source_script", "target_script")
        return next((name for name in scripts if not isinstance(facts.get(name), str)), None)

    def check(self, facts: Mapping[str, Any], output: np.ndarray) -> str | None:
        size = len(self.bias)
        if output.shape != (1, size) or not 0 <= self.eos_id < size:
            return f"eos_id {self.eos_id} is none of the {size} tokens of its head"
        if self.lexical is None:
            return None
        if len(self.lexical.seen) != size:
            return f"its dictionary knows {len(self.lexical.seen)} tokens, and its head {size}"
        return self.lexical.fault()

    def predict(
        self, bundle: Bundle, columns: Mapping[str, Sequence[Any]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        """`translation`, its `log_probability` (nats) and its number of `tokens`, of each `source`.

        Each line of a text is translated by itself, in the same steps whatever stands beside it.
        """
        search = search_of(bundle, params)
        answers = [
            dict.fromkeys(_ANSWERS) if text is None else _answer(translated(bundle, text, search))
            for text in columns["source"]
        ]
        return {name: [one[name] for one in answers] for name in _ANSWERS}


def _row(seen: Seen, row: int) -> tuple[Any, ...]:
    return tuple(None if one is None else one[row] for one in seen)


def _answer(found: Translation) -> dict[str, Any]:
    return {
        "translation": found.text,
        "log_probability": found.log_probability,
        "tokens": found.tokens,
    }


def search_of(bundle: Bundle, params: Mapping[str, Any]) -> Search:
    """How to look: what is asked, over what the recipe says.

    Raises:
        AskedWronglyError: naming the parameter and what it may be.
    """
    given = {name: value for name, value in params.items() if value is not None}
    try:
        return Search.of({**bundle.facts["search"], **given})
    except (TypeError, ValueError) as error:
        raise AskedWronglyError(str(error)) from error
