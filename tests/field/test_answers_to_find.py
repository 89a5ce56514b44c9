"""What customers ask, with the answers there are, in files as people have them: drafted, judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from data_contracts.contract.contract import parse_contract
from data_contracts.errors import ContractViolation
from data_contracts.recipe.source import FileSource
from data_contracts.yaml_text import parse_yaml
from flows.cli.main import main
from tasks.artifacts.store import ArtifactStore
from tests.stages import fingerprint, ingest_source, validate_corpus

Row = dict[str, Any]


def faq(count: int = 150) -> list[Row]:
    return [
        {
            "question": f"How do I mend part {at}?",
            "answer": f"Take the tool {at} and turn it twice.",
        }
        for at in range(count)
    ]


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


@pytest.mark.parametrize(
    "names",
    [
        ("question", "answer"),
        ("Question", "Answer"),
        ("q", "a"),
        ("问题", "答案"),
        ("问题", "回答"),
    ],
)
def test_questions_and_answers_are_known_by_their_names(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    rows = [dict(zip(names, row.values(), strict=True)) for row in faq()]
    found, said = drafted(jsonl(tmp_path / "faq.jsonl", rows))
    assert found.kind == "retrieve"
    assert found.sources == dict(zip(("question", "answer"), names, strict=True))
    assert "are called as questions and their answers are" in said


def test_the_way_to_write_answers_is_told_and_is_one(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "faq.jsonl", faq())
    _, said = drafted(file)
    assert "--kind generate --prompt question --completion answer" in said
    options = ["--kind", "generate", "--prompt", "question", "--completion", "answer"]
    assert drafted(file, *options)[0].kind == "generate"
    assert drafted(file, *options[2:])[0].kind == "generate", "the names say it too"
    assert drafted(file, "--kind", "generate")[0].columns.completion == "answer"


def test_pages_and_links_are_told(tmp_path: Path) -> None:
    rows = [
        {**row, "page": f"Page {at // 5}", "url": f"https://shop.example/{at}"}
        for at, row in enumerate(faq())
    ]
    found, said = drafted(jsonl(tmp_path / "faq.jsonl", rows))
    assert (found.columns.page, found.columns.link) == ("page", "url")
    assert "page is taken as the page of an answer: the split is drawn by it" in said
    assert "url is taken as the link that is shown with an answer" in said


def test_a_source_of_many_answers_is_a_link_and_no_page(tmp_path: Path) -> None:
    rows = [{**row, "source": f"Office {at % 2}"} for at, row in enumerate(faq(300))]
    found, _ = drafted(jsonl(tmp_path / "faq.jsonl", rows))
    assert (found.columns.page, found.columns.link) == (None, "source")
    few = [{**row, "source": f"Office {at // 4}"} for at, row in enumerate(faq())]
    found, _ = drafted(jsonl(tmp_path / "few.jsonl", few))
    assert (found.columns.page, found.columns.link) == ("source", "source")


def test_any_columns_are_taken_where_a_person_names_them(tmp_path: Path) -> None:
    rows = [{"left": row["question"], "right": row["answer"], "top": f"p{at // 4}"} for at, row in enumerate(faq())]  # fmt: skip
    file = jsonl(tmp_path / "rows.jsonl", rows)
    named = ["--question", "left", "--answer", "right"]
    assert drafted(file, *named)[0].sources == {"question": "left", "answer": "right"}
    found, _ = drafted(file, *named, "--page", "top", "--link", "top")
    assert (found.kind, found.columns.page, found.columns.link) == ("retrieve", "top", "top")
    done = run("contract", "infer", file, "--question", "left")
    assert "--question is given without --answer, and a row has both" in done.output
    done = run("contract", "infer", file, "--kind", "retrieve")
    assert "No two columns are plainly a question and its answer." in done.output


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"question": row["question"], "answer": "yes" if at % 2 else "no"} for at, row in enumerate(faq())], "classify"),
        ([{**row, "label": "ab"[at % 2]} for at, row in enumerate(faq())], "classify"),
        ([{"prompt": row["question"], "completion": row["answer"]} for row in faq()], "generate"),
        ([{**row, "context": row["answer"]} for row in faq()], "span"),
    ],
)  # fmt: skip
def test_rows_of_other_kinds_stay_theirs(tmp_path: Path, rows: list[Row], kind: str) -> None:
    found, said = drafted(jsonl(tmp_path / "rows.jsonl", rows))
    assert found.kind == kind
    assert f"Kind {kind}: " in said


def test_many_questions_with_one_answer_each_are_no_labels(tmp_path: Path) -> None:
    said = [f"Take the tool number {at} and turn it twice to the left." for at in range(10)]
    rows = [{"question": f"Where is part {at}?", "answer": said[at % 10]} for at in range(200)]
    assert drafted(jsonl(tmp_path / "rows.jsonl", rows))[0].kind == "retrieve"


def test_two_text_files_are_questions_and_answers_line_by_line(tmp_path: Path) -> None:
    sides = {"question": tmp_path / "q.txt", "answer": tmp_path / "a.txt"}
    for side, file in sides.items():
        file.write_text("".join(f"{row[side]}\n" for row in faq()), encoding="utf-8")
    found, _ = drafted("--question", sides["question"], "--answer", sides["answer"])
    assert (found.kind, found.sources) == ("retrieve", {"question": "question", "answer": "answer"})


def test_one_answer_to_everything_is_nothing_to_find(tmp_path: Path) -> None:
    rows = [{"question": row["question"], "answer": "Call us."} for row in faq()]
    file = jsonl(tmp_path / "rows.jsonl", rows)
    done = run("contract", "infer", file, "--kind", "retrieve")
    told = " ".join(done.output.split())
    assert "different answers, of which one is to be found: 1, allowed is at least 2" in told
    by = parse_contract({"kind": "retrieve", "name": "t", "splits": {"min_rows": 1}}, origin="t")
    source, store = FileSource(url=str(file)), ArtifactStore(str(tmp_path / "a"), tmp_path / "w")
    raw = ingest_source(source, by, fingerprint(source), store, batch_rows=50).manifest
    with pytest.raises(ContractViolation, match="different answers, of which one is to be found"):
        validate_corpus(raw, by, store, batch_rows=50)


@pytest.mark.real_data
def test_medquad_is_drafted_and_read(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "medquad"
    urls = {"train": "train.csv.gz", "valid": "valid.csv", "test": "test.csv"}
    options = [word for split, name in urls.items() for word in (f"--{split}", folder / name)]
    found, said = drafted(*options)
    assert (found.kind, found.columns.page, found.columns.link) == ("retrieve", None, "source")
    assert "To learn to write answers, and not to find them: --kind generate" in said
    source = FileSource(url={split: str(folder / name) for split, name in urls.items()})
    store = ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")
    raw = ingest_source(source, found, fingerprint(source), store, batch_rows=5_000).manifest
    manifest = validate_corpus(raw, found, store, batch_rows=5_000).manifest
    assert manifest.facts == {"script": "Latin", "pages": False, "links": True}
    kept = pq.read_table(f"{manifest.uri}/corpus").to_pylist()
    assert {row["link"] for row in kept} >= {"GHR", "GARD", "NIDDK"}
    told = [{row["question"].casefold() for row in kept if row["split"] == split} for split in urls]
    assert not told[0] & told[2] and not told[1] & told[2]
