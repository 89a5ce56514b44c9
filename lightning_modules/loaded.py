"""What a bundle is once it is loaded, whatever runs its network: windows of texts in, a row of
output for each, and the answers that its kind makes of them.

This file is shipped inside the registered model: it imports numpy, tokenizers and what ships with
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lightning_modules.bundle_files import COMMON, DESCRIPTION, TOKENIZER, missing
from lightning_modules.kinds.answering import Answering
from lightning_modules.network.batching import by_length
from lightning_modules.network.tokenizer import BundleError, load_lossless, load_tokenizer
from lightning_modules.network.windows import Windowing


class Loaded:
    """Columns of questions in, columns of answers out.

    `facts` are the kind's own (`labels` and `temperature` of a classifier); another value of one
    answers otherwise.

    Args:
        head: what answers.
        stated: the fields of bundle.json.
        files: tokenizer.json, and what the head has beside the weights.
    """

    def __init__(
        self, head: Answering, stated: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        self.head = head
        self.tokenizer_json = files[TOKENIZER]
        self.tokenizer = load_tokenizer(self.tokenizer_json)
        # What the head has beside the weights.
        self.files = {name: data for name, data in files.items() if name != TOKENIZER}
        self.kind: str = head.kind
        self.facts = {name: value for name, value in stated.items() if name not in COMMON}
        self.pad_id: int = stated["pad_id"]
        self.windowing = Windowing(
            stated["max_length"],
            stated["overlap"],
            tuple(stated.get("prefix_ids", ())),
            tuple(stated.get("suffix_ids", ())),
            stated["unknown_id"],
        )
        self.digest: str = stated["digest"]
        self.meta: dict[str, Any] = stated["meta"]

    @cached_property
    def lossless_tokenizer(self) -> Tokenizer:
        """The tokenizer as one that takes special tokens in a text for what they are: text."""
        return load_lossless(self.tokenizer_json)

    @property
    def asked(self) -> tuple[str, ...]:
        """The columns of texts that `predict` is given."""
        return self.head.asked

    def predict(
        self, columns: Mapping[str, Sequence[Any]], params: Mapping[str, Any] | None = None
    ) -> dict[str, list[Any]]:
        """Columns of answers to columns of questions, row by row: `label` and probabilities to
        `text`, say.
        """
        return self.head.predict(self, columns, params or {})

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        """Windows of token ids, and for each window the index of its text.

        Raises:
            BundleError: the tokenizer fails at one of them.
        """
        return self.windowing.encode(self.tokenizer, texts)

    def run(
        self, windows: Sequence[Sequence[int]], batch_tokens: int = 16384
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The network's outputs in batches: the indices of their windows, and a row of output for
        each.

        Windows of like length share a batch of at most `batch_tokens` padded positions.
        """
        for rows, ids, lengths in by_length(windows, self.pad_id, batch_tokens):
            yield rows, self.outputs(ids, lengths)

    def outputs(self, ids_BT: np.ndarray, lengths_B: np.ndarray) -> np.ndarray:
        """The network's output (B, ...) for padded windows."""
        raise NotImplementedError

    def check_facts(self, folder: Path) -> None:
        """What the kind needs to answer is there.

        Raises:
            BundleError: naming the field that is not.
        """
        if (field := self.head.fault(self.facts)) is not None:
            raise BundleError(f"{folder / DESCRIPTION}: {missing(field)}.")

    def check_ids(self, folder: Path, rows: int) -> None:
        """No id that the tokenizer or the description can give lies outside the table, and a text
        goes through.

        Args:
            rows: of the table.
        Raises:
            BundleError: naming what does not fit.
        """
        # Unknown words, for which a tokenizer may lack the token that it names.
        self.encode(["a 1 。"])
        around = [*self.windowing.prefix_ids, *self.windowing.suffix_ids]
        special = [*around, self.pad_id, self.windowing.unknown_id]
        highest = max(*self.tokenizer.get_vocab().values(), *special, 0)
        if highest >= rows:
            raise BundleError(
                f"{folder / TOKENIZER} has ids up to {highest}, the network {rows} rows."
            )
        try:
            _, output = next(self.run([[self.windowing.unknown_id] * 2]))
        # Sizes that fit one by one and not together: heads, rows of a compact table.
        except Exception as error:
            raise BundleError(
                f"{folder}: the network cannot be run ({type(error).__name__}: {error})."
            ) from error
        if (fault := self.head.check(self.facts, output)) is not None:
            raise BundleError(f"{folder}: {fault}.")
