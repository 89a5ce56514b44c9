"""Encoders by the `kind` of their description: token vectors in, one vector per document out.

Padding never changes what comes out. An encoder with `read` goes from left to right, so that it
also has a state at every position that knows what stands before it and nothing else. Shipped inside
the registered model.
"""

from __future__ import annotations

from lightning_modules.network.encoders.causal import CausalTransformer
from lightning_modules.network.encoders.lstm import BiLSTMEncoder, LSTMEncoder
from lightning_modules.network.encoders.tanh import TanhEncoder
from lightning_modules.network.encoders.transformer import TransformerEncoder

Encoder = TanhEncoder | LSTMEncoder | BiLSTMEncoder | TransformerEncoder | CausalTransformer

ENCODERS: dict[str, type[Encoder]] = {
    "tanh": TanhEncoder,
    "lstm": LSTMEncoder,
    "bilstm_attention": BiLSTMEncoder,
    "transformer": TransformerEncoder,
    "causal_transformer": CausalTransformer,
}
