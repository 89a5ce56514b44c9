"""The bundled stories: the same ones for a seed, consistent to their end, and exactly as dirty as
they say.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from typing import Any, ClassVar, Literal

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data_contracts.contract.contract import load_contract
from data_contracts.errors import RecipeError
from data_contracts.kinds.base import AnyTask, Column, Metric, TaskConfig
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.source import SampleSource
from data_contracts.sample.stories import (
    DIRTY_ROWS,
    LANGUAGES,
    MAX_CHARACTERS,
    Storyteller,
    dirty_rows,
    generate,
    grammar,
    write_stories,
)
from tasks.artifacts.store import ArtifactStore
from tests.stages import fingerprint, ingest_source, validate_corpus

SEED = 20_260_101


def clean(language: str, count: int = 600) -> list[str]:
    rng = random.Random(5)
    return [Storyteller(grammar(language), rng).story() for _ in range(count)]


def names(language: str) -> list[str]:
    return [one for some in grammar(language).people.values() for one in some.split("|")]


def test_the_same_seed_gives_the_same_stories_on_any_machine() -> None:
    text = "\0".join(f"{row['language']} {row['text']}" for row in generate(4_000, SEED))
    assert hashlib.sha256(text.encode()).hexdigest()[:20] == "cbf0005c97caed47d085"
    assert next(iter(generate(200, 1))) != next(iter(generate(200, 2)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_story_is_told_to_its_end(language: str) -> None:
    stories = clean(language)
    assert not [one for one in stories if re.search(r"[{}|_]|  |None", one)]
    assert all(one.endswith((".", '"', "。", "”")) for one in stories)
    assert max(map(len, stories)) < MAX_CHARACTERS / 2
    assert len(set(stories)) > 590, "hardly any is told twice"


@pytest.mark.parametrize("language", LANGUAGES)
def test_who_comes_in_comes_again(language: str) -> None:
    for story in clean(language):
        there = {name: story.count(name) for name in names(language) if name in story}
        assert len(there) == 2, story
        assert min(there.values()) >= 2, story


def test_what_is_lost_is_found_where_it_was_lost() -> None:
    [lost, *_] = grammar("en").plots
    for record in lost["records"]:
        told = [one for one in clean("en", 2_000) if record["hid"] in one]
        assert told
        for story in told:
            assert story.count(record["thing"]) >= 2
            assert record["last"] in story and record["place"] in story


def test_a_bargain_adds_up() -> None:
    bargains = 0
    for story in clean("en", 2_000):
        if "pay me" not in story:
            continue
        asked = re.search(r"(\d+) coins for (\d+)|(\d+) \w+ are (\d+) coins", story)
        paid = re.search(r'Then take (\d+)," said \w+, "and pay me (\d+)', story)
        assert asked and paid, story
        coins, things = (asked[1], asked[2]) if asked[1] else (asked[4], asked[3])
        assert int(coins) * int(paid[1]) == int(paid[2]) * int(things), "one price each"
        bargains += 1
    assert bargains > 50


def test_pronouns_are_those_of_the_name() -> None:
    she = set(grammar("en").people["she"].split("|"))
    for story in clean("en"):
        there = {name for name in names("en") if name in story}
        if there <= she:
            assert not re.search(r"\b(he|him|his)\b", story, re.I), story
        if not there & she:
            assert not re.search(r"\b(she|her)\b", story, re.I), story


def test_exactly_the_planted_rows_are_quarantined(tmp_path: Any) -> None:
    source, by = SampleSource(data="stories"), load_contract("stories")
    assert (source.rows, source.seed) == (4_000, SEED)
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=1_000).manifest
    manifest = validate_corpus(raw, by, store, batch_rows=1_000).manifest
    assert manifest.quarantined == DIRTY_ROWS == dirty_rows()
    assert manifest.facts == {"form": "text", "template": "{prompt}"}
    rows = pq.read_table(f"{manifest.uri}/corpus").to_pylist()
    assert min(manifest.splits.values()) > 300
    shares = Counter(row["language"] for row in rows)
    assert min(shares[one] for one in LANGUAGES) > 0.45 * len(rows)


def test_a_file_of_them_is_what_the_source_reads(tmp_path: Any) -> None:
    assert write_stories(tmp_path / "s.parquet", 300, 3) == 300
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.to_pylist() == list(generate(300, 3))
    assert fingerprint(SampleSource(data="stories", rows=300)) != fingerprint(
        SampleSource(rows=300)
    )
    assert [one.name for one in tmp_path.iterdir()] == ["s.parquet"]


def test_classes_of_stories_are_refused_as_idle() -> None:
    with pytest.raises(ValidationError, match="classes are those of the reviews"):
        SampleSource(data="stories", classes=2)
    written = SampleSource(data="stories").model_dump()
    assert SampleSource.model_validate(written) == SampleSource(data="stories")


def test_a_recipe_of_stories_has_their_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskConfig, "KINDS", dict(AnyTask.kinds))
    if "generate" not in AnyTask.kinds:

        class Toy(TaskConfig):
            metrics: ClassVar[tuple[Metric, ...]] = (Metric("bits", "bits", "lower"),)
            inputs: ClassVar[tuple[Column, ...]] = (Column("prompt", "string"),)
            kind: Literal["generate"] = "generate"  # pyright: ignore[reportIncompatibleVariableOverride]

    recipe = parse_recipe(
        {
            "source": {"data": "stories"},
            "task": {"kind": "generate"},
            "tokenizer": {"kind": "byte"},
        },
        origin="t",
    )
    assert recipe.contract == load_contract("stories")
    assert isinstance(recipe.source, SampleSource) and recipe.source.rows == 4_000
    with pytest.raises(RecipeError, match=r"task\.kind is classify, and contract stories has rows"):
        parse_recipe({"source": {"data": "stories"}}, origin="t")


def test_a_path_under_data_is_no_sample() -> None:
    with pytest.raises(RecipeError, match=r"unknown key; did you mean source\.url\?"):
        parse_recipe({"source": {"data": "mails.csv"}, "contract": "sample"}, origin="t")
