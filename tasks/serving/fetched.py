"""Versions of registered models, fetched whole into the store's folder of copies."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from upath import UPath

from data_contracts.artifacts import FetchedModel
from data_contracts.errors import NoisefoldError, RecipeError
from tasks.artifacts.store import hash_file
from tasks.serving.check import Unservable, fetch_version, inspect
from tasks.tracking.aliases import CHAMPION
from tasks.tracking.bookkeeping import DIGEST
from tasks.tracking.runs import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from lightning_modules.bundle import Bundle

_COMPLETE = "complete"  # marks a version that was fetched whole


@dataclass(frozen=True)
class Champion:
    """The model that serves now, and the hashes of the texts it was trained on."""

    version: str
    bundle: Bundle
    train_texts: np.ndarray


def fetch_champion(name: str, version: str, tracker: Tracker, folder: Path) -> Champion:
    """Download the champion and read its bundle.

    Raises:
        Unservable: its files are gone or damaged.
    """
    from lightning_modules.bundle import Bundle

    artifacts = fetch_version(tracker.client, name, version, folder) / "artifacts"
    try:
        hashes = np.load(artifacts / "train_texts.npy", allow_pickle=False)
        return Champion(version, Bundle.load(artifacts / "bundle"), hashes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unservable(f"{Path(error.filename or 'a file').name} is missing") from error
    except (ValueError, KeyError, TypeError) as error:  # BundleError is a ValueError
        raise Unservable(str(error)) from error


def fetch_model(
    tracker: Tracker, name: str, folder: Path, version: str | None = None
) -> FetchedModel | None:
    """The champion, or a pinned version, below `folder`; None where there is no champion yet.

    Raises:
        NoisefoldError: where the version's files are gone or damaged.
    """
    from lightning_modules.bundle import Bundle

    if version is None:
        found = tracker.client.search_registered_models(f"name = '{name}'")
        version = dict(found[0].aliases).get(CHAMPION) if found else None
    if version is None:
        return None
    target = _target(folder, name, version)
    try:
        if not (target / _COMPLETE).exists():
            fetch_champion(name, str(version), tracker, target / "files")
            (target / _COMPLETE).touch()
        model = fetched_model(folder, name, str(version))
        if model is None:
            raise Unservable("bundle is missing")
        Bundle.load(model.bundle)
    except (Unservable, ValueError) as error:
        raise NoisefoldError(
            f"The registered model {name} version {version} cannot be read ({error}).",
            "Set training.warm_start to never, or move the alias champion to a version that is "
            "whole.",
        ) from error
    return model


def fetch_to_ask(client: MlflowClient, name: str, version: str, folder: Path) -> FetchedModel:
    """A version below `folder`, whole, as it is to be asked; one that was fetched before is looked
    at again.

    Raises:
        NoisefoldError: its files are gone, damaged, or not those that were registered.
    """
    from lightning_modules.bundle import Bundle

    digest = client.get_model_version(name, version).tags.get(DIGEST)
    target = _target(folder, name, version)
    try:
        known = fetched_model(folder, name, version)
        if known is not None and not _is_that(known, digest):
            shutil.rmtree(target)  # of a registry that was here before
            known = None
        if known is None:
            fetch_version(client, name, version, target / "files")
            (target / _COMPLETE).touch()
            known = fetched_model(folder, name, version)
        if known is None:
            raise Unservable("bundle is missing")
        Bundle.load(known.bundle)
    except (Unservable, ValueError) as error:
        raise NoisefoldError(
            f"The registered model {name} version {version} cannot be read ({error}).",
            "Name another version, or move the alias champion to one that is whole.",
        ) from error
    return known


def _is_that(model: FetchedModel, digest: str | None) -> bool:
    try:
        inspect(model.bundle.parent.parent, digest)
    except Unservable:
        return False
    return True


@dataclass(frozen=True)
class Named:
    """A version of a registered model that a recipe names, and where its run says which it was."""

    name: str
    version: int | None  # None: the champion when the run begins
    tag: str

    def pinned(self, tracker: Tracker) -> str | None:
        """The version that the recipe says, or that this run began with."""
        if self.version:
            return str(self.version)
        known = tracker.tag(self.tag)
        return known.rpartition("/")[2] if known and known.startswith(f"{self.name}/") else None


def fetch_named(
    named: Named, purpose: str, remedy: str, tracker: Tracker, folder: Path
) -> FetchedModel:
    """The version that a recipe names; pinned in the run as NAME/VERSION, so that a rerun has the
    same one.

    Args:
        purpose: what follows "there is no champion of it".
    Raises:
        RecipeError: the registry has no such model, or no champion of it, or its files are gone or
            damaged.
    """
    try:
        found = fetch_model(tracker, named.name, folder, named.pinned(tracker))
    except NoisefoldError as error:
        raise RecipeError(error.cause, remedy) from error
    if found is None:
        raise RecipeError(f"There is no champion of {named.name} {purpose}.", remedy)
    tracker.set_tags({named.tag: f"{named.name}/{found.version}"})
    return found


def fetched_model(folder: Path, name: str, version: str) -> FetchedModel | None:
    """A version that `fetch_model` has fetched whole before, without a look at the registry."""
    target = _target(folder, name, version)
    if not (target / _COMPLETE).exists():
        return None
    bundle = next(target.glob("files/**/artifacts/bundle"), None)
    if bundle is None:
        return None
    digest = hash_file(UPath(bundle / "bundle.json")).sha256
    return FetchedModel(name=name, version=version, bundle=bundle, digest=digest)


def _target(folder: Path, name: str, version: str) -> Path:
    return folder / f"{name}-{version}"
