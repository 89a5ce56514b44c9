"""BPE-dropout on token ids: merges are undone by chance, so that a word is read in many ways.

After Provilkov 2020 (https://arxiv.org/abs/1910.13267), where merges are skipped by chance as a
text is encoded. Here a token that was merged is taken apart with that probability, and so are its
parts: every cut that this gives is one of the original's, and it takes microseconds, with no
tokenizer at hand.
"""

from __future__ import annotations

import json

import numpy as np
import torch


class Merges:
    """What each token was merged from."""

    def __init__(self, tokenizer_json: bytes) -> None:
        """
        Raises:
            ValueError: the tokenizer does not merge.
        """
        model = json.loads(tokenizer_json)["model"]
        if model.get("type") != "BPE" or not model.get("merges"):
            raise ValueError("it has no merges")
        vocab = model["vocab"]
        self.parts = np.full((max(vocab.values()) + 1, 2), -1, np.int64)
        for merge in model["merges"]:
            one, other = merge.split(" ") if isinstance(merge, str) else merge
            whole = vocab.get(one + other)
            if whole is not None and self.parts[whole, 0] < 0:
                self.parts[whole] = vocab[one], vocab[other]

    def undone(self, ids: np.ndarray, share: float) -> np.ndarray:
        """The ids with merges undone by chance, which torch's generator draws."""
        done = np.zeros(len(ids), bool)  # tokens that were asked and stayed
        while True:
            splittable = np.zeros(len(ids), bool)
            known = ids < len(self.parts)
            splittable[known] = self.parts[ids[known], 0] >= 0
            asked = np.flatnonzero(splittable & ~done)
            if not len(asked):
                return ids
            split = asked[torch.rand(len(asked)).numpy() < share]
            done[asked] = True
            if not len(split):
                return ids
            times = np.ones(len(ids), np.int64)
            times[split] = 2
            places = np.cumsum(times) - times
            ids, old = np.repeat(ids, times), ids
            done = np.repeat(done, times)
            ids[places[split]] = self.parts[old[split], 0]
            ids[places[split] + 1] = self.parts[old[split], 1]
            done[places[split]] = done[places[split] + 1] = False
