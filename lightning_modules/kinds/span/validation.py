"""A split's figures after an epoch: of the best span over all windows of a question.

A token table holds no texts, so what is compared is what the tokens decode to: the evaluation
compares the texts themselves, which differ from these in what a tokenizer folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor

from lightning_modules.kinds.span.scores import counts
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import load_lossless

if TYPE_CHECKING:
    from lightning_modules.training.data import TokenTable


@dataclass
class _Best:
    """Of the windows that were seen so far of a question."""

    odds: float = -np.inf  # of its best span, against none
    text: str = ""
    total: float = -np.inf  # of all spans
    truth: str = ""
    context: str = ""  # of one of them


class Validation:
    """Loss over all windows; F1 and exact match over questions."""

    def __init__(self, table: TokenTable, tokenizer_json: bytes, facts: Mapping[str, Any]) -> None:
        self.tokenizer: Tokenizer = load_lossless(tokenizer_json)
        self.unanswerable: bool = facts["unanswerable"]
        self.best = [_Best() for _ in range(table.num_documents)]
        self.nats, self.windows = 0.0, 0

    def add(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> None:
        ids_BT = batch["input_ids"]
        log_proba_BS = network(ids_BT, batch["lengths"])
        most = (log_proba_BS.shape[1] - 1) // ids_BT.shape[1]
        targets_B = targets_of(batch, most)
        self.nats -= float(log_proba_BS.gather(1, targets_B.unsqueeze(1)).double().sum())
        self.windows += len(targets_B)
        odds_BS = log_proba_BS[:, 1:] - log_proba_BS[:, :1]
        odds_B, place_B = odds_BS.max(dim=1)
        total_B = odds_BS.logsumexp(dim=1)
        for row, document in enumerate(batch["documents"].tolist()):
            best, ids = self.best[document], ids_BT[row].tolist()
            best.context = best.context or self._text(ids[int(batch["context"][row]) :])
            best.total = float(np.logaddexp(best.total, float(total_B[row])))
            if float(odds_B[row]) > best.odds:
                first, length = divmod(int(place_B[row]), most)
                best.odds = float(odds_B[row])
                best.text = self._text(ids[first : first + length + 1])
            start, end = int(batch["start"][row]), int(batch["end"][row])
            if start >= 0:
                best.truth = self._text(ids[start : end + 1])

    def metrics(self) -> dict[str, float]:
        said = ["" if self.unanswerable and one.total < 0 else one.text for one in self.best]
        right = [[one.truth] for one in self.best]
        exact, f1 = counts(said, right, [one.context for one in self.best]).mean(axis=0)
        loss = self.nats / max(1, self.windows)
        return {"loss": loss, "f1": float(f1), "exact_match": float(exact)}

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def targets_of(batch: Mapping[str, Tensor], most: int) -> Tensor:
    """(B,) the place of each window's answer in what a head says: 0 for none.

    Args:
        most: tokens of the longest answer; of a longer one its first tokens are wanted.
    """
    length_B = (batch["end"] - batch["start"]).clamp(0, most - 1)
    place_B = 1 + batch["start"] * most + length_B
    return place_B.masked_fill(batch["start"] < 0, 0)
