"""What a network computes in ways that ONNX has no operator for, in ways that it has: the same
integers, bit for bit, and the same sums in another order.

Training keeps its own ways, since another order of a sum moves its last bit. Shapes: B batch, T
positions, G n-grams.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.kinds.classify.wide import WideLogits
from lightning_modules.network.encoders.lstm import BiLSTMEncoder
from lightning_modules.network.encoders.ngrams import GOLDEN, NgramFeatures

_SHIFT = 2**29


def adapt(network: nn.Module) -> None:
    """Give a network, which is then for export alone, the ways that a graph can hold."""
    for module in network.modules():
        if isinstance(module, BiLSTMEncoder):
            module.permuted = _permuted
        if isinstance(module, NgramFeatures | WideLogits):
            module.grams = partial(_grams, module)
        if isinstance(module, WideLogits):
            module.distinct = partial(_distinct, module)


def _permuted(x_BTD: Tensor, index: Tensor) -> Tensor:
    return x_BTD.reshape(-1, x_BTD.shape[-1]).index_select(0, index).view(x_BTD.shape)


class _Xor(torch.autograd.Function):
    """a ^ b of integers, which the exporter knows of booleans alone."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        return a ^ b

    @staticmethod
    def symbolic(g: Any, a: Any, b: Any) -> Any:
        return g.op("BitwiseXor", a, b).setType(a.type())


def _grams(module: Any, input_ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """`hashed_ngrams`, for rows of any length: those shorter than an n-gram have none of it.

    x >> 29 is (x - x mod 2^29) / 2^29, which is exact.
    """
    T, most = input_ids_BT.shape[1], module.max_n
    padded_BT = F.pad(input_ids_BT, (0, most - 1))
    hash_BT = torch.zeros_like(input_ids_BT)
    position_T = torch.arange(T, device=lengths_B.device)
    found: list[Tensor] = []
    inside: list[Tensor] = []
    for n in range(1, most + 1):
        hash_BT = (hash_BT + padded_BT[:, n - 1 : n - 1 + T] + 1) * GOLDEN
        shifted_BT = torch.div(hash_BT - hash_BT.remainder(_SHIFT), _SHIFT, rounding_mode="trunc")
        hash_BT = _Xor.apply(hash_BT, shifted_BT)
        found.append(hash_BT.remainder(module.buckets))
        inside.append(position_T + n <= lengths_B.unsqueeze(1))
    return torch.cat(found, dim=1), torch.cat(inside, dim=1)


def _distinct(module: Any, input_ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """`WideLogits.distinct`, with the different buckets in front: how often one stands in a
    document is how far behind it the next one starts.
    """
    buckets_BG, mask_BG = module.grams(input_ids_BT, lengths_B)
    sorted_BG = buckets_BG.masked_fill(~mask_BG, module.buckets).sort(dim=1).values
    G = sorted_BG.shape[1]
    differs_BG = sorted_BG[:, 1:] != sorted_BG[:, :-1]
    first_BG = torch.cat([torch.ones_like(mask_BG[:, :1]), differs_BG], dim=1)
    position_G = torch.arange(G, device=sorted_BG.device)
    # Behind the last one stands G, as often as there is room.
    start_BG = torch.where(first_BG, position_G, G).sort(dim=1).values
    end_BG = torch.cat([start_BG[:, 1:], torch.full_like(start_BG[:, :1], 0) + G], dim=1)
    found_BG = sorted_BG.gather(1, start_BG.clamp(max=G - 1))
    inside_BG = found_BG < module.buckets
    # As float32, of which ONNX takes a logarithm; exact, as far as a document can be long.
    return found_BG * inside_BG, ((end_BG - start_BG) * inside_BG).float()
