"""Encoders: token vectors in, one vector per document out. Padding never changes what comes out.

Shapes: B batch, T positions, D size of a token's vector, H hidden units per direction.
This file is shipped inside the registered model: it imports torch and nothing of this repository.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio as a signed 64-bit integer


class TanhEncoder(nn.Module):
    """h_t = tanh(W e_t + b), then [mean_t h_t ; max_t h_t] over the document's own tokens."""

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        self.project = nn.Linear(input_size, description["hidden_size"])
        self.output_size = 2 * description["hidden_size"]

    def describe(self) -> dict[str, Any]:
        return {"kind": "tanh", "hidden_size": self.project.weight.shape[0]}

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        h_BTH = torch.tanh(self.project(x_BTD))
        highest_BH = h_BTH.masked_fill(~mask_BT.unsqueeze(-1), -torch.inf).amax(dim=1)
        return torch.cat([masked_mean(h_BTH, lengths_B, mask_BT), highest_BH], dim=-1)


class LSTMEncoder(nn.Module):
    """Stacked LSTMs from left to right (Hochreiter & Schmidhuber 1997); the state at each document's own last token.

    Padding stands on the right, so what an LSTM has read by that token is the document and nothing else.
    """

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for size in description["hidden_sizes"]:
            self.layers.append(_lstm(input_size, size))
            input_size = size
        self.output_size = input_size

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "lstm",
            "hidden_sizes": [_width(layer.weight_hh_l0) for layer in self.layers],
        }

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        for layer in self.layers:
            x_BTD, _ = layer(x_BTD)
        return x_BTD[torch.arange(len(lengths_B), device=lengths_B.device), lengths_B - 1]


class BiLSTMEncoder(nn.Module):
    """Stacked pairs of LSTMs (one per direction), then additive attention with a learned query.

    Bahdanau 2015, https://arxiv.org/abs/1409.0473: a = softmax_t(v . tanh(W h_t + b)), output sum_t a_t h_t.
    The backward LSTM reads each document reversed within its own length, so that it meets no padding before text:
    plain `bidirectional=True` on padded rows would, and packed sequences lose the fused CPU kernel.
    """

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        self.forwards, self.backwards = nn.ModuleList(), nn.ModuleList()
        for forward_size, backward_size in description["hidden_sizes"]:
            self.forwards.append(_lstm(input_size, forward_size))
            self.backwards.append(_lstm(input_size, backward_size))
            input_size = forward_size + backward_size
        self.attention = nn.Linear(input_size, description["attention_size"])
        self.query = nn.Linear(description["attention_size"], 1, bias=False)
        self.output_size = input_size

    def describe(self) -> dict[str, Any]:
        pairs = zip(self.forwards, self.backwards, strict=True)
        return {
            "kind": "bilstm_attention",
            "hidden_sizes": [[_width(f.weight_hh_l0), _width(b.weight_hh_l0)] for f, b in pairs],
            "attention_size": self.attention.weight.shape[0],
        }

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        index = reversal(lengths_B, x_BTD.shape[1])
        for forwards, backwards in zip(self.forwards, self.backwards, strict=True):
            ahead_BTH, _ = forwards(x_BTD)
            back_BTH, _ = backwards(_Permute.apply(x_BTD, index))
            x_BTD = torch.cat([ahead_BTH, _Permute.apply(back_BTH, index)], dim=-1)
        scores_BT = self.query(torch.tanh(self.attention(x_BTD))).squeeze(-1)
        weights_BT = scores_BT.masked_fill(~mask_BT, -torch.inf).softmax(dim=-1)
        # What an LSTM puts out over padding is finite, so a weight of exactly 0 removes it.
        return torch.bmm(weights_BT.unsqueeze(1), x_BTD).squeeze(1)


