"""Questions on texts in files as people have them: read, drafted, judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.errors import ContractViolation
from data_contracts.recipe.source import FileSource
from data_contracts.tables.read import read_records
from data_contracts.yaml_text import parse_yaml
from flows.cli.main import main
from tasks.artifacts.store import ArtifactStore, Outcome
from tests.stages import fingerprint, ingest_source, validate_corpus

Row = dict[str, Any]
NAMES = ("question", "context", "answer", "answer_start")
LAX: Row = {"splits": {"min_rows": 1}, "max_quarantine_share": 1, "leakage": {"max_share": 1}}


def asked(count: int = 60) -> list[Row]:
    """Two questions of each context."""
    rows = []
    for at in range(count):
        context = f"Anna Nr. {at} wohnt in Köln. Sie mag den Ort {at} 𝒳 sehr, und Bern auch."
        for question, answer in (("Wo wohnt sie?", "Köln"), (f"Was mag Nr. {at}?", "Bern")):
            rows.append(dict(zip(NAMES, (question, context, answer, context.index(answer)), strict=True)))  # fmt: skip
    return rows


def squad(rows: list[Row], **more: Any) -> Row:
    """The rows as SQuAD nests them, five contexts an article."""
    contexts: dict[str, list[Row]] = {}
    for at, row in enumerate(rows):
        answers = [{"text": row["answer"], "answer_start": row["answer_start"]}]
        known = {"answers": [*answers, *answers] if row["answer"] else [], **row.get("more", {})}
        question = {"id": f"q{at}", "question": row["question"], **known}
        contexts.setdefault(row["context"], []).append(question)
    paragraphs = [{"context": context, "qas": some} for context, some in contexts.items()]
    cut = [paragraphs[at : at + 5] for at in range(0, len(paragraphs), 5)]
    return {"data": [{"title": f"T{at}", "paragraphs": one} for at, one in enumerate(cut)], **more}


def cmrc(rows: list[Row]) -> list[Row]:
    contexts: dict[str, list[Row]] = {}
    for at, row in enumerate(rows):
        question = {
            "query_id": f"q{at}",
            "query_text": row["question"],
            "answers": [row["answer"], f"in {row['answer']}", row["answer"]],
        }
        contexts.setdefault(row["context"], []).append(question)
    return [
        {"context_id": f"c{at}", "context_text": context, "title": f"T{at}", "qas": some}
        for at, (context, some) in enumerate(contexts.items())
    ]


def hugging_face(rows: list[Row]) -> list[Row]:
    return [
        {
            "id": f"q{at}",
            "title": "T",
            "context": row["context"],
            "question": row["question"],
            "answers": {"text": [row["answer"]], "answer_start": [row["answer_start"]]},
        }
        for at, row in enumerate(rows)
    ]


def written(path: Path, value: Any, **options: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False, **options), encoding="utf-8")
    return path


def jsonl(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def drafted(*words: Any) -> tuple[Any, str]:
    done = run("contract", "infer", *words)
    assert done.exit_code == 0, done.output
    contract = parse_contract(parse_yaml(done.stdout, "the draft"), origin="the draft")
    return contract, " ".join(done.output.replace("# ", "").split())


def stored(tmp_path: Path, file: Path, by: DataContract) -> tuple[Outcome[Any], list[Row]]:
    """What validate makes of a file, and the rows that it keeps."""
    source = FileSource(url=str(file))
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=2_000).manifest
    outcome = validate_corpus(raw, by, store, batch_rows=2_000)
    return outcome, pq.read_table(f"{outcome.manifest.uri}/corpus").to_pylist()


def contract(**parts: Any) -> DataContract:
    return parse_contract({"kind": "span", "name": "t", **LAX, **parts}, origin="test")


def files(folder: Path) -> dict[str, Path]:
    """The same rows in each form that is read."""
    rows, flat = asked(), hugging_face(asked())
    listed = [
        {**row, "answers": [{"text": row["answer"], "answer_start": row["answer_start"]}]}
        for row in asked()
    ]
    found = {
        "SQuAD in one line": written(folder / "a.json", squad(rows, version="1.1")),
        "SQuAD 2, indented": written(
            folder / "b.json", {"version": "v2.0", **squad(rows)}, indent=1
        ),
        "CMRC's own": written(folder / "c.json", cmrc(rows)),
        "articles in an array": written(folder / "d.json", squad(rows)["data"]),
        "an article a line": jsonl(folder / "e.jsonl", squad(rows)["data"]),
        "Hugging Face's lines": jsonl(folder / "f.jsonl", flat),
    }
    for name, table in {"g": flat, "h": listed}.items():
        one = [{k: v for k, v in row.items() if k not in ("answer", "answer_start")} for row in table]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(one), folder / f"{name}.parquet")
    found["Hugging Face's Parquet"] = folder / "g.parquet"
    found["Parquet of listed objects"] = folder / "h.parquet"
    return found


@pytest.mark.parametrize(
    "form",
    [
        "SQuAD in one line",
        "SQuAD 2, indented",
        "CMRC's own",
        "articles in an array",
        "an article a line",
        "Hugging Face's lines",
        "Hugging Face's Parquet",
        "Parquet of listed objects",
    ],
)
def test_each_form_is_drafted_and_read_as_the_same_rows(tmp_path: Path, form: str) -> None:
    file = files(tmp_path)[form]
    found, said = drafted(file)
    assert found.kind == "span"
    assert "Kind span: question is asked of context" in said
    offsets = form != "CMRC's own"
    assert (found.columns.answer_start is not None) == offsets
    assert ("each answer is looked for in its context" in said) == (not offsets)
    assert found.columns.answers == "answers"
    outcome, kept = stored(tmp_path, file, found)
    assert not outcome.manifest.quarantined
    expected = {(row["question"], row["context"], row["answer"], str(row["answer_start"])) for row in asked()}  # fmt: skip
    assert {tuple(row[name] for name in NAMES) for row in kept} == expected
    if form != "Parquet of listed objects":
        assert {row["id"] for row in kept} == {f"q{at}" for at in range(len(asked()))}
    of_one = json.loads(next(row["answers"] for row in kept if row["answer"] == "Köln"))
    assert of_one == (["Köln"] if offsets else ["Köln", "in Köln"])
    assert outcome.manifest.facts == {"script": "Latin", "unanswerable": False}


def test_no_context_is_in_two_splits(tmp_path: Path) -> None:
    _, kept = stored(tmp_path, jsonl(tmp_path / "rows.jsonl", asked(200)), contract())
    found: dict[str, set[str]] = {}
    for row in kept:
        found.setdefault(row["context"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in found.values())


def test_what_no_context_answers_is_told_and_kept_by_the_draft(tmp_path: Path) -> None:
    rows = asked()
    for at, row in enumerate(rows):
        if at % 5 == 0:
            row |= {"answer": "", "answer_start": None, "more": {"is_impossible": True}}
        else:
            row |= {"more": {"is_impossible": False}}
    file = written(tmp_path / "squad2.json", squad(rows, version="v2.0"))
    found, said = drafted(file)
    assert found.unanswerable == "keep"
    assert "24 of 120 rows have no answer and are kept as questions that their context" in said
    outcome, kept = stored(tmp_path, file, found)
    assert outcome.manifest.facts["unanswerable"] is True
    assert sum(row["answer_start"] == "-1" and row["answer"] == "" for row in kept) == 24
    strict, _ = stored(tmp_path, file, contract())
    assert strict.manifest.quarantined == {"unanswerable": 24}


def test_a_question_that_is_impossible_and_answered_is_refused(tmp_path: Path) -> None:
    rows = asked()
    rows[3]["more"] = {"is_impossible": True}
    outcome, _ = stored(tmp_path, written(tmp_path / "s.json", squad(rows)), contract())
    assert outcome.manifest.quarantined == {"impossible_answered": 1}


@pytest.mark.parametrize(("unit", "codec", "width"), [("utf8", "utf-8", 1), ("utf16", "utf-16-le", 2)])  # fmt: skip
def test_offsets_of_another_unit_are_told_by_the_draft(
    tmp_path: Path, unit: str, codec: str, width: int
) -> None:
    rows = asked()
    for row in rows:
        row["context"] = f"𝄞 {row['context']}"
        head = row["context"][: row["context"].index(row["answer"])]
        row["answer_start"] = len(head.encode(codec)) // width
    file = jsonl(tmp_path / "rows.jsonl", rows)
    found, said = drafted(file)
    assert found.offsets == unit
    assert "120 of 120 answers stand at their offset only where it counts" in said
    _, kept = stored(tmp_path, file, found)
    assert len(kept) == 120
    for row in kept:
        assert row["context"].startswith(row["answer"], int(row["answer_start"]))
    strict = contract(max_quarantine_share=0.05)
    with pytest.raises(ContractViolation, match=f"offset_in_{unit}_share.*offsets: {unit} in the"):
        stored(tmp_path, file, strict)


@pytest.mark.parametrize(
    "names",
    [
        ("question", "context", "answer", "answer_start"),
        ("Query", "Passage", "Answer Text", "start"),
        ("问题", "文章", "答案", "起始位置"),
        ("question", "text", "answer", None),
    ],
)
def test_columns_are_known_by_their_names(tmp_path: Path, names: tuple[str | None, ...]) -> None:
    rows = [
        {name: row[role] for name, role in zip(names, NAMES, strict=True) if name}
        for row in asked()
    ]
    found, _ = drafted(jsonl(tmp_path / "rows.jsonl", rows))
    assert found.kind == "span"
    assert found.sources == {role: name for role, name in zip(NAMES, names, strict=True) if name}


def test_columns_of_any_name_are_taken_where_a_person_names_them(tmp_path: Path) -> None:
    rows = [{"a1": row["question"], "b1": row["context"], "c1": row["answer"], "d1": row["answer_start"]} for row in asked()]  # fmt: skip
    file = jsonl(tmp_path / "rows.jsonl", rows)
    options = ["--question", "a1", "--context", "b1", "--answer", "c1"]
    found, _ = drafted(file, *options, "--answer-start", "d1")
    assert (found.kind, found.columns.answer_start) == ("span", "d1")
    done = run("contract", "infer", file, "--kind", "span")
    assert "No column is plainly the question of a row, which kind span needs." in done.output
    assert "Name it with --question" in done.output


def test_answers_that_stand_in_no_context_are_to_be_written(tmp_path: Path) -> None:
    rows = [
        {"question": row["question"] + str(at), "context": row["context"], "answer": f"Nein, {at} mal nicht."}
        for at, row in enumerate(asked())
    ]  # fmt: skip
    found, said = drafted(jsonl(tmp_path / "rows.jsonl", rows))
    assert found.kind == "generate"
    assert "Kind generate: question and answer are called as prompts" in said


def test_an_answer_that_stands_several_times_is_told_with_the_way_out(tmp_path: Path) -> None:
    rows = asked()
    for row in rows[::3]:
        row["context"] += " Köln, Bern."
    file = written(tmp_path / "cmrc.json", cmrc(rows))
    found, said = drafted(file)
    assert "40 answers stand several times in their context" in said
    assert "repeated: first takes the first place" in said
    outcome, _ = stored(tmp_path, file, found)
    assert outcome.manifest.quarantined == {"answer_repeated": 40}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"qas": [3]}, "a question of paragraph 1 is no object"),
        ({"qas": [{"id": "x", "answers": 3}]}, "the answers of question 'x' are no texts"),
        ({"qas": [{"id": "x", "answers": [3]}]}, "the answers of question 'x' are no texts"),
        ({"qas": [{"id": "x", "answers": {"text": ["a"], "answer_start": []}}]}, "are no texts"),
    ],
)
def test_a_form_that_is_broken_names_its_place(tmp_path: Path, value: Row, said: str) -> None:
    paragraph = {"context": "A text.", **value}
    file = written(tmp_path / "s.json", {"data": [{"paragraphs": [paragraph]}]})
    done = run("contract", "infer", file)
    assert done.exit_code == 1
    told = " ".join(done.output.split())
    assert f"s.json, row 1: {said}" in told or (said in told and "row 1" in told)
    assert "as SQuAD and CMRC write questions on a context" in told


@pytest.mark.parametrize("cut", [40, 400, 4_000, -1, -2, -3])
def test_a_file_that_ends_early_is_no_shorter_data_set(tmp_path: Path, cut: int) -> None:
    whole = json.dumps(squad(asked()))
    file = tmp_path / "s.json"
    file.write_text(whole[:cut], encoding="utf-8")
    done = run("contract", "infer", file)
    assert done.exit_code == 1, done.output
    assert "s.json" in done.output


def test_an_article_is_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    rows = asked(3_000)
    value = squad(rows)
    value["data"] = [{"title": "T", "paragraphs": [p for a in value["data"] for p in a["paragraphs"]]}]  # fmt: skip
    outcome, kept = stored(tmp_path, written(tmp_path / "s.json", value), contract())
    assert not outcome.manifest.quarantined and len(kept) == len(rows)


def test_a_model_is_asked_what_such_a_file_asks(tmp_path: Path) -> None:
    rows = asked(3)
    for value in (squad(rows), cmrc(rows)):
        with written(tmp_path / "s.json", value).open("rb") as stream:
            found = list(read_records(stream, "s.json"))
        assert [number for number, _ in found] == [1, 2, 3, 4, 5, 6]
        texts = [(record["question"], record["context"]) for _, record in found]
        assert texts == [(row["question"], row["context"]) for row in rows]
    with jsonl(tmp_path / "rows.jsonl", hugging_face(rows)).open("rb") as stream:
        assert [record for _, record in read_records(stream, "rows.jsonl")] == hugging_face(rows)


def test_other_programs_files_of_the_same_names_stay_what_they_are(tmp_path: Path) -> None:
    pandas = {"schema": {"fields": []}, "data": [{"text": "x", "label": "a"}]}
    done = run("contract", "infer", written(tmp_path / "p.json", pandas))
    assert "pandas' JSON of orient='table'" in done.output
    rows = [{"text": f"text {at} of it", "label": "ab"[at % 2], "answers": ["x", "y"]} for at in range(200)]  # fmt: skip
    assert drafted(jsonl(tmp_path / "c.jsonl", rows))[0].kind == "classify"


# --- public data sets -----------------------------------------------------------------------------


@pytest.mark.real_data
def test_cmrc_is_drafted_with_its_known_faults(real_data: Path, tmp_path: Path) -> None:
    files = ["--train", real_data / "cmrc2018/train.csv", "--test", real_data / "cmrc2018/test.csv"]
    found, _ = drafted(*files)
    assert (found.kind, found.columns.id, found.unanswerable) == ("span", "id", "quarantine")
    source = FileSource(url={"train": str(files[1]), "test": str(files[3])})
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, found, fingerprint(source), store, batch_rows=2_000).manifest
    manifest = validate_corpus(raw, found, store, batch_rows=2_000).manifest
    refused = manifest.quarantined
    assert refused["empty_question"] == 2
    # Its tools counted UTF-16: behind a rare character an offset is one too far.
    assert {reason: n for reason, n in refused.items() if reason.startswith("offset_")} == {
        "offset_in_utf16": 8
    }
    assert manifest.facts == {"script": "Han", "unanswerable": False}


@pytest.mark.real_data
def test_xquad_is_drafted_and_asks_three_questions_twice(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "xquad_en/test.csv"
    found, _ = drafted(file)
    assert found.kind == "span"
    outcome, kept = stored(tmp_path, file, found)
    assert len({(row["question"], row["context"]) for row in kept}) == 1_187
    assert len(kept) >= 1_187, outcome.manifest.quarantined
