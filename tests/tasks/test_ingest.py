"""Whatever the format and wherever it lies, the same rows come out; what cannot be read is named by
file and row.
"""

from __future__ import annotations

import csv
import gzip
import http.server
import io
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_contracts.artifacts import RawCorpus
from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.contract.text import normalise
from data_contracts.errors import SourceError
from data_contracts.recipe.source import FileSource, SampleSource
from data_contracts.sample.generator import write_sample
from tasks import ingest, progress
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import ArtifactStore
from tests.stages import fingerprint, ingest_source

ROWS = [
    {"text": "good\nphone, \"really\"", "label": "positive"},
    {"text": "糟糕的屏幕\u0085\u2028。", "label": "negative"},
    {"text": "Größe paßt 😀", "label": "positive"},
]  # fmt: skip
CONTRACT = parse_contract({"name": "t"}, origin="test")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"), tmp_path / "work")


def contract(**columns: Any) -> DataContract:
    return parse_contract({"name": "t", "columns": columns}, origin="test")


def read(
    store: ArtifactStore, url: Any, by: DataContract = CONTRACT, **source: Any
) -> tuple[RawCorpus, list[dict[str, Any]]]:
    files = FileSource(url=url if isinstance(url, dict) else str(url), **source)
    batch_rows = 100
    manifest = ingest_source(files, by, fingerprint(files), store, batch_rows=batch_rows).manifest
    return manifest, [
        row for table in read_parts(store.open(manifest), batch_rows) for row in table.to_pylist()
    ]


def fault(store: ArtifactStore, url: Any, by: DataContract = CONTRACT, **source: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read(store, url, by, **source)
    assert caught.value.remedy
    assert not list(Path(str(store.root)).glob("ingest/*/manifest.json"))
    return caught.value.cause


def encoded(rows: list[dict[str, Any]], format: str) -> bytes:
    if format == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()
    if format == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows).encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def packed(data: bytes, compression: str) -> bytes:
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    return pack[compression](data)


