"""LSTMs: one from left to right, or a pair that attention pools. Padding never changes what comes
out.

Shapes: B batch, T positions, D size of a token's vector, H hidden units per direction. Shipped
inside the registered model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.network.encoders.pooling import width


class LSTMEncoder(nn.Module):
    """Stacked LSTMs from left to right (Hochreiter & Schmidhuber 1997); the state at each
    document's own last token.

    Padding stands on the right, so what an LSTM has read by that token is the document and nothing
    else.
    """

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for size in description["hidden_sizes"]:
            self.layers.append(new_lstm(input_size, size))
            input_size = size
        self.output_size = self.position_size = input_size

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "lstm",
            "hidden_sizes": [width(layer.weight_hh_l0) for layer in self.layers],
        }

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        h_BTH, _ = self.read(x_BTD)
        return h_BTH[torch.arange(lengths_B.shape[0], device=lengths_B.device), lengths_B - 1]

    def states(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        """The state at each position (B, T, H)."""
        return self.read(x_BTD)[0]

    def read(
        self, x_BTD: Tensor, carry: Sequence[Any] | None = None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The state at every position (B, T, H), and what to go on from: h and c of each layer."""
        states: list[tuple[Tensor, Tensor]] = []
        for layer, before in zip(self.layers, carry or [None] * len(self.layers), strict=True):
            if x_BTD.shape[1] == 1 and before is not None and isinstance(layer, nn.LSTM):
                x_BTD, state = lstm_step(layer, x_BTD, before)
            else:
                x_BTD, state = layer(x_BTD, before)
            states.append(state)
        return x_BTD, states


def lstm_step(layer: Any, x_B1D: Tensor, before: Any) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One position: the fused kernel packs its weights anew at each call, which is five times the
    work.
    """
    h_BH, c_BH = before[0][0], before[1][0]
    gates = F.linear(x_B1D[:, 0], layer.weight_ih_l0, layer.bias_ih_l0)
    gates = gates + F.linear(h_BH, layer.weight_hh_l0, layer.bias_hh_l0)
    i, f, g, o = gates.chunk(4, dim=-1)
    c_BH = torch.sigmoid(f) * c_BH + torch.sigmoid(i) * torch.tanh(g)
    h_BH = torch.sigmoid(o) * torch.tanh(c_BH)
    return h_BH.unsqueeze(1), (h_BH.unsqueeze(0), c_BH.unsqueeze(0))


class BiLSTMEncoder(nn.Module):
    """Stacked pairs of LSTMs (one per direction), then additive attention with a learned query.

    Bahdanau 2015, https://arxiv.org/abs/1409.0473: a = softmax_t(v . tanh(W h_t + b)), output sum_t
    a_t h_t. A description without an attention_size has states at positions and no such vector.
    The backward LSTM reads each document reversed within its own length, so that it meets no
    padding before text: plain `bidirectional=True` on padded rows would, and packed sequences lose
    the fused CPU kernel.
    """

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        self.forwards, self.backwards = nn.ModuleList(), nn.ModuleList()
        for forward_size, backward_size in description["hidden_sizes"]:
            self.forwards.append(new_lstm(input_size, forward_size))
            self.backwards.append(new_lstm(input_size, backward_size))
            input_size = forward_size + backward_size
        self.attention: Any = None
        self.query: Any = None
        if (size := description["attention_size"]) is not None:
            self.attention = nn.Linear(input_size, size)
            self.query = nn.Linear(size, 1, bias=False)
        self.output_size = self.position_size = input_size

    def describe(self) -> dict[str, Any]:
        pairs = zip(self.forwards, self.backwards, strict=True)
        return {
            "kind": "bilstm_attention",
            "hidden_sizes": [[width(f.weight_hh_l0), width(b.weight_hh_l0)] for f, b in pairs],
            "attention_size": self.attention and self.attention.weight.shape[0],
        }

    def permuted(self, x_BTD: Tensor, index: Tensor) -> Tensor:
        """Rows of a (B, T, D) tensor by a flat index that is its own inverse."""
        return _Permute.apply(x_BTD, index)

    def states(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        """The states of both directions at each position (B, T, 2 H)."""
        index = reversal(lengths_B, x_BTD.shape[1])
        for forwards, backwards in zip(self.forwards, self.backwards, strict=True):
            ahead_BTH, _ = forwards(x_BTD)
            back_BTH, _ = backwards(self.permuted(x_BTD, index))
            x_BTD = torch.cat([ahead_BTH, self.permuted(back_BTH, index)], dim=-1)
        return x_BTD

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        if self.attention is None:
            raise ValueError("this encoder was built for states at positions, without attention")
        x_BTD = self.states(x_BTD, lengths_B, mask_BT)
        scores_BT = self.query(torch.tanh(self.attention(x_BTD))).squeeze(-1)
        weights_BT = scores_BT.masked_fill(~mask_BT, -torch.inf).softmax(dim=-1)
        # What an LSTM puts out over padding is finite, so a weight of exactly 0 removes it.
        return torch.bmm(weights_BT.unsqueeze(1), x_BTD).squeeze(1)


def reversal(lengths_B: Tensor, T: int) -> Tensor:
    """Flat index (B * T) that reverses each row within its own length and leaves its padding; its
    own inverse.
    """
    position_T = torch.arange(T, device=lengths_B.device)
    mirrored_BT = lengths_B.unsqueeze(1) - 1 - position_T
    within_BT = torch.where(mirrored_BT >= 0, mirrored_BT, position_T)
    start_B1 = torch.arange(lengths_B.shape[0], device=lengths_B.device).unsqueeze(1) * T
    return (start_B1 + within_BT).flatten()


class _Permute(torch.autograd.Function):
    """Rows of a (B, T, D) tensor by a flat index that is its own inverse.

    The gradient of a permutation is its inverse, here the same gather; autograd would scatter-add
    instead, which is several times slower and not deterministic on every device.
    """

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return x_BTD.reshape(-1, x_BTD.shape[-1]).index_select(0, index).view(x_BTD.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _Permute.apply(gradients[0], index), None


def new_lstm(input_size: int, hidden_size: int) -> nn.LSTM:
    """One layer and direction, with fresh weights."""
    lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
    # An open forget gate at the start (Jozefowicz 2015); torch adds two biases, one suffices.
    with torch.no_grad():
        nn.init.ones_(lstm.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size])
        nn.init.zeros_(lstm.get_parameter("bias_hh_l0"))
    return lstm
