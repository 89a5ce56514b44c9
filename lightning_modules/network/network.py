"""The plain network: embedding -> encoder -> decoder -> logits, and n-grams beside. What a bundle stores and a server
runs.

This file is shipped inside the registered model: it imports torch, `encoders` and `pretrained`, nothing else of this
repository.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.network.encoders import (
    ENCODERS,
    CompactEmbedding,
    NgramFeatures,
    WideLogits,
    token_table,
)
from lightning_modules.network.pretrained import PretrainedEncoder


class TextNetwork(nn.Module):
    """Logits (B, C) of documents given as padded ids (B, T) and lengths (B); what stands in the padding is not read.

    Built from a description of its layers' own sizes, not from a recipe: a model whose fold removed units is described
    and made again like any other.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        encoder = description["encoder"]
        pretrained = encoder["kind"] == "pretrained"  # with an embedding of its own within
        self.embedding: Any = (
            nn.Identity()
            if pretrained
            else token_table(
                description["vocab_size"],
                description["embedding_dim"],
                description.get("embedding_rows"),
            )
        )
        self.encoder = (
            PretrainedEncoder(encoder)
            if pretrained
            else ENCODERS[encoder["kind"]](description["embedding_dim"], encoder)
        )
        ngrams = description.get("ngrams")
        self.ngrams = NgramFeatures(ngrams) if ngrams else None
        features = self.encoder.output_size + (self.ngrams.output_size if self.ngrams else 0)
        self.decoder = nn.Linear(features, description["num_classes"])
        wide = description.get("wide")
        self.wide = WideLogits(wide, description["num_classes"]) if wide else None

    def describe(self) -> dict[str, Any]:
        """JSON-able sizes, read from the weights as they are now."""
        embedding: dict[str, Any] = {}
        if not isinstance(self.encoder, PretrainedEncoder):
            rows, size = self.embedding.weight.shape
            ids = (
                len(self.embedding.index) if isinstance(self.embedding, CompactEmbedding) else rows
            )
            embedding = {"vocab_size": ids, "embedding_dim": size, "embedding_rows": rows}
        return {
            **embedding,
            "encoder": self.encoder.describe(),
            "ngrams": self.ngrams and self.ngrams.describe(),
            **(
                {"wide": self.wide.describe()} if self.wide else {}
            ),  # none: the description of before there were any
            "num_classes": self.decoder.weight.shape[0],
        }

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        deep_BC, wide_BC = self.parts(input_ids_BT, lengths_B)
        return deep_BC if wide_BC is None else deep_BC + wide_BC

    def parts(self, input_ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the logits (B, C) are the sum of: the decoder's, and those of the n-grams where there are any."""
        mask_BT = torch.arange(
            input_ids_BT.shape[1], device=lengths_B.device
        ) < lengths_B.unsqueeze(1)
        document_BF = self.encoder(self.embedding(input_ids_BT), lengths_B, mask_BT)
        if self.ngrams is not None:
            document_BF = torch.cat([document_BF, self.ngrams(input_ids_BT, lengths_B)], dim=-1)
        return self.decoder(document_BF), None if self.wide is None else self.wide(
            input_ids_BT, lengths_B
        )


def build_network(description: dict[str, Any]) -> TextNetwork:
    """The plain network of a description, with fresh weights."""
    return TextNetwork(description)
