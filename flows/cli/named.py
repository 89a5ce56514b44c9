"""What a command finds by a name: the deployments of prefect.yaml, each with its flow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.errors import RecipeError
from data_contracts.yaml_text import read_yaml

# Of the checkout, by a link; in an installed package, a copy.
BUNDLED_DEPLOYMENTS = Path(__file__).parents[1] / "prefect.yaml"

_COMMANDS = {"explain": "explain --rows"}  # of flows whose command is no more than their name


@dataclass(frozen=True)
class Named:
    """A deployment of prefect.yaml."""

    flow: str
    recipe: dict[str, Any]  # as it is written there
    origin: str  # what to call it in an error
    base: Path  # folder from which relative paths in it start


def find_named(name: str, flow: str) -> Named:
    """The deployment of that name.

    Raises:
        RecipeError: there is none, or it is one of another flow.
    """
    file = _file()
    known = _deployments(file) if file else {}
    if name not in known:
        of_flow = [one for one, (which, _) in known.items() if which == flow]
        raise RecipeError(
            f"There is no deployment named {name} in {file or 'prefect.yaml'} (it has "
            f"{', '.join(of_flow)}).",
            "Name one of them, or give the path of a recipe file ending in .yaml.",
        )
    assert file is not None
    found, recipe = known[name]
    if found != flow:
        raise RecipeError(
            f"The deployment {name} is one of the flow {found}, and not of {flow}.",
            f"Run it by `noisefold {_COMMANDS.get(found, found)} {name}`.",
        )
    # Beside prefect.yaml stands the data that it names, but not beside the package's own copy.
    installed = file.resolve() == Path(__file__).resolve().parents[1] / "prefect.yaml"
    base = Path.cwd() if installed else file.resolve().parent
    return Named(found, recipe, f"{file}, deployment {name}", base)


def flow_of(name: str) -> str | None:
    """The flow of a deployment of prefect.yaml; None where there is none of that name."""
    file = _file()
    return _deployments(file).get(name, (None, {}))[0] if file else None


def _file() -> Path | None:
    """Beside the command first: a team keeps its own prefect.yaml; the bundled one serves
    everywhere else.
    """
    return next((p for p in (Path("prefect.yaml"), BUNDLED_DEPLOYMENTS) if p.is_file()), None)


def _deployments(file: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Flow and recipe of each, by its name."""
    content = read_yaml(file)
    deployments = content.get("deployments") if isinstance(content, dict) else None
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for one in deployments if isinstance(deployments, list) else []:
        if not isinstance(one, dict) or not one.get("name"):
            continue
        parameters = one.get("parameters") or {}
        if not isinstance(parameters, dict):
            continue
        flow = str(one.get("entrypoint", "")).rpartition(":")[2] or "retrain"
        found[str(one["name"])] = (flow, parameters.get("recipe") or parameters.get("search") or {})
    return found
