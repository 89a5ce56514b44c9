"""Long texts take no more memory than short ones: batches are bounded by characters and bytes as
well as by rows.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_contracts.artifacts import RawCorpus, ValidatedCorpus
from data_contracts.kinds.classify_contract import ClassifyContract
from data_contracts.recipe.source import FileSource
from data_contracts.recipe.tokenizer import WordTokenizer
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.network.batching import cut
from lightning_modules.network.network import build_network
from lightning_modules.network.windows import Windowing
from tasks.artifacts.parquet_parts import PART_BYTES, PartWriter, read_parts, row_bytes
from tasks.artifacts.store import ArtifactStore, RowDigest
from tasks.vocabulary import blank_tokenizer
from tests.memory import peak_memory
from tests.stages import fingerprint, ingest_source, tokenize_corpus, validate_corpus

CHARACTERS = 20_000  # a text, as the contract allows them unless it says otherwise
HAN = "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生"


def long_texts(rows: int, words: str | list[str], between: str) -> list[str]:
    """Each of its own: a run of words that starts somewhere else."""
    rng = random.Random(0)
    long = between.join(rng.choices(words, k=2 * CHARACTERS))
    return [
        long[start : start + CHARACTERS]
        for start in (rng.randrange(CHARACTERS) for _ in range(rows))
    ]


def write_csv(path: Path, texts: list[str]) -> FileSource:
    lines = (f"{text},{'ab'[number % 2]}\n" for number, text in enumerate(texts))
    path.write_text("text,label\n" + "".join(lines), encoding="utf-8")
    return FileSource(url=str(path))


def stages(
    store: ArtifactStore, source: FileSource
) -> tuple[RawCorpus, ValidatedCorpus, float, float]:
    lax = {"splits": {"min_rows": 1}, "max_quarantine_share": 1.0, "duplicates": {"max_share": 1.0}}
    contract = ClassifyContract.model_validate({"name": "long", **lax})
    with peak_memory() as ingesting:
        raw = ingest_source(
            source, contract, fingerprint(source), store, batch_rows=50_000
        ).manifest
    with peak_memory() as validating:
        corpus = validate_corpus(raw, contract, store, batch_rows=50_000).manifest
    return raw, corpus, ingesting.megabytes, validating.megabytes


def test_ingest_and_validate(store: ArtifactStore, tmp_path: Path) -> None:
    """50 million characters, which took 300 megabytes and more in one part."""
    words = ["parcel", "arrived", "monday", "screen", "battery", "shop"]
    few = write_csv(tmp_path / "few.csv", long_texts(20, words, " "))
    stages(store, few)  # what is imported and kept for later is no part of it
    many = write_csv(tmp_path / "many.csv", long_texts(2500, words, " "))
    raw, corpus, ingesting, validating = stages(store, many)
    assert raw.rows_out == 2500 and corpus.rows_out > 2000
    assert ingesting < 150 and validating < 200, (ingesting, validating)


@pytest.fixture(scope="module")
def han() -> list[str]:
    return long_texts(60, HAN, "")


def test_tokenize(store: ArtifactStore, tmp_path: Path, han: list[str]) -> None:
    """1.2 million tokens, of each of which the tokenizer notes some 200 bytes."""
    _, few, _, _ = stages(store, write_csv(tmp_path / "few.csv", han[:20]))
    tokenize_corpus(few, WordTokenizer(), store)
    _, corpus, _, _ = stages(store, write_csv(tmp_path / "many.csv", han))
    with peak_memory() as peak:
        tokens = tokenize_corpus(corpus, WordTokenizer(), store).manifest
    assert tokens.tokens > 1_000_000
    assert peak.megabytes < 150


def test_predict(tmp_path: Path, han: list[str]) -> None:
    tokenizer, trainer = blank_tokenizer(WordTokenizer())
    tokenizer.train_from_iterator(han[:2], trainer)
    sizes = {"vocab_size": tokenizer.get_vocab_size(), "embedding_dim": 4, "num_classes": 2}
    network = build_network({**sizes, "encoder": {"kind": "tanh", "hidden_size": 4}})
    json = tokenizer.to_str().encode()
    windowing = Windowing(256, 32)
    save_bundle(
        tmp_path,
        network,
        tokenizer_json=json,
        facts={"labels": ["a", "b"], "temperature": 1.0},
        windowing=windowing,
    )
    bundle = Bundle.load(tmp_path)
    few = predict_proba(bundle, han[:10])
    with peak_memory() as peak:
        many = predict_proba(bundle, han)
    assert np.abs(many[:10] - few).max() < 1e-6
    assert peak.megabytes < 200


def test_parts_and_batches_are_cut_by_bytes_and_hold_every_row_in_order(tmp_path: Path) -> None:
    texts = [str(number) * (1 + number % 7 * 40_000) for number in range(200)]
    table = pa.table(
        {"id": pa.array([str(number) for number in range(200)]), "text": pa.array(texts)}
    )
    with PartWriter(tmp_path, table.schema, 50_000) as parts:
        for first in range(0, 200, 20):
            parts.write(table.slice(first, 20))
    assert parts.parts > 1
    read = list(read_parts(tmp_path, 50_000, batch_bytes=1 << 20))
    assert pa.concat_tables(read).equals(table)
    assert all(row_bytes(one).sum() <= 1 << 20 or one.num_rows == 1 for one in read)
    digests = []
    for pieces in ([table], read):
        digest = RowDigest(["id", "text"])
        for piece in pieces:
            digest.update(piece)
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1], "how rows are cut changes no digest"
    assert table.nbytes > PART_BYTES


def test_cut_covers_all_and_keeps_within_both_bounds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = rng.integers(0, 12, rng.integers(0, 30))
        most, rows = int(rng.integers(1, 20)), int(rng.integers(1, 6))
        slices = list(cut(sizes, most, rows))
        assert [place for one in slices for place in range(one.start, one.stop)] == list(
            range(len(sizes))
        )
        for one in slices:
            assert one.stop - one.start <= rows
            assert sizes[one].sum() <= most or one.stop - one.start == 1
