"""What a row is, is its kind's: a contract of a kind that stands in this file alone goes through."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import Field

from data_contracts.contract.contract import (
    AnyContract,
    DataContract,
    load_contract,
    parse_contract,
)
from data_contracts.contract.counts import Counts
from data_contracts.contract.frames import arrow_schema, quarantine_schema
from data_contracts.contract.judge import corpus_of, judge, limits
from data_contracts.contract.rules import CorpusRule, Reason, Role, RowRule
from data_contracts.contract.sections import Columns
from data_contracts.errors import ContractViolation, RecipeError
from data_contracts.kinds.base import Metric, TaskConfig
from data_contracts.kinds.classify_contract import ClassifyContract
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.source import FileSource
from data_contracts.section import Section
from tasks.artifacts.store import ArtifactStore
from tasks.sources.asked import asked
from tasks.sources.look import first_rows
from tests.stages import fingerprint, ingest_source, validate_corpus


class ToyColumns(Columns):
    question: str = Field("question", description="Column of the question.")
    reply: str = Field("reply", description="Column of the reply.")
    start: str = Field("start", description="Column of the start.")
    mood: str | None = Field(None, description="Column of the mood; null: none.")


class Toy(Section):
    longest: int = Field(30, ge=1, description="Most characters of question and reply together.")


class ToyContract(DataContract):
    """A question, a reply, where the reply begins, and perhaps a mood."""

    roles: ClassVar[tuple[Role, ...]] = (
        Role("question"),
        Role("reply"),
        Role("start", "number"),
        Role("mood", "category", required=False),
    )
    identified_by: ClassVar[tuple[str, ...]] = ("question",)
    answer: ClassVar[tuple[str, ...]] = ("reply", "start")
    conflict: ClassVar[tuple[str, str]] = ("replied_otherwise", "questions with another reply")

    kind: Literal["toy"] = "toy"
    columns: ToyColumns = Field(default_factory=ToyColumns)
    length: Toy = Field(default_factory=Toy)

    def row_reasons(self) -> list[Reason]:
        return [*super().row_reasons(), Reason("too_much", "rows that say too much", "reply")]

    def row_rules(self) -> list[RowRule]:
        most = self.length.longest
        rule = RowRule(
            "length", "too_much", "no row says too much", f"at most {most}", "both", high=most
        )
        return [*super().row_rules(), rule]

    def measures(self, rows: pa.Table) -> dict[str, Any]:
        lengths = [pc.fill_null(pc.utf8_length(rows[name]), 0) for name in ("question", "reply")]
        return {"both": pc.add(*lengths)}

    def corpus_rules(self) -> list[CorpusRule]:
        return [*super().corpus_rules(), CorpusRule("letters", "letters of all replies", low=100)]

    def count(self, rows: pa.Table) -> Counts:
        letters = pc.sum(pc.utf8_length(rows["reply"])).as_py() or 0
        return super().count(rows) + Counter({("letters", "train", ""): letters})

    def aggregates(self, counts: Counts) -> dict[str, float]:
        return {"letters": counts["letters", "train", ""]}

    def learn(self, counts: Counts) -> dict[str, Any]:
        return {"letters": counts["letters", "train", ""]}


class ToyTask(TaskConfig):
    """No options."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("right", "share of right replies", "higher"),)
    kind: Literal["toy"] = "toy"


GOOD = [
    {"question": f"what is {i}", "reply": f"it is {i}", "start": i, "mood": "calm" if i % 2 else ""}
    for i in range(60)
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"question": "what is 3", "reply": "another", "start": 3}, "replied_otherwise"),
    ({"question": "What  is 4", "reply": "it is 4", "start": 4}, "duplicate"),
    ({"question": " ", "reply": "it", "start": 1}, "empty_question"),
    ({"question": "what", "reply": "", "start": 1}, "empty_reply"),
    ({"question": "why", "reply": "so", "start": "there"}, "bad_start"),
    ({"question": "who", "reply": "they", "start": None}, "bad_start"),
    ({"question": "how", "reply": "by and by " * 5, "start": 0}, "too_much"),
    ({"question": 5, "reply": "five", "start": 0}, "not_text"),
]
LAX = {"splits": {"min_rows": 1}, "max_quarantine_share": 1, "conflicts": {"keep": "earliest"}}


