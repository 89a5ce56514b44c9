"""Files made to hurt: each is refused in one sentence, within seconds and a bounded memory."""

from __future__ import annotations

import bz2
import collections
import gzip
import io
import json
import lzma
import os
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import zstandard
from safetensors.torch import load_file, save

from data_contracts.artifacts import RawCorpus
from data_contracts.errors import NoisefoldError, RecipeError, SourceError
from data_contracts.recipe.reading import load_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.source import FileSource
from data_contracts.tables import batch as table_batch
from data_contracts.tables import csv as table_csv
from data_contracts.tables import json as table_json
from data_contracts.tables import packed as table_packed
from data_contracts.tables import parquet as table_parquet
from data_contracts.tables.batch import Ask
from data_contracts.tables.packed import decompressed
from data_contracts.tables.read import read_batches
from lightning_modules.bundle import Bundle, BundleError, save_bundle
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.kinds.judging import judge_of
from lightning_modules.network.network import build_network
from lightning_modules.network.windows import Windowing
from lightning_modules.starting.vectors import load_vectors
from tasks.comparing.predictions import read_predictions
from tasks.sources.files import list_files, read_rows
from tests.lightning_modules.conftest import WORDS, make_tokenizer
from tests.memory import peak_memory
from tests.security.test_no_pickle import seal, sha256

# --- bundles --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    encoder = {"kind": "transformer", "max_length": 16, "num_heads": 2, "feedforward_sizes": [8]}
    network = build_network(
        {"vocab_size": 45, "embedding_dim": 4, "encoder": encoder, "num_classes": 2}
    )
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    settings = {
        "tokenizer_json": make_tokenizer(WORDS),
        "facts": {"labels": ["a", "b"], "temperature": 1.0},
        "windowing": Windowing(12, 3),
    }
    save_bundle(folder, network, **settings)
    return folder


def changed(path: str, value: Any):
    """A description with one field changed, or taken away (`...`)."""

    def change(facts: dict) -> None:
        *before, last = path.split(".")
        node = facts
        for key in before:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value

    return change


