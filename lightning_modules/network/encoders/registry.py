"""Encoders by the `kind` of their description: token vectors in, one vector per document out.

Padding never changes what comes out. Shipped inside the registered model.
"""

from __future__ import annotations

from lightning_modules.network.encoders.lstm import BiLSTMEncoder, LSTMEncoder
from lightning_modules.network.encoders.tanh import TanhEncoder
from lightning_modules.network.encoders.transformer import TransformerEncoder

Encoder = TanhEncoder | LSTMEncoder | BiLSTMEncoder | TransformerEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "tanh": TanhEncoder,
    "lstm": LSTMEncoder,
    "bilstm_attention": BiLSTMEncoder,
    "transformer": TransformerEncoder,
}
