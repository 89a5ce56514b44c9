"""The folded model on disk: `model.safetensors`, `bundle.json`, `tokenizer.json`, and what a head
has beside them. No pickle.

What it is asked and what it answers is its head's to say (`lightning_modules.kinds`). This file is
shipped inside the registered model, with all that it imports of this repository: see
`lightning_modules.shipping`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_safetensors
from tokenizers import Tokenizer

from lightning_modules.bundle_description import (
    COMMON,
    DESCRIPTION,
    FORMAT,
    TOKENIZER,
    WEIGHTS,
    files_fault,
    missing,
    refuse_common,
    write_files,
)
from lightning_modules.bundle_files import read_bundle
from lightning_modules.network.batching import by_length
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import (
    BundleError,
    load_lossless,
    load_tokenizer,
    special_ids,
)
from lightning_modules.network.windows import Windowing


def save_bundle(  # noqa: PLR0913 - the parts of a bundle by name
    folder: Path,
    network: TextNetwork,
    *,
    tokenizer_json: bytes,
    windowing: Windowing,
    facts: Mapping[str, Any],
    meta: dict[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> str:
    """Write a folded network (plain torch layers) and return its content digest; `meta` has no part
    in it.

    Args:
        facts: what the network's head needs to answer, such as its labels.
        files: what it needs beside the weights (`Head.take_files`), by name.
    Effects: files in `folder`; `bundle.json`, which vouches for the others, last.
    Raises:
        ValueError: a fact bears the name of a field that every bundle has, or a file none that it
            may have.
    """
    refuse_common(facts)
    beside = dict(files or {})
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(beside.items())}
    if (fault := files_fault(digests)) is not None:
        raise ValueError(fault)
    state = {name: value.detach().cpu().contiguous() for name, value in network.stored().items()}
    # Without metadata, whose order would change the bytes from run to run.
    weights = save_safetensors(state)
    special = {"prefix_ids": list(windowing.prefix_ids), "suffix_ids": list(windowing.suffix_ids)}
    stated = {
        "format": FORMAT,
        "network": network.describe(),
        "max_length": windowing.max_length,
        "overlap": windowing.overlap,
        # None: the facts of before there were any.
        **{name: ids for name, ids in special.items() if ids},
        "pad_id": special_ids(load_tokenizer(tokenizer_json))[0],
        "unknown_id": windowing.unknown_id,
        "tokenizer_sha256": hashlib.sha256(tokenizer_json).hexdigest(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **({"files": digests} if digests else {}),
        **facts,
    }
    own = {WEIGHTS: weights, TOKENIZER: tokenizer_json}
    return write_files(Path(folder), stated, {**beside, **own}, meta or {})


class Bundle:
    """A loaded bundle: columns of questions in, columns of answers out. Nothing is unpickled and
    every byte is checked.

    `facts` are the head's own (`labels` and `temperature` of a classifier); another value of one
    answers otherwise.
    """

    def __init__(
        self, network: TextNetwork, stated: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        self.network = network.eval()
        self.tokenizer_json = files[TOKENIZER]
        self.tokenizer = load_tokenizer(self.tokenizer_json)
        # What the head has beside the weights.
        self.files = {name: data for name, data in files.items() if name != TOKENIZER}
        self.kind: str = network.head.kind
        self.facts = {name: value for name, value in stated.items() if name not in COMMON}
        self.pad_id: int = stated["pad_id"]
        self.windowing = Windowing(
            stated["max_length"],
            stated["overlap"],
            tuple(stated.get("prefix_ids", ())),
            tuple(stated.get("suffix_ids", ())),
            stated["unknown_id"],
        )
        # Of the training that it comes from, where it is judged: see
        # `reparameterizations.noise_left`; a bundle by itself knows of none.
        self.noise: Mapping[str, torch.Tensor] = {}
        self.digest: str = stated["digest"]
        self.meta: dict[str, Any] = stated["meta"]

    @classmethod
    def load(cls, folder: Path | str, digest: str | None = None) -> Bundle:
        """Read a bundle, checked against its digests.

        Args:
            digest: what whoever vouches for it (a manifest, a version's tag) says that it is.
        Raises:
            BundleError: a file is missing, the format is unknown, bytes have changed, it is another
                bundle, or what stands in it cannot be.
        """
        folder = Path(folder)
        network, stated, files = read_bundle(folder, digest)
        bundle = cls(network, stated, files)
        if (field := network.head.fault(bundle.facts)) is not None:
            raise BundleError(f"{folder / DESCRIPTION}: {missing(field)}.")
        bundle._check_ids(folder)
        try:
            network.head.take_files(bundle.files)
        except Exception as error:  # a file from outside may be wrong in any way
            raise BundleError(
                f"{folder}: its files beside the weights are not what they have to be "
                f"({type(error).__name__}: {str(error)[:300]})."
            ) from error
        return bundle

    @cached_property
    def lossless_tokenizer(self) -> Tokenizer:
        """The tokenizer as one that takes special tokens in a text for what they are: text."""
        return load_lossless(self.tokenizer_json)

    @property
    def asked(self) -> tuple[str, ...]:
        """The columns of texts that `predict` is given."""
        return self.network.head.asked

    def predict(
        self, columns: Mapping[str, Sequence[Any]], params: Mapping[str, Any] | None = None
    ) -> dict[str, list[Any]]:
        """Columns of answers to columns of questions, row by row: `label` and probabilities to
        `text`, say.
        """
        return self.network.head.predict(self, columns, params or {})

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        """Windows of token ids, and for each window the index of its text.

        Raises:
            BundleError: the tokenizer fails at one of them.
        """
        return self.windowing.encode(self.tokenizer, texts)

    @torch.inference_mode()
    def run(
        self, windows: Sequence[Sequence[int]], batch_tokens: int = 16384
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """The network's outputs in batches: the indices of their windows, and a row of output for
        each.

        Windows of like length share a batch of at most `batch_tokens` padded positions.
        """
        device = next(self.network.parameters()).device
        for rows, ids, lengths in by_length(windows, self.pad_id, batch_tokens):
            read = (torch.from_numpy(one).to(device) for one in (ids, lengths))
            yield rows, self.network(*read)

    def _check_ids(self, folder: Path) -> None:
        """No id that the tokenizer or the description can give lies outside the table, and a text
        goes through.

        Raises:
            BundleError: naming what does not fit.
        """
        # Unknown words, for which a tokenizer may lack the token that it names.
        self.encode(["a 1 。"])
        if isinstance(self.network.embedding, torch.nn.Identity):
            rows = self.network.encoder.backbone.get_input_embeddings().weight.shape[0]
        else:
            rows = self.network.describe()["vocab_size"]
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
        if (fault := self.network.head.check(self.facts, output)) is not None:
            raise BundleError(f"{folder}: {fault}.")
