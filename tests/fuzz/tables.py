"""Rows from outside: CSV, JSON, Parquet, plain and compressed; word vectors; another program's
predictions.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zstandard

from data_contracts.contract.contract import parse_contract
from data_contracts.contract.written import to_yaml
from data_contracts.errors import SourceError, TrainingError
from data_contracts.tables.batch import Ask
from data_contracts.tables.encoding import marked
from data_contracts.tables.packed import decompressed, unzipped
from data_contracts.tables.parallel import Side, read_parallel
from data_contracts.tables.read import name_parts, read_batches
from data_contracts.yaml_text import parse_yaml
from flows.cli.drafts import draft_from
from lightning_modules.starting.vectors import load_vectors
from tests.fuzz.target import Target, joined, refused

ROWS = [
    ("a good day, and more", "yes"),
    ('she said "no"', "no"),
    ("第一条\n很好", "yes"),
    ("", "no"),
    ("x", ""),
]
CSV = [
    b"text,label\na good one,yes\nbad,no\n",
    ("text,label,id,split\n" + "".join(f'"{t.replace(chr(34), chr(34) * 2)}",{n},{i},train\n'
     for i, (t, n) in enumerate(ROWS))).encode(),
    "\ufefftext,label\r\n好,yes\r\n坏,no\r\n".encode(),
    "text,label\n好,yes\n".encode("utf-16"),
    "text,label\n好,yes\n".encode("gb18030"),
    b"label,text\n" + b"".join(b"%d,some text number %d\n" % (i % 3, i) for i in range(60)),
    b"text\n\n\nonly one column\n",
    b"text;label\r\na good one;yes\r\nbad;no\r\n",
    b"text\tlabel\na good one\tyes\nbad\t1.0\n",
    b"\xef\xbb\xbfsep=|\ntext|label\na|['yes']\nb|{\"choices\": [\"x\", \"y\"]}\n",
]  # fmt: skip
JSONL = [
    b'{"text": "a good one", "label": "yes"}\n{"text": "bad", "label": "no"}\n',
    b'{"text": "a", "label": 1}\n\n{"label": 2.5, "text": null}\n{"text": "c", "label": true, "more": [1, {"x": 2}]}\n',
    '{"text": "好\\ud83d\\ude00 \\ud83d", "label": "yes", "id": 1e400}\n'.encode(),
    b'{"text": "x", "label": NaN}\r\n{"text": "y", "label": -0.0}\r\n',
    b"".join(b'{"text": "number %d", "label": %d}\n' % (i, i % 3) for i in range(60)),
    b'[{"text": "a", "label": ["yes"]}, {"text": 5, "label": ["yes", "no"]},\n {"text": null, "label": {"x": 1}}]',
    b'{\n  "text": "a",\n  "label": "yes"\n}\n{\n  "text": "b",\n  "label": {"choices": ["no"]}\n}\n',
    b'{"text": {"0": "a", "1": "b"}, "label": {"0": "yes", "1": "no"}}',
    b'[{"id": 1, "data": {"text": "a"}, "annotations": [{"result": []}]}]',
]
BROKEN = (b"\xff\xfe", b"\xfe\xff\x00", b"\x80", b"\xe5\xa5")
CSV_WORDS = joined(
    [",", '"', '""', "\n", "\r\n", "\r", "\0", "text", "label", "text,label\n", "\ufeff", "\ud800", " ", "x" * 300,
     "\u2028", "\x1a", "\x1b[31m", "=1+1", ";", "\t", ",,", "'", "\\"],
    *BROKEN,
)  # fmt: skip
JSON_WORDS = joined(
    ["{", "}", "[", "]", ":", ",", '"', '"text"', '"label"', "null", "true", "1e999", "-", "\\u", "\\ud800", "\\",
     "\n", "NaN", "Infinity", "9" * 400, '{"text": ', "[[[[[[[[", '{"a":' * 50, "\0", "\ufeff"],
    *BROKEN,
)  # fmt: skip
ENCODINGS = (
    *["utf-8"] * 15,
    "utf-16",
    "gb18030",
    "latin-1",
    "utf-8-sig",
    "utf-32",
    "shift_jis",
    "utf-7",
    "cp1252",
)


def read(data: bytes, kind: Any, compression: str | None = None) -> bool:
    """How the file is read follows from its bytes, so that a case is one byte string."""
    name = "a/b.csv"
    try:
        return _rows_hold(decompressed(io.BytesIO(data), compression, name), data, kind, name)
    except SourceError as error:
        return refused(error)


def _rows_hold(stream: Any, data: bytes, kind: Any, name: str) -> bool:
    encoding = ENCODINGS[len(data) % len(ENCODINGS)] if kind != "parquet" else "utf-8"
    columns = (None, ["text", "label"])[len(data) % 2]
    known = (None, ("0", "1"))[len(data) % 2]
    roles = {"texts": ["text"], "categories": {"label": known}} if columns else {}
    ask = Ask(
        columns=columns,
        **roles,
        optional=("answer",),
        separator=(None, None, ";")[len(data) % 3],
        batch_rows=1 + len(data) % 7,
    )
    rows = list(read_batches(stream, name, ask, format=kind, encoding=encoding))
    last = 0
    for batch in rows:
        numbers = batch.rows.to_pylist()
        assert numbers and numbers == sorted(numbers) and numbers[0] > last, "row numbers"
        last = numbers[-1]
        for column in batch.columns.values():
            assert column.type == pa.string() and len(column) == len(numbers)
            column.validate(full=True)  # UTF-8 throughout
        assert batch.faults is None or (
            batch.faults.type == pa.string() and len(batch.faults) == len(numbers)
        )
    return True


TEXT = [
    b"A first line.\nA second one.\n\n\n  Another paragraph,\r\nindented.\r\n \t\nThe last",
    "\ufeff第一段。\n\n第二段，\u2028还是它。\r还是。".encode(),
    "好\n\nß\n".encode("utf-16"),
    "好\n\n坏\n".encode("gb18030"),
    b"",
    b"\n \n\r\n",
    b"line\n" * 40,
]
TEXT_WORDS = joined(
    ["\n", "\n\n", "\r\n", "\r", " ", "\t", "\0", "\ufeff", "\u2028", "\x85", "\x1c", "\u3000", "x" * 300, "好"],
    *BROKEN,
)  # fmt: skip


def documents(data: bytes) -> bool:
    """How the file is cut follows from its bytes, so that a case is one byte string."""
    encoding = ENCODINGS[len(data) % len(ENCODINGS)]
    cut = ("file", "paragraph", "line")[len(data) % 3]
    columns = (None, ["text"], ["text"], ["label"])[len(data) // 3 % 4]
    ask = Ask(columns, batch_rows=1 + len(data) % 7, documents=cut)
    try:
        batches = list(
            read_batches(io.BytesIO(data), "a.txt", ask, format="text", encoding=encoding)
        )
    except SourceError as error:
        return refused(error)
    lines = [row for batch in batches for row in batch.rows.to_pylist()]
    texts = [text for batch in batches for text in batch.columns["text"].to_pylist()]
    assert lines == sorted(set(lines)) and lines[0] > 0, (
        "every document begins on a line of its own"
    )
    if encoding == "utf-8" and marked(data) is None:
        whole = data.decode()
        assert texts == [whole] or cut != "file", "a file is its text"
        assert "".join("".join(texts).split()) == "".join(whole.split()), "only white space goes"
    return True


PARALLEL = [
    "We are here.\nYou are there.\0我们在这里。\n你们在那里。\n".encode(),
    b"one\r\n\r\nthree\0eins\n\ndrei",
    b"\xef\xbb\xbfa\nb\n\0c\n",
    "a\u2028b\rc\n\0好\n".encode(),
    b"\0",
    b"line\n" * 40 + b"\0" + b"Zeile\n" * 40,
]


def parallel(data: bytes) -> bool:
    """Two texts, of which the first ends at the first NUL; as many lines as the shorter has, or a
    refusal that counts both.
    """
    one, _, other = data.partition(b"\0")
    encoding = ENCODINGS[len(data) % len(ENCODINGS)]
    columns = (None, ["source", "target"], ["target"], ["text"])[len(data) % 4]
    most = (None, None, 2)[len(data) % 3]
    streams = {"source": io.BytesIO(one), "target": io.BytesIO(other)}
    sides = [Side(name, f"{name}.txt", stream) for name, stream in streams.items()]
    ask = Ask(columns, batch_rows=1 + len(data) % 7)
    try:
        batches = list(read_parallel(sides, ask, encoding=encoding, most=most))
    except SourceError as error:
        return refused(error)
    rows = [row for batch in batches for row in batch.rows.to_pylist()]
    assert rows == list(range(1, len(rows) + 1)), "every line is a row"
    if encoding == "utf-8" and not any(marked(side) for side in (one, other)):
        lines = one.count(b"\n") + (one[-1:] not in (b"", b"\n"))
        assert len(rows) == (lines if most is None else min(most, lines))
        first = [text for batch in batches for text in batch.columns["source"].to_pylist()]
        assert not [text for text in first if "\n" in text]
    return True


def zipped(data: bytes) -> bool:
    try:
        with unzipped(
            io.BytesIO(data), "a.zip", lambda inner: name_parts(inner)[0] is not None
        ) as (_, stream):
            return _rows_hold(stream, data, "csv", "a.zip")
    except SourceError as error:
        return refused(error)


def _zips() -> list[bytes]:
    seeds = []
    for files, method in (
        ({"mails.csv": CSV[0]}, zipfile.ZIP_DEFLATED),
        (
            {"mails.csv": CSV[1] * 40, "__MACOSX/._mails.csv": b"x", "README.md": b"hello"},
            zipfile.ZIP_DEFLATED,
        ),
        ({"a.csv": CSV[0], "b.csv": CSV[0]}, zipfile.ZIP_STORED),
        ({"a.csv": CSV[0]}, zipfile.ZIP_LZMA),
        ({}, zipfile.ZIP_STORED),
    ):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(zipfile.ZipInfo(name), content, method)
        seeds.append(stream.getvalue())
    return seeds


ZIP_WORDS = (
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"\xff\xff\xff\xff",
    b"\0" * 9,
)


def parquet(table: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def _parquet_seeds() -> list[bytes]:
    texts, labels = (list(column) for column in zip(*ROWS, strict=True))
    plain = pa.table({"text": texts, "label": labels})
    classes = {"info": {"features": {"label": {"names": ["yes", "no"], "_type": "ClassLabel"}}}}
    named = pa.table({"text": ["a", "b", "c", "d"], "label": [0, 1, -1, 7]})
    numbers = pa.table(
        {"text": ["a", None, "c"], "label": [1, 2, None], "more": [0.5, float("nan"), None]}
    )
    others = pa.table(
        {
            "text": pa.array(["a", "b"], pa.large_string()),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "money": [Decimal("1.50"), None],
            "day": [date(2026, 1, 1), date(1, 1, 1)],
            "flag": [True, None],
            "inside": [{"a": 1}, {"a": 2}],
            "list": [[1], []],
            "bytes": [b"\xff", b""],
        }
    )
    return [
        parquet(plain),
        parquet(plain, compression="zstd", use_dictionary=False),
        parquet(plain, compression="gzip", store_schema=False),
        parquet(plain, compression="none", row_group_size=2, write_page_checksum=True),
        parquet(plain.slice(0, 0)),
        parquet(numbers, data_page_version="2.0"),
        parquet(others.select(["text", "label"]), use_dictionary=["label"]),
        parquet(
            others,
            compression="none",
            column_encoding={"text": "DELTA_BYTE_ARRAY"},
            use_dictionary=False,
        ),
        parquet(plain.replace_schema_metadata({"noisefold": "x" * 40})),
        parquet(
            named.replace_schema_metadata({"huggingface": json.dumps(classes)}), compression="none"
        ),
    ]


PARQUET_WORDS = (
    b"PAR1",
    b"PARE",
    b"\x15\x00",
    b"\x19\x2c",
    b"\x00" * 8,
    b"\xff" * 8,
    b"ARROW:schema",
    b"\x80" * 9,
)


def compressed(data: bytes) -> bool:
    by_mark = {b"(\xb5": "zstd", b"BZ": "bzip2", b"\xfd7": "xz", b"\x1f\x8b": "gzip"}
    return read(data, "csv", by_mark.get(data[:2], ("zstd", "gzip", "bzip2", "xz")[len(data) % 4]))


def _compressed_seeds() -> list[bytes]:
    seeds = [gzip.compress(data, mtime=0) for data in CSV[:4]] + [
        zstandard.compress(data) for data in CSV[:4]
    ]
    many = b"text,label\n" + b"the same text,yes\n" * 3000
    frames = zstandard.compress(CSV[0]) + zstandard.compress(b"more,no\n")
    others = [
        pack(data)
        for pack in (bz2.compress, lzma.compress)
        for data in (CSV[0], CSV[1] * 30, CSV[0] + CSV[2])
    ]
    return [
        *seeds,
        *others,
        bz2.compress(CSV[0]) * 2,
        lzma.compress(CSV[0]) + bytes(4) + lzma.compress(b"x,y\n"),
        gzip.compress(many, mtime=0),
        zstandard.compress(many),
        frames,
        gzip.compress(CSV[0]) * 2,
    ]


COMPRESSED_WORDS = (
    b"\x1f\x8b\x08\x00",
    b"(\xb5/\xfd",
    b"\x50\x2a\x4d\x18",
    b"\0" * 9,
    b"\xff" * 9,
    b"\x03\x00",
    b"BZh9",
    b"\xfd7zXZ\0",
)


def files(folder: Path) -> list[Target]:
    """What is read by its path. `folder` is one of memory, where there is one: a case is a file."""
    place, vectors, predictions = (
        folder / name for name in ("rows.csv", "vectors.txt", "predictions.parquet")
    )
    table = torch.zeros(4, 3)

    def infer(data: bytes) -> bool:
        try:
            *_, draft = draft_from({"files": [str(place)]})
        except SourceError as error:
            return refused(error)
        read = parse_contract(parse_yaml(to_yaml(draft), "draft"), origin="draft")
        assert read == draft.contract, "draft reads back"
        return True

    def load(data: bytes) -> bool:
        try:
            found = load_vectors(table.clone(), {"a": 0, "the": 1, "好": 2, "": 3}, str(vectors))
        except TrainingError as error:
            return refused(error)
        assert found.shape == (4,)
        return True

    def compare(data: bytes) -> bool:
        from data_contracts.kinds.classify import Classify
        from data_contracts.recipe.recipe import Recipe
        from lightning_modules.kinds.classify.judge import ClassifyJudge, log_proba_of
        from tasks.comparing.predictions import read_predictions

        recipe = Recipe()
        judge = ClassifyJudge({"labels": ("a", "b")}, Classify(), recipe.statistics)
        try:
            scored = read_predictions(predictions, judge).scored
        except SourceError as error:
            return refused(error)
        assert log_proba_of(scored).shape == (scored.num_rows, 2)
        return True

    return [
        Target("infer", "drafting a contract", 0.8, Written(place, infer), seeds=[CSV[1], CSV[5]], tokens=CSV_WORDS),
        Target(
            "word vectors", "GloVe and word2vec files", 3, Written(vectors, load),
            seeds=[b"a 1 2 3\nthe 4 5 6\n", b"2 3\na 1 2 3\nthe 0.1 -1e-5 7\n", "好 1 2 3\nmore 1 2 3\n".encode()],
            tokens=(b" ", b"\n", b"nan", b"inf", b"1e999", b"9" * 30, b"\0", b"3 3\n", b"-", b"\xff", b"0x1", b"1_0"),
        ),
        Target(
            "predictions", "another program's", 1.5, Written(predictions, compare), seeds=_predictions(),
            tokens=(*PARQUET_WORDS, b"noisefold.labels", b'["a", "b"]'),
        ),
    ]  # fmt: skip


class Written:
    """A check of a file, which is written before it."""

    def __init__(self, file: Path, check: Any) -> None:
        self.file, self.check = file, check

    def prepare(self, data: bytes) -> None:
        self.file.write_bytes(data)

    def __call__(self, data: bytes) -> bool:
        return self.check(data)


def _predictions() -> list[bytes]:
    half = [-0.6931471805599453] * 2
    metadata = {
        "noisefold.labels": json.dumps(["a", "b"]),
        "noisefold.facts": json.dumps({"bytes": 5}),
    }
    rows = pa.table({"id": ["1", "2"], "log_proba": [half, half]})
    described = rows.replace_schema_metadata(metadata)
    return [parquet(described), parquet(described, compression="none"), parquet(rows)]


TABLES = [
    Target("csv", "CSV in nine encodings", 22, lambda data: read(data, "csv"), seeds=CSV, tokens=CSV_WORDS),
    Target("jsonl", "JSON Lines and arrays", 20, lambda data: read(data, "jsonl"), seeds=JSONL, tokens=JSON_WORDS),
    Target(
        "parquet", "Parquet", 18, lambda data: read(data, "parquet"), seeds=_parquet_seeds(), tokens=PARQUET_WORDS
    ),
    Target(
        "compressed", "gzip, zstd, bzip2 and xz", 4, compressed, seeds=_compressed_seeds(), tokens=COMPRESSED_WORDS,
    ),
    Target("text", "plain text by file, paragraph and line", 6, documents, seeds=TEXT, tokens=TEXT_WORDS),
    Target("parallel", "two texts, line by line", 4, parallel, seeds=PARALLEL, tokens=TEXT_WORDS),
    Target("zip", "one file in a zip", 2, zipped, seeds=_zips(), tokens=ZIP_WORDS),
]  # fmt: skip
