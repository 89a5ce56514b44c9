"""The folded model on disk: `model.safetensors`, `bundle.json`, `tokenizer.json`, and what a head
has beside them. No pickle.

What it is asked and what it answers is its head's to say (`lightning_modules.kinds`). This file is
shipped inside the registered model, with all that it imports of this repository: see
`lightning_modules.shipping`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_safetensors

from lightning_modules.bundle_files import (
    FORMAT,
    TOKENIZER,
    WEIGHTS,
    files_fault,
    refuse_common,
    write_files,
)
from lightning_modules.bundle_network import read_bundle
from lightning_modules.kinds.heads import Head
from lightning_modules.loaded import Loaded
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import BundleError, load_tokenizer, special_ids
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


class Bundle(Loaded):
    """A loaded bundle whose network torch runs. Nothing is unpickled and every byte is checked."""

    head: Head

    def __init__(
        self, network: TextNetwork, stated: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        super().__init__(network.head, stated, files)
        self.network = network.eval()
        # Of the training that it comes from, where it is judged: see
        # `reparameterizations.noise_left`; a bundle by itself knows of none.
        self.noise: Mapping[str, torch.Tensor] = {}

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
        bundle.check_facts(folder)
        bundle.check_ids(folder, network.ids)
        try:
            bundle.head.take_files(bundle.files)
        except Exception as error:  # a file from outside may be wrong in any way
            raise BundleError(
                f"{folder}: its files beside the weights are not what they have to be "
                f"({type(error).__name__}: {str(error)[:300]})."
            ) from error
        return bundle

    @torch.inference_mode()
    def outputs(self, ids_BT: np.ndarray, lengths_B: np.ndarray) -> np.ndarray:
        device = next(self.network.parameters()).device
        read = (torch.from_numpy(one).to(device) for one in (ids_BT, lengths_B))
        return self.network(*read).cpu().numpy()
