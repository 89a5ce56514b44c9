"""Writing on: one token after the other, each a function of (model, prompt, seed, position) alone.

Every text is written by itself, in steps of one position: so that it is the same to the bit alone
and among others, whatever its neighbours. What is kept from step to step (an LSTM's state, a
Transformer's keys and values of its last positions) is of one size however long the text becomes.

Nothing is drawn from a generator that somebody else may draw from: the number that decides a
position is a hash. Shapes: V tokens.
This file is shipped inside the registered model: it imports torch, numpy and what ships with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from lightning_modules.kinds.generate.growing import Growing

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from lightning_modules.bundle import Bundle

CHUNK = 512  # positions of a prompt that are read at once
MAX_TOKENS = 1_000_000
MAX_STOPS, MAX_STOP_CHARACTERS = 16, 200
_UNREADABLE = "\ufffd"  # what stands for the first bytes of a character that is not whole yet
_LATEST = 16  # tokens that are decoded together, so that a character of several is whole


@dataclass(frozen=True)
class Style:
    """How the next token is chosen.

    temperature: 0: the likeliest; 1: as the model has it; higher: more evenly.
    top_k: among the k likeliest; 0: among all.
    top_p: among the likeliest that together have this probability (Holtzman 2020).
    repetition_penalty: log-probabilities of tokens that stand in prompt or text are multiplied by
        it (Keskar 2019, CTRL); 1: none.
    no_repeat_ngram: no run of so many tokens is written twice; 0: any may.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    max_tokens: int = 200
    stop: tuple[str, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Style:
        """From what a caller says.

        Raises:
            ValueError: naming the parameter and what it may be.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(map(str, given)) - known):
            raise ValueError(f"{unknown[0][:60]} is none of {', '.join(sorted(known))}")
        values = dict(given)
        stop = values.get("stop", ())
        values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
        style = cls(**values)
        if (fault := style._fault()) is not None:
            raise ValueError(fault)
        return style

    def _fault(self) -> str | None:
        bounds = {
            "temperature": (0, float("inf")),
            "top_k": (0, 2**31 - 1),
            "top_p": (0, 1),
            "repetition_penalty": (1, 1e6),
            "no_repeat_ngram": (0, 2**31 - 1),
            "max_tokens": (1, MAX_TOKENS),
            "seed": (0, 2**63 - 1),
        }
        whole = ("top_k", "no_repeat_ngram", "max_tokens", "seed")
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            kind = int | np.integer if name in whole else int | float | np.number
            if isinstance(value, bool) or not isinstance(value, kind):
                return f"{name} is {value!r}, and has to be a {'whole ' * (name in whole)}number"
            if not low <= value <= high or (name == "temperature" and value == high):
                return f"{name} is {value:g}, and has to be {_range(low, high)}"
        if self.top_p == 0:
            return (
                "top_p is 0, which leaves no token to choose from; temperature 0 is the likeliest"
            )
        if len(self.stop) > MAX_STOPS:
            return f"stop has {len(self.stop)} texts, and at most {MAX_STOPS} are looked for"
        for one in self.stop:
            if not isinstance(one, str) or not 0 < len(one) <= MAX_STOP_CHARACTERS:
                return f"stop has to be texts of 1 to {MAX_STOP_CHARACTERS} characters"
        return None


def _range(low: float, high: float) -> str:
    return f"{low:g} or more" if high == float("inf") else f"from {low:g} to {high:g}"


@dataclass(frozen=True)
class Written:
    """A whole completion."""

    text: str
    log_probability: float  # of its tokens as the model has them, nats; the end's own too
    tokens: int
    finish_reason: str  # "end", "stop" or "length"


class Piece(NamedTuple):
    """Some more text, which may be empty; the last one tells of the whole."""

    text: str
    written: Written | None = None


@torch.inference_mode()
def write(bundle: Bundle, prompt: str, style: Style) -> Iterator[Piece]:
    """What the model writes after a prompt, piece by piece."""
    tokenizer = bundle.lossless_tokenizer
    asked = bundle.facts["template"].replace("{prompt}", prompt)
    ids = [bundle.network.head.eos_id, *tokenizer.encode(asked, add_special_tokens=False).ids]
    key = hashlib.sha256(json.dumps([bundle.digest, prompt, style.seed]).encode()).digest()
    choose = Choice(style, key, ids, banned(bundle))
    text = Decoded(tokenizer, style.stop)
    total = 0.0
    reader = Reader(bundle)
    log_proba = reader.read(ids)
    for position in range(style.max_tokens):
        token = choose.next(log_proba, position)
        total += float(log_proba[token])
        if token == reader.eos_id:
            yield _last(text, total, position + 1, "end")
            return
        yield Piece(text.add(token))
        if text.stopped:
            yield Piece("", Written(text.whole, total, position + 1, "stop"))
            return
        if position + 1 < style.max_tokens:
            log_proba = reader.read([token])
    yield _last(text, total, style.max_tokens, "length")


def _last(text: Decoded, total: float, tokens: int, reason: str) -> Piece:
    """What was held back, in which a stop may still stand."""
    rest = text.rest()
    return Piece(rest, Written(text.whole, total, tokens, "stop" if text.stopped else reason))


class Reader:
    """The network with what it has read, for one text."""

    def __init__(self, bundle: Bundle) -> None:
        self.network = bundle.network
        self.head: Any = bundle.network.head
        self.eos_id: int = self.head.eos_id
        self.device = next(self.network.parameters()).device
        self.carry: Any = None
        table: Any = self.head.counted
        self.growing = None if table is None else Growing(table, self.eos_id)
        self.counting: bool = bundle.facts.get("adaptive", False)

    def read(self, ids: Sequence[int]) -> np.ndarray:
        """(V,) float64 log-probabilities of the token that follows."""
        states: Any = None
        for first in range(0, len(ids), CHUNK):
            some = torch.tensor([ids[first : first + CHUNK]], device=self.device)
            states, self.carry = self.network.read(some, self.carry)
        if self.growing is None:
            found = self.head.next_log_proba(states[:, -1], np.empty((1, 0), np.int64))[0]
        else:
            self.growing.follow(ids, self.counting)
            found = self.head.next_of_growing(states[0, -1], self.growing)
        return found.double().cpu().numpy()


class Choice:
    """Chooses tokens, and remembers what was read and chosen for the rules on repeating."""

    def __init__(
        self, style: Style, key: bytes, ids: Sequence[int], never: Sequence[int] = ()
    ) -> None:
        self.style, self.key, self.never = style, key, list(never)
        self.ids = [*ids]
        self.known = set(ids[1:])  # the first one is the end of another text
        self.after: dict[tuple[int, ...], set[int]] = {}  # of runs one short of no_repeat_ngram
        for end in range(1, len(self.ids) + 1):
            self._remember(end)

    def next(self, log_proba: np.ndarray, position: int) -> int:
        """The token at a position, of (V,) log-probabilities."""
        style = self.style
        scores = log_proba.copy()
        scores[self.never] = -np.inf
        if style.repetition_penalty != 1 and self.known:
            scores[[*self.known]] *= style.repetition_penalty
        if blocked := self._would_repeat():
            scores[blocked] = -np.inf
        if not np.isfinite(scores.max()):  # nothing is left: the rules give way
            scores = log_proba.copy()
        token = int(scores.argmax()) if style.temperature == 0 else self._draw(scores, position)
        self.ids.append(token)
        self.known.add(token)
        self._remember(len(self.ids))
        return token

    def _draw(self, scores: np.ndarray, position: int) -> int:
        style = self.style
        order = np.argsort(-scores, kind="stable")  # of equals the first by its id
        if style.top_k:
            order = order[: style.top_k]
        chosen = scores[order]
        proba = np.exp((chosen - chosen[0]) / style.temperature)
        proba /= proba.sum()
        if style.top_p < 1:
            # The smallest number of tokens that have it; always one.
            many = int(np.searchsorted(np.cumsum(proba), style.top_p)) + 1
            order, proba = order[:many], proba[:many]
        cumulated = np.cumsum(proba)
        at = np.searchsorted(cumulated, self._number(position) * cumulated[-1], side="right")
        return int(order[min(int(at), len(order) - 1)])

    def _number(self, position: int) -> float:
        """In [0, 1), of 53 bits: a function of the key and the position."""
        digest = hashlib.blake2b(position.to_bytes(8, "little"), key=self.key, digest_size=8)
        return (int.from_bytes(digest.digest(), "little") >> 11) / (1 << 53)

    def _remember(self, end: int) -> None:
        """The run of `no_repeat_ngram` ids that ends there."""
        size = self.style.no_repeat_ngram
        if 0 < size <= end:
            run = self.ids[end - size : end]
            self.after.setdefault(tuple(run[:-1]), set()).add(run[-1])

    def _would_repeat(self) -> list[int]:
        """Tokens that would end a run of `no_repeat_ngram` which stands there already."""
        size = self.style.no_repeat_ngram
        if not size:
            return []
        last = self.ids[len(self.ids) - size + 1 :] if size > 1 else []
        return [*self.after.get(tuple(last), ())]


class Decoded:
    """Text from tokens as they come, without the part that may still change or be a stop."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.whole = ""  # what was given out
        self.stopped = False
        self._held = ""
        self._ids: list[int] = []
        self._shown = ""  # of the text of `_ids`

    def add(self, token: int) -> str:
        """What may be given out now."""
        self._ids.append(token)
        text = self.tokenizer.decode(self._ids, skip_special_tokens=False)
        if text.endswith(_UNREADABLE) and len(self._ids) < _LATEST:
            return ""
        self._held += text[len(self._shown) :]
        # The last token stays, since what a token reads as may depend on the one before it.
        self._ids = self._ids[-1:]
        self._shown = self.tokenizer.decode(self._ids, skip_special_tokens=False)
        return self._given_out(self._cut())

    def rest(self) -> str:
        """What was held back, at the end."""
        text = self.tokenizer.decode(self._ids, skip_special_tokens=False)
        self._held += text[len(self._shown) :]
        self._ids, self._shown = [], ""
        self._cut()
        return self._given_out(len(self._held))

    def _cut(self) -> int:
        """How much of what is held may go; a stop ends the text before it."""
        found = [at for one in self.stop if (at := self._held.find(one)) >= 0]
        if found:
            self.stopped = True
            self._held = self._held[: min(found)]
            return len(self._held)
        longest = 0
        for one in self.stop:
            for size in range(1, len(one)):
                if self._held.endswith(one[:size]):
                    longest = max(longest, size)
        return len(self._held) - longest

    def _given_out(self, many: int) -> str:
        text, self._held = self._held[:many], self._held[many:]
        self.whole += text
        return text


def banned(bundle: Bundle) -> list[int]:
    """Ids that are no text and no end: padding, unknown, and what the tokenizer does not know."""
    head: Any = bundle.network.head
    size, eos = head.decoder.weight.shape[0], head.eos_id
    special = {bundle.pad_id, bundle.windowing.unknown_id} - {eos}
    unknown = range(bundle.tokenizer.get_vocab_size(), size)
    return sorted({one for one in special if _is_special(bundle, one)} | {*unknown})


def _is_special(bundle: Bundle, token: int) -> bool:
    added = bundle.tokenizer.get_added_tokens_decoder()
    return token in added and added[token].special
