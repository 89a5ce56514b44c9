"""The network of a bundle as it is built: of the sizes described, if the weights have them.

This file is shipped inside the registered model: it imports torch, safetensors and what ships with
it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch.overrides import TorchFunctionMode

from lightning_modules.bundle_files import DESCRIPTION, WEIGHTS, read_files
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.network.tokenizer import BundleError


def read_bundle(
    folder: Path, digest: str | None
) -> tuple[TextNetwork, dict[str, Any], dict[str, bytes]]:
    """A bundle's network with its weights, the fields of its bundle.json, and the bytes of its
    other files: tokenizer.json, and what the head has beside the weights.

    Raises:
        BundleError: a file is missing, the format is unknown, bytes have changed, it is another
            bundle than that of the `digest` given, or what stands in it cannot be.
    """
    stated, given, files = read_files(folder, WEIGHTS, digest)
    try:
        weights = load_safetensors(given)
    except Exception as error:  # SafetensorError, and torch's word on a dtype it does not know
        raise BundleError(f"{folder / WEIGHTS} is no safetensors file: {error}") from error
    network = _build(folder, stated["network"], weights)
    network.load_state_dict(TextNetwork.unstored(weights))
    return network, stated, files


class _Undrawn(TorchFunctionMode):
    """Parameters get no first values: to draw them on the meta device, torch imports its compiler
    for seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _build(
    folder: Path, description: dict[str, Any], weights: dict[str, torch.Tensor]
) -> TextNetwork:
    """The network of a description, once it is clear that it is no larger than the weights that are
    there.

    Raises:
        BundleError: they do not fit, or nothing can be built from it.
    """
    try:
        if _modules(description) > len(weights):
            raise ValueError("it has more layers than weights")
        with torch.device("meta"), _Undrawn():  # shapes alone: a size of 10^12 costs nothing
            expected = {
                name: (t.shape, t.dtype) for name, t in build_network(description).stored().items()
            }
        found = {name: (t.shape, t.dtype) for name, t in weights.items()}
        if expected != found:
            name = min(
                name
                for name in expected.keys() | found.keys()
                if expected.get(name) != found.get(name)
            )
            raise ValueError(
                f"{name} is {found.get(name, 'missing')}, described as "
                f"{expected.get(name, 'absent')}"
            )
        return build_network(description)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"{folder} holds a pretrained backbone, which needs the package {error.name}."
        ) from error
    except Exception as error:  # a description from outside may be wrong in any way
        raise BundleError(
            f"{folder / WEIGHTS} does not fit the network that {DESCRIPTION} describes "
            f"({type(error).__name__}: {str(error)[:300]})."
        ) from error


def _modules(description: dict[str, Any]) -> int:
    """At least how many layers a description asks for: a loop over 10^9 of them would never end."""
    encoder = description["encoder"]
    sizes = [
        len(encoder[key])
        for key in ("hidden_sizes", "feedforward_sizes")
        if isinstance(encoder.get(key), list)
    ]
    # A head may have parts of its own, one for each item of a list.
    parts = [value for value in description.values() if isinstance(value, dict)]
    sizes += [len(value) for part in parts for value in part.values() if isinstance(value, list)]
    config = encoder.get("config")
    if isinstance(config, dict):
        sizes += [
            value
            for key, value in config.items()
            if type(value) is int and re.search("layer|expert", key)
        ]
    return max(sizes, default=0)
