"""The bundled phrases: the same ones for a seed, one Chinese sentence for each English one, and
exactly as dirty as they say.
"""

from __future__ import annotations

import hashlib
import random
import re
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data_contracts.contract.contract import load_contract
from data_contracts.errors import RecipeError
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.source import SampleSource
from data_contracts.sample.phrases import (
    DIRTY_ROWS,
    MIN_ROWS,
    dirty_rows,
    generate,
    grammar,
    sentence,
    write_phrases,
)
from tasks.artifacts.store import ArtifactStore
from tests.stages import fingerprint, ingest_source, validate_corpus

SEED = 20_260_101


def clean(count: int = 3_000) -> list[dict[str, str]]:
    rng = random.Random(5)
    return [sentence(rng) for _ in range(count)]


def test_the_same_seed_gives_the_same_phrases_on_any_machine() -> None:
    rows = (f"{row['source']}\t{row['target']}\t{row['form']}" for row in generate(4_000, SEED))
    digest = hashlib.sha256("\0".join(rows).encode()).hexdigest()
    assert digest[:20] == "c6705eaf501015cfaaa2"
    assert next(iter(generate(MIN_ROWS, 1))) != next(iter(generate(MIN_ROWS, 2)))


def test_every_sentence_is_whole_in_both_languages() -> None:
    for row in clean():
        assert re.fullmatch(r"[A-Z][A-Za-z0-9 ,'-]+[.?]", row["source"]), row
        assert re.fullmatch(r"[\u4e00-\u9fff0-9，]+[。？]", row["target"]), row
        assert row["source"].endswith("?") == row["target"].endswith("？")
    assert {row["form"] for row in clean()} == set(grammar().forms)


def test_an_english_sentence_has_one_chinese_one() -> None:
    found: dict[str, str] = {}
    for row in clean(20_000):
        assert found.setdefault(row["source"], row["target"]) == row["target"]
    assert len(found) > 18_000, "hardly any is said twice"


def test_words_stand_in_another_order() -> None:
    """Who is compared, where from and when stand the other way round, which no dictionary knows."""
    compared = [row for row in clean() if " is not as " in row["source"]]
    assert compared
    for row in compared:
        assert row["source"].index(" as ") < row["source"].rindex(" as ")
        assert re.search(r"没有.*(高|强壮|年轻|富有|聪明|快乐|忙)。", row["target"]), row
    dated = [row for row in clean() if re.search(r"in the \w+ of \d{4}", row["source"])]
    assert dated
    for row in dated:
        assert re.search(r"\d{4}年[春夏秋冬]天", row["target"]), row


def test_nobody_is_compared_with_themselves() -> None:
    for row in clean(10_000):
        if found := re.fullmatch(r"(.+) is \w+ than (.+)\.", row["source"]):
            assert found[1].lower() != found[2].lower(), row


@pytest.mark.parametrize(("rows", "seed"), [(4_000, SEED), (MIN_ROWS, 1)])
def test_exactly_the_planted_rows_are_quarantined(tmp_path: Any, rows: int, seed: int) -> None:
    source, by = SampleSource(data="phrases", rows=rows, seed=seed), load_contract("phrases")
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=2_000).manifest
    manifest = validate_corpus(raw, by, store, batch_rows=2_000).manifest
    assert manifest.quarantined == dirty_rows(rows)
    assert manifest.facts == {"source_script": "Latin", "target_script": "Han"}
    kept = pq.read_table(f"{manifest.uri}/corpus")
    assert kept.column_names == ["id", "source", "target", "split", "form"]
    refused = pq.read_table(f"{manifest.uri}/quarantine.parquet").to_pylist()
    assert all(len(row["reasons"]) == 1 for row in refused), "one fault each"
    assert sum(dirty_rows().values()) == sum(DIRTY_ROWS.values())


def test_a_file_of_them_is_what_the_source_reads(tmp_path: Any) -> None:
    assert write_phrases(tmp_path / "p.parquet", 300, 3) == 300
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == list(generate(300, 3))
    prints = {fingerprint(SampleSource(data=one, rows=300)) for one in ("phrases", "stories")}
    assert len(prints) == 2
    with pytest.raises(ValueError, match="at least 200 rows"):
        next(iter(generate(199, 3)))


def test_a_recipe_of_phrases_has_their_contract_and_no_classes() -> None:
    said = {"source": {"data": "phrases"}, "task": {"kind": "translate"}}
    recipe = parse_recipe(said, origin="t")
    assert recipe.contract == load_contract("phrases")
    assert isinstance(recipe.source, SampleSource) and recipe.source.rows == 4_000
    with pytest.raises(RecipeError, match=r"task\.kind is classify, and contract phrases has rows"):
        parse_recipe({"source": {"data": "phrases"}}, origin="t")
    with pytest.raises(ValidationError, match="classes are those of the reviews"):
        SampleSource(data="phrases", classes=2)
