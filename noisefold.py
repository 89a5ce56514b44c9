"""Retrain text models on a schedule: train with noise on the weights, fold it away, ship a
plain network.

The public names, wherever they live. Each is imported when it is first asked for, so `import
noisefold` loads neither torch nor Prefect. `python -m noisefold` is the command `noisefold`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_contracts.contract.contract import DataContract, load_contract
    from data_contracts.errors import NoisefoldError
    from data_contracts.recipe.methods import (
        GaussianPosterior,
        LowRank,
        MultiplicativeNoise,
        SigmaReparam,
        Sparse,
        WeightNorm,
    )
    from data_contracts.recipe.reading import load_recipe, parse_recipe
    from data_contracts.recipe.recipe import Recipe
    from lightning_modules.bundle import Bundle
    from lightning_modules.reparameterizations import (
        fold,
        kl,
        redraw,
        reparameterize,
        sampling,
        set_mode,
    )

    __version__: str

__all__ = [
    "Bundle", "DataContract", "GaussianPosterior", "LowRank", "MultiplicativeNoise",
    "NoisefoldError", "Recipe", "SigmaReparam", "Sparse", "WeightNorm", "fold", "kl",
    "load_contract", "load_recipe", "parse_recipe", "redraw", "reparameterize", "sampling",
    "set_mode",
]  # fmt: skip

_MODULES = {
    "data_contracts.contract.contract": ("DataContract", "load_contract"),
    "data_contracts.errors": ("NoisefoldError",),
    "data_contracts.recipe.methods": (
        "GaussianPosterior", "LowRank", "MultiplicativeNoise", "SigmaReparam", "Sparse",
        "WeightNorm",
    ),
    "data_contracts.recipe.reading": ("load_recipe", "parse_recipe"),
    "data_contracts.recipe.recipe": ("Recipe",),
    "lightning_modules.bundle": ("Bundle",),
    "lightning_modules.reparameterizations": (
        "fold", "kl", "redraw", "reparameterize", "sampling", "set_mode",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_PACKAGES = ("data_contracts", "lightning_modules", "tasks", "flows")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("noisefold")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'noisefold' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def main() -> None:
    """The command line. A user's own `tasks.py` or `flows/` on the path does not stand before the
    packages here.
    """
    here = str(Path(__file__).resolve().parent)
    sys.path.insert(0, here)
    try:
        for package in _PACKAGES:
            import_module(package)
    finally:
        sys.path.remove(here)
    from flows.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
