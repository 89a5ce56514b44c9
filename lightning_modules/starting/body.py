"""A network's body, its token vectors and its encoder, taken whole from another model's.

A classifier that starts from a language model of its field (Dai & Le 2015,
https://arxiv.org/abs/1511.01432) knows what stands beside what before it sees a label. Nothing is
taken in part: sizes that differ are refused, and what stays fresh is told.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from data_contracts.errors import RecipeError
from lightning_modules.bundle import Bundle
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import load_tokenizer

# Of an encoder's description, what says how far it looks and shapes no weight.
_REACH = ("context",)


class Taken(NamedTuple):
    """The names of the tensors that were taken, and what a person is told of it."""

    names: set[str]
    told: str


@torch.no_grad()
def take_body(network: TextNetwork, source: Bundle, name: str, tokenizer_json: bytes) -> Taken:
    """Copy the token vectors and the encoder of a bundle into a plain network that a recipe asks
    for.

    An `lstm` goes into one of the same sizes, or into the forward direction of a
    `bilstm_attention` of one layer; any other encoder into its like.

    Args:
        name: what to call the bundle's model.
        tokenizer_json: by which the network's tokens were made.
    Raises:
        RecipeError: the tokens, the sizes or the kinds of encoder differ.
    """
    if source.tokenizer.get_vocab() != load_tokenizer(tokenizer_json).get_vocab():
        raise RecipeError(
            f"What {name} knows is of its own tokens, and these were made by another tokenizer.",
            "Leave tokenizer out: the recipe then has that of the model it starts from.",
        )
    given, asked = source.network.describe(), network.describe()
    part = _place_of(given, asked, name)
    state = source.network.state_dict()
    index = state.pop("embedding.index", None)
    if index is not None:  # a compacted table: back to a row per token
        state["embedding.weight"] = state["embedding.weight"][index]
    target, names = network.state_dict(), set[str]()
    for old, tensor in state.items():
        if old.partition(".")[0] in ("embedding", "encoder"):
            new = old.replace(*part)
            target[new].copy_(tensor)
            names.add(new)
    return Taken(names, _told(network, names, name))


def _place_of(given: dict[str, Any], asked: dict[str, Any], name: str) -> tuple[str, str]:
    """What of a tensor's name is to be replaced, and by what."""
    old, new = _sizes(given["encoder"]), _sizes(asked["encoder"])
    if "pretrained" in (old["kind"], new["kind"]):
        raise RecipeError(
            f"{name} and this recipe's model are not both from scratch: a backbone has token "
            "vectors and an encoder of its own.",
            "Start from a model from scratch, or give model.encoder the backbone's path.",
        )
    if given.get("embedding_dim") != asked.get("embedding_dim"):
        raise RecipeError(
            f"The token vectors of {name} have size {given.get('embedding_dim')}, and "
            f"model.embedding.size is {asked.get('embedding_dim')}.",
            f"Set model.embedding.size to {given.get('embedding_dim')}.",
        )
    if old == new:
        return ("", "")
    if (old["kind"], new["kind"]) == ("lstm", "bilstm_attention"):
        ahead = [forwards for forwards, _ in new["hidden_sizes"]]
        if old["hidden_sizes"] == ahead and len(ahead) == 1:
            return ("encoder.layers.", "encoder.forwards.")
    raise RecipeError(
        f"The encoder of {name} is {_words(old)}, and this recipe's is {_words(new)}: none of its "
        "weights would have a place.",
        f"Set model.encoder to {_recipe_of(old)}.",
    )


def _sizes(encoder: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in encoder.items() if field not in _REACH}


def _words(encoder: dict[str, Any]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in encoder.items() if name != "kind")
    return f"{encoder['kind']} ({said})" if len(said) < 200 else encoder["kind"]


def _recipe_of(encoder: dict[str, Any]) -> str:
    """How a recipe asks for such an encoder."""
    sizes = encoder.get("hidden_sizes", [])
    if encoder["kind"] != "lstm" or len({*sizes}) != 1:
        return f"one of kind {encoder['kind']} and the same sizes"
    layers = f", num_layers: {len(sizes)}" if len(sizes) > 1 else ""
    own = f"{{kind: lstm, hidden_size: {sizes[0]}{layers}}}"
    return own if layers else f"{own}, or kind bilstm_attention with that hidden_size"


def _told(network: TextNetwork, names: set[str], name: str) -> str:
    fresh = dict.fromkeys(
        ".".join(one.split(".")[:2]) for one, _ in network.named_parameters() if one not in names
    )
    count = sum(one.numel() for path, one in network.named_parameters() if path in names)
    new = ", ".join(fresh) or "nothing"
    return f"Started from {name}: its {count:,} weights of token vectors and encoder; new: {new}."
