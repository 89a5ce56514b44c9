"""Fresh weights where the model is new, a bundle's weights where it is not."""

from __future__ import annotations

from pathlib import Path

import torch

from lightning_modules.bundle import Bundle, load_tokenizer
from lightning_modules.network.network import TextNetwork


@torch.no_grad()
def warm_start(
    network: TextNetwork, folder: Path, *, tokenizer_json: bytes, labels: tuple[str, ...]
) -> set[str]:
    """Copy a bundle's weights into a plain network; returns the names of the tensors taken (in part or whole).

    A tensor of the same name and shape is taken whole; the embedding row by row, matched by the token's text; the
    decoder row by row, matched by label. Rows without a match keep their fresh values. A bucket of n-grams means the
    same only where every token has the id it had, so under another vocabulary those tables stay fresh; so does one that
    writes straight to the logits where the labels are others.
    """
    source = Bundle.load(folder)
    vocabulary, known = load_tokenizer(tokenizer_json).get_vocab(), source.tokenizer.get_vocab()
    tokens = [(new, known[token]) for token, new in vocabulary.items() if token in known]
    classes = [
        (new, source.labels.index(label))
        for new, label in enumerate(labels)
        if label in source.labels
    ]
    sizes, old_sizes = network.describe(), source.network.describe()
    same = {
        part: vocabulary == known and sizes.get(part) == old_sizes.get(part)
        for part in ("ngrams", "wide")
    }
    same["wide"] &= tuple(labels) == source.labels
    old_state, taken = source.network.state_dict(), set[str]()
    if (
        index := old_state.get("embedding.index")
    ) is not None:  # a compacted table: back to a row per token
        old_state["embedding.weight"] = old_state["embedding.weight"][index]
    for name, tensor in network.state_dict().items():
        old = old_state.get(name)
        pairs = {
            "embedding.weight": tokens,
            "decoder.weight": classes,
            "decoder.bias": classes,
        }.get(name)
        if (
            old is None
            or old.shape[1:] != tensor.shape[1:]
            or not same.get(name.partition(".")[0], True)
        ):
            continue
        if pairs is not None:
            pairs = [
                (new, before) for new, before in pairs if new < len(tensor) and before < len(old)
            ]
            if pairs:
                to, of = torch.tensor(pairs).T
                tensor[to] = old[of]
                taken.add(name)
        elif old.shape == tensor.shape:
            tensor.copy_(old)
            taken.add(name)
    return taken
