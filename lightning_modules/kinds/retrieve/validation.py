"""A split's figures after an epoch: each of its questions among the answers to all of them.

Shapes: N questions, A answers, D size of a vector, K kinds of shared words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from data_contracts.tables.take import evenly
from lightning_modules.kinds.retrieve.figures import figures_of, ranks
from lightning_modules.kinds.retrieve.towers import towers
from lightning_modules.network.network import TextNetwork

if TYPE_CHECKING:
    from lightning_modules.kinds.retrieve.head import RetrieveHead
    from lightning_modules.kinds.retrieve.objective import RetrievalModel
    from lightning_modules.training.data import TokenTable

_ASKED = 2_000  # questions, evenly chosen, of which the rank is looked for
_AT_ONCE = 256


class Validation:
    """Ranks of `_ASKED` questions among the answers of the split, and what the right ones cost."""

    def __init__(self, objective: RetrievalModel, table: TokenTable) -> None:
        self.objective, self.table = objective, table
        self.network: TextNetwork | None = None
        self.questions: dict[int, np.ndarray] = {}  # (D,) by row
        self.answers: dict[int, np.ndarray] = {}  # (D,) by number

    @torch.no_grad()
    def add(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> None:
        self.network = network
        questions, answers = (one.cpu().numpy() for one in towers(network, batch))
        self.questions |= zip(batch["rows"].tolist(), questions, strict=True)
        self.answers |= zip(batch["numbers"].tolist(), answers, strict=True)

    @torch.no_grad()
    def metrics(self) -> dict[str, float]:
        assert self.network is not None  # a split that is empty is refused before
        head = cast("RetrieveHead", self.network.head)
        numbers = np.array(sorted(self.answers), np.int64)
        answers = np.stack([self.answers[number] for number in numbers.tolist()])
        keys, asked = np.unique(self.table.columns["question_key"], return_inverse=True)
        given = np.searchsorted(numbers, self.table.columns["answer"])
        ones = np.ones(len(given), np.float32)
        is_right = sparse.csr_matrix((ones, (asked, given)), (len(keys), len(numbers)))
        shared = self.objective.shared_words_of(self.table)
        rows = evenly(len(self.table), _ASKED)
        ranked, nats = [], 0.0
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            vectors = np.stack([self.questions[row] for row in some.tolist()])
            words = np.zeros((len(some), len(numbers), 0), np.float32)
            if shared is not None:
                words = shared.between(some, numbers)
            scores = head.scores(torch.from_numpy(vectors @ answers.T), torch.from_numpy(words))
            proba = scores.double().log_softmax(dim=-1).numpy()
            right = is_right[asked[some]].toarray() > 0
            ranked.append(ranks(scores.numpy(), right))
            nats -= np.log((np.exp(proba) * right).sum(axis=1).clip(1e-300)).sum()
        found = figures_of(np.concatenate(ranked))
        return {"loss": float(nats / len(rows)), **found}