HUGE = 10**12
DESCRIPTIONS = {
    **{f"no {name}": changed(name, ...) for name in ("labels", "network", "temperature", "max_length", "overlap")},
    **{f"without {name}": changed(name, ...) for name in ("pad_id", "unknown_id", "network.encoder", "meta")},
    "labels are a text": changed("labels", "ab"),
    "labels are numbers": changed("labels", [0, 1]),
    "labels too few": changed("labels", ["a"]),
    "labels too many": changed("labels", ["a", "b", "c"]),
    "a label twice": changed("labels", ["a", "a"]),
    "temperature 0": changed("temperature", 0),
    "temperature NaN": changed("temperature", float("nan")),
    "temperature a list": changed("temperature", [1]),
    "a window of no size": changed("max_length", 3),
    "a window of a huge size": changed("max_length", HUGE),
    "a window longer than the positions": changed("max_length", 17),
    "negative overlap": changed("overlap", -5),
    "special tokens that are no ids": changed("prefix_ids", ["x"]),
    "special tokens out of range": changed("prefix_ids", [46]),
    "padding out of range": changed("pad_id", 45),
    "unknown id negative": changed("unknown_id", -1),
    "network a list": changed("network", []),
    "encoder unknown": changed("network.encoder.kind", "mamba"),
    "encoder kind a list": changed("network.encoder.kind", ["tanh"]),
    "huge vocabulary": changed("network.vocab_size", HUGE),
    "negative vocabulary": changed("network.vocab_size", -1),
    "vocabulary a text": changed("network.vocab_size", "45"),
    "huge embedding": changed("network.embedding_dim", HUGE),
    "huge positions": changed("network.encoder.max_length", HUGE),
    "a million layers": changed("network.encoder.feedforward_sizes", [8] * 1_000_000),
    "heads that do not divide": changed("network.encoder.num_heads", 3),
    "no heads": changed("network.encoder.num_heads", 0),
    "huge number of classes": changed("network.num_classes", HUGE),
    "a module for a kind": changed("network.kind", "antigravity"),
    "a path for a kind": changed("network.kind", "../antigravity"),
    "no name for a kind": changed("network.kind", ["classify"]),
    "n-grams that are not there": changed("network.ngrams", {"buckets": HUGE, "max_n": 2, "size": 4}),
    "backbone of 10^9 layers": changed(
        "network.encoder",
        {"kind": "pretrained", "pooling": "mean", "config": {"model_type": "bert", "num_hidden_layers": 10**9}},
    ),
    "backbone with code": changed(
        "network.encoder",
        {"kind": "pretrained", "pooling": "mean", "config": {"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}},
    ),
    "backbone that is no text model": changed(
        "network.encoder",
        {"kind": "pretrained", "pooling": "mean", "config": {"model_type": "detr", "use_pretrained_backbone": True}},
    ),
}  # fmt: skip


def planted(
    whole: Path,
    folder: Path,
    change=None,
    weights: bytes | None = None,
    tokenizer: bytes | None = None,
) -> Path:
    """A copy of a bundle with something changed, and digests that fit: what an attacker would
    write.
    """
    folder.mkdir()
    facts = json.loads((whole / "bundle.json").read_text())
    weights = (whole / "model.safetensors").read_bytes() if weights is None else weights
    tokenizer = (whole / "tokenizer.json").read_bytes() if tokenizer is None else tokenizer
    facts |= {"weights_sha256": sha256(weights), "tokenizer_sha256": sha256(tokenizer)}
    if change is not None:
        change(facts)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    seal(folder, facts)
    return folder


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_description_that_cannot_be_is_refused(whole: Path, tmp_path: Path, name: str) -> None:
    folder = planted(whole, tmp_path / "planted", DESCRIPTIONS[name])
    with pytest.raises(BundleError):
        Bundle.load(folder)


def test_a_bundle_has_no_module_imported_by_its_kind(whole: Path, tmp_path: Path) -> None:
    """A kind is looked for among the house's rooms and what is defined already, and nowhere else."""
    before = set(sys.modules)
    with pytest.raises(BundleError, match="kind of task 'antigravity' is not known"):
        Bundle.load(planted(whole, tmp_path / "planted", changed("network.kind", "antigravity")))
    assert not {name for name in set(sys.modules) - before if "antigravity" in name}


def test_what_the_planted_bundles_are_made_from_loads(whole: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(planted(whole, tmp_path / "planted"))
    assert predict_proba(bundle, ["good"]).shape == (1, 2)


def header(**tensors: Any) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text


WEIGHTS = {
    "empty": b"",
    "garbage": os.urandom(500),
    "a header without end": (2**63 - 1).to_bytes(8, "little") + b"{}",
    "a header of lists": header(a=[1]),
    "a tensor that claims a terabyte": header(
        **{"decoder.bias": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}
    ),
    "an unknown dtype": header(x={"dtype": "X9", "shape": [1], "data_offsets": [0, 1]}) + b"0",
    "no tensor": header(),
    "another dtype": None,
    "another shape": None,
    "one too many": None,
    "one too few": None,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_do_not_fit_are_refused(whole: Path, tmp_path: Path, name: str) -> None:
    data = WEIGHTS[name]
    if data is None:
        state = load_file(whole / "model.safetensors")
        match name:
            case "another dtype":
                state["decoder.bias"] = state["decoder.bias"].double()
            case "another shape":
                state["decoder.bias"] = torch.zeros(3)
            case "one too many":
                state["more"] = torch.zeros(1)
            case _:
                del state["decoder.bias"]
        data = save(state)
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        Bundle.load(planted(whole, tmp_path / "planted", weights=data))


def with_vocabulary(**parts: Any) -> bytes:
    return json.dumps({**json.loads(make_tokenizer(WORDS)), **parts}).encode()


def added(count: int) -> list[dict]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return [{"id": 45 + i, "content": f"t{i}", **flags} for i in range(count)]


TOKENIZERS = {
    "empty": b"",
    "garbage": b"\xff\xfe\x00garbage",
    "a list": b"[]",
    "nested without end": b"[" * 200_000,
    "a panic of its code": with_vocabulary(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    ),
    "a broken expression": with_vocabulary(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": "("},
            "behavior": "Isolated",
            "invert": False,
        }
    ),
    "ids beyond the table": with_vocabulary(
        model={"type": "WordLevel", "vocab": {"[UNK]": 1, "a": 2**31}, "unk_token": "[UNK]"}
    ),
    "one added token": with_vocabulary(added_tokens=added(1)),
    "an enormous added vocabulary": with_vocabulary(added_tokens=added(300_000)),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_cannot_be_is_refused(whole: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="tokenizer"):
        Bundle.load(planted(whole, tmp_path / "planted", tokenizer=TOKENIZERS[name]))


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("what", ["pipe", "device", "link to a device", "folder"])
def test_what_is_no_file_is_not_read(whole: Path, tmp_path: Path, name: str, what: str) -> None:
    """A pipe without a writer, or /dev/zero, would be read until somebody looks."""
    place = planted(whole, tmp_path / "planted") / name
    place.unlink()
    match what:
        case "pipe":
            os.mkfifo(place)
        case "device":
            if os.geteuid():
                pytest.skip("only root makes devices")
            os.mknod(place, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        case "link to a device":
            place.symlink_to("/dev/zero")
        case _:
            place.mkdir()
    with pytest.raises(BundleError, match=f"{name} is no file"):
        Bundle.load(place.parent)


# --- recipes and contracts ------------------------------------------------------------------------

LAUGHS = "\n".join(
    ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
)
MERGES = "\n".join(
    ["a0: &a0 {k: 1}"]
    + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
)
YAMLS = {
    "billion laughs": (LAUGHS, "more than 100,000 values"),
    "billion merges": (MERGES, "more than 100,000 values"),
    "an alias within itself": ("a: &a [*a]", "within what it names"),
    "nested without end": ("[" * 5000 + "]" * 5000, "deep"),
    "nested mappings": ("{a: " * 5000 + "}" * 5000, "deep"),
    "a key twice": ("name: a\nname: b", "'name' stands twice"),
    "a nested key twice": ("training: {seed: 1, seed: 2}", "'seed' stands twice"),
    "a huge number": ("training: {seed: " + "9" * 5000 + "}", "not a value of its kind"),
    "a number beyond 64 bits": ("training: {seed: 99999999999999999999}", "64 bits"),
    "a limit that is no day": (
        "source: {url: a, window: {start: 2026-13-45, end: 2026-12-01}}",
        "source.window.*a date",
    ),
    "a broken tag": ("name: !!timestamp x", "not a value of its kind"),
    "half a surrogate pair": ('name: "\\ud800"', "surrogate"),
    "a NUL": ('name: "a\\0b"', "NUL"),
    "an object": ("name: !!python/object:os.system {}", "constructor"),
    "control characters": ("name: \x01", "not allowed"),
    "several documents": ("name: a\n---\nname: b", "another document"),
    "too large": ("# " + "x" * 600_000, "larger than"),
    "not finite": (
        "source: {rows: 400}\ntraining: {learning_rate: .inf}",
        "training.learning_rate",
    ),
    "a limit that would fill the memory": (
        "source: {rows: 400}\ncontract: {name: x, text: {max_characters: 1000000000000}}",
        "contract.text.max_characters",
    ),
}


@pytest.mark.parametrize("name", YAMLS)
def test_a_recipe_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    text, message = YAMLS[name]
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "r.yaml")
    if not name.startswith(("not finite", "a limit")):
        (tmp_path / "uses.yaml").write_text("source: {kind: sample}\ncontract: r.yaml\n")
        with pytest.raises(RecipeError, match=message):
            load_recipe(tmp_path / "uses.yaml")


@pytest.mark.parametrize(
    "value", ["../../../../etc/hostname", "a\0b.yaml", "x" * 5000, "/dev/null.yaml", "..", ""]
)
def test_a_contract_s_name_leads_nowhere(tmp_path: Path, value: str) -> None:
    from data_contracts.recipe.reading import parse_recipe

    with pytest.raises(RecipeError):
        parse_recipe(
            {"source": {"kind": "sample"}, "contract": value}, origin="test", base=tmp_path
        )


# --- data -----------------------------------------------------------------------------------------


def parquet(table: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def read(data: bytes, kind: Any = "parquet") -> int:
    ask = Ask(columns=["text", "label"], texts=["text"], categories={"label": None})
    batches = read_batches(io.BytesIO(data), "x", ask, format=kind)
    return sum(len(batch.rows) for batch in batches)


ROWS = pa.table({"text": ["one", "two", "three"] * 50, "label": ["a", "b", "c"] * 50})
FOOTER = parquet(ROWS)
EVERY_ROW = pa.array(range(100_001), pa.int32())
ONE_LONG_TEXT = pa.DictionaryArray.from_arrays(
    pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 1_000_000])
)
PARQUETS = {
    "nothing": b"",
    "garbage": b"PAR1" + os.urandom(100) + b"PAR1",
    "no footer": FOOTER[:-8],
    "half a footer": FOOTER[: len(FOOTER) // 2] + FOOTER[-8:],
    "a footer of 4 GB": FOOTER[:-8] + b"\xff\xff\xff\xff" + b"PAR1",
    "pages of zeros": FOOTER[:4] + b"\0" * 80 + FOOTER[84:],
    "a struct": parquet(pa.table({"text": [{"a": "x"}], "label": ["a"]})),
    "a list of lists": parquet(pa.table({"text": [[["x"]]], "label": ["a"]})),
    "a map": parquet(pa.table({"text": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())), "label": ["a"]})),
    "binary": parquet(pa.table({"text": [b"\xff\xfe"], "label": ["a"]})),
    "a list of lists as a label": parquet(pa.table({"text": ["x"], "label": [[["a"]]]})),
    "one long label in every row's list": parquet(
        pa.table({"text": ["x"] * 100_000, "label": pa.ListArray.from_arrays(EVERY_ROW, ONE_LONG_TEXT)}),
        store_schema=False,
    ),
    "one text in every row": parquet(pa.table({"text": ONE_LONG_TEXT, "label": ["a"] * 100_000}), store_schema=False),
    "one page that expands": parquet(
        pa.table({"text": ["y" * 16_000_000] * 10, "label": ["a"] * 10}), use_dictionary=False, compression="zstd"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARQUETS)
def test_a_parquet_file_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(SourceError):
        read(PARQUETS[name])


def test_lying_row_counts_are_told() -> None:
    """The count of rows in the footer, changed byte by byte: every lie is an error, none a hang or
    another number.
    """
    place = FOOTER.rindex(b"\x19") if b"\x19" in FOOTER else len(FOOTER) - 60
    told = 0
    for at in range(max(4, place - 400), len(FOOTER) - 8):
        data = bytearray(FOOTER)
        data[at] ^= 0x02
        try:
            assert read(bytes(data)) == 150, at
        except SourceError:
            told += 1
    assert told > 20


BOMB = 64 << 20  # bytes when expanded


def bomb(folder: Path, name: str, piece: bytes) -> Path:
    """The same bytes again and again, compressed once: members of gzip and frames of zstd may
    follow each other.
    """
    if name.endswith(".zip"):
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name.removesuffix(".zip"), piece * (BOMB // len(piece)))
        return folder / name
    packs = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.compress,
    }
    (folder / name).write_bytes(packs[Path(name).suffix](piece) * (BOMB // len(piece)))
    return folder / name


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bound of the readers a sixteenth or less of what it is, so that a bomb past it can be
    small.
    """
    for module in (table_packed, table_parquet):
        monkeypatch.setattr(module, "FREE_EXPANSION", 1 << 22)
    for module in (table_csv, table_json):
        monkeypatch.setattr(module, "MAX_LINE_CHARACTERS", 1 << 20)
    monkeypatch.setattr(table_csv, "MAX_CELL_CHARACTERS", 1 << 19)


@pytest.mark.parametrize(
    "name",
    [
        "zeros.csv.gz",
        "zeros.jsonl.gz",
        "zeros.json.xz",
        "zeros.csv.zst",
        "zeros.parquet.gz",
        "zeros.csv.bz2",
        "zeros.csv.xz",
        "zeros.csv.zip",
        "zeros.parquet.zip",
    ],
)
def test_a_bomb_of_zeros_is_refused_in_little_memory(
    tmp_path: Path, narrow: None, name: str
) -> None:
    file = bomb(tmp_path, name, bytes(1 << 20))
    assert file.stat().st_size < BOMB // 500
    with peak_memory() as peak, pytest.raises(SourceError, match=name):
        list(read_rows(FileSource(url=str(file)), scratch=tmp_path))
    assert peak.megabytes < 24, "it was expanded as a whole"


@pytest.mark.parametrize(
    "name", ["rows.csv.gz", "rows.csv.zst", "rows.csv.bz2", "rows.csv.xz", "rows.csv.zip"]
)
def test_a_bomb_of_short_rows_is_refused_for_its_expansion(
    tmp_path: Path, narrow: None, name: str
) -> None:
    file = bomb(tmp_path, name, b"a text that is the same in every row,label\n" * 20_000)
    with peak_memory() as peak, pytest.raises(SourceError, match="expand more than 200 times"):
        collections.deque(read_rows(FileSource(url=str(file)), Ask(batch_rows=1000)), maxlen=0)
    assert peak.megabytes < 24


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


CONTENTS = {"a.csv": b"text,label\na,b\n" * 50}
ZIPS = {
    "nothing": (b"", "is empty"),
    "garbage": (os.urandom(200), "no zip file"),
    "cut short": (zipped(CONTENTS)[:-30], "no zip file"),
    "no member": (zipped({}), "holds no file"),
    "two members": (zipped({**CONTENTS, "b.csv": b""}), r"holds 2 files \(a.csv, b.csv\)"),
    "a zip in it": (zipped({"b.csv.zip": zipped(CONTENTS)}), "does not tell the format"),
    "a rare method": (zipped(CONTENTS, zipfile.ZIP_BZIP2), "a method that is not read"),
    "a name that leads out": (
        zipped({"../../x.csv": b"text,label\na,b\n", "y.csv": b""}),
        "the file is empty",
    ),
    "a wrong checksum": (
        zipped(CONTENTS).replace(b"PK\x01\x02", b"PK\x01\x02", 1)[:20] + b"\xff" * 30,
        "no zip file",
    ),
    "a table of contents without end": (
        zipped({f"{i:0100}.csv": b"" for i in range(20_000)}),
        "table of contents",
    ),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    data, message = ZIPS[name]
    (tmp_path / "x.zip").write_bytes(data)
    with peak_memory() as peak, pytest.raises(SourceError, match=message):
        list(read_rows(FileSource(url=str(tmp_path / "x.zip")), scratch=tmp_path))
    assert peak.megabytes < 24
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"], "nothing is unpacked beside it"


def test_a_zip_with_a_damaged_or_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.csv": os.urandom(3000).hex().encode()}, zipfile.ZIP_STORED))
    data[100] ^= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(SourceError, match="damaged"):
        list(read_rows(FileSource(url=str(tmp_path / "x.zip"))))
    data = bytearray(zipped(CONTENTS))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1  # the flag of encryption
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(SourceError, match="is encrypted"):
        list(read_rows(FileSource(url=str(tmp_path / "x.zip"))))


def test_an_xz_file_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    (tmp_path / "x.csv.xz").write_bytes(lzma.compress(b"text,label\na,b\n", filters=filters))
    with peak_memory() as peak, pytest.raises(SourceError, match=r"[Mm]emory"):
        list(read_rows(FileSource(url=str(tmp_path / "x.csv.xz"))))
    assert peak.megabytes < 24


def test_an_array_that_hides_its_records_is_refused(narrow: None) -> None:
    for data in (
        b'[{"text": "' + b"x" * (1 << 21),
        b"[" * (1 << 21),
        b'[{"text": ' + b"[" * (1 << 21),
        b'{"a":\n' * 200_000,
    ):
        with peak_memory() as peak, pytest.raises(SourceError):
            read(data, "json")
        assert peak.megabytes < 60


def test_the_bounds_are_what_the_documents_say() -> None:
    """The tests above lower them; what a user meets is this."""
    assert (table_batch.MAX_LINE_CHARACTERS, table_batch.MAX_CELL_CHARACTERS) == (1 << 25, 1 << 24)
    assert (table_batch.MAX_EXPANSION, table_batch.FREE_EXPANSION) == (200, 1 << 26)
    assert {table_csv.MAX_LINE_CHARACTERS, table_json.MAX_LINE_CHARACTERS} == {
        table_batch.MAX_LINE_CHARACTERS
    }
    assert {table_packed.FREE_EXPANSION, table_parquet.FREE_EXPANSION} == {
        table_batch.FREE_EXPANSION
    }


def test_a_bomb_of_word_vectors_is_refused(tmp_path: Path) -> None:
    file = bomb(tmp_path, "vectors.gz", bytes(1 << 20))
    table = torch.zeros(2, 3)
    with peak_memory() as peak, pytest.raises(NoisefoldError, match=r"vectors\.gz"):
        load_vectors(table, {"a": 0}, str(file))
    assert peak.megabytes < 24
    (tmp_path / "plain.txt").write_bytes(b"9" * 5000 + b" " + b"9" * 5000 + b"\n")
    with pytest.raises(NoisefoldError, match=r"plain\.txt"):
        load_vectors(torch.zeros(2, 3), {"a": 0}, str(tmp_path / "plain.txt"))


def test_ordinary_repetition_is_read() -> None:
    """Rows that are all the same, within what is free, and rows that shrink thirty times."""
    text = b"text,label\n" + b"the same text in every row,a\n" * 200_000
    plain = decompressed(io.BytesIO(gzip.compress(text)), "gzip", "x")
    assert (
        sum(len(b.rows) for b in read_batches(plain, "x", Ask(["text", "label"]), format="csv"))
        == 200_000
    )


def test_an_endless_line_and_a_wide_file_are_refused() -> None:
    with pytest.raises(SourceError, match=r"field larger|a line of more than"):
        read(b"text,label\n" + b"x" * (1 << 25), "csv")
    with pytest.raises(SourceError, match="a line of more than"):
        read(b'{"text": "' + b"x" * (1 << 25), "jsonl")
    with pytest.raises(SourceError, match="20,000 columns"):
        read(",".join(f"c{i}" for i in range(20_000)).encode() + b"\n", "csv")


@pytest.mark.parametrize(
    "encoding", ["zlib", "base64", "idna", "unicode_escape", "undefined", "a\0b", "nonsense", ""]
)
def test_a_codec_that_is_no_text_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(SourceError, match="no text encoding"):
        list(read_batches(io.BytesIO(b"text,label\na,b\n"), "x", format="csv", encoding=encoding))


LABELS, FACTS = b"noisefold.labels", b"noisefold.facts"
IDS = {"id": ["1"], "log_proba": [[-0.6931471805599453, -0.6931471805599453]]}


@pytest.mark.parametrize(
    "table",
    [
        pa.table(IDS),
        pa.table(IDS).replace_schema_metadata({LABELS: "5"}),
        pa.table(IDS).replace_schema_metadata({LABELS: "[1, 2]"}),
        pa.table(IDS).replace_schema_metadata({LABELS: '["a"]'}),
        pa.table(IDS).replace_schema_metadata({LABELS: '["a", "a"]'}),
        pa.table(IDS).replace_schema_metadata({LABELS: "[" * 100_000}),
        pa.table(IDS).replace_schema_metadata({LABELS: '["a", "b"]', FACTS: '{"bytes": "many"}'}),
        pa.table({"id": [["1"]], "log_proba": ["x"]}).replace_schema_metadata(
            {LABELS: '["a", "b"]'}
        ),
        pa.table({"id": ["1"], "log_proba": [[float("nan")] * 2]}).replace_schema_metadata(
            {LABELS: '["a", "b"]'}
        ),
    ],
)
def test_predictions_of_another_program_that_cannot_be_are_refused(
    tmp_path: Path, table: pa.Table
) -> None:
    pq.write_table(table, tmp_path / "p.parquet")
    recipe = Recipe()
    judge = judge_of(recipe.task, {"labels": ["a", "b"]}, recipe.statistics)
    with pytest.raises(SourceError, match=r"p\.parquet"):
        read_predictions(tmp_path / "p.parquet", judge)
    (tmp_path / "p.parquet").write_bytes(os.urandom(64))
    with pytest.raises(SourceError, match=r"p\.parquet"):
        read_predictions(tmp_path / "p.parquet", judge)


# --- paths and links ------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["in", "in/*.csv", "i*/a.csv"])
def test_a_link_out_of_a_source_folder_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "secret.csv").write_text("text,label\nx,y\n")
    base = tmp_path / "source"
    (base / "in").mkdir(parents=True)
    (base / "in" / "b.csv").write_text("text,label\nx,y\n")
    (base / "in" / "a.csv").symlink_to("b.csv")
    assert list_files(FileSource(url=str(base / pattern)))
    (base / "in" / "a.csv").unlink()
    (base / "in" / "a.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(SourceError, match=r"a\.csv is a link that leads out of it"):
        list_files(FileSource(url=str(base / pattern)))
    assert list_files(FileSource(url=str(base / "in" / "a.csv"))), "who names the link itself may"


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "", "a\\b", "a\0b"]
)
def test_a_manifest_s_files_stay_in_its_folder(store, name: str) -> None:
    def build(workspace):
        (workspace.out / "a.txt").write_text("rows")
        return {
            "digest": "d",
            "rows_in": 1,
            "rows_out": 1,
            "fingerprint": "f",
            "splits": {},
            "source_files": 1,
        }

    made = store.once(RawCorpus, inputs=["x"], config=None, version=1, build=build).manifest
    file = store.open(made) / "manifest.json"
    facts = json.loads(file.read_text())
    facts["files"] = {name: facts["files"]["a.txt"]}
    file.write_text(json.dumps(facts))
    assert store.find(RawCorpus, made.key) is None
    again = store.once(RawCorpus, inputs=["x"], config=None, version=1, build=build)
    assert not again.cached and list(again.manifest.files) == ["a.txt"]


@pytest.mark.parametrize("what", ["file", "folder", "artifact"])
def test_a_link_in_the_store_is_damage(store, tmp_path: Path, what: str) -> None:
    def build(workspace):
        (workspace.out / "parts").mkdir()
        (workspace.out / "parts" / "a.txt").write_text("rows")
        return {
            "digest": "d",
            "rows_in": 1,
            "rows_out": 1,
            "fingerprint": "f",
            "splits": {},
            "source_files": 1,
        }

    made = store.once(RawCorpus, inputs=["x"], config=None, version=1, build=build).manifest
    place = store.open(made)
    place = {"file": place / "parts" / "a.txt", "folder": place / "parts", "artifact": place}[what]
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    again = store.once(RawCorpus, inputs=["x"], config=None, version=1, build=build)
    assert not again.cached
    assert not place.is_symlink() and (tmp_path / "elsewhere").exists(), (
        "what the link led to is not touched"
    )
    assert store.find(RawCorpus, made.key) is not None
