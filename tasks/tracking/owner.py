"""Whose a registered model is: a retrain of other data must not take its champion's place by a name
alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_contracts.errors import RecipeError
from data_contracts.recipe.recipe import Recipe
from tasks.tracking.aliases import CHAMPION
from tasks.tracking.bookkeeping import lineage_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


def refuse_other_data(client: MlflowClient, recipe: Recipe) -> None:
    """Hold the recipe's contract against the one that the champion's rows kept, by their names.

    Raises:
        RecipeError: where they differ and the recipe has its model's name from its own alone
            (registry.model_name says that the model is meant).
    """
    if recipe.registry.model_name is not None:
        return
    found = client.search_registered_models(f"name = '{recipe.model_name}'")
    version = dict(found[0].aliases).get(CHAMPION) if found else None
    if version is None:
        return
    found = client.get_model_version(recipe.model_name, str(version))
    kept = lineage_of(found).get("contract", "")
    theirs = kept.rpartition(" v")[0]
    if theirs and theirs != recipe.contract.name:
        raise RecipeError(
            f"The model {recipe.model_name} is of other data: its champion, version {version}, was "
            f"made from rows of "
            f"contract {theirs}, and this recipe has contract {recipe.contract.name}.",
            f"Give this recipe a name of its own; if its model is to take that one's place, set "
            f"registry.model_name: "
            f"{recipe.model_name}.",
        )