def toy(tmp_path: Path, **parts: Any) -> DataContract:
    content = {"kind": "toy", "name": "toy", "columns": {"mood": "mood"}, **LAX, **parts}
    (tmp_path / "toy.json").write_text(json.dumps(content))
    return load_contract(str(tmp_path / "toy.json"))


def written(tmp_path: Path) -> FileSource:
    rows = [*GOOD, *(row for row, _ in BAD)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FileSource(url=str(tmp_path / "rows.jsonl"))


def validated(tmp_path: Path, by: DataContract) -> Any:
    source = written(tmp_path)
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=17).manifest
    return validate_corpus(raw, by, store, batch_rows=17).manifest


def test_a_kind_is_found_by_the_name_that_it_is_defined_with(tmp_path: Path) -> None:
    assert isinstance(toy(tmp_path), ToyContract)
    assert isinstance(parse_contract({"name": "x"}, origin="t"), ClassifyContract)
    with pytest.raises(RecipeError, match="kind 'tou' is none of classify"):
        parse_contract({"kind": "tou", "name": "x"}, origin="t")
    with pytest.raises(RecipeError, match=r"is none of classify"):
        parse_contract({"kind": ["toy"], "name": "x"}, origin="t")
    with pytest.raises(RecipeError, match=r"labels: unknown key"):
        parse_contract({"kind": "toy", "name": "x", "labels": {}}, origin="t")


def test_a_recipe_takes_a_contract_of_any_kind_and_writes_it_whole(tmp_path: Path) -> None:
    given = {
        "task": {"kind": "toy"},
        "source": {"url": "a.csv"},
        "contract": toy(tmp_path).model_dump(mode="json"),
    }
    recipe = parse_recipe(given, origin="t")
    assert isinstance(recipe.contract, ToyContract)
    again = parse_recipe(json.loads(recipe.model_dump_json()), origin="t")
    assert again.contract == recipe.contract
    with pytest.raises(RecipeError, match=r"contract\.length\.longest"):
        parse_recipe(
            {**given, "contract": {**given["contract"], "length": {"longest": 0}}}, origin="t"
        )


def test_the_schema_of_a_recipe_lists_every_kind() -> None:
    schema = Recipe.model_json_schema()
    found = [one.get("$ref", one.get("title")) for one in _kinds(schema["properties"]["contract"])]
    assert {str(one).rpartition("/")[2] for one in found} >= {"ClassifyContract", "ToyContract"}
    assert set(AnyContract.kinds) >= {"classify", "toy"}
    refs = set(_refs(schema))
    assert {ref.rpartition("/")[2] for ref in refs} <= schema["$defs"].keys(), (
        "all of them are there"
    )


