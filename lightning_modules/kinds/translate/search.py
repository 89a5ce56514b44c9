"""Looking for a translation: the source is read once, then one token after the other, in a beam.

A text is translated line by line, each line by itself in steps of its own, so that it is the same
to the bit alone and among others. Shapes: S source positions, V tokens, K beginnings that are gone
on with.
This file is shipped inside the registered model: it imports torch and what ships with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lightning_modules.kinds.heads import Positions
from lightning_modules.network.spelling import Spelling
from lightning_modules.network.tokenizer import readable

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle
    from lightning_modules.network.network import TextNetwork

MAX_BEAM, MAX_TOKENS = 64, 100_000
# What ends a line, as str.splitlines has it.
_LINE_ENDS = re.compile("(\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029])")


@dataclass(frozen=True)
class Search:
    """How a translation is looked for.

    beam: beginnings that are gone on with; 1: greedy.
    length_penalty: a log-probability is divided by its tokens to this power (Wu 2016,
        https://arxiv.org/abs/1609.08144); 0: by nothing.
    max_tokens: at most, and at most three for each of the source and 16.
    """

    beam: int = 4
    length_penalty: float = 1.0
    max_tokens: int = 256

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Search:
        """From what a caller says.

        Raises:
            ValueError: naming the parameter and what it may be.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(map(str, given)) - known):
            raise ValueError(f"{unknown[0][:60]} is none of {', '.join(sorted(known))}")
        search = cls(**given)
        if (fault := search._fault()) is not None:
            raise ValueError(fault)
        return search

    def _fault(self) -> str | None:
        bounds = {"beam": (1, MAX_BEAM), "length_penalty": (0, 10), "max_tokens": (1, MAX_TOKENS)}
        for name, (low, high) in bounds.items():
            value, whole = getattr(self, name), name != "length_penalty"
            kind = int if whole else int | float
            if isinstance(value, bool) or not isinstance(value, kind):
                return f"{name} is {value!r}, and has to be a {'whole ' * whole}number"
            if not low <= value <= high:
                return f"{name} is {value:g}, and has to be from {low} to {high:,}"
        return None

    def worth(self, log_probability: float, tokens: int) -> float:
        """By which whole translations are compared."""
        return log_probability / tokens**self.length_penalty


class Translation(NamedTuple):
    """Of a text, or the ids of one line without the token that ends it."""

    text: str
    log_probability: float  # nats, of its lines together
    tokens: int  # with those that end the lines


class Found(NamedTuple):
    """What was found for one line."""

    ids: list[int]
    log_probability: float
    ended: bool  # by itself, and not at the most tokens

    @property
    def tokens(self) -> int:
        return len(self.ids) + self.ended


def translated(bundle: Bundle, text: str, search: Search) -> Translation:
    """A text, whose line ends, blank lines, and spaces round lines stay as they are."""
    parts: list[str] = []
    log_probability, tokens = 0.0, 0
    head: Any = bundle.network.head
    spelling = head.spelling(bundle.lossless_tokenizer)
    for number, line in enumerate(_LINE_ENDS.split(text)):
        bare = line.strip()
        if number % 2 or not bare:
            parts.append(line)
            continue
        with readable("The tokenizer cannot encode a text"):
            ids = bundle.lossless_tokenizer.encode(bare, add_special_tokens=False).ids
        found = look_for(bundle.network, ids, search, bundle.windowing.max_length, spelling)
        said = bundle.lossless_tokenizer.decode(found.ids, skip_special_tokens=False)
        if not found.ended:  # at the most tokens, perhaps in the midst of a character
            said = said.rstrip("\ufffd")
        before, after = line[: line.index(bare)], line[line.index(bare) + len(bare) :]
        parts.append(f"{before}{said.strip()}{after}")
        log_probability += found.log_probability
        tokens += found.tokens
    return Translation("".join(parts), log_probability, tokens)


