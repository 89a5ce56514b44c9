"""A translator goes the whole way, as a person takes it: retrain, translate, predict, compare."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli.main import main
from tests.pipeline.conftest import mlflow_client, refused, told

WORDS = {"hund": "dog", "katze": "cat", "läuft": "runs", "schläft": "sleeps", "heute": "today"}


def write_pairs(file: Path, count: int) -> None:
    """Words in the other order, so that a dictionary is not enough."""
    draw = random.Random(0)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "target", "topic"])
        for _ in range(count):
            words = draw.choices(list(WORDS), k=draw.randint(2, 4))
            said = " ".join(WORDS[word] for word in reversed(words))
            writer.writerow([" ".join(words), said, words[0]])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translating")
    write_pairs(folder / "pairs.csv", 240)
    recipe = {
        "name": "mt",
        "task": {"kind": "translate", "search": {"beam": 2, "max_tokens": 40}},
        "source": {"url": str(folder / "pairs.csv")},
        "contract": {
            "kind": "translate", "name": "mt", "columns": {"slices": ["topic"]},
            "splits": {"min_rows": 3},
            "duplicates": {"max_share": 1}, "leakage": {"max_share": 1}, "max_quarantine_share": 1,
        },
        "tokenizer": {"kind": "bpe", "lossless": True, "vocab_size": 300},
        "model": {
            "embedding": {"size": 16},
            "encoder": {"kind": "bilstm_attention", "hidden_size": 16},
        },
        "training": {"max_epochs": 1, "batch_size": 32},
        "statistics": {"samples": 100},
        "promotion": {"beat_constant": False},
        "execution": {"retries": 0},
    }  # fmt: skip
    (folder / "mt.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True))
    return folder


@pytest.fixture
def translate(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("NOISEFOLD_HOME", str(home / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def command(*words: Any, input: bytes | None = None) -> Result:
        given = ["translate", "--model", "noisefold-mt", *map(str, words)]
        return CliRunner().invoke(main, given, input=input)

    return command


def test_pairs_become_a_champion_with_a_report_and_a_card(here: Any, home: Path) -> None:
    done = told(here(home / "state", "retrain", home / "mt.yaml", "--json"))
    assert [stage["name"] for stage in done["stages"]][-3:] == ["evaluate", "register", "promote"]
    assert done["decision"]["promoted"]
    assert set(done["metrics"]) > {"test/chrf", "test/bleu", "test/nll", "test/dictionary_chrf"}
    [report] = (home / "state" / "artifacts" / "evaluate").glob("*/report.json")
    content = json.loads(report.read_text())
    assert content["metrics"]["dictionary_chrf"]["value"] == content["dictionary_chrf"]
    assert content["worst"] and content["samples"]
    answers = pq.read_table(report.with_name("predictions.parquet"))
    assert answers.num_rows == content["rows"] and "topic" in answers.column_names
    page = report.with_name("report.html").read_text()
    assert content["signatures"]["bleu"] in page and "a dictionary, word by word" in page
    client = mlflow_client(home / "state")
    version = client.get_model_version_by_alias("noisefold-mt", "champion")
    assert "A dictionary counted from the same train rows" in version.description


def test_texts_and_lines_are_translated_line_by_line(translate: Callable[..., Result]) -> None:
    one = translate("hund läuft", "katze")
    assert one.exit_code == 0, one.output
    first, second = one.stdout.splitlines()
    text = "hund läuft\r\n\r\n  \nkatze\nkatze"
    lines = translate(input=text.encode())
    # Each end as it was, blank lines too.
    expected = f"{first}\r\n\r\n  \n{second}\n{second}"
    assert lines.stdout_bytes == expected.encode()
    assert translate("--input", "-", input=b"").stdout == ""
    marked = translate("--encoding", "utf-8", input=b"\xef\xbb\xbf" + "hund läuft\n".encode())
    assert marked.stdout == f"{first}\n"
    asked = translate("hund läuft", "", "--json", "--max-tokens", "1")
    whole, blank = map(json.loads, asked.stdout.splitlines())
    assert whole["source"] == "hund läuft" and whole["tokens"] <= 1 and whole["log_probability"] < 0
    assert (blank["translation"], blank["reason"]) == (None, "the source is missing or empty")


def test_a_file_in_is_a_file_out(translate: Callable[..., Result], tmp_path: Path) -> None:
    plain, out = tmp_path / "test.de", tmp_path / "test.en"
    plain.write_bytes("hund läuft\n\nkatze schläft heute\n".encode())
    done = translate("--input", plain, "--out", out)
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert "2 of 3 lines answered by models:/noisefold-mt/1" in done.stderr
    assert len(out.read_bytes().split(b"\n")) == 4 and out.read_bytes().split(b"\n")[1] == b""
    refused(translate("--input", plain, "--out", out), "test.en is there already")
    (tmp_path / "test.de.gz").write_bytes(gzip.compress(plain.read_bytes()))
    packed = tmp_path / "packed.en.gz"
    assert translate("--input", tmp_path / "test.de.gz", "--output", packed).exit_code == 0
    assert gzip.decompress(packed.read_bytes()) == out.read_bytes()
    # A table keeps its columns, as by predict.
    table = tmp_path / "mails.csv"
    table.write_text("n,body\n1,hund läuft\n2,\n", encoding="utf-8")
    made = translate("--input", table, "--column", "body", "--output", tmp_path / "mails.jsonl")
    assert made.exit_code == 0, made.output
    rows = [json.loads(line) for line in (tmp_path / "mails.jsonl").read_text().splitlines()]
    assert rows[0]["translation"] == out.read_text().splitlines()[0]
    assert (rows[1]["n"], rows[1]["translation"]) == ("2", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mails.csv", "mails.jsonl", "packed.en.gz", "test.de", "test.de.gz", "test.en",
    ]  # fmt: skip


def test_what_cannot_be_translated_is_told_in_a_sentence(
    translate: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "latin.de").write_bytes("hund\nläuft\n".encode("cp1252") * 40)
    (tmp_path / "a.de").write_bytes(gzip.compress(b"hund\n"))
    for words, said in (
        (("x", "--beam", "0"), "beam is 0, and has to be from 1 to 64"),
        (("x", "--input", "a.de"), "Both texts and --input are given"),
        (("--output", "a.en"), "--output is about a file, and there is none"),
        (("x", "--column", "body"), "--column is about a table, and there is none"),
        (("--input", tmp_path / "no.de"), "Check --input"),
        (("--input", tmp_path / "latin.de"), "is not in utf-8, but cp1252 fits"),
        (("--input", tmp_path / "latin.de", "--encoding", "klingon"), "there is no such encoding"),
        (("--input", tmp_path / "a.de"), "is a gzip file, and no text of lines"),
        (("--input", tmp_path / "latin.de", "--out", tmp_path / "no" / "x"), "cannot be written"),
    ):
        refused(translate(*words), said)


def test_another_program_stands_beside_it_in_a_table(here: Any, home: Path, tmp_path: Path) -> None:
    [answers] = (home / "state" / "artifacts" / "evaluate").glob("*/predictions.parquet")
    rows = pq.read_table(answers, columns=["id", "target"]).rename_columns(["id", "translation"])
    pq.write_table(rows, tmp_path / "people.parquet")
    grid = {
        "name": "mt", "recipe": str(home / "mt.yaml"), "seeds": [0], "baseline": "people",
        "variants": {"ours": {}}, "predictions": {"people": str(tmp_path / "people.parquet")},
    }  # fmt: skip
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    out = tmp_path / "table.md"
    done = here(home / "state", "compare", tmp_path / "grid.yaml", "--out", out)
    assert done.exit_code == 0, done.output
    ours, people = [
        line for line in out.read_text().splitlines() if line.startswith(("| ours", "| people"))
    ]
    header = next(line for line in out.read_text().splitlines() if line.startswith("| variant"))
    cells = [
        dict(zip(header.split(" | "), line.split(" | "), strict=True)) for line in (ours, people)
    ]
    assert cells[1]["chrF"] == cells[1]["BLEU"] == "100.0" and cells[1]["NLL"] == "–"
    assert cells[0]["Δ chrF"].startswith("-") and cells[0]["NLL"] != "–"
