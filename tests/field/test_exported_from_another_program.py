"""Tables as spreadsheets, annotation programs and pandas write them: read as they are, or refused
with the way out.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_contracts.errors import ContractViolation, SourceError
from data_contracts.recipe.source import FileSource
from tasks.sources.files import left_aside, read_rows
from tests.field.rows import contract, csv_of, judge, mails, rows_of

ROWS = mails()
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def table(separator: str = ",", start: str = "", end: str = "\n") -> str:
    stream = io.StringIO()
    path_rows = [separator.join(f'"{cell}"' for cell in row.values()) for row in ROWS]
    stream.write(start + end.join([separator.join(ROWS[0]), *path_rows]) + end)
    return stream.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


CSV = table().encode()
READ: dict[str, bytes] = {
    "mails.tsv": table("\t").encode(),
    "mails.tab": table("\t").encode(),
    "commas.tsv": CSV,
    "semicolons.csv": table(";").encode(),
    "tabs.csv": table("\t").encode(),
    "bars.csv": table("|").encode(),
    "excel.csv": table(";", "\ufeff", "\r\n").encode(),
    "excel_says_so.csv": table("^", "\ufeffsep=^\r\n", "\r\n").encode(),
    "unicode_text.csv": table("\t").encode("utf-16"),
    "utf16_be.csv": b"\xfe\xff" + table().encode("utf-16-be"),
    "utf32.jsonl": LINES.encode("utf-32"),
    "array.json": json.dumps(ROWS).encode(),
    "array_with_indent.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "lines.json": LINES.encode(),
    "array.jsonl": json.dumps(ROWS).encode(),
    "objects.json": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "mails.csv.bz2": bz2.compress(CSV),
    "mails.jsonl.xz": lzma.compress(LINES.encode()),
    "mails.csv.zip": zipped({"mails.csv": CSV}),
    "mails.zip": zipped(
        {"export/mails.tsv": table("\t").encode(), "__MACOSX/._mails.tsv": b"x", "README.md": b"hi"}
    ),
    "packed_twice.zip": zipped({"mails.json.gz": gzip.compress(json.dumps(ROWS).encode())}),
    "named_outside.csv.zip": zipped({"export": CSV}),
}


@pytest.mark.parametrize("name", READ)
def test_it_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(READ[name])
    assert [
        {key: row[key] for key in ("text", "label")} for row in rows_of(tmp_path / name)
    ] == ROWS


def test_a_separator_is_what_the_source_says(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(table("^"), encoding="utf-8")
    assert len(rows_of(tmp_path / "a.csv", separator="^")) == len(ROWS)
    (tmp_path / "a.csv").write_text(table("\t"), encoding="utf-8")
    assert len(rows_of(tmp_path / "a.csv", separator="tab")) == len(ROWS)
    with pytest.raises(SourceError, match="no column 'text'"):
        rows_of(tmp_path / "a.csv", separator=",")


ENCODINGS = {
    "gb18030": ("投诉快递三天没有送到", "投诉"),
    "big5": ("快遞三天沒有送到，客服也不回覆", "投訴"),
    "shift_jis": ("荷物が三日も届きません。返金してください", "配送"),
    "windows-1252": ("La livraison a été retardée à cause de la grève", "retardé"),
    "windows-1251": ("Доставка опоздала на три дня", "доставка"),
    "euc-kr": ("배송이 너무 늦어요 환불해 주세요", "배송"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["csv", "jsonl", "json"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str, end: str) -> None:
    row = dict(zip(("text", "label"), ENCODINGS[encoding], strict=True))
    record = json.dumps(row, ensure_ascii=False)
    text = {
        "csv": f"text,label\n{row['text']},{row['label']}\n",
        "jsonl": record,
        "json": f"[{record}]",
    }[end]
    (tmp_path / f"a.{end}").write_bytes(text.encode(encoding))
    with pytest.raises(SourceError) as fault:
        rows_of(tmp_path / f"a.{end}")
    assert f"a.{end}, row 1: the bytes are not utf-8; they look like " in fault.value.cause
    assert encoding in fault.value.cause and "source.encoding" in fault.value.remedy
    assert rows_of(tmp_path / f"a.{end}", encoding=encoding)[0]["label"] == row["label"]


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "mails.xlsx": ("x", "an Excel workbook.*CSV"),
    "mails.xls": ("x", "an Excel workbook.*CSV"),
    "mails.ods": ("x", "a spreadsheet.*CSV"),
    "mails.feather": ("x", "Arrow's own format.*to_parquet"),
    "mails.arrow": ("x", "Arrow's own format.*to_parquet"),
    "mails.txt": ("x", r"no column 'label'.*plain text.*source\.format: csv"),
    "mails.dat": ("x", r"plain text.*source\.format: csv.*source\.format: text"),
    "mails.html": ("x", "a web page.*read_html"),
    "mails.pkl": ("x", "a pickle.*Parquet or CSV"),
    "mails.tar.gz": ("x", "an archive.*Unpack"),
    "renamed.csv": (gzip.compress(b"text,label\n"), "it is a gzip file, and no text"),
    "renamed.json": (zipped({"a": b"b"}), "it is a zip file .or an Excel workbook"),
    "several.zip": (zipped({"a.csv": CSV, "b.csv": CSV}), r"holds 2 files \(a.csv, b.csv\).*Unpack"),
    "sheet.zip": (zipped({"a.xlsx": b"x"}), "an Excel workbook"),
    "columns.json": ('{"text": {"0": "a"}, "label": {"0": "x"}}', "orient='columns'.*orient='records'"),
    "split.json": ('{"columns": ["text", "label"], "index": [0], "data": [["a", "x"]]}', "'split'.*orient='records'"),
    "nested.json": ('{"total": 1, "data": [{"text": "a", "label": "x"}]}', "holds its records under 'data'.*jq"),
    "label_studio.json": (
        json.dumps([{"id": 1, "data": {"text": "a"}, "annotations": [{"result": []}]}]), "Label Studio.*JSON-MIN",
    ),
    "doccano_spans.jsonl": ('{"text": "a b", "entities": [{"label": "PER"}]}', "'entities'.*doccano"),
    "prodigy_choices.jsonl": ('{"text": "a", "accept": ["x"], "answer": "accept"}', r"columns\.label: accept"),
    "prodigy_rejects.jsonl": (
        '{"text": "a", "label": "x", "answer": "accept"}\n{"text": "b", "label": "x", "answer": '
        '"reject"}',
        r"row 2: the answer is 'reject'.*select: \{answer: \[accept\]\}",
    ),
    "other_names.csv": ("Text;Label\na;b\n", r"no column 'text'.*semicolons.*'Text', "
                                             r"'Label'.*source\.separator"),
    "unknown_separator.csv": ("text^label\na^b\n", r"no column 'text'.*source\.separator"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    data, said = REFUSED[name]
    (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(SourceError, match=name.partition(".")[0]) as fault:
        rows_of(tmp_path / name)
    assert re.search(said, str(fault.value)), str(fault.value)


def test_a_data_set_saved_by_hugging_face_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "saved" / "train").mkdir(parents=True)
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    for name in ("state.json", "dataset_info.json", "data-00000-of-00001.arrow"):
        (tmp_path / "saved" / "train" / name).write_text("{}")
    for folder in (tmp_path / "saved", tmp_path / "saved" / "train"):
        with pytest.raises(SourceError, match=r"save_to_disk.*to_parquet"):
            rows_of(folder)


def test_what_lies_unread_beside_the_data_is_named(tmp_path: Path) -> None:
    csv_of(tmp_path / "in" / "a.csv", ROWS)
    for name in ("b.xlsx", "c.feather", "README"):
        (tmp_path / "in" / name).write_text("x")
    (tmp_path / "in" / "d.parquet").mkdir()
    assert left_aside(FileSource(url=str(tmp_path / "in"))) == [
        "b.xlsx (an Excel workbook)", "c.feather (Arrow's own format)", "d.parquet (a folder)",
    ]  # fmt: skip


# --- annotation programs --------------------------------------------------------------------------

FORMS: dict[str, tuple[Callable[[str], Any], dict[str, Any]]] = {
    "doccano, one label in a list": (lambda label: {"label": [label]}, {}),
    "doccano, labels": (lambda label: {"labels": [label]}, {"columns": {"label": "labels"}}),
    "Label Studio, JSON-MIN": (lambda label: {"sentiment": label, "annotator": 1}, {"columns": {"label": "sentiment"}}),
    "Label Studio, choices": (lambda label: {"label": {"choices": [label]}}, {}),
    "Prodigy, choices": (
        lambda label: {"options": [{"id": label}], "accept": [label], "answer": "accept"},
        {"columns": {"label": "accept"}, "select": {"answer": ["accept"]}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_an_annotation_program_s_rows_are_read(tmp_path: Path, form: str) -> None:
    cells, parts = FORMS[form]
    records = [{"text": row["text"], **cells(row["label"]), "meta": {"by": ["x"]}} for row in ROWS]
    (tmp_path / "a.json").write_text(json.dumps(records), encoding="utf-8")
    assert [row["label"] for row in rows_of(tmp_path / "a.json", contract(**parts))] == [
        row["label"] for row in ROWS
    ]


@pytest.mark.parametrize("cell", ['["billing"]', "['billing']", '{"choices": ["billing"]}'])
def test_a_list_in_a_csv_cell_is_its_label(tmp_path: Path, cell: str) -> None:
    path = csv_of(
        tmp_path / "a.csv", [{"text": "a", "label": cell}, {"text": "b", "label": "billing"}]
    )
    assert {row["label"] for row in rows_of(path)} == {"billing"}


def test_rejected_rows_never_train_and_are_counted(tmp_path: Path) -> None:
    rows = [
        {**row, "answer": ("accept", "accept", "reject", "ignore")[i % 4]}
        for i, row in enumerate(mails(120))
    ]
    told = judge(csv_of(tmp_path / "a.csv", rows), select={"answer": ["accept"]})
    assert {row["text"] for row in told.kept} == {
        row["text"] for row in rows if row["answer"] == "accept"
    }
    assert not told.refused, "a row that is not selected is no fault"
    assert "30 rows left out, as the contract selects: answer 'reject'." in told.told
    with pytest.raises(
        SourceError,
        match=r"no row that the contract selects \(answer: 'yes'\); there is answer 'accept'",
    ):
        rows_of(tmp_path / "a.csv", contract(select={"answer": "yes"}))


def test_an_answer_that_is_not_prodigy_s_is_a_column_like_any(tmp_path: Path) -> None:
    rows = [{**row, "answer": f"reject {i}"} for i, row in enumerate(ROWS)]
    assert len(rows_of(csv_of(tmp_path / "a.csv", rows))) == len(ROWS)


# --- one bad cell ---------------------------------------------------------------------------------

ODD = [
    ({"text": 5, "label": "x"}, "not_text", "5"), ({"text": True, "label": "x"}, "not_text", "true"),
    ({"text": {"a": 1}, "label": "x"}, "not_text", '{"a": 1}'), ({"text": ["好"], "label": "x"}, "not_text", '["好"]'),
    ({"text": "t1", "label": ["x", "y"]}, "several_labels", '["x", "y"]'),
    ({"text": "t2", "label": {"choices": ["x", "y"]}}, "several_labels", '{"choices": ["x", "y"]}'),
    ({"text": "t3", "label": {"name": "x"}}, "nested_label", '{"name": "x"}'),
    ({"text": "t4", "label": [[0, 3, "PER"]]}, "nested_label", '[[0, 3, "PER"]]'),
    ({"text": "t5", "label": []}, "bad_label", None), ({"text": "t6"}, "bad_label", None),
]  # fmt: skip


def test_one_bad_cell_costs_its_row_alone(tmp_path: Path) -> None:
    records = [*mails(120), *(record for record, _, _ in ODD)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    told = judge(tmp_path / "a.jsonl")
    assert len(told.kept) == 120
    shown = [row["text"] if row["reason"] == "not_text" else row["label"] for row in told.refused]
    assert [(row["reasons"], cell) for row, cell in zip(told.refused, shown, strict=True)] == [
        ([reason], cell) for _, reason, cell in ODD
    ]
    with pytest.raises(
        ContractViolation, match=r"texts that are not text, 3\.08 %.*a\.jsonl row 121, text '5'"
    ):
        judge(tmp_path / "a.jsonl", max_quarantine_share=0.02)


# --- every column ---------------------------------------------------------------------------------


def test_a_look_at_all_columns_leaves_out_what_no_text_can_show(tmp_path: Path) -> None:
    record = {"text": "a", "label": ["x"], "meta": {"k": 1}, "vector": [0.5, 0.25], "stars": 2.0}
    (tmp_path / "a.jsonl").write_text("\n".join([json.dumps(record)] * 9))
    [(file, batch)] = read_rows(FileSource(url=str(tmp_path / "a.jsonl")), max_rows_per_file=4)
    assert (file.name, len(batch.rows), batch.left_out) == ("a.jsonl", 4, ("meta", "vector"))
    shown = {name: column[0].as_py() for name, column in batch.columns.items()}
    assert shown == {"text": "a", "label": "x", "meta": None, "vector": None, "stars": "2"}
