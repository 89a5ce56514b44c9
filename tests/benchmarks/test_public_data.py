"""The recipes of the public data sets read what they say: rows kept, rows set aside, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.prepare_newsgroups import prepare, without_headers
from data_contracts.recipe.reading import load_recipe
from data_contracts.recipe.source import FileSource
from tasks.artifacts.store import ArtifactStore
from tests.stages import fingerprint, ingest_source, validate_corpus

RECIPES = Path(__file__).resolve().parents[2] / "benchmarks" / "recipes"


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "splits", "quarantined"),
    [
        ("thucnews", {"train": 44872, "valid": 9991, "test": 10000}, {"leaked": 137}),
        ("banking77", {"train": 9012, "valid": 984, "test": 3080}, {"leaked": 7}),
        ("imdb", {"train": 22356, "valid": 2521, "test": 25000}, {"leaked": 123}),
        ("newsgroups", {"train": 10201, "valid": 1084, "test": 7516}, {"empty": 34, "leaked": 11}),
        ("chnsenticorp_contaminated", {"train": 9600, "valid": 1200, "test": 1200}, {}),
    ],
)
def test_recipe_reads_its_rows(
    store: ArtifactStore,
    real_data: Path,
    tmp_path: Path,
    name: str,
    splits: dict[str, int],
    quarantined: dict[str, int],
) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    source = recipe.source
    if name == "newsgroups":
        prepare(real_data / "20newsgroups", tmp_path)
        source = FileSource(url={"train": f"{tmp_path}/train.csv", "test": f"{tmp_path}/test.csv"})
    raw = ingest_source(
        source, recipe.contract, fingerprint(source), store, batch_rows=50_000
    ).manifest
    corpus = validate_corpus(raw, recipe.contract, store, batch_rows=50_000).manifest
    assert corpus.splits == splits
    assert corpus.quarantined == quarantined


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ("From: a\nSubject: b\n\nHello\n\nagain", "Hello\n\nagain"),
        ("From: a\r\nSubject: b\r\n\r\nHello\r\n", "Hello\n"),
        ("From: a\n\n", ""),
        ("no headers at all", "no headers at all"),
    ],
)
def test_headers_end_at_the_first_blank_line(message: str, body: str) -> None:
    assert without_headers(message) == body
