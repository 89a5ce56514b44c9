"""Which span of a context answers a question, or that none does.

    a_t = sum_q softmax_q(relu(W e_t) . relu(W e_q)) e_q      the question as token t sees it
    b_t = sum_q softmax_q(V h_t . V' h_q) h_q                 the same of the encoder's states
    r   = BiLSTM(relu(M [h ; b ; h b ; a ; f]))               f: how tokens match the question
    p(i, j) = softmax over spans, and over none of them, of
              s(r_i, f_i) + t(r_j, f_j) + u(r_i) . v(r_j) + l_(j - i),    or z(r) at the separator

The aligned question and the matches are DrQA's (Chen 2017, https://arxiv.org/abs/1704.00051), one
softmax over all spans RaSoR's (Lee 2016, https://arxiv.org/abs/1611.01436), and that none of them
may be right in a window that of Clark & Gardner 2017 (https://arxiv.org/abs/1710.10723). `s` and
`t` read the matches directly, too, so that where the question's words stand is known from the
first step on.

Shapes: B rows, T positions, Q of them up to the separator, F size of a state, L longest answer in
tokens, R size of the pointers' product.
This file is shipped inside the registered model: it imports torch and what ships with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.kinds.heads import Head, Positions
from lightning_modules.kinds.span.choosing import ANSWERS, Decision, answer_of, told
from lightning_modules.kinds.span.matching import FEATURES, Matches, Parts, parts_of
from lightning_modules.kinds.span.windows import Window, windows_of
from lightning_modules.network.encoders.lstm import BiLSTMEncoder

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

# What an evaluation calls the answers.
_MEASURED = {
    "answer": "predicted",
    "answer_start": "predicted_start",
    "probability": "probability",
    "outcome": "outcome",
}


class SpanHead(Head):
    """Log-probabilities (B, 1 + T L): of no answer in this window, then of each first token and
    each length.
    """

    kind: ClassVar[str] = "span"
    reads: ClassVar[Literal["document", "states", "positions"]] = "positions"
    asked: ClassVar[tuple[str, ...]] = ("question", "context")
    compared: ClassVar[str] = "answers"

    def __init__(self, features: int, description: Mapping[str, Any]) -> None:
        super().__init__(features, description)
        self.sep_id: int = description["sep_id"]
        self.closing: int = description["closing"]
        sizes = description["reader"]
        inner: int = sizes["attention"]
        embedded: int = description.get("embedding_dim") or 0
        self.align = nn.Linear(embedded, inner) if embedded else None
        self.key, self.query = nn.Linear(features, inner), nn.Linear(features, inner)
        self.mix = nn.Linear(3 * features + embedded + FEATURES, sizes["mixed"])
        self.reader = BiLSTMEncoder(
            sizes["mixed"], {"hidden_sizes": sizes["hidden_sizes"], "attention_size": None}
        )
        read: int = self.reader.position_size
        self.points = nn.Linear(read, 2)
        self.pairs = nn.Linear(read, 2 * sizes["rank"])
        self.prior = nn.Linear(FEATURES, 2)
        self.nothing = nn.Linear(read, 1)
        self.lengths = nn.Parameter(torch.zeros(description["max_answer"]))
        self.matches = Matches()
        self.idf: Tensor
        self.register_buffer("idf", torch.zeros(description["head_size"]))

    def describe(self) -> dict[str, Any]:
        return {
            "head_size": len(self.idf),
            "sep_id": self.sep_id,
            "closing": self.closing,
            "max_answer": len(self.lengths),
            "reader": {
                "attention": self.key.bias.shape[0],
                "mixed": self.mix.bias.shape[0],
                "hidden_sizes": self.reader.describe()["hidden_sizes"],
                "rank": self.pairs.bias.shape[0] // 2,
            },
        }

    # --- what it makes of states

    def forward(self, read: Positions, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        parts = parts_of(input_ids_BT, lengths_B, self.sep_id, self.closing)
        idf_BT = self.idf[input_ids_BT]
        matches_BTM = self.matches(input_ids_BT, parts, idf_BT).to(read.states_BTF.dtype)
        read_BTR = self.reader.states(
            self._with_question(read, input_ids_BT, parts, matches_BTM), lengths_B, parts.context_BT
        )
        spans_BTL = self._spans(read_BTR, matches_BTM, parts.context_BT)
        row_B = torch.arange(len(read_BTR), device=read_BTR.device)
        nothing_B1 = self.nothing(read_BTR[row_B, parts.separator_B])
        return torch.cat([nothing_B1, spans_BTL.flatten(1)], dim=1).log_softmax(dim=1)

    def _with_question(
        self, read: Positions, ids_BT: Tensor, parts: Parts, matches_BTM: Tensor
    ) -> Tensor:
        """(B, T, mixed) each token beside what it sees of the question."""
        h_BTF = read.states_BTF
        width = parts.asked_BQ.shape[1]
        asked_BQF = h_BTF[:, :width]
        scores_BTQ = self.query(h_BTF) @ self.key(asked_BQF).transpose(1, 2)
        seen_BTF = _look(scores_BTQ, self.key.bias.shape[0], parts.asked_BQ) @ asked_BQF
        found = [h_BTF, seen_BTF, h_BTF * seen_BTF, matches_BTM]
        if self.align is not None:
            e_BTD = read.embedding(ids_BT)
            aligned_BTA = F.relu(self.align(e_BTD))
            scores_BTQ = aligned_BTA @ aligned_BTA[:, :width].transpose(1, 2)
            where_BTQ = _look(scores_BTQ, aligned_BTA.shape[-1], parts.asked_BQ)
            found.append(where_BTQ @ e_BTD[:, :width])
        return F.relu(self.mix(torch.cat(found, dim=-1)))

    def _spans(self, read_BTR: Tensor, matches_BTM: Tensor, context_BT: Tensor) -> Tensor:
        """(B, T, L) what speaks for the span of each first token and each length."""
        most, T = len(self.lengths), read_BTR.shape[1]
        points_BT2 = self.points(read_BTR) + self.prior(matches_BTM)
        u_BTR, v_BTR = self.pairs(read_BTR).chunk(2, dim=-1)
        together_BTT = (u_BTR / math.sqrt(u_BTR.shape[-1])) @ v_BTR.transpose(1, 2)
        together_BTT = together_BTT + points_BT2[..., 1].unsqueeze(1)
        position_T = torch.arange(T, device=read_BTR.device)
        last_TL = position_T.unsqueeze(1) + torch.arange(most, device=read_BTR.device)
        beyond_TL = last_TL >= T
        last_TL = last_TL.clamp_max(T - 1)
        spans_BTL = together_BTT.gather(2, last_TL.expand(len(read_BTR), T, most))
        spans_BTL = spans_BTL + points_BT2[..., 0].unsqueeze(2) + self.lengths
        inside_BTL = context_BT.unsqueeze(2) & context_BT[:, last_TL] & ~beyond_TL
        # Finite, so that the difference of two such spans is a number.
        return spans_BTL.masked_fill(~inside_BTL, torch.finfo(spans_BTL.dtype).min / 4)

    # --- what it answers

    @classmethod
    def fault(cls, facts: Mapping[str, Any]) -> str | None:
        if not isinstance(facts.get("script"), str):
            return "script"
        if not isinstance(facts.get("unanswerable"), bool):
            return "unanswerable"
        if facts.get("choose") not in ("likeliest", "expected_f1"):
            return "choose"
        try:
            Decision.of(facts["decision"])
        except (KeyError, TypeError, ValueError):
            return "decision"
        return None

    def check(self, facts: Mapping[str, Any], output: np.ndarray) -> str | None:
        if not 0 <= self.sep_id < len(self.idf):
            return f"sep_id {self.sep_id} is none of the {len(self.idf)} tokens of its head"
        if output.shape[-1] % len(self.lengths) != 1 % len(self.lengths):
            return f"its output is not of answers up to {len(self.lengths)} tokens"
        return None

    def predict(
        self, bundle: Bundle, columns: Mapping[str, Sequence[Any]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        """`answer` with its `answer_start` in characters of the context, the `probability` that it
        is right, and the `outcome`: answered, unanswerable or abstained.

        Each question is read by itself, so that it has the same answer whatever stands beside it.
        """
        contexts = columns["context"]
        decision = Decision.of(bundle.facts["decision"])
        windows = windows_of(
            bundle.lossless_tokenizer, bundle.windowing, self.sep_id, columns["question"], contexts
        )
        answers = []
        for context, some in zip(contexts, windows, strict=True):
            found = answer_of(self.log_proba(bundle, some), some, bundle.facts["choose"])
            answers.append(told(found, context, decision, bundle.facts["unanswerable"]))
        return {name: [getattr(one, name) for one in answers] for name in ANSWERS}

    @staticmethod
    @torch.inference_mode()
    def log_proba(bundle: Bundle, windows: Sequence[Window]) -> Tensor:
        """(W, 1 + T L) of the windows of one question, which are of one length."""
        network = bundle.network
        device = next(network.parameters()).device
        ids_WT = torch.tensor([window.ids for window in windows], device=device)
        lengths_W = torch.full((len(windows),), ids_WT.shape[1], device=device)
        return network(ids_WT, lengths_W).double().cpu()

    @classmethod
    def differences(
        cls,
        facts: Mapping[str, Any],
        measured: Mapping[str, Sequence[Any]],
        answer: Mapping[str, Any],
    ) -> list[float]:
        """How far the probability is another one; infinity where the answer is."""
        wanted = {name: measured[called] for name, called in _MEASURED.items()}
        return super().differences(facts, wanted, answer)


def _look(scores_BTQ: Tensor, size: int, asked_BQ: Tensor) -> Tensor:
    """(B, T, Q) where each token looks in the question."""
    scores_BTQ = scores_BTQ / math.sqrt(size)
    return scores_BTQ.masked_fill(~asked_BQ.unsqueeze(1), -torch.inf).softmax(dim=-1)
