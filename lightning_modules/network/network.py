"""The plain network: embedding -> encoder -> head, and n-grams beside. What a bundle stores and a
server runs.

This file is shipped inside the registered model: it imports torch and what ships with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_modules.kinds.answering import DEFAULT_KIND
from lightning_modules.kinds.heads import Head, Positions, head_class
from lightning_modules.network.embedding import CompactEmbedding, token_table
from lightning_modules.network.encoders.ngrams import NgramFeatures
from lightning_modules.network.encoders.pretrained import PretrainedEncoder
from lightning_modules.network.encoders.registry import ENCODERS

_HEAD = "head."


class TextNetwork(nn.Module):
    """What a head makes of documents given as padded ids (B, T) and lengths (B); what stands in the
    padding is not read.

    Built from a description of its layers' own sizes, not from a recipe: a model whose fold removed
    units is described and made again like any other.
    """

    BODY: ClassVar[tuple[str, ...]] = ("embedding", "encoder", "ngrams")

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        encoder = description["encoder"]
        self.embedding: Any
        self.encoder: Any
        if encoder["kind"] == "pretrained":  # with an embedding of its own within
            self.embedding = nn.Identity()
            self.encoder = PretrainedEncoder(encoder)
        else:
            ids, size = description["vocab_size"], description["embedding_dim"]
            self.embedding = token_table(ids, size, description.get("embedding_rows"))
            self.encoder = ENCODERS[encoder["kind"]](size, encoder)
        ngrams = description.get("ngrams")
        self.ngrams = NgramFeatures(ngrams) if ngrams else None
        kind = head_class(description.get("kind", DEFAULT_KIND))
        if (why := self._lacks(kind.reads)) is not None:
            raise ValueError(f"a head of kind {kind.kind} {why}")
        features = self.encoder.output_size + (self.ngrams.output_size if self.ngrams else 0)
        if kind.reads == "positions":
            features = self.encoder.position_size
        self.head: Head | Any = kind(features, description)
        if clash := {name for name, _ in self.head.named_children()} & {*self.BODY}:
            raise ValueError(f"a head may have no part called {clash.pop()!r}")

    def describe(self) -> dict[str, Any]:
        """JSON-able sizes, read from the weights as they are now."""
        embedding: dict[str, Any] = {}
        if not isinstance(self.encoder, PretrainedEncoder):
            rows, size = self.embedding.weight.shape
            embedding = {"vocab_size": self.ids, "embedding_dim": size, "embedding_rows": rows}
        kind = self.head.kind
        return {
            **({} if kind == DEFAULT_KIND else {"kind": kind}),
            **embedding,
            "encoder": self.encoder.describe(),
            "ngrams": self.ngrams and self.ngrams.describe(),
            **self.head.describe(),
        }

    @property
    def ids(self) -> int:
        """How many token ids there are vectors of."""
        if isinstance(self.encoder, PretrainedEncoder):
            backbone: Any = self.encoder.backbone
            return backbone.get_input_embeddings().weight.shape[0]
        compact = isinstance(self.embedding, CompactEmbedding)
        return len(self.embedding.index) if compact else self.embedding.weight.shape[0]

    def _lacks(self, reads: str) -> str | None:
        """Why this body has not what a head reads; None where it has."""
        encoder = self.encoder
        if reads == "document":
            return None
        left_to_right = hasattr(encoder, "read") and getattr(encoder, "causal", True)
        if reads == "states" and not left_to_right:
            kind = encoder.describe()["kind"]
            return f"needs an encoder that reads from left to right, and {kind} does not"
        if reads == "positions" and not hasattr(encoder, "states"):
            kind = encoder.describe()["kind"]
            return f"looks at each token, and {kind} has no state of each"
        if self.ngrams is not None:
            return "reads states, and n-grams of a whole document have none"
        return None

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        read: Any
        if self.head.reads == "states":
            read, _ = self.read(input_ids_BT)
        elif self.head.reads == "positions":
            read = Positions(self.positions(input_ids_BT, lengths_B), self.embedding)
        else:
            read = self.features(input_ids_BT, lengths_B)
        return self.head(read, input_ids_BT, lengths_B)

    def read(self, input_ids_BT: Tensor, carry: Any = None) -> tuple[Tensor, Any]:
        """The state (B, T, F) at each position, of what stands up to it; and what a later call goes
        on from, as if both had been read at once.

        What stands behind a row's end in its padding has no part in the states before it.
        """
        return self.encoder.read(self.embedding(input_ids_BT), carry)

    def positions(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """The state (B, T, F) at each position, of the whole document; what stands in the padding
        has no part in the others.
        """
        mask_BT = _inside(input_ids_BT, lengths_B)
        return self.encoder.states(self.embedding(input_ids_BT), lengths_B, mask_BT)

    def features(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """The documents' vectors (B, F): the encoder's, and those of the n-grams where there are
        any.
        """
        mask_BT = _inside(input_ids_BT, lengths_B)
        document_BF = self.encoder(self.embedding(input_ids_BT), lengths_B, mask_BT)
        if self.ngrams is None:
            return document_BF
        return torch.cat([document_BF, self.ngrams(input_ids_BT, lengths_B)], dim=-1)

    def stored(self) -> dict[str, Tensor]:
        """The state dict as a bundle holds it: the head's tensors stand beside the body's, without
        a prefix.
        """
        return {name.removeprefix(_HEAD): value for name, value in self.state_dict().items()}

    @classmethod
    def unstored(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of what a bundle holds."""
        return {
            name if name.partition(".")[0] in cls.BODY else _HEAD + name: tensor
            for name, tensor in tensors.items()
        }


def _inside(input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """(B, T) whether a position is none of the padding."""
    position_T = torch.arange(input_ids_BT.shape[1], device=lengths_B.device)
    return position_T < lengths_B.unsqueeze(1)


def build_network(description: dict[str, Any]) -> TextNetwork:
    """The plain network of a description, with fresh weights."""
    return TextNetwork(description)
