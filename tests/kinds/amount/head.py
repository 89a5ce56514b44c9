from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn

from lightning_modules.kinds.heads import Head

from .scaling import softplus

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle


class AmountHead(Head):
    kind: ClassVar[str] = "amount"
    asked: ClassVar[tuple[str, ...]] = ("said",)

    def __init__(self, features: int, description: Mapping[str, Any]) -> None:
        super().__init__(features, description)
        self.amount = nn.Linear(features, 1)

    def readers(self) -> list[nn.Linear]:
        return [self.amount]

    def forward(self, document_BF: Tensor, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        return softplus(self.amount(document_BF)).squeeze(1)

    @classmethod
    def fault(cls, facts: Mapping[str, Any]) -> str | None:
        return None if isinstance(facts.get("scale"), float) else "scale"

    def predict(
        self, bundle: Bundle, columns: Mapping[str, Sequence[str]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        windows, document = bundle.encode(columns["said"])
        total = np.zeros(len(columns["said"]))
        for rows, amounts in bundle.run(windows):
            np.add.at(total, document[rows], amounts)
        return {"amount": (total * bundle.facts["scale"]).tolist()}

    @classmethod
    def differences(
        cls,
        facts: Mapping[str, Any],
        measured: Mapping[str, Sequence[Any]],
        answer: Mapping[str, Any],
    ) -> list[float]:
        if not isinstance(answer.get("amount"), list):
            raise ValueError("it answers without amount")
        return np.abs(np.subtract(answer["amount"], measured["said_amount"])).tolist()
