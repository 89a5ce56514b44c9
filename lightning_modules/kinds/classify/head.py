"""One label of several: logits from the document's vector, and n-grams straight to them.
What is answered from them, `answering.py` beside this says.

Shapes: B batch, T positions, F features of a document, C classes.
This file is shipped inside the registered model: it imports torch and what ships with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_modules.kinds.classify.answering import Answers
from lightning_modules.kinds.classify.wide import WideLogits
from lightning_modules.kinds.heads import Head


class ClassifyHead(Answers, Head):
    """Logits (B, C): a linear layer on the document's vector, plus those of its n-grams where there
    is such a table.
    """

    kind: ClassVar[str] = "classify"

    def __init__(self, features: int, description: Mapping[str, Any]) -> None:
        super().__init__(features, description)
        classes = description["num_classes"]
        self.decoder = nn.Linear(features, classes)
        wide = description.get("wide")
        self.wide = WideLogits(wide, classes) if wide else None

    def describe(self) -> dict[str, Any]:
        # No key where there are no n-grams: the description of before there were any.
        wide = {"wide": self.wide.describe()} if self.wide else {}
        return {**wide, "num_classes": self.decoder.weight.shape[0]}

    def readers(self) -> list[nn.Linear]:
        return [self.decoder]

    def share_rows(self, shared: Callable[[nn.Module], nn.Module]) -> None:
        if self.wide is not None:
            self.wide.table = shared(self.wide.table)

    def forward(self, document_BF: Tensor, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        deep_BC, wide_BC = self.parts(document_BF, input_ids_BT, lengths_B)
        return deep_BC if wide_BC is None else deep_BC + wide_BC

    def parts(
        self, document_BF: Tensor, input_ids_BT: Tensor, lengths_B: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What the logits (B, C) are the sum of: the decoder's, and those of the n-grams where
        there are any.
        """
        # In this order: a method may draw noise in both, from one generator.
        deep_BC = self.decoder(document_BF)
        return deep_BC, None if self.wide is None else self.wide(input_ids_BT, lengths_B)
