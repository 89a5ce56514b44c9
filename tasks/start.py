"""The registered model that a training starts from, where a recipe names one: which version it is,
its tokenizer, and whether it was trained on the rows that the new one is measured on.

It is found by name as a teacher is, and counts by its files: in the key of `train` by the digest of
its bundle, in that of `tokenize` by the content of its tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.artifacts import FetchedModel
from data_contracts.contract.contract import SPLITS
from data_contracts.errors import RecipeError
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.sections import WarmStartConfig
from data_contracts.recipe.tokenizer import FileTokenizer, ModelTokenizer
from tasks.artifacts.store import ArtifactStore
from tasks.serving.fetched import Named, fetch_named, fetched_model
from tasks.tokenize import ValidatedRows
from tasks.tracking.bookkeeping import WARM_START
from tasks.tracking.runs import Tracker

# Share of the valid or test rows that a model to start or to learn from may have been trained on.
MOST_SEEN = 0.01


def find_start(config: WarmStartConfig, tracker: Tracker, fetched: Path) -> FetchedModel:
    """The version to start from; pinned in the run, so that a rerun starts from the same one.

    Raises:
        RecipeError: the registry has no such model, or no champion of it, or its files are gone or
            damaged.
    """
    remedy = (
        f"Train {config.model} first, with `noisefold retrain` and its own recipe, or correct "
        "training.warm_start."
    )
    named = Named(config.model, config.version, WARM_START)
    return fetch_named(named, "to start from", remedy, tracker, fetched)


def fetched_start(recipe: Recipe, store: ArtifactStore) -> FetchedModel | None:
    """The version that a recipe names, where it was fetched before: without a look at the registry.

    None where it has to be asked: the version is left open, or is not here.
    """
    config = recipe.training.warm_start
    if not isinstance(config, WarmStartConfig) or config.version is None:
        return None
    return fetched_model(store.fetched, config.model, str(config.version))


def with_tokenizer_of(recipe: Recipe, start: FetchedModel) -> Recipe:
    """The recipe with that model's tokenizer as the file that it is, whose content counts."""
    if not isinstance(recipe.tokenizer, ModelTokenizer):
        return recipe
    given = FileTokenizer(path=str(start.bundle / "tokenizer.json"))
    return recipe.model_copy(update={"tokenizer": given})


def check_unseen(start: FetchedModel, rows: ValidatedRows) -> None:
    """Hold a model to start from to the rows that are to measure what comes out.

    Raises:
        RecipeError: it was trained on more than a few of them.
    """
    seen = SeenRows(np.load(start.texts, allow_pickle=False))
    for _ in seen.parts(rows):
        pass  # counted on the way
    refuse_seen(f"{start}, to start from,", seen.seen, seen.count)


class SeenRows:
    """Counts the rows of each split, and those that a model was trained on, as they are read.

    Args:
        known: hashes of the texts it was trained on.
    """

    def __init__(self, known: np.ndarray) -> None:
        self.known = known
        self.count: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self.seen: dict[str, int] = dict.fromkeys(SPLITS, 0)

    def parts(self, rows: ValidatedRows) -> Iterator[tuple[str, pa.Table]]:
        """Every row, batch by batch, with the split it is of."""
        for batch in rows.batches():
            for split in SPLITS:
                part = batch.filter(pc.equal(batch["split"], split))
                self.count[split] += part.num_rows
                self.seen[split] += int(np.isin(rows.hashes(part), self.known).sum())
                yield split, part


def refuse_seen(model: str, seen: Mapping[str, int], count: Mapping[str, int]) -> None:
    """Raise where a model was trained on more than `MOST_SEEN` of the rows of valid or test."""
    for split in ("valid", "test"):
        if seen[split] > MOST_SEEN * count[split]:
            raise RecipeError(
                f"{model} was trained on {seen[split]:,} of the {count[split]:,} "
                f"{split} rows, so figures on them would say nothing.",
                "Train it on the same source with the same splits.",
            )
