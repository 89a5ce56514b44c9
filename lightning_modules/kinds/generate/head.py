"""The next token: a linear layer on the state, and a counted table beside it where there is one.

    p(w | text) = g_0 softmax(W h + b)_w + sum_m g_m p_m(w | last m tokens)

h is the state after the text, p_m the table's order m, and the shares g are a softmax of what the
network reads of h and of how much was counted after each context: learnt interpolation (Jelinek &
Mercer 1980) in which a network is one of the estimates, so that it learns what counting cannot.

Shapes: B batch, T positions, P positions of all rows, F features of a state, V tokens, M longest
context of the table.
This file is shipped inside the registered model: it imports torch, numpy and what ships with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lightning_modules.kinds.answering import AskedWronglyError
from lightning_modules.kinds.generate.counted import CountedTable
from lightning_modules.kinds.generate.growing import Growing, mixed
from lightning_modules.kinds.generate.writing import Piece, Style, Written, write
from lightning_modules.kinds.heads import Head

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

PROMPT_CHARACTERS = 80  # of a text that is gone on with
_ANSWERS = ("completion", "log_probability", "tokens", "finish_reason")
_BOUND = 4.0  # of what the shares are a softmax of
_FORMS = ("text", "pairs")


class GenerateHead(Head):
    """Log-probabilities (B, V) of the token after each row's end."""

    kind: ClassVar[str] = "generate"
    reads: ClassVar[Literal["document", "states", "positions"]] = "states"
    asked: ClassVar[tuple[str, ...]] = ("prompt",)
    optional: ClassVar[tuple[str, ...]] = ("prompt",)
    blank_is_asked: ClassVar[bool] = True
    compared: ClassVar[str] = "completions"

    def __init__(self, features: int, description: Mapping[str, Any]) -> None:
        super().__init__(features, description)
        self.eos_id: int = description["eos_id"]
        # A backbone brings its own, which the method may freeze as it does the rest.
        self.new_with_the_task = description["encoder"]["kind"] != "pretrained"  # pyright: ignore[reportAttributeAccessIssue]
        vocab_size = description["head_size"]
        self.decoder = nn.Linear(features, vocab_size)
        counted = description.get("counted")
        self.counted = CountedTable(counted, vocab_size) if counted else None
        if self.counted is not None:
            orders = len(self.counted.orders)
            self.gate = nn.Linear(features + orders, orders + 1)

    def describe(self) -> dict[str, Any]:
        counted = {} if self.counted is None else {"counted": self.counted.describe()}
        return {**counted, "head_size": self.decoder.weight.shape[0], "eos_id": self.eos_id}

    def readers(self) -> list[nn.Linear]:
        return [self.decoder] if self.counted is None else [self.decoder, self.gate]

    # --- what it makes of states

    def forward(self, states_BTF: Tensor, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        row = torch.arange(len(lengths_B), device=lengths_B.device)
        last_BF = states_BTF[row, lengths_B - 1]
        contexts = self.contexts(input_ids_BT)[row.cpu().numpy(), (lengths_B - 1).cpu().numpy()]
        return self.next_log_proba(last_BF, contexts)

    @property
    def longest(self) -> int:
        """M; 0 without a table."""
        return 0 if self.counted is None else self.counted.longest

    def contexts(self, input_ids_BT: Tensor) -> np.ndarray:
        """(B, T, M): the last M ids up to each position; before a row there is the end of another
        text.
        """
        ids = input_ids_BT.cpu().numpy()
        before = np.full((len(ids), max(0, self.longest - 1)), self.eos_id, ids.dtype)
        padded = np.concatenate([before, ids], axis=1)
        if not self.longest:
            return np.empty((*ids.shape, 0), ids.dtype)
        return np.lib.stride_tricks.sliding_window_view(padded, self.longest, axis=1)

    def next_log_proba(self, states_PF: Tensor, contexts_PM: np.ndarray) -> Tensor:
        """(P, V) natural logarithms."""
        table = self.counted
        if table is None:
            return self.decoder(states_PF).log_softmax(dim=-1)
        places = table.places(contexts_PM)
        return self._mixed(states_PF, table.seen(places), partial(table.mixed, places))

    def next_of_growing(self, state_F: Tensor, growing: Growing) -> Tensor:
        """(V,) natural logarithms after one text, as far as its table has followed it."""
        known = growing.look()
        seen = np.array([[0 if one is None else one.total for one in known]])

        def table(shares: np.ndarray) -> np.ndarray:
            return mixed(known, shares[0], growing.table.vocab_size)[None, :]

        return self._mixed(state_F[None, :], seen, table)[0]

    def _mixed(
        self, states_PF: Tensor, seen_PE: np.ndarray, table: Callable[[np.ndarray], np.ndarray]
    ) -> Tensor:
        """(P, V) of network and table together.

        Args:
            seen_PE: how much was counted after the context of each order.
            table: from the shares of the orders (P, E) to what they say together (P, V).
        """
        deep_PV = self.decoder(states_PF).log_softmax(dim=-1)
        counts = torch.from_numpy(np.log1p(seen_PE)).to(deep_PV.device, deep_PV.dtype)
        shares = self.shares(states_PF, counts)
        of_orders = shares[:, 1:].exp().double().cpu().numpy()
        table_PV = torch.from_numpy(table(of_orders)).to(deep_PV.device, deep_PV.dtype)
        return torch.logaddexp(shares[:, :1] + deep_PV, table_PV.log())

    def of_targets(
        self, states_PF: Tensor, targets_P: Tensor, said: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """log p (P,) of given tokens, of the whole and of the network by itself.

        Args:
            said: what a table says of them (P, orders), log p and log(1 + seen).
        """
        deep_P = self.decoder(states_PF).log_softmax(dim=-1)
        deep_P = deep_P.gather(1, targets_P.unsqueeze(1)).squeeze(1)
        if said is None:
            return deep_P, deep_P
        table_PE, seen_PE = said
        parts = torch.cat([deep_P.unsqueeze(1), table_PE], dim=1)
        return (self.shares(states_PF, seen_PE) + parts).logsumexp(dim=1), deep_P

    def shares(self, states_PF: Tensor, seen_PE: Tensor) -> Tensor:
        """log g (P, 1 + orders): the network's share, then those of the orders.

        Args:
            seen_PE: log(1 + how much was counted after the context of each order).
        """
        read = self.gate(torch.cat([states_PF, seen_PE / _BOUND], dim=1))
        # A share that has become next to nothing could not grow any more: while the network has
        # learnt little, all would go to the longest context, and stay there.
        return (_BOUND * torch.tanh(read / _BOUND)).log_softmax(dim=-1)

    # --- what it answers

    @classmethod
    def fault(cls, facts: Mapping[str, Any]) -> str | None:
        if facts.get("form") not in _FORMS:
            return "form"
        template = facts.get("template")
        if not isinstance(template, str) or template.count("{prompt}") != 1:
            return "template"
        if not isinstance(facts.get("adaptive", False), bool):
            return "adaptive"
        writing = facts.get("writing")
        if not isinstance(writing, dict):
            return "writing"
        try:
            Style.of(writing)
        except (TypeError, ValueError):
            return "writing"
        return None

    def check(self, facts: Mapping[str, Any], output: np.ndarray) -> str | None:
        size = self.decoder.weight.shape[0]
        if output.shape != (1, size) or not 0 <= self.eos_id < size:
            return f"eos_id {self.eos_id} is none of the {size} tokens of its head"
        return None

    def predict(
        self, bundle: Bundle, columns: Mapping[str, Sequence[Any]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        """`completion`, its `log_probability` (nats), its number of `tokens`, and why it ended
        (`finish_reason`: end of text, stop, length), of each `prompt`; a prompt that is null has
        none.

        Each text is written by itself, in the same steps whatever stands beside it.
        """
        style = style_of(bundle, params)
        answers = [
            dict.fromkeys(_ANSWERS)
            if prompt is None
            else _answer(self.complete(bundle, prompt, style))
            for prompt in columns["prompt"]
        ]
        return {name: [one[name] for one in answers] for name in _ANSWERS}

    @staticmethod
    def complete(bundle: Bundle, prompt: str, style: Style) -> Written:
        """The whole of what is written after a prompt."""
        pieces = list(write(bundle, prompt, style))
        assert pieces[-1].written is not None  # the last one tells of the whole
        return pieces[-1].written

    def stream(
        self, bundle: Bundle, columns: Mapping[str, str], params: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """The same of one prompt as it is written: the `piece` of text, and with the last one the
        whole `answer`.
        """
        style = style_of(bundle, params)
        return _plain(write(bundle, columns["prompt"], style))

    # --- the same where it is served

    @classmethod
    def columns(cls, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return ("text",) if facts["form"] == "text" else ("prompt",)

    @classmethod
    def questions(
        cls, facts: Mapping[str, Any], rows: Mapping[str, Sequence[Any]]
    ) -> dict[str, list[Any]]:
        """A text is gone on with from its beginning."""
        if facts["form"] == "pairs":
            return {"prompt": list(rows["prompt"])}
        return {"prompt": [beginning(text) for text in rows["text"]]}

    @classmethod
    def question(cls, measured: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The prompts after which the evaluation wrote."""
        return {"prompt": [text for text in measured["asked"] if text is not None]}

    @classmethod
    def differences(
        cls,
        facts: Mapping[str, Any],
        measured: Mapping[str, Sequence[Any]],
        answer: Mapping[str, Any],
    ) -> list[float]:
        """How far the log-probability of each completion is off; infinity for another text."""
        rows = [row for row, text in enumerate(measured["asked"]) if text is not None]
        for name in ("completion", "log_probability"):
            if not isinstance(answer.get(name), list) or len(answer[name]) != len(rows):
                raise ValueError(f"it answers without {name}")
        away = []
        for place, row in enumerate(rows):
            same = answer["completion"][place] == measured["written"][row]
            off = abs(answer["log_probability"][place] - measured["written_log_probability"][row])
            away.append(off if same else float("inf"))
        return away


def _plain(pieces: Iterator[Piece]) -> Iterator[dict[str, Any]]:
    for piece in pieces:
        answer = None if piece.written is None else _answer(piece.written)
        yield {"piece": piece.text, "answer": answer}


def _answer(written: Written) -> dict[str, Any]:
    return {
        "completion": written.text,
        "log_probability": written.log_probability,
        "tokens": written.tokens,
        "finish_reason": written.finish_reason,
    }


def beginning(text: str) -> str:
    """The first words of a text, at most half of it."""
    size = min(PROMPT_CHARACTERS, len(text) // 2)
    space = text.rfind(" ", size // 2, size)
    return text[: space if space > 0 else size]


def style_of(bundle: Bundle, params: Mapping[str, Any]) -> Style:
    """How to write: what is asked, over what the recipe says.

    Raises:
        AskedWronglyError: naming the parameter and what it may be.
    """
    # MLflow hands on what nobody said as null or, of a list, as none.
    given = {name: value for name, value in params.items() if value is not None and value != []}
    try:
        return Style.of({**bundle.facts["writing"], **given})
    except (TypeError, ValueError) as error:
        raise AskedWronglyError(str(error)) from error
