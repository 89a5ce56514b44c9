"""A folded network without what its zeros have made idle: the same function in fewer numbers.

    W x + b = W_kept x_kept + (b + W_gone c),   c what the removed units put out, whatever the input

A unit goes where it puts out a constant, or where nobody reads it; token vectors that are equal
share one row. Repeated until nothing changes, since a removal may idle the layer before or after.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.network.embedding import CompactEmbedding
from lightning_modules.network.encoders.lstm import BiLSTMEncoder, LSTMEncoder
from lightning_modules.network.encoders.tanh import TanhEncoder
from lightning_modules.network.encoders.transformer import TransformerEncoder
from lightning_modules.network.network import TextNetwork, build_network


class Reader(NamedTuple):
    """Columns `start` to `start + n` of a layer's weight read n units; the bias takes up what a
    removed one put out.
    """

    layer: nn.Module
    start: int = 0
    weight: str = "weight"
    bias: str | None = "bias"


class Part(NamedTuple):
    """A parameter that makes the units: its slices along `dim`, in `blocks` runs of n (an LSTM's
    four gates).
    """

    layer: nn.Module
    name: str
    dim: int = 0
    blocks: int = 1


@torch.no_grad()
def compact(network: TextNetwork) -> TextNetwork:
    """A smaller plain network with the same logits for every input, up to rounding; the given one
    stays as it was.

    Each layer keeps at least one unit and each table one row; n-gram vectors that are all the same
    go as a whole.
    """
    network = copy.deepcopy(network)
    while _pass(network):
        pass
    _remove_ngrams(network)
    network.embedding = _share_rows(network.embedding)
    if network.ngrams is not None:
        network.ngrams.table = _share_rows(network.ngrams.table)
    network.head.share_rows(_share_rows)
    smaller = build_network(network.describe())
    smaller.load_state_dict(network.state_dict())
    return smaller.train(network.training)


def _pass(network: TextNetwork) -> bool:
    """Remove idle units once, from the head down; whether there were any.

    Of two readers that are columns of one layer the later stands first, since removing columns
    shifts what follows.
    """
    encoder, ngrams, heads = network.encoder, network.ngrams, network.head.readers()
    if not heads:  # whether anybody reads a unit is not known
        return False
    changed = False
    readers = [Reader(layer) for layer in heads]
    if ngrams is not None:
        # The mean of equal numbers is that number, so a constant dimension passes through.
        size = ngrams.table.weight.shape[1]
        last = [Reader(layer, layer.weight.shape[1] - size) for layer in heads]
        changed |= _remove_dimensions(ngrams.table, last)
    if isinstance(encoder, TransformerEncoder):  # its width stays: every norm reads all of it
        for block in encoder.blocks:
            changed |= _remove_rows(block.widen, F.gelu, [Reader(block.narrow)])
        return changed
    if isinstance(encoder, TanhEncoder):
        units = encoder.project.weight.shape[0]
        highest = [Reader(layer, units) for layer in heads]
        changed |= _remove_rows(encoder.project, torch.tanh, [*highest, *readers])  # max, mean
        readers = [Reader(encoder.project)]
    elif isinstance(encoder, LSTMEncoder):
        for lstm in reversed(encoder.layers):
            changed |= _remove_states(lstm, readers)
            readers = [Reader(lstm, 0, "weight_ih_l0", "bias_ih_l0")]
    elif isinstance(encoder, BiLSTMEncoder):
        # A score that all positions share changes no softmax, so the query needs no bias.
        changed |= _remove_rows(encoder.attention, torch.tanh, [Reader(encoder.query, bias=None)])
        readers.append(Reader(encoder.attention))
        for pair in reversed(list(zip(encoder.forwards, encoder.backwards, strict=True))):
            ahead = pair[0].get_parameter("weight_hh_l0").shape[1]
            changed |= _remove_states(pair[1], [reader._replace(start=ahead) for reader in readers])
            changed |= _remove_states(pair[0], readers)
            readers = [Reader(lstm, 0, "weight_ih_l0", "bias_ih_l0") for lstm in pair]
    return _remove_dimensions(network.embedding, readers) or changed


def _remove_ngrams(network: TextNetwork) -> None:
    """Without the vectors of n-grams, and the hashing, where the head reads nothing of them."""
    if network.ngrams is None or network.ngrams.table.weight.shape[1] > 1:
        return
    heads = network.head.readers()
    if heads and all((layer.weight[:, -1] == 0).all() for layer in heads):
        network.ngrams = None
        for layer in heads:
            layer.weight = nn.Parameter(layer.weight[:, :-1].clone())


def _remove_rows(
    linear: nn.Linear, activation: Callable[[Tensor], Tensor], readers: list[Reader]
) -> bool:
    same = (linear.weight == 0).all(dim=1)
    return _remove(
        same, activation(linear.bias), [Part(linear, "weight"), Part(linear, "bias")], readers
    )


def _remove_dimensions(table: nn.Module, readers: list[Reader]) -> bool:
    weight = table.get_parameter("weight")
    return _remove(
        (weight == weight[0]).all(dim=0), weight[0], [Part(table, "weight", dim=1)], readers
    )


def _remove_states(lstm: nn.Module, readers: list[Reader]) -> bool:
    """Units of an LSTM: silent (h = 0) where the cell's input tanh(0) is 0; read also by the other
    units' gates.
    """
    recurrent = lstm.get_parameter("weight_hh_l0")
    n = recurrent.shape[1]
    bias = lstm.get_parameter("bias_ih_l0") + lstm.get_parameter("bias_hh_l0")
    into = torch.cat([lstm.get_parameter("weight_ih_l0"), recurrent, bias.unsqueeze(1)], dim=1)
    silent = (into[2 * n : 3 * n] == 0).all(dim=1)  # gates stand in the order i, f, g, o
    others = recurrent.view(4, n, n) * (1 - torch.eye(n, device=recurrent.device))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    made = [Part(lstm, "weight_hh_l0", dim=1), *(Part(lstm, name, blocks=4) for name in names)]
    return _remove(
        silent, bias.new_zeros(n), made, readers, unread=(others == 0).all(dim=1).all(dim=0)
    )


def _remove(
    same: Tensor,
    value: Tensor,
    made: list[Part],
    readers: list[Reader],
    unread: Tensor | None = None,
) -> bool:
    """Take out the units that always put out their `value` (`same`), and those that no reader
    reads.

    Where none would be left the first one stays, and is no longer read.
    """
    n = len(same)
    unread = torch.ones_like(same) if unread is None else unread
    for layer, start, weight, _ in readers:
        unread = unread & (layer.get_parameter(weight)[:, start : start + n] == 0).all(dim=0)
    idle = same | unread
    kept = ~idle
    kept[0] |= not kept.any()
    if kept.all() and (unread | ~idle).all():
        return False
    for layer, start, name, bias in readers:
        weight = layer.get_parameter(name)
        read = weight[:, start : start + n]  # a view
        if bias is not None:
            layer.get_parameter(bias).add_(read[:, idle] @ value[idle])
        read[:, idle] = 0
        columns = kept.new_ones(weight.shape[1])
        columns[start : start + n] = kept
        _keep(layer, name, 1, columns)
    for layer, name, dim, blocks in made:
        _keep(layer, name, dim, kept.repeat(blocks))
    return True


def _keep(layer: nn.Module, name: str, dim: int, kept: Tensor) -> None:
    smaller = layer.get_parameter(name).index_select(dim, kept.nonzero().squeeze(1))
    setattr(layer, name, nn.Parameter(smaller))


def _share_rows(table: nn.Module) -> nn.Module:
    """The table with each of its different rows once; as it is where that saves nothing."""
    weight = table.get_parameter("weight")
    rows, index = torch.unique(weight, dim=0, return_inverse=True)
    if not isinstance(table, nn.Embedding) or rows.numel() + len(index) >= weight.numel():
        return table
    shared = CompactEmbedding(len(index), len(rows), rows.shape[1])
    shared.load_state_dict({"weight": rows, "index": index.to(torch.int32)})
    return shared