class TransformerEncoder(nn.Module):
    """Pre-norm Transformer blocks (Xiong 2020, https://arxiv.org/abs/2002.04745), learned positions, mean pooling."""

    def __init__(self, input_size: int, description: dict[str, Any]) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(description["max_length"], input_size))
        sizes, heads = description["feedforward_sizes"], description["num_heads"]
        self.blocks = nn.ModuleList(_Block(input_size, heads, size) for size in sizes)
        self.norm = nn.LayerNorm(input_size)
        self.output_size, self.num_heads = input_size, heads

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "transformer",
            "max_length": self.positions.shape[0],
            "num_heads": self.num_heads,
            "feedforward_sizes": [_width(block.widen.bias) for block in self.blocks],
        }

    def forward(self, x_BTD: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        x_BTD = x_BTD + self.positions[: x_BTD.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_BT[:, None, None, :])
        return masked_mean(self.norm(x_BTD), lengths_B, mask_BT)


class _Block(nn.Module):
    def __init__(self, size: int, heads: int, feedforward_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feedforward = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.mix = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.widen, self.narrow = (
            nn.Linear(size, feedforward_size),
            nn.Linear(feedforward_size, size),
        )

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        qkv = self.qkv(self.before_attention(x_BTD)).view(B, T, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B11T)
        x_BTD = x_BTD + self.mix(attended.transpose(1, 2).reshape(B, T, D))
        return x_BTD + self.narrow(F.gelu(self.widen(self.before_feedforward(x_BTD))))


class CompactEmbedding(nn.Module):
    """A table in which equal vectors stand once: the vector of id i is weight[index[i]]; V ids, R rows."""

    def __init__(self, ids: int, rows: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, size))
        self.index: Tensor
        self.register_buffer("index", torch.zeros(ids, dtype=torch.int32))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(self.index[ids], self.weight)


def token_table(ids: int, size: int, rows: int | None = None) -> nn.Embedding | CompactEmbedding:
    """The table of a description: one row per id, unless it says that there are fewer."""
    return nn.Embedding(ids, size) if rows in (None, ids) else CompactEmbedding(ids, rows, size)


class NgramFeatures(nn.Module):
    """Hashed n-grams of token ids (Joulin 2017, https://arxiv.org/abs/1607.01759): the mean of their vectors.

        h_0 = 0,   h_n(t) = m(P * (h_{n-1}(t) + id_{t+n-1} + 1)),   m(x) = x ^ (x >> 29),   bucket = h_n mod buckets

    for n = 1 .. max_n in signed 64-bit integers, P = 2^64 / golden ratio: a function of the ids alone, so a bundle
    hashes as its training did. An n-gram lies wholly within the document. The table starts at 0, so that one which
    training never met adds nothing.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.table = token_table(
            description["buckets"], description["size"], description.get("rows")
        )
        nn.init.zeros_(self.table.weight)
        self.buckets, self.max_n, self.output_size = (
            description["buckets"],
            description["max_n"],
            description["size"],
        )

    def describe(self) -> dict[str, Any]:
        rows, size = self.table.weight.shape
        return {"buckets": self.buckets, "max_n": self.max_n, "size": size, "rows": rows}

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        buckets_BG, mask_BG = hashed_ngrams(input_ids_BT, lengths_B, self.max_n, self.buckets)
        vectors_BGD = self.table(buckets_BG * mask_BG)
        share_BG = mask_BG / mask_BG.sum(dim=1, keepdim=True)
        return torch.bmm(share_BG.to(vectors_BGD.dtype).unsqueeze(1), vectors_BGD).squeeze(1)


class ClassTable(nn.Embedding):
    """A row per bucket, a column per class. No column may go, which is what `sparse` has to know."""


class WideLogits(nn.Module):
    """Hashed n-grams straight to the logits, weighed as TF-IDF does (Cheng 2016, https://arxiv.org/abs/1606.07792).

        y = scale * sum_g w_g / |w| * theta_g,   w_g = (1 + log n_g) * idf_g,   idf_g = 1 + log((1 + D) / (1 + D_g))

    over the different buckets g of a document, n_g times in it and in D_g of the D windows of the train split. A bucket
    that training never met has idf 0, or else it would make the others of its document count less. theta starts at 0.
    """

    def __init__(self, description: dict[str, Any], classes: int) -> None:
        super().__init__()
        buckets, rows = description["buckets"], description.get("rows")
        self.table = (
            ClassTable(buckets, classes)
            if rows in (None, buckets)
            else CompactEmbedding(buckets, rows, classes)
        )
        nn.init.zeros_(self.table.weight)
        # A parameter, since predicting needs it: it counts among the model's numbers.
        self.idf = nn.Parameter(torch.ones(buckets), requires_grad=False)
        self.max_n, self.scale = description["max_n"], float(description["scale"])

    def describe(self) -> dict[str, Any]:
        rows = self.table.weight.shape[0]
        return {"buckets": len(self.idf), "max_n": self.max_n, "scale": self.scale, "rows": rows}

    @torch.no_grad()
    def weigh(self, windows: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set idf from the train split, given as batches of padded ids (B, T) and lengths (B)."""
        found, total = torch.zeros(len(self.idf), dtype=torch.long), 0
        for ids_BT, lengths_B in windows:
            buckets_BG, count_BG = self.distinct(ids_BT, lengths_B)
            found += torch.bincount(buckets_BG[count_BG > 0], minlength=len(found))
            total += len(lengths_B)
        idf = 1 + torch.log((1 + total) / (1 + found.double()))
        self.idf.copy_(torch.where(found > 0, idf, 0.0))

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        buckets_BG, count_BG = self.distinct(input_ids_BT, lengths_B)
        weight_BG = torch.where(count_BG > 0, 1 + count_BG.clamp(min=1).log(), 0.0) * F.embedding(
            buckets_BG, self.idf.unsqueeze(1)
        ).squeeze(-1)
        norm_B1 = torch.linalg.vector_norm(weight_BG, dim=1, keepdim=True).clamp(min=1e-12)
        rows_BGC = self.table(buckets_BG)
        share_BG = (self.scale * weight_BG / norm_B1).to(rows_BGC.dtype)
        return torch.bmm(share_BG.unsqueeze(1), rows_BGC).squeeze(1)

    def distinct(self, input_ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Buckets (B, G) and how often each stands in its document, said where it stands first and 0 elsewhere."""
        buckets = len(self.idf)
        buckets_BG, mask_BG = hashed_ngrams(input_ids_BT, lengths_B, self.max_n, buckets)
        sorted_BG = (
            buckets_BG.masked_fill(~mask_BG, buckets).sort(dim=1).values
        )  # padding comes last
        position_G = torch.arange(sorted_BG.shape[1], device=sorted_BG.device)
        first_BG = torch.ones_like(mask_BG)
        first_BG[:, 1:] = sorted_BG[:, 1:] != sorted_BG[:, :-1]
        start_BG = torch.where(first_BG, position_G, len(position_G))
        behind_BG = F.pad(start_BG[:, 1:], (0, 1), value=len(position_G))
        end_BG = behind_BG.flip(1).cummin(dim=1).values.flip(1)  # where the next bucket starts
        inside_BG = sorted_BG < buckets
        return sorted_BG * inside_BG, (end_BG - position_G) * (first_BG & inside_BG)


ENCODERS: dict[
    str, type[TanhEncoder] | type[LSTMEncoder] | type[BiLSTMEncoder] | type[TransformerEncoder]
] = {
    "tanh": TanhEncoder,
    "lstm": LSTMEncoder,
    "bilstm_attention": BiLSTMEncoder,
    "transformer": TransformerEncoder,
}


def hashed_ngrams(
    input_ids_BT: Tensor, lengths_B: Tensor, max_n: int, buckets: int
) -> tuple[Tensor, Tensor]:
    """Buckets (B, G) of all n-grams of up to max_n tokens, and which of them lie wholly within their document."""
    hash_BT, T = torch.zeros_like(input_ids_BT, dtype=torch.long), input_ids_BT.shape[1]
    position_T = torch.arange(T, device=lengths_B.device)
    found, inside = [], []
    for n in range(1, min(max_n, T) + 1):
        hash_BT = (hash_BT[:, : T - n + 1] + input_ids_BT[:, n - 1 :] + 1) * GOLDEN
        hash_BT = hash_BT ^ (hash_BT >> 29)
        found.append(hash_BT.remainder(buckets))
        inside.append(position_T[: T - n + 1] + n <= lengths_B.unsqueeze(1))
    return torch.cat(found, dim=1), torch.cat(inside, dim=1)


def masked_mean(h_BTH: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
    total_BH = (h_BTH * mask_BT.unsqueeze(-1)).sum(dim=1)
    return total_BH / lengths_B.unsqueeze(-1).to(h_BTH.dtype)


def reversal(lengths_B: Tensor, T: int) -> Tensor:
    """Flat index (B * T) that reverses each row within its own length and leaves its padding; its own inverse."""
    position_T = torch.arange(T, device=lengths_B.device)
    mirrored_BT = lengths_B.unsqueeze(1) - 1 - position_T
    within_BT = torch.where(mirrored_BT >= 0, mirrored_BT, position_T)
    start_B1 = torch.arange(len(lengths_B), device=lengths_B.device).unsqueeze(1) * T
    return (start_B1 + within_BT).flatten()


class _Permute(torch.autograd.Function):
    """Rows of a (B, T, D) tensor by a flat index that is its own inverse.

    The gradient of a permutation is its inverse, here the same gather; autograd would scatter-add instead, which is
    several times slower and not deterministic on every device.
    """

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return x_BTD.reshape(-1, x_BTD.shape[-1]).index_select(0, index).view(x_BTD.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _Permute.apply(gradients[0], index), None


def _lstm(input_size: int, hidden_size: int) -> nn.LSTM:
    lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
    with (
        torch.no_grad()
    ):  # an open forget gate at the start (Jozefowicz 2015); torch adds two biases, one suffices
        nn.init.ones_(lstm.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size])
        nn.init.zeros_(lstm.get_parameter("bias_hh_l0"))
    return lstm


def _width(tensor: Any) -> int:
    """Size of the last dimension (Any: a module's attributes have no static type)."""
    return tensor.shape[-1]
