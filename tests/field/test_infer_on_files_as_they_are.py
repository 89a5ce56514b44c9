"""`contract infer` and `recipe suggest` on files as people have them: their columns, encodings,
separators, headers.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.recipe.reading import load_recipe
from data_contracts.yaml_text import parse_yaml
from flows.cli.main import main

ENGLISH = {
    "billing": "invoice charge refund bank payment card fee",
    "delivery": "parcel courier door late tracking box",
}
CHINESE = {
    "好评": "味道不错 很好吃 送得很快 服务热情",
    "差评": "等了很久 味道太咸 送错了餐 包装漏了",
}


def rows(
    words: dict[str, str] = ENGLISH, count: int = 120, sep: str = " "
) -> list[tuple[str, str]]:
    rng, labels = random.Random(3), list(words)
    made = []
    for number in range(count):
        label = rng.choice(labels)
        made.append((sep.join([*rng.choices(words[label].split(), k=6), str(number)]), label))
    return made


def table(header: list[str], lines: list[list[Any]], separator: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def infer(*words: str | Path) -> tuple[DataContract, Result]:
    done = run("contract", "infer", *words)
    assert done.exit_code == 0, done.output
    return parse_contract(parse_yaml(done.stdout, "draft"), origin="draft"), done


def test_nested_columns_and_embeddings_are_left_out_and_named(tmp_path: Path) -> None:
    lines = [
        {"id": i, "text": t, "label": x, "meta": {"from": "web"}, "Comments": []}
        for i, (t, x) in enumerate(rows())
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    contract, done = infer(tmp_path / "a.jsonl")
    assert (contract.columns.text, contract.columns.label, contract.columns.id) == (
        "text",
        "label",
        "id",
    )
    assert "doccano" in done.stdout and "left out: meta" in done.stdout
    texts, labels = zip(*rows(), strict=True)
    pq.write_table(
        pa.table({"vector": [[0.1, 0.2]] * len(texts), "quote": texts, "mood": labels}),
        tmp_path / "b.parquet",
    )
    contract, _ = infer(tmp_path / "b.parquet")
    assert (contract.columns.text, contract.columns.label) == ("quote", "mood")


def test_a_chinese_competition_s_file(tmp_path: Path) -> None:
    header = ["微博id", "微博发布时间", "发布人账号", "微博中文内容", "微博图片", "情感倾向"]
    picture = "['https://img.example/{0:030}.jpg', 'https://img.example/{0:040}.jpg']"
    lines = [
        [4456 + i, "01月01日 20:50", f"用户{i % 9}", text, picture.format(i), label]
        for i, (text, label) in enumerate(rows(CHINESE, sep="，"))
    ]
    (tmp_path / "w.csv").write_text(table(header, lines), encoding="utf-8")
    contract, _ = infer(tmp_path / "w.csv")
    columns = contract.columns
    assert (columns.id, columns.text, columns.label) == ("微博id", "微博中文内容", "情感倾向")


FORMS: dict[str, tuple[str, str, Any]] = {
    "Label Studio": ("sentiment", "text", lambda i, t, x: {
        "annotation_id": 1000 + i, "annotator": 1 + i % 2, "created_at": "2026-01-10T10:15:00Z", "id": 500 + i,
        "lead_time": 24.5 + i, "sentiment": x, "text": t, "updated_at": "2026-02-11T10:15:01Z"}),
    "Prodigy": ("accept", "text", lambda i, t, x: {
        "text": t, "_input_hash": -i, "_task_hash": 7 * i, "options": [{"id": "billing"}, {"id": "delivery"}],
        "accept": [x], "answer": "reject" if i % 10 == 0 else "accept", "_timestamp": 1700000000 + i}),
    "doccano": ("label", "text", lambda i, t, x: {"id": i, "text": t, "label": [x], "Comments": []}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_export_of_a_labelling_tool_is_known(tmp_path: Path, form: str) -> None:
    label, text, line = FORMS[form]
    lines = [json.dumps(line(i, t, x)) + "\n" for i, (t, x) in enumerate(rows())]
    (tmp_path / "export.jsonl").write_text("".join(lines))
    contract, done = infer(tmp_path / "export.jsonl")
    assert (contract.columns.text, contract.columns.label) == (text, label)
    assert contract.labels.values == ("billing", "delivery")
    assert f"those of {form}" in done.stdout
    assert contract.select == ({"answer": ("accept",)} if form == "Prodigy" else {})


def test_what_tells_who_when_and_where_is_no_label(tmp_path: Path) -> None:
    header = ["user_id", "created", "country", "picture", "comment", "kind"]
    lines = [
        [i % 3, f"2026-01-{1 + i % 4:02}", ["DE", "AT", "CH"][i % 3], f"/img/{i % 5}.png", t, x]
        for i, (t, x) in enumerate(rows())
    ]
    (tmp_path / "c.csv").write_text(table(header, lines))
    contract, done = infer(tmp_path / "c.csv")
    assert (contract.columns.text, contract.columns.label) == ("comment", "kind")
    assert done.stderr == ""


def test_where_two_columns_fit_the_other_is_named_with_the_option(tmp_path: Path) -> None:
    header = ["note", "verdict", "region"]
    (tmp_path / "c.csv").write_text(
        table(header, [[t, x, i % 2] for i, (t, x) in enumerate(rows())])
    )
    contract, done = infer(tmp_path / "c.csv")
    assert contract.columns.label == "verdict"
    assert (
        "other columns that could be it: region" in done.stdout.replace("\n#  ", "")
        and "--label region" in done.stdout
    )
    assert infer(tmp_path / "c.csv", "--label", "region")[0].columns.label == "region"
    rng = random.Random(0)
    header = ["note", "colour", "shape"]
    lines = [[t, rng.choice("rgb"), rng.choice("xyz")] for t, _ in rows()]
    (tmp_path / "d.csv").write_text(table(header, lines))
    contract, done = infer(tmp_path / "d.csv")
    assert contract.columns.label == "colour", "the first of two that nothing speaks for"
    assert "No name decides which column is the label" in done.stderr and "shape" in done.stderr


def test_a_column_that_the_texts_tell_comes_before_one_that_they_do_not(tmp_path: Path) -> None:
    rng = random.Random(0)
    lines = [[rng.choice("xy"), t, x] for t, x in rows()]
    (tmp_path / "c.csv").write_text(table(["shape", "note", "group"], lines))
    contract, done = infer(tmp_path / "c.csv")
    assert contract.columns.label == "group" and "shape" in done.stdout


def test_an_option_that_names_no_column_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(table(["text", "verdict"], [list(row) for row in rows()]))
    done = run("contract", "infer", tmp_path / "c.csv", "--label", "verdikt")
    assert done.exit_code == 1
    assert (
        "--label verdikt: there is no such column. Did you mean 'verdict'?"
        in done.stderr.replace("\n", " ")
    )


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_the_draft_is_the_same_whatever_the_order_of_a_set(tmp_path: Path, seed: str) -> None:
    header = ["row_no", "message", "link", "person", "region", "verdict", "zone"]
    lines = [[i, t, "", f"@p{i % 9}", i % 2, x, i % 2] for i, (t, x) in enumerate(rows())]
    (tmp_path / "m.csv").write_text(table(header, lines))
    here, _ = infer(tmp_path / "m.csv")
    command = [sys.executable, "-m", "flows.cli.main", "contract", "infer", str(tmp_path / "m.csv")]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}
    )
    assert parse_contract(parse_yaml(done.stdout, "draft"), origin="draft") == here
    assert done.stdout == run("contract", "infer", tmp_path / "m.csv").stdout


@pytest.mark.parametrize(
    "columns",
    [
        ["2", "Fee Before", "fee before please and with charge"],
        ["billing", "an invoice for the charge of a bank"],
    ],
)
def test_a_file_without_a_header_is_refused_with_the_way_out(
    tmp_path: Path, columns: list[str]
) -> None:
    lines = [
        [*(["1", "2"][x == "billing"], t[:9])[: len(columns) - 1], t]
        if len(columns) == 3
        else [x, t]
        for t, x in rows()
    ]
    (tmp_path / "h.csv").write_text(table(columns, lines))
    done = run("contract", "infer", tmp_path / "h.csv")
    assert done.exit_code == 1
    said = done.stderr.replace("\n", " ")
    assert (
        "first line looks like a row" in said and "is a value that the rows below have too" in said
    )
    assert "Put a line with the columns' names first" in said
    text, label = columns[-1], columns[0]
    contract, _ = infer(tmp_path / "h.csv", "--text", text, "--label", label)
    assert contract.columns.label == label, "who insists is believed"


def test_a_form_s_question_may_be_a_column_s_name(tmp_path: Path) -> None:
    header = ["What would you like to tell us about it?", "topic"]
    (tmp_path / "form.csv").write_text(table(header, [list(row) for row in rows()]))
    contract, done = infer(tmp_path / "form.csv")
    assert contract.columns.text == header[0] and "looks like a row" in done.stderr


def test_a_header_in_the_middle_becomes_no_label(tmp_path: Path) -> None:
    lines = [list(row) for row in rows()]
    (tmp_path / "two.csv").write_text(
        table(["text", "label"], [*lines[:60], ["text", "label"], *lines[60:]])
    )
    contract, done = infer(tmp_path / "two.csv")
    assert contract.labels.values == ("billing", "delivery")
    assert "The header stands among the rows" in done.stderr and "row 61" in done.stderr


@pytest.mark.parametrize(
    ("encoding", "words", "name"),
    [("gb18030", CHINESE, "gb18030"),
     ("big5", {"好評": "味道不錯 很好吃 推薦大家 服務", "差評": "等了很久 不會再買 送錯了餐"}, "cp950"),
     ("cp1252", {"gut": "Qualität schön für Grüße", "schlecht": "übel unbrauchbar völlig spät"}, "cp1252"),
     ("shift_jis", {"良い": "とても良いです また買いたいです", "悪い": "配達が遅くて 残念でした"}, "cp932")],
)  # fmt: skip
def test_an_encoding_is_found_said_and_written_into_the_recipe(
    tmp_path: Path, encoding: str, words: dict[str, str], name: str
) -> None:
    text = table(["review", "label"], [list(row) for row in rows(words)])
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    contract, done = infer(tmp_path / "a.csv")
    assert set(contract.labels.values or ()) == set(words), "read as it was written"
    assert f"encoding: {name}" in done.stdout and f"is read as {name}" in done.stderr
    assert run("recipe", "suggest", tmp_path / "a.csv", "-o", tmp_path / "a.yaml").exit_code == 0
    recipe = load_recipe(tmp_path / "a.yaml")
    assert recipe.source.kind == "files" and recipe.source.encoding == name
    assert run("recipe", "check", tmp_path / "a.yaml").exit_code == 0
    given, done = infer(tmp_path / "a.csv", "--encoding", encoding)
    assert given.labels == contract.labels and done.stderr == ""


def test_bytes_of_no_encoding_are_refused_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b"text,label\n" + bytes(random.Random(0).choices(range(128, 256), k=4_000))
    )
    done = run("contract", "infer", tmp_path / "a.csv")
    assert done.exit_code == 1 and "--encoding" in done.stderr and "source." not in done.stderr


@pytest.mark.parametrize(
    ("separator", "ending"), [(";", "csv"), ("\t", "csv"), ("|", "csv"), ("\t", "tsv")]
)
def test_a_separator_is_found_said_and_written_into_the_recipe(
    tmp_path: Path, separator: str, ending: str
) -> None:
    lines = [[text.replace(" ", ", "), label, "1,5"] for text, label in rows()]
    (tmp_path / f"a.{ending}").write_text(
        "\ufeff" + table(["text", "label", "weight"], lines, separator)
    )
    contract, _ = infer(tmp_path / f"a.{ending}")
    assert (contract.columns.text, contract.columns.label) == ("text", "label")
    assert (
        run("recipe", "suggest", tmp_path / f"a.{ending}", "-o", tmp_path / "a.yaml").exit_code == 0
    )
    source = load_recipe(tmp_path / "a.yaml").source
    assert source.kind == "files" and source.separator == (None if ending == "tsv" else separator)
    assert run("recipe", "check", tmp_path / "a.yaml").exit_code == 0


def test_a_folder_a_glob_and_files_by_split_are_read_as_a_recipe_reads_them(tmp_path: Path) -> None:
    lines = [list(row) for row in rows(count=300)]
    (tmp_path / "news").mkdir()
    for part in range(3):
        (tmp_path / "news" / f"part-{part}.csv").write_text(
            table(["text", "label"], lines[100 * part : 100 * part + 100])
        )
    for asked in (["news"], ["news/*.csv"]):
        contract, _ = infer(tmp_path / asked[0])
        assert contract.name == "news" and contract.description.startswith("Drafted from 300 rows")
    parts = [tmp_path / "news" / f"part-{part}.csv" for part in range(3)]
    done = run("contract", "infer", *parts)
    assert done.exit_code == 1 and "glob in quotes" in done.stderr
    out = tmp_path / "s.yaml"
    done = run("recipe", "suggest", "--train", parts[0], "--test", parts[1], "-o", out)
    assert done.exit_code == 0, done.output
    source = load_recipe(out).source
    assert source.kind == "files" and source.url == {"train": str(parts[0]), "test": str(parts[1])}


def test_parts_called_train_and_test_are_pointed_out(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}-00000-of-00001.csv").write_text(
            table(["text", "label"], [list(row) for row in rows()][name == "test" :: 2])
        )
    _, done = infer(tmp_path)
    assert "tell splits" in done.stderr and "--train" in done.stderr


def test_many_repeats_are_pointed_out_with_the_limit_that_was_drafted(tmp_path: Path) -> None:
    lines = [list(row) for row in rows(count=100)]
    (tmp_path / "r.csv").write_text(table(["text", "label"], lines * 2))
    contract, done = infer(tmp_path / "r.csv")
    assert contract.duplicates.max_share == 1.0
    assert "50.0% of the rows repeat a text" in done.stderr and "where 5% is usual" in done.stderr