@torch.inference_mode()
def look_for(
    network: TextNetwork,
    ids: Sequence[int],
    search: Search,
    window: int,
    spelling: Spelling | None = None,
) -> Found:
    """The translation of one line.

    Args:
        ids: of the line, without its end.
        window: positions that the encoder reads at once.
        spelling: by which no character is broken; None: any token may follow any.
    """
    head: Any = network.head
    beam = _Beam(network, [*ids, head.eos_id], search, window)
    beam.spelling = spelling
    for _ in range(min(search.max_tokens, 3 * len(ids) + 16)):
        if not beam.go_on():
            break
    return beam.best()


def read_source(network: TextNetwork, ids: Sequence[int], window: int) -> Tensor:
    """(1, S, F) the states of a source; the windows of a long one are read side by side."""
    device = next(network.parameters()).device
    states = []
    for first in range(0, len(ids), window):
        some = torch.tensor([ids[first : first + window]], device=device)
        states.append(network.positions(some, torch.tensor([some.shape[1]], device=device)))
    return torch.cat(states, dim=1)


class _Beam:
    """The likeliest beginnings, and the whole translations that were met."""

    def __init__(
        self, network: TextNetwork, source: Sequence[int], search: Search, window: int
    ) -> None:
        self.head: Any = network.head
        self.embedding, self.search = network.embedding, search
        states_1SF = read_source(network, source, window)
        ids_1S = torch.tensor([source], device=states_1SF.device)
        mask_1S = torch.ones_like(ids_1S, dtype=torch.bool)
        self.source = self.head.source(Positions(states_1SF, network.embedding), ids_1S, mask_1S)
        self.words = self.head.words(ids_1S[0])
        self.carry: Any = None
        self.last = [self.head.eos_id]
        self.written: list[list[int]] = [[]]
        self.scores = torch.zeros(1, device=states_1SF.device)
        self.whole: list[Found] = []
        self.spelling: Spelling | None = None
        self.states = [0]  # of the spelling

    def go_on(self) -> bool:
        """One more token for each beginning; whether there is any reason for a further one."""
        size = self.search.beam
        log_proba_KV = self._next()
        total_KV = self.scores.unsqueeze(1) + log_proba_KV
        if self.spelling is not None:
            total_KV = total_KV + self.spelling.of(self.states).to(total_KV.device)
        vocabulary = total_KV.shape[1]
        # Each beginning ends in one way, so that twice as many leave enough to go on with.
        best = total_KV.flatten().topk(min(2 * size, total_KV.numel()))
        rows, last, written, scores = [], [], [], []
        for rank, (score, place) in enumerate(
            zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ):
            row, token = divmod(place, vocabulary)
            if token == self.head.eos_id:
                if rank < size:
                    self.whole.append(Found(self.written[row], score, ended=True))
            elif len(rows) < size:
                rows.append(row)
                last.append(token)
                written.append([*self.written[row], token])
                scores.append(score)
        if self.spelling is not None:
            before = [self.states[row] for row in rows]
            self.states = self.spelling.after[before, last].tolist()
        self.last, self.written = last, written
        self.scores = torch.tensor(scores, device=total_KV.device)
        self.carry = self.head.decoder.chosen(self.carry, torch.tensor(rows))
        return len(self.whole) < size

    def _next(self) -> Tensor:
        """(K, V) log-probabilities after each beginning."""
        last_K1 = torch.tensor(self.last, device=self.scores.device).unsqueeze(1)
        state_K1H, self.carry = self.head.decode(self.embedding, last_K1, self.source, self.carry)
        seen = self.head.look(state_K1H, self.source)
        return self.head.log_proba(seen, self.source, self.words)[:, 0]

    def best(self) -> Found:
        """The best whole translation, or, where none has ended, the best beginning."""
        found = self.whole or [
            Found(ids, score, ended=False)
            for ids, score in zip(self.written, self.scores.tolist(), strict=True)
        ]
        return max(found, key=lambda one: self.search.worth(one.log_probability, one.tokens))
