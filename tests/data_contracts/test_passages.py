"""The bundled passages: the same ones for a seed, each answer where it says, and exactly as dirty
as they say.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_contracts.contract.contract import load_contract
from data_contracts.errors import RecipeError
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.source import SampleSource
from data_contracts.sample.passages import (
    ASKED,
    DIRTY_ROWS,
    MIN_ROWS,
    dirty_rows,
    generate,
    grammar,
    passage,
    write_passages,
)
from tasks.artifacts.store import ArtifactStore
from tests.stages import fingerprint, ingest_source, validate_corpus

SEED = 20_260_101


def clean(count: int = 2_000) -> list[list[dict[str, str | None]]]:
    rng = random.Random(5)
    return [passage(rng) for _ in range(count)]


def test_the_same_seed_gives_the_same_passages_on_any_machine() -> None:
    text = "\0".join(json.dumps(row, sort_keys=True) for row in generate(2_400, SEED))
    assert hashlib.sha256(text.encode()).hexdigest()[:20] == "c1ee6a08c3bd8d726481"
    assert next(iter(generate(MIN_ROWS, 1))) != next(iter(generate(MIN_ROWS, 2)))


def test_every_passage_is_whole_and_every_answer_stands_in_it_once() -> None:
    for rows in clean():
        assert len({row["context"] for row in rows}) == 1
        assert len({row["question"] for row in rows}) == len(rows)
        for row in rows:
            context, question = str(row["context"]), str(row["question"])
            assert not re.search(r"[{}|#_]|  |None|\.\.|。。", context + question), row
            assert context.endswith((".", "。")) and question.endswith(("?", "？")), row
            if row["answer"] is not None:
                assert context.count(row["answer"]) == 1
                assert context.index(row["answer"]) == int(str(row["answer_start"]))
                assert json.loads(str(row["answers"]))[0] == row["answer"]


def test_some_questions_of_each_language_have_no_answer() -> None:
    rows = [row for some in clean() for row in some]
    for language in grammar():
        own = [row for row in rows if row["language"] == language]
        without = sum(row["answer"] is None for row in own) / len(own)
        assert 0.1 < without < 0.2
        assert 0.4 < len(own) / len(rows) < 0.6
    assert {len(some) for some in clean()} == {ASKED, ASKED + 1}


def test_the_kind_of_an_answer_alone_does_not_tell_it() -> None:
    """Where a year is asked for, most passages have two."""
    asked = [row for some in clean() for row in some if re.fullmatch(r"\d{4}年?", row["answer"] or "")]  # fmt: skip
    years = [len(re.findall(r"\d{4}年|\b1[89]\d\d\b|\b20[01]\d\b", str(row["context"]))) for row in asked]  # fmt: skip
    assert sum(one >= 2 for one in years) > 0.6 * len(years)


def test_the_two_languages_have_the_same_facts() -> None:
    facts = [
        {topic: {fact: one.value for fact, one in told.facts.items()} for topic, told in grammar()[language].topics.items()}
        for language in ("en", "zh")
    ]  # fmt: skip
    assert facts[0] == facts[1]


@pytest.mark.parametrize(("rows", "seed"), [(2_400, SEED), (MIN_ROWS, 1)])
def test_exactly_the_planted_rows_are_quarantined(tmp_path: Any, rows: int, seed: int) -> None:
    source, by = SampleSource(data="passages", rows=rows, seed=seed), load_contract("passages")
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=1_000).manifest
    manifest = validate_corpus(raw, by, store, batch_rows=1_000).manifest
    assert manifest.quarantined == dirty_rows(rows)
    assert manifest.facts["unanswerable"] is True
    kept = pq.read_table(f"{manifest.uri}/corpus").to_pylist()
    splits: dict[str, set[str]] = {}
    for row in kept:
        splits.setdefault(row["context"], set()).add(row["split"])
        start = int(row["answer_start"])
        assert start == -1 or row["context"].startswith(row["answer"], start)
    assert all(len(one) == 1 for one in splits.values())
    refused = pq.read_table(f"{manifest.uri}/quarantine.parquet").to_pylist()
    assert all(len(row["reasons"]) == 1 for row in refused), "one fault each"
    assert sum(dirty_rows().values()) == sum(DIRTY_ROWS.values())


def test_a_file_of_them_is_what_the_source_reads(tmp_path: Any) -> None:
    assert write_passages(tmp_path / "p.parquet", 300, 3) == 300
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == list(generate(300, 3))
    prints = {fingerprint(SampleSource(data=one, rows=300)) for one in ("passages", "helpdesk")}
    assert len(prints) == 2
    with pytest.raises(ValueError, match="at least 200 rows"):
        next(iter(generate(199, 3)))


def test_a_recipe_of_another_kind_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"task\.kind is classify, and contract passages has rows"
    ):
        parse_recipe({"source": {"data": "passages"}}, origin="t")
    assert SampleSource.model_validate({"data": "passages"}).rows == 2_400
