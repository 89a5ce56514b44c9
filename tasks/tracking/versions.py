"""Models and versions of the registry by the names that people give them, and what is said where
there is none.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from data_contracts.errors import NoisefoldError
from tasks.settings import Settings
from tasks.tracking.runs import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow answers when it is well and what was asked for is not there.
GONE = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE"}
SAMPLE = "noisefold-sample"


def model_names(client: MlflowClient) -> list[str]:
    """The names of all registered models, sorted."""
    names, token = [], None
    while True:
        page = client.search_registered_models(page_token=token)
        names += [model.name for model in page]
        token = page.token
        if not token:
            return sorted(names)


def choose_model(settings: Settings, given: str | None) -> tuple[str, str]:
    """The model that a command is about, and a sentence where it was not named and is not the
    sample's.

    Raises:
        NoisefoldError: no name was given, and the registry does not hold just one model.
    """
    if given is not None:
        return given, ""
    client, _ = connect(settings)
    names = model_names(client)
    if SAMPLE in names or not names:
        return SAMPLE, ""
    # A server may hold other people's models as well.
    ours = [name for name in names if name.startswith("noisefold-")] or names
    if len(ours) == 1:
        return ours[
            0
        ], f"The registry has one model, {ours[0]}: this is about it. --model names another."
    raise NoisefoldError(f"Which model? {_there(names)}", "Name one with --model.")


def find_version(client: MlflowClient, name: str, version: str) -> Any:
    """A version by its number or alias.

    Raises:
        NoisefoldError: the registry has no such model, or the model no such version; with what
            there is.
    """
    from mlflow.exceptions import MlflowException

    try:
        by_number = version.isdecimal() and version.isascii()
        return (
            client.get_model_version(name, version)
            if by_number
            else client.get_model_version_by_alias(name, version)
        )
    except MlflowException as error:
        if error.error_code not in GONE:
            raise
        names = model_names(client)
        if name not in names:
            raise no_such_model(name, names) from error
        numbers = sorted(
            int(found.version) for found in client.search_model_versions(f"name = '{name}'")
        )
        there = (
            f"Its newest versions: {', '.join(map(str, numbers[-10:]))}."
            if numbers
            else "It has none."
        )
        aliases = sorted(dict(client.get_registered_model(name).aliases).items())
        named = (
            f" Aliases: {', '.join(f'{alias} ({number})' for alias, number in aliases)}."
            if aliases
            else ""
        )
        raise NoisefoldError(
            f"{name} has no version {version}. {there}{named}",
            "Give one of these numbers or aliases.",
        ) from error


def model_of(version: Any) -> str | None:
    """The logged model that holds a version's files; MLflow's search leaves `model_id` empty."""
    found = re.fullmatch(r"models:/(m-[0-9a-f]+)", version.source or "")
    return found[1] if found else version.model_id


def no_such_model(name: str, names: list[str]) -> NoisefoldError:
    """The fault to raise where no model bears a name; names the nearest of those that there are."""
    near = (
        [f"noisefold-{name}"]
        if f"noisefold-{name}" in names
        else difflib.get_close_matches(name, names, n=1)
    )
    hint = f" Did you mean {near[0]}?" if near else ""
    remedy = "--model chooses another." if names else "`noisefold retrain` makes one."
    return NoisefoldError(f"There is no model named {name}. {_there(names)}{hint}", remedy)


def _there(names: list[str]) -> str:
    if not names:
        return "The registry is empty."
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"The registry has {', '.join(names[:20])}{more}."
