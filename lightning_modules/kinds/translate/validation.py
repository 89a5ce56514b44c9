"""A split's figures after an epoch: what given translations cost, and what greedy ones are like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor

from data_contracts.tables.take import evenly
from lightning_modules.kinds.translate.scores import Scores, bleu, chrf
from lightning_modules.kinds.translate.scoring import Sides, nats_of
from lightning_modules.kinds.translate.search import Search, look_for
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import load_lossless
from lightning_modules.reparameterizations import fold

if TYPE_CHECKING:
    from lightning_modules.training.data import TokenTable

_TRANSLATED = 500  # pairs, evenly chosen: a few seconds
_GREEDY = Search(beam=1)


class Validation:
    """NLL over all pairs; chrF and BLEU over `_TRANSLATED` of them, translated greedily."""

    def __init__(self, table: TokenTable, tokenizer_json: bytes, facts: Mapping[str, Any]) -> None:
        self.table, self.facts = table, facts
        self.tokenizer = load_lossless(tokenizer_json)
        self.network: TextNetwork | None = None
        self.sums = np.zeros(2)

    def add(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> None:
        self.network = network
        self.sums += nats_of(network, Sides.of_batch(batch)).sum(axis=0)

    def metrics(self) -> dict[str, float]:
        assert self.network is not None  # a split that is empty is refused before
        # Plain layers go on step by step several times as fast.
        network = cast(TextNetwork, fold(self.network))
        said, right = [], []
        window = int(self.table.lengths.max())
        head: Any = network.head
        spelling = head.spelling(self.tokenizer)
        for row in evenly(len(self.table), _TRANSLATED):
            start, context = self.table.starts[row], self.table.columns["context"][row]
            ids = self.table.ids[start : start + self.table.lengths[row]].tolist()
            found = look_for(network, ids[: context - 1], _GREEDY, window, spelling)
            said.append(self._text(found.ids))
            right.append(self._text(ids[context:-1]))
        loss = float(self.sums[0] / max(1.0, self.sums[1]))
        sums = Scores(self.facts["target_script"]).counts(said, right).sum(axis=0, keepdims=True)
        figures = {"chrf": float(chrf(sums)[0]), "bleu": float(bleu(sums)[0])}
        return {"loss": loss, "nll": loss, **figures}

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)