def write(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(
    store: ArtifactStore, tmp_path: Path, format: str, compression: str
) -> None:
    path = write(tmp_path / f"x.{format}{compression}", packed(encoded(ROWS, format), compression))
    manifest, rows = read(store, path)
    assert [{k: row[k] for k in ("text", "label")} for row in rows] == ROWS
    numbers = [1, 3, 5] if format == "jsonl" else [1, 2, 3]  # lines, blank ones counted
    assert [(row["id"], row["file"], row["row"]) for row in rows] == [
        (f"{path.name}#{n}", path.name, n) for n in numbers
    ]
    assert (manifest.rows_in, manifest.rows_out, manifest.source_files) == (3, 3, 1)
    assert manifest.splits == {
        s: sum(row["split"] == s for row in rows) for s in ("train", "valid", "test")
    }


@pytest.mark.parametrize("compression", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_concatenated_compressed_files_are_read_to_the_end(
    store: ArtifactStore, tmp_path: Path, compression: Any
) -> None:
    end = ".gz" if compression is gzip.compress else ".zst"
    path = write(
        tmp_path / f"x.csv{end}", compression(b"text,label\na,b\n") + compression(b"c,d\n")
    )
    assert [row["text"] for row in read(store, path)[1]] == ["a", "c"]


def test_numbers_and_booleans_become_decimal_text(store: ArtifactStore, tmp_path: Path) -> None:
    labels: dict[str, list[Any]] = {
        "i": [1, -2, None],
        "f": [1.0, 0.25, None],
        "b": [True, False, None],
        "e": [1e-7, 1e20, None],
    }
    pq.write_table(pa.table({"text": ["a", "b", "c"], **labels}), tmp_path / "x.parquet")
    lines = [
        json.dumps({"text": t, **{k: v[n] for k, v in labels.items()}}) for n, t in enumerate("abc")
    ]
    write(tmp_path / "x.jsonl", "\n".join(lines))
    expected = {
        "i": ["1", "-2", None], "f": ["1", "0.25", None], "b": ["true", "false", None],
        "e": ["0.0000001", "100000000000000000000", None],
    }  # fmt: skip
    for column, values in expected.items():
        for name in ("x.parquet", "x.jsonl"):
            assert [
                row["label"] for row in read(store, tmp_path / name, contract(label=column))[1]
            ] == values


def test_columns_are_mapped_and_slices_carried(store: ArtifactStore, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "n,body,mark,part,lang\n7,hello,1,Dev,en\n,bye,,TESTING,\n")
    by = contract(id="n", text="body", label="mark", split="part", slices=["lang"])
    rows = read(store, path, by)[1]
    assert [list(row.values()) for row in rows] == [
        ["7", "hello", "1", "valid", "en", None, "x.csv", 1],
        ["x.csv#2", "bye", None, "test", None, None, "x.csv", 2],
    ]


def test_dictionary_encoded_parquet_is_text(store: ArtifactStore, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({c: pa.array(["a", None]).dictionary_encode() for c in ("text", "label")}),
        tmp_path / "x.pq",
    )
    assert [row["text"] for row in read(store, tmp_path / "x.pq")[1]] == ["a", None]


def test_byte_order_mark_and_other_encodings(store: ArtifactStore, tmp_path: Path) -> None:
    text = "text,label\n好,b\n"
    for encoding, given in (("utf-8-sig", "utf-8"), ("gb18030", "gb18030"), ("utf-16", "utf-16")):
        path = write(tmp_path / f"{encoding}.csv", text.encode(encoding))
        assert read(store, path, encoding=given)[1][0]["text"] == "好"


def test_half_a_surrogate_in_json_is_left_to_the_contract(
    store: ArtifactStore, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "x.jsonl",
        '{"text": "a\\ud83d", "label": "b"}\n{"text": "\\ud83d\\ude00", "label": "b"}\n',
    )
    assert [row["text"] for row in read(store, path)[1]] == ["a\ufffd", "😀"]


def test_long_cells_are_read_whole(store: ArtifactStore, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", f"text,label\n{'x' * 300_000},b\n")
    assert len(read(store, path)[1][0]["text"]) == 300_000


# --- places ---------------------------------------------------------------------------------------


def test_folder_and_glob_are_read_in_order_of_names(store: ArtifactStore, tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv.gz", "c.jsonl", "notes.txt", ".hidden.csv"):
        data = encoded([{"text": name, "label": "x"}], "jsonl" if "jsonl" in name else "csv")
        write(tmp_path / "in" / name, packed(data, ".gz" if name.endswith("gz") else ""))
    manifest, rows = read(store, tmp_path / "in")
    assert [row["text"] for row in rows] == ["a.csv.gz", "b.csv", "c.jsonl"]
    assert manifest.source_files == 3
    assert [row["text"] for row in read(store, tmp_path / "in" / "*.csv*")[1]] == [
        "a.csv.gz",
        "b.csv",
    ]


def test_files_of_one_name_in_two_folders_stay_apart(store: ArtifactStore, tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / split / "x.csv", f"text,label\n{split},a\n")
    rows = read(store, {split: str(tmp_path / split / "x.csv") for split in ("train", "test")})[1]
    assert [row["id"] for row in rows] == ["train/x.csv#1", "test/x.csv#1"]


def test_window_chooses_dated_files_and_fills_the_url(store: ArtifactStore, tmp_path: Path) -> None:
    for day in ("2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"):
        write(tmp_path / "in" / f"reviews-{day}.csv", f"text,label\n{day},a\n")
    write(tmp_path / "in" / "all.csv", "text,label\nall,a\n")
    window = {"start": "2026-01-31", "end": "2026-02-01"}
    with pytest.raises(SourceError, match=r"a name does not tell one: all\.csv \(no date\)"):
        read(store, tmp_path / "in", window=window)
    assert len(read(store, tmp_path / "in")[1]) == 5
    (tmp_path / "in" / "all.csv").unlink()
    manifest, rows = read(store, tmp_path / "in", window=window)
    assert [row["text"] for row in rows] == ["2026-01-31", "2026-02-01"]
    assert [str(days) for days in manifest.days] == ["2026-01-31 to 2026-02-01"]
    assert [
        row["text"] for row in read(store, tmp_path / "in" / "reviews-{end}.csv", window=window)[1]
    ] == ["2026-02-01"]
    late = {"start": "2027-01-01", "end": "2027-01-02"}
    files = FileSource(url=str(tmp_path / "in"), window=late)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="only files dated 2026-01-30 to 2026-02-02"):
        fingerprint(files)


def test_other_file_systems(store: ArtifactStore) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.csv", "b.parquet"):
        memory.pipe(f"/ingest-test/{name}", encoded(ROWS, name.split(".")[1]))
    assert len(read(store, "memory://ingest-test/a.csv")[1]) == 3
    assert len(read(store, "memory://ingest-test")[1]) == 6


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        if "status" in self.path:
            self.send_error(int(self.path.rsplit("/", 1)[-1].split(".")[0]))
        elif "cut" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"text,label\na,b\n")
        else:
            super().do_GET()

    do_HEAD = do_GET


@contextmanager
def serving(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl.gz", "x.parquet", "x.csv.zst"])
def test_http(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    end = "." + name.split(".")[-1] if name.count(".") == 2 else ""
    write(tmp_path / "www" / name, packed(encoded(ROWS, name.split(".")[1]), end))
    with serving(tmp_path / "www") as url:
        rows = read(store, f"{url}/{name}?token=secret")[1]
    assert [row["text"] for row in rows] == [row["text"] for row in ROWS]
    assert rows[0]["file"] == name


def test_http_faults(store: ArtifactStore, tmp_path: Path) -> None:
    """What is missing or refused is an error to mend; what may heal stays an OSError, which the
    task retries.
    """
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www") as url:
        missing = fault(store, f"{url}/none.csv?token=secret")
        assert missing == f"{url}/none.csv: no such file or folder."
        assert "refuses it (HTTP 403)" in fault(store, f"{url}/status/403.csv")
        for healing in ("status/503.csv", "cut/x.csv"):
            with pytest.raises(ConnectionError, match="cannot be reached or was cut off"):
                read(store, f"{url}/{healing}")
    with pytest.raises(ConnectionError, match="cannot be reached"):
        read(store, f"{url}/x.csv")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_https(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    write(tmp_path / "www" / "x.csv", encoded(ROWS, "csv"))
    code = (
        "import sys; from pathlib import Path; from data_contracts.recipe.recipe import "
        "FileSource\n"
        "from data_contracts.contract.contract import parse_contract\n"
        "from tasks.artifacts.store import ArtifactStore\n"
        "from tests.stages import ingest_source\n"
        "source, work = FileSource(url=sys.argv[1]), Path(sys.argv[2])\n"
        "store = ArtifactStore(str(work / 'a'), work / 'w')\n"
        "contract = parse_contract({'name': 't'}, origin='t')\n"
        "print(ingest_source(source, contract, None, store, batch_rows=100).manifest.rows_out)"
    )
    # A child: aiohttp reads the trusted certificates once, at import.
    trusting = os.environ | {"SSL_CERT_FILE": str(certificate)}
    with serving(tmp_path / "www", context) as url:
        done = subprocess.run(
            [sys.executable, "-c", code, f"{url}/x.csv", str(tmp_path)],
            env=trusting, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.stdout == "3\n", done.stderr


# --- faults ---------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, bytes | str, str]] = {
    "empty csv": ("x.csv", "", "x.csv: the file is empty"),
    "empty jsonl": ("x.jsonl", "", "x.jsonl: the file is empty"),
    "empty parquet": ("x.parquet", "", "x.parquet: the file is empty"),
    "empty zstd": ("x.csv.zst", "", "x.csv.zst: the file is empty"),
    "header only": ("x.csv", "text,label\n", "x.csv: no rows, a header at most"),
    "blank lines only": ("x.jsonl", "\n\n", "x.jsonl: no rows"),
    "wrong column": ("x.csv", "Texte,label\na,b\n", "no column 'text'. It has 'Texte', 'label'. "
                                                    "Did you mean 'Texte'?"),
    "wrong key": ("x.jsonl", '{"text": "a", "lable": 1}', "It has 'text', 'lable'. Did you mean "
                                                          "'lable'?"),
    "column twice": ("x.csv", "text,label,text\na,b,c\n", "two columns are called 'text'"),
    "too few fields": ("x.csv", "text,label\na,b\nc\n", "row 2: 1 fields where the header has 2 "
                                                        "(it ends on line 3)"),
    "too many fields": ("x.csv", "text,label\na,b,c\n", "x.csv, row 1: 3 fields where the header "
                                                        "has 2"),
    "open quote": ("x.csv", 'text,label\na,b\n"c,d\n', "x.csv, row 2: not valid CSV: unexpected "
                                                       "end of data"),
    "stray quote": ("x.csv", 'text,label\n"a"b,c\n', "x.csv, row 1: not valid CSV"),
    "bad UTF-8 in csv": ("x.csv", b"text,label\na,b\ncaf\xe9,c\n", "x.csv, row 2: the bytes are "
                                                                   "not utf-8"),
    "bad UTF-8 in header": ("x.csv", b"text,label,\xe9\na,b,c\n", "x.csv: the bytes are not utf-8"),
    "bad UTF-8 in jsonl": ("x.jsonl", b'\n{"text": "\xe9", "label": "b"}', "x.jsonl, row 2: the bytes are not utf-8"),
    "bad JSON": ("x.jsonl", '{"text": "a", "label": "b"}\n\n{"text": ', "x.jsonl, row 3: not valid "
                                                                        "JSON"),
    "deep JSON": ("x.jsonl", "[" * 100_000, "x.jsonl, row 1: not valid JSON"),
    "no label in an array": ("x.json", '[{"text": "a"}]', "x.json: no column 'label'. It has "
                                                          "'text'."),
    "array of arrays": ("x.json", '[["text", "label"]]', "x.json, row 1: a JSON array, not an "
                                                         "object"),
    "open array": ("x.json", '[{"text": "a", "label": "b"}', "x.json, row 1: the JSON array is not "
                                                             "closed"),
    "array without commas": ("x.json", '[{"text": "a", "label": "b"} {}]', "row 1: no comma behind its record"),
    "words behind an array": ("x.json", '[{"text": "a", "label": "b"}] x', "something stands behind the JSON array"),
    "bad UTF-8 in an array": ("x.json", b'[{"text": "\xe9", "label": "b"}]', "x.json, row 1: the bytes are not utf-8"),
    "no Parquet": ("x.parquet", "text,label\na,b\n", "x.parquet: not a Parquet file, or a damaged "
                                                     "one"),
    "truncated Parquet": ("x.parquet", encoded(ROWS, "parquet")[:-20], "x.parquet: not a Parquet "
                                                                       "file, or a damaged"),
    "no gzip": ("x.csv.gz", "text,label\na,b\n", "x.csv.gz: the compressed data end early or are "
                                                 "damaged"),
    "no zstd": ("x.csv.zst", "text,label\na,b\n", "x.csv.zst: the compressed data end early or are "
                                                  "damaged"),
    "unknown ending": ("x.odd", "text", "x.odd: the name does not tell the format"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    file, data, message = FAULTS[name]
    assert message in fault(store, write(tmp_path / file, data))


@pytest.mark.parametrize("end", [".csv.gz", ".csv.zst", ".jsonl.gz", ".parquet.gz", ".parquet.zst"])
def test_truncated_compression_is_named(store: ArtifactStore, tmp_path: Path, end: str) -> None:
    rows = [{"text": os.urandom(20).hex(), "label": "x"} for _ in range(500)]
    data = packed(encoded(rows, end.split(".")[1]), "." + end.split(".")[2])
    message = fault(store, write(tmp_path / f"x{end}", data[: len(data) // 2]))
    assert message.startswith(f"x{end}: the compressed data end early")


@pytest.mark.parametrize(
    ("kind", "shown"),
    [(pa.list_(pa.string()), "list"), (pa.int64(), "int64"), (pa.binary(), "binary")],
)
def test_wrong_parquet_type_is_named(
    store: ArtifactStore, tmp_path: Path, kind: pa.DataType, shown: str
) -> None:
    pq.write_table(
        pa.table({"text": pa.array([None], kind), "label": ["a"]}), tmp_path / "x.parquet"
    )
    assert f"column 'text' is of type {shown}" in fault(store, tmp_path / "x.parquet")


def test_missing_places_are_named(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert fault(store, tmp_path / "x.csv") == f"{tmp_path / 'x.csv'}: no such file or folder."
    assert "no file of a known kind" in fault(store, tmp_path / "in")
    assert "no file of a known kind" in fault(store, tmp_path / "*.csv")
    assert "nowhere" in fault(store, "nowhere://x/y.csv")
    write(tmp_path / "in" / "read.me", "x")
    assert "it holds read.me" in fault(store, tmp_path / "in")


def test_unknown_encoding_is_named(store: ArtifactStore, tmp_path: Path) -> None:
    assert "'utf-9'" in fault(
        store, write(tmp_path / "x.csv", "text,label\na,b\n"), encoding="utf-9"
    )


def test_a_row_of_an_unknown_split_is_a_fault_of_that_row(
    store: ArtifactStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.csv", "text,label,split\na,b,\u3000Train \nc,d,holdout\n")
    rows = read(store, path, contract(split="split"))[1]
    assert [(row["split"], row["fault"]) for row in rows] == [
        ("train", None),
        ("holdout", "unknown_split"),
    ]


def test_change_while_reading_is_noticed(store: ArtifactStore, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,label\na,b\n")
    source = FileSource(url=str(path))
    before = fingerprint(source)
    write(path, "text,label\na,c\n")
    with pytest.raises(SourceError, match="changed while it was read"):
        ingest_source(source, CONTRACT, before, store, batch_rows=100)


# --- splits ---------------------------------------------------------------------------------------


def texts(path: Path, count: int, start: int = 0) -> Path:
    lines = [
        f"Text  {i % 700}{' ' * (i % 3)},x\n" if i % 2 else f"TEXT {i % 700},y\n"
        for i in range(start, start + count)
    ]
    return write(path, "text,label\n" + "".join(lines))


def test_same_text_never_stands_on_both_sides(store: ArtifactStore, tmp_path: Path) -> None:
    rows = read(store, texts(tmp_path / "x.csv", 2100))[1]
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(normalise(row["text"]), set()).add(row["split"])
    assert len(splits) == 700
    assert all(len(one) == 1 for one in splits.values())
    assert {s for one in splits.values() for s in one} == {"train", "valid", "test"}


def test_more_rows_move_no_row(store: ArtifactStore, tmp_path: Path) -> None:
    texts(tmp_path / "in" / "a.csv", 300)
    before = {row["id"]: row["split"] for row in read(store, tmp_path / "in")[1]}
    texts(tmp_path / "in" / "0.csv", 300, start=150)  # comes first
    after = {row["id"]: row["split"] for row in read(store, tmp_path / "in")[1]}
    assert len(after) == 600
    assert before.items() <= after.items()


def test_missing_valid_is_drawn_from_train_alone(store: ArtifactStore, tmp_path: Path) -> None:
    train, test = texts(tmp_path / "train.csv", 600), texts(tmp_path / "test.csv", 100)
    rows = read(store, {"train": str(train), "test": str(test)})[1]
    assert {row["split"] for row in rows if row["file"] == "test.csv"} == {"test"}
    drawn = [row["split"] for row in rows if row["file"] == "train.csv"]
    assert set(drawn) == {"train", "valid"}
    assert 30 < drawn.count("valid") < 95
    alone = {row["text"]: row["split"] for row in read(store, {"train": str(train)})[1]}
    assert set(alone.values()) == {"train", "valid", "test"}
    assert all(alone[row["text"]] == "valid" for row in rows if row["split"] == "valid")


# --- the stage ------------------------------------------------------------------------------------


def test_second_time_is_cached_and_batches_do_not_matter(
    store: ArtifactStore, tmp_path: Path
) -> None:
    source = FileSource(url=str(texts(tmp_path / "x.csv", 1000)))
    first = ingest_source(source, CONTRACT, fingerprint(source), store, batch_rows=100)
    again = ingest_source(source, CONTRACT, fingerprint(source), store, batch_rows=300)
    assert (first.cached, again.cached) == (False, True)
    assert again.manifest == first.manifest
    assert len(first.manifest.files) == 10
    other = ArtifactStore(str(tmp_path / "b"), tmp_path / "w")
    assert (
        ingest_source(source, CONTRACT, fingerprint(source), other, batch_rows=300).manifest.digest
        == first.manifest.digest
    )


def test_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,label\na,b\n")
    source = FileSource(url=str(path))
    before = fingerprint(source)
    os.utime(path, (0, 0))
    assert fingerprint(source) == before
    write(path, "text,label\na,c\n")
    assert fingerprint(source) != before
    seeds = {
        fingerprint(SampleSource(rows=rows, seed=seed)) for rows in (200, 300) for seed in (1, 2)
    }
    assert len(seeds) == 4


def test_sample_is_its_generator(store: ArtifactStore, tmp_path: Path) -> None:
    source = SampleSource(rows=300, seed=3)
    by = contract(id="id", split="split", slices=["language"])
    manifest = ingest_source(source, by, fingerprint(source), store, batch_rows=100).manifest
    write_sample(tmp_path / "mine.parquet", 300, 3)
    mine = pq.read_table(tmp_path / "mine.parquet")
    there = pa.concat_tables(read_parts(store.open(manifest), 100))
    assert there.select(mine.column_names).to_pylist() == mine.to_pylist()


def test_progress_is_reported(store: ArtifactStore, tmp_path: Path) -> None:
    seen: list[progress.Progress] = []
    with progress.listening(seen.append):
        read(store, texts(tmp_path / "x.csv", 250))
    assert [one.done for one in seen if one.stage == "ingest"] == [0, 100, 200, 250]


def test_connection_lost_while_reading_leaves_nothing(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = texts(tmp_path / "x.csv", 300)
    whole = ingest.raw_table
    calls = []

    def once_lost(*arguments: Any) -> pa.Table:
        calls.append(1)
        if len(calls) == 2:
            raise ConnectionResetError("lost")
        return whole(*arguments)

    monkeypatch.setattr(ingest, "raw_table", once_lost)
    with pytest.raises(ConnectionResetError):
        read(store, path)
    assert not list(Path(str(store.root)).glob("ingest/*"))
    assert read(store, path)[0].rows_out == 300
