"""Fresh weights where the model is new, a bundle's weights where it is not."""

from __future__ import annotations

from pathlib import Path

import torch

from lightning_modules.bundle import Bundle
from lightning_modules.kinds.base import Objective, SharedTokens, copy_rows
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import load_tokenizer


@torch.no_grad()
def warm_start(
    network: TextNetwork, objective: Objective, folder: Path, tokenizer_json: bytes
) -> set[str]:
    """Copy a bundle's weights into a plain network; returns the names of the tensors taken (in part
    or whole).

    A tensor of the body with the same name and shape is taken whole, the embedding row by row,
    matched by the token's text; rows without a match keep their fresh values. A bucket of n-grams
    means the same only where every token has the id it had, so under another vocabulary that table
    stays fresh. The head is its objective's to carry over.
    """
    source = Bundle.load(folder)
    vocabulary = load_tokenizer(tokenizer_json).get_vocab()
    known = source.tokenizer.get_vocab()
    pairs = [(new, known[token]) for token, new in vocabulary.items() if token in known]
    tokens = SharedTokens(vocabulary == known, pairs)
    same_ngrams = tokens.same and _ngrams(network) == _ngrams(source.network)
    old_state = source.network.state_dict()
    index = old_state.get("embedding.index")
    if index is not None:  # a compacted table: back to a row per token
        old_state["embedding.weight"] = old_state["embedding.weight"][index]
    taken: set[str] = set()
    for name, tensor in network.state_dict().items():
        old = old_state.get(name)
        part = name.partition(".")[0]
        if part == "head" or old is None or (part == "ngrams" and not same_ngrams):
            continue
        if name == "embedding.weight":
            if copy_rows(tensor, old, pairs):
                taken.add(name)
        elif old.shape == tensor.shape:
            tensor.copy_(old)
            taken.add(name)
    carried = objective.carry_over(network, source, tokens)
    return taken | {f"head.{name}" for name in carried}


def _ngrams(network: TextNetwork) -> dict[str, int] | None:
    return network.ngrams and network.ngrams.describe()
