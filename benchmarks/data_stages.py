"""CPU time of ingest, validate and tokenize beside the same work by bare libraries, in turn in one
process, one thread each.

    python -m benchmarks.data_stages [--only ag_news,thucnews] [--rows 40000] [--rounds 5]

The rows are the first of a public data set's train.csv. The peers do less: pyarrow copies CSV to
Parquet and draws no split, makes no ids and no digest; pyarrow and pandas check, find repeats and
leaks and write kept and bad rows, and make no digest and no report; Hugging Face's tokenizers
encode with the stage's own tokenizer.json and write Parquet, and train no vocabulary.
A ratio is of one round; told are the median and the range over the rounds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

# Before any of them is imported.
os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"

import great_expectations.expectations  # noqa: F401 - its import is no part of a rate
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from data_contracts.contract.contract import parse_contract
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.source import FileSource
from data_contracts.recipe.tokenizer import WordTokenizer
from lightning_modules.network.windows import encoded
from tasks.artifacts.store import ArtifactStore
from tasks.ingest import ingest, survey
from tasks.settings import Settings
from tasks.stage import RunContext
from tasks.tokenize import tokenize
from tasks.tracking.runs import Tracker
from tasks.validate import validate
from tasks.vocabulary import blank_tokenizer, train_tokenizer

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "data"
SPLITS = ("train", "valid", "test")


def text(name: str) -> pa_csv.ConvertOptions:
    return pa_csv.ConvertOptions(column_types=dict.fromkeys(("text", name), pa.string()))


def bare_ingest(source: Path, out: Path) -> None:
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    read = pa_csv.ReadOptions(use_threads=False, block_size=1 << 24)
    reader = pa_csv.open_csv(source, read, parse, text("label"))
    with reader, pq.ParquetWriter(out, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def bare_validate(raw: Path, out: Path) -> None:
    table = pq.read_table(sorted(raw.glob("part-*.parquet")), use_threads=False)
    texts = table["text"]
    visible = pc.utf8_length(pc.utf8_trim_whitespace(texts))
    bad = pc.or_(pc.equal(visible, 0), pc.greater(pc.utf8_length(texts), 20_000))
    bad = pc.or_(bad, pc.greater(pc.count_substring(texts, "\ufffd"), 0))
    bad = pc.or_(pc.fill_null(bad, True), pc.is_null(table["label"])).to_numpy()
    normal = pc.utf8_lower(pc.utf8_normalize(texts, "NFKC"))
    normal = pc.utf8_trim_whitespace(pc.replace_substring_regex(normal, r"\s+", " "))
    hashes = pd.util.hash_array(normal.to_numpy(), categorize=False)
    ids = pd.Series(pd.util.hash_array(table["id"].to_numpy(), categorize=False))
    split = pc.index_in(table["split"], value_set=pa.array(SPLITS)).to_numpy().astype(np.int8)
    frame = pd.DataFrame({"hash": hashes, "split": split})
    leaked = split < frame.groupby("hash")["split"].transform("max").to_numpy()
    bad = bad | frame.duplicated().to_numpy() | leaked | ids.duplicated().to_numpy()
    kept = table.filter(pa.array(~bad)).select(["id", "text", "label", "split"])
    pq.write_table(kept, out / "kept.parquet", compression="zstd")
    pq.write_table(table.filter(pa.array(bad)), out / "bad.parquet", compression="zstd")


def bare_tokenize(corpus: Path, tokenizer: Tokenizer, out: Path) -> None:
    for part in sorted(corpus.glob("part-*.parquet")):
        table = pq.read_table(part, use_threads=False)
        given = table["text"].to_pylist()
        ids = [one.ids for one in tokenizer.encode_batch(given, add_special_tokens=False)]
        columns = [table["id"], pa.array(ids, pa.list_(pa.int32())), table["label"]]
        encoded = pa.table(columns, names=["id", "input_ids", "label"])
        pq.write_table(encoded, out / part.name, compression="zstd")


def one_round(name: str, rows: int) -> Iterator[tuple[str, int, float, float]]:
    """Of each stage its rows, its CPU seconds and its peer's."""
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        given = pa_csv.read_csv(
            DATA / name / "train.csv",
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=text("label"),
        )
        source = folder / "rows.csv"
        pa_csv.write_csv(given.slice(0, rows), source)
        store = ArtifactStore(str(folder / "artifacts"), folder / "work")
        asked = FileSource(url=str(source))
        contract = parse_contract({"name": name}, origin="benchmark")
        recipe = Recipe().model_copy(update={"source": asked, "contract": contract})
        run = RunContext(recipe, Settings(), store, cast(Tracker, None))
        raw, ours = timed(lambda: ingest.make(run, survey(asked)).manifest)
        rows = raw.rows_in
        yield "ingest", rows, ours, timed(lambda: bare_ingest(source, folder / "x.parquet"))[1]
        corpus, ours = timed(lambda: validate.make(run, raw).manifest)
        yield "validate", rows, ours, timed(lambda: bare_validate(store.open(raw), folder))[1]
        tokens, ours = timed(lambda: tokenize.make(run, corpus).manifest)
        tokenizer = Tokenizer.from_file(str(store.open(tokens) / "tokenizer.json"))
        validated = store.open(corpus) / "corpus"
        peer = timed(lambda: bare_tokenize(validated, tokenizer, folder))[1]
        yield "tokenize, its vocabulary's training included", rows, ours, peer
        texts = pq.read_table(validated, columns=["text"])["text"].to_pylist()
        for what, short, long in word_tokenizer(tokenizer, texts):
            some = min(5_000, len(texts)) if "one by one" in what else len(texts)
            yield what, some, timed(short)[1], timed(long)[1]


def word_tokenizer(
    tokenizer: Tokenizer, texts: list[str]
) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """The short cut of the word tokenizer, and the same by tokenizers alone."""
    config = WordTokenizer()

    def trained() -> None:
        blank, trainer = blank_tokenizer(config)
        blank.train_from_iterator([texts], trainer)

    def one_by_one() -> None:
        for one in texts[:5_000]:
            tokenizer.encode(one, add_special_tokens=False)

    yield (
        "word tokenizer: training it",
        lambda: train_tokenizer(config, lambda: iter([texts])),
        trained,
    )
    yield (
        "word tokenizer: encoding",
        lambda: encoded(tokenizer, texts),
        lambda: tokenizer.encode_batch(texts, add_special_tokens=False),
    )
    yield (
        "word tokenizer: 5,000 texts one by one",
        lambda: [encoded(tokenizer, [one]) for one in texts[:5_000]],
        one_by_one,
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    return work(), time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="ag_news,thucnews")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    print("| data set | stage | rows | rows a CPU second | peer | stage ÷ peer in CPU | range |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name in options.only.split(","):
        for _ in one_round(name, 1_000):  # what is imported late
            pass
        rounds = [list(one_round(name, options.rows)) for _ in range(options.rounds)]
        for parts in zip(*rounds, strict=True):
            ours, peer = (np.array([part[at] for part in parts]) for at in (2, 3))
            ratio, rates = ours / peer, [parts[0][1] / np.median(one) for one in (ours, peer)]
            print(
                f"| {name} | {parts[0][0]} | {parts[0][1]:,} | {rates[0]:,.0f} | {rates[1]:,.0f} "
                f"| {np.median(ratio):.2f} | {ratio.min():.2f} to {ratio.max():.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
