"""The bundled help desk: the same one for a seed, each question with the answer of its section, and
exactly as dirty as it says.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_contracts.contract.contract import load_contract
from data_contracts.errors import RecipeError
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.source import SampleSource
from data_contracts.sample.helpdesk import (
    ASKED,
    DIRTY_ROWS,
    MIN_ROWS,
    SECTIONS,
    dirty_rows,
    generate,
    grammar,
    page,
    write_helpdesk,
)
from tasks.artifacts.store import ArtifactStore
from tests.stages import fingerprint, ingest_source, validate_corpus

SEED = 20_260_101


def clean(count: int = 500) -> list[list[dict[str, str]]]:
    rng = random.Random(5)
    return [page(rng) for _ in range(count)]


def test_the_same_seed_gives_the_same_questions_on_any_machine() -> None:
    text = "\0".join(json.dumps(row, sort_keys=True) for row in generate(2_400, SEED))
    assert hashlib.sha256(text.encode()).hexdigest()[:20] == "0d522f59d0edefe3b4f1"
    assert next(iter(generate(MIN_ROWS, 1))) != next(iter(generate(MIN_ROWS, 2)))


def test_a_page_is_of_one_product_and_has_an_answer_for_each_section() -> None:
    for rows in clean():
        assert len({row["page"] for row in rows}) == 1
        answers = Counter(row["answer"] for row in rows)
        assert [*answers.values()] == [ASKED] * SECTIONS
        assert len({(row["answer"], row["link"]) for row in rows}) == SECTIONS
        model = re.search(r"[A-Z]{2}\d\d", rows[0]["page"])
        assert model is not None
        for row in rows:
            assert model[0] in row["answer"]
            assert model[0].casefold() in row["question"].casefold(), row
            assert re.fullmatch(r"https://shop\.example/(en|zh)/\w+#\w+", row["link"])
            assert not re.search(r"[{}|_]|  |None", row["question"] + row["answer"]), row


def test_some_questions_are_typed_wrongly() -> None:
    said = {frame for one in grammar().values() for section in one.sections.values() for frame in section.asked}  # fmt: skip
    words = {word for frame in said for word in re.findall("[a-z]+", frame)}
    words |= {word for row in grammar()["en"].goods for word in row.split()}
    typed = [row["question"] for rows in clean() for row in rows if row["language"] == "en"]
    strange = [one for one in typed if set(re.findall(r"\b[a-z]{5,}\b", one)) - words - {"hello", "morning", "quick", "question", "sorry", "please", "thanks"}]  # fmt: skip
    assert 0.1 < len(strange) / len(typed) < 0.3


@pytest.mark.parametrize(("rows", "seed"), [(2_400, SEED), (MIN_ROWS, 1)])
def test_exactly_the_planted_rows_are_quarantined(tmp_path: Any, rows: int, seed: int) -> None:
    source, by = SampleSource(data="helpdesk", rows=rows, seed=seed), load_contract("helpdesk")
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=1_000).manifest
    manifest = validate_corpus(raw, by, store, batch_rows=1_000).manifest
    assert manifest.quarantined == dirty_rows(rows)
    assert (manifest.facts["pages"], manifest.facts["links"]) == (True, True)
    kept = pq.read_table(f"{manifest.uri}/corpus").to_pylist()
    splits: dict[str, set[str]] = {}
    for row in kept:
        splits.setdefault(row["page"], set()).add(row["split"])
    assert all(len(one) == 1 for one in splits.values())
    refused = pq.read_table(f"{manifest.uri}/quarantine.parquet").to_pylist()
    assert all(len(row["reasons"]) == 1 for row in refused), "one fault each"
    assert sum(dirty_rows().values()) == sum(DIRTY_ROWS.values())


def test_a_file_of_them_is_what_the_source_reads(tmp_path: Any) -> None:
    assert write_helpdesk(tmp_path / "h.parquet", 300, 3) == 300
    assert pq.read_table(tmp_path / "h.parquet").to_pylist() == list(generate(300, 3))
    with pytest.raises(ValueError, match="at least 200 rows"):
        next(iter(generate(199, 3)))


def test_a_recipe_of_another_kind_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"task\.kind is classify, and contract helpdesk has rows"
    ):
        parse_recipe({"source": {"data": "helpdesk"}}, origin="t")
    assert SampleSource.model_validate({"data": "helpdesk"}).rows == 2_400