def _kinds(schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "anyOf" in schema:
        return schema["anyOf"]
    return [kind for one in schema.get("anyOf", []) for kind in _kinds(one)]


def _refs(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [ref for one in schema.values() for ref in _refs(one)]
    return [ref for one in schema for ref in _refs(one)] if isinstance(schema, list) else []


def test_rows_of_another_kind_are_ingested_and_judged(tmp_path: Path) -> None:
    by = toy(tmp_path)
    corpus = validated(tmp_path, by)
    kept = pq.read_table(Path(corpus.uri) / "corpus")
    refused = pq.read_table(Path(corpus.uri) / "quarantine.parquet")
    assert kept.schema.names == arrow_schema(by).names
    assert kept.schema.names == ["id", "question", "reply", "start", "mood", "split"]
    assert refused.schema.names == quarantine_schema(by).names
    expected = {len(GOOD) + at: reason for at, (_, reason) in enumerate(BAD, 1)}
    assert {row["row"]: row["reason"] for row in refused.to_pylist()} == expected
    assert corpus.facts == {"letters": sum(map(len, kept["reply"].to_pylist()))}
    moods = Counter(mood for mood in kept["mood"].to_pylist() if mood)
    assert sum(map(Counter, corpus.category_rows["mood"].values()), Counter()) == moods
    page = (Path(corpus.uri) / "report.html").read_text()
    for said in ("Moods in each split", "Characters per question", "Characters per reply"):
        assert said in page
    assert "replied_otherwise" in page and "label" not in page.lower().replace("aria-label", "")


def test_drafts_and_checks_find_of_another_kind_what_validate_finds(tmp_path: Path) -> None:
    by, source = toy(tmp_path), written(tmp_path)
    foretold = judge(corpus_of(first_rows(source, 1_000, asked(source, by)), by), by)
    corpus = validated(tmp_path, by)
    assert dict(foretold.first) == corpus.quarantined and foretold.kept == corpus.splits
    assert by.learn(foretold.counts) == corpus.facts
    assert all(limit.holds for limit in limits(by, foretold))


def test_a_rule_of_the_kind_s_own_stops_the_run_in_its_words(tmp_path: Path) -> None:
    class Strict(ToyContract):
        kind: Literal["toy_strict"] = "toy_strict"  # type: ignore[assignment]

        def corpus_rules(self) -> list[CorpusRule]:
            return [CorpusRule("letters", "letters of all replies", low=10_000)]

    try:
        by = Strict.model_validate({**toy(tmp_path).model_dump(), "kind": "toy_strict"})
        with pytest.raises(
            ContractViolation, match=r"letters: letters of all replies, \d+ \(limit"
        ):
            validated(tmp_path, by)
    finally:
        del DataContract.KINDS["toy_strict"]


def test_a_count_is_the_sum_of_the_counts_of_its_parts(tmp_path: Path) -> None:
    by = toy(tmp_path)
    kept = pq.read_table(Path(validated(tmp_path, by).uri) / "corpus")
    parts = (by.count(kept.slice(0, 13)), by.count(kept.slice(13)))
    assert sum(parts, Counter()) == by.count(kept)


# What a trunk before kinds gave: (rows as ingested, rows as validated).
DIGESTS = {
    "sample": ("9083502d67d1abd8e958", "54aeec09a29f1135c36d"),
    "sample_two_class": ("c8165f09290ec997fdcb", "515517c08e0804651d69"),
}


@pytest.mark.parametrize("name", DIGESTS)
def test_classification_has_the_digests_that_it_had_before_there_were_kinds(
    tmp_path: Path, name: str
) -> None:
    from data_contracts.recipe.source import SampleSource

    by, classes = load_contract(name), 4 if name == "sample" else 2
    source = SampleSource(rows=3_000, classes=classes)
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=1_000).manifest
    corpus = validate_corpus(raw, by, store, batch_rows=1_000).manifest
    assert (raw.digest, corpus.digest) == DIGESTS[name]


TASKS = Path(__file__).parents[2] / "tasks"
BLIND = [
    TASKS / "ingest.py",
    TASKS / "validate.py",
    TASKS / "reports" / "findings.py",
    TASKS / "reports" / "quarantine.py",
    TASKS / "reports" / "validation.py",
    *sorted((TASKS / "sources").glob("*.py")),
]


@pytest.mark.parametrize("file", BLIND, ids=lambda file: file.name)
def test_reading_and_judging_name_no_column_of_a_kind(file: Path) -> None:
    """Prose may speak of labels; a name, an attribute, an argument or a column may not."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module")]
        found += [name for name in names if isinstance(name, str) and "label" in name.lower()]
        if isinstance(node, ast.Constant) and node.value in ("text", "label", "labels", "classify"):
            found.append(node.value)
    assert found == []


def test_the_page_of_the_report_names_no_kind() -> None:
    page = (TASKS / "reports" / "validation.html.j2").read_text(encoding="utf-8")
    assert "label" not in page.replace("aria-label", "").lower()
