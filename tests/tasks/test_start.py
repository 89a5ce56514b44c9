"""What a run starts from is told, kept and held to the rows that measure."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_contracts.artifacts import FetchedModel
from data_contracts.errors import RecipeError
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from tasks.operate.retention import Needs
from tasks.start import refuse_seen, with_tokenizer_of
from tasks.tracking.bookkeeping import WARM_START


def recipe(**sections: Any) -> Recipe:
    start = {"warm_start": {"model": "noisefold-lm", "version": 2}}
    said = {"name": "mails", "source": {"kind": "sample"}, "training": start, **sections}
    return parse_recipe(said, origin="mails.yaml")


def test_a_recipe_that_starts_from_a_model_has_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert recipe().tokenizer.kind == "model"
    start = FetchedModel(name="noisefold-lm", version="2", bundle=tmp_path, digest="d")
    given = with_tokenizer_of(recipe(), start)
    assert given.tokenizer.kind == "file" and str(tmp_path) in given.tokenizer.path
    # Its content counts, wherever it lies, and the rest of the recipe is what it was.
    identity = given.identity(["tokenizer"])["tokenizer"]
    assert str(tmp_path) not in str(identity)
    assert given.identity(["training"]) == recipe().identity(["training"])


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"tokenizer": {"kind": "word"}}, "leave tokenizer out, or say {kind: model}"),
        ({"model": {"embedding": {"vectors": "glove.txt"}}}, "both say what the token vectors"),
        ({"model": {"encoder": {"path": "minilm"}}}, "model.encoder.path and training.warm_start"),
        ({"registry": {"model_name": "noisefold-lm"}}, "is this recipe's own model"),
        ({"training": {}, "tokenizer": {"kind": "model"}}, "and it names none"),
        ({"training": {"warm_start": "noisefold-lm"}}, "a section: {model: …, version: …}"),
        ({"training": {"warm_start": {"model": "m", "version": 0}}}, "warm_start.version: must be"),
    ],
)
def test_what_cannot_stand_beside_it_is_refused(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as fault:
        recipe(**sections)
    assert words in str(fault.value)


def test_a_version_that_a_needed_run_started_from_is_kept() -> None:
    needs = Needs()
    for run_id, tag in (("a", "3"), ("b", "noisefold-lm/2")):
        tags = {"noisefold.model_name": "noisefold-mails", WARM_START: tag}
        run: Any = SimpleNamespace(info=SimpleNamespace(run_id=run_id), data=SimpleNamespace(tags=tags))  # fmt: skip
        needs.run(run, "champion")
    assert set(needs.versions) == {("noisefold-mails", "3"), ("noisefold-lm", "2")}


def test_a_few_rows_that_were_seen_are_left_to_the_gate() -> None:
    count = {"train": 900, "valid": 100, "test": 100}
    refuse_seen("m", {"train": 900, "valid": 1, "test": 1}, count)
    with pytest.raises(RecipeError, match="m was trained on 2 of the 100 test rows"):
        refuse_seen("m", {"train": 0, "valid": 0, "test": 2}, count)
