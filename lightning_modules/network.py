"""The plain network: embedding -> encoder -> decoder -> logits. What a bundle stores and a server runs.

This file is shipped inside the registered model: it imports torch and `encoders`, nothing else of this repository.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.encoders import ENCODERS


class TextNetwork(nn.Module):
    """Logits (B, C) of documents given as padded ids (B, T) and lengths (B); what stands in the padding is not read.

    Built from a description of its layers' own sizes, not from a recipe: a model whose fold removed units is described
    and made again like any other.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(description["vocab_size"], description["embedding_dim"])
        encoder = description["encoder"]
        self.encoder = ENCODERS[encoder["kind"]](description["embedding_dim"], encoder)
        self.decoder = nn.Linear(self.encoder.output_size, description["num_classes"])

    def describe(self) -> dict[str, Any]:
        """JSON-able sizes, read from the weights as they are now."""
        vocab_size, embedding_dim = self.embedding.weight.shape
        return {
            "vocab_size": vocab_size,
            "embedding_dim": embedding_dim,
            "encoder": self.encoder.describe(),
            "num_classes": self.decoder.weight.shape[0],
        }

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        mask_BT = torch.arange(input_ids_BT.shape[1], device=lengths_B.device) < lengths_B.unsqueeze(1)
        return self.decoder(self.encoder(self.embedding(input_ids_BT), lengths_B, mask_BT))


def build_network(description: dict[str, Any]) -> TextNetwork:
    """The plain network of a description, with fresh weights."""
    return TextNetwork(description)
