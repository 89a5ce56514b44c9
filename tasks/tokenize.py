"""tokenize: validated documents → token windows in Parquet, and the tokenizer that made them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as HFTokenizer

from data_contracts.artifacts import TokenDataset, ValidatedCorpus
from data_contracts.contract.contract import SPLITS
from data_contracts.contract.text import CLUSTERS, UNSPACED, text_hash
from data_contracts.errors import NoisefoldError, RecipeError
from data_contracts.recipe.recipe import (
    BpeTokenizer,
    FileTokenizer,
    Tokenizer,
    TrainedTokenizer,
    WordPieceTokenizer,
)
from lightning_modules.network.tokenizer import (
    BundleError,
    load_tokenizer,
    special_ids,
    surrounding_ids,
)
from lightning_modules.network.windows import Windowing
from lightning_modules.starting.files import read_tokenizer
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import RowDigest, digest_of
from tasks.progress import report, tell
from tasks.stage import Here, RunContext, stage

SPECIAL_TOKENS = ["[PAD]", "[UNK]"]  # ids 0 and 1
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("window", pa.int32()),
        ("input_ids", pa.list_(pa.int32())),
        ("length", pa.int32()),
        ("label", pa.int32()),
    ]
)
# Hashes of the texts that a model learns from: of TokenDataset, of TrainedModel (with its teacher's), and of the
# teacher itself in Lessons.
TRAIN_TEXTS, SEEN_TEXTS, TEACHER_TEXTS = "train_texts.npy", "seen_texts.npy", "teacher_texts.npy"
UNKNOWN_LIMIT = 0.2  # share of a split's tokens from which a person is told
_LONGEST_WORD = 100  # characters; WordPiece takes a longer one for unknown as a whole
_BATCH = 10_000
_BATCH_BYTES = 1 << 20  # a token and what the tokenizer notes about it take some 200 bytes


def _tell(tokens: TokenDataset, run: RunContext) -> None:
    run.tracker.log_metrics(
        {
            "tokens/total": tokens.tokens,
            "tokens/vocab_size": tokens.vocab_size,
            "tokens/windows": tokens.rows_out,
            "tokens/over_length_share": tokens.over_length_share,
            "tokens/unknown_share": tokens.unknown_share,
            **{
                f"tokens/unknown_share_{split}": share
                for split, share in tokens.unknown_shares.items()
            },
        }
    )
    for sentence in tokens.warnings:
        tell("tokenize", sentence)


@stage(TokenDataset, version=2, shaped_by=("tokenizer",), tell=_tell)
def tokenize(here: Here, corpus: ValidatedCorpus) -> dict[str, Any]:
    """Train the tokenizer on the train split only, and write every split as token windows.

    A document longer than `max_length` becomes several overlapping windows: nothing is cut. Safe to repeat.
    Effects: Parquet below the store's key, manifest last; its counts as `tokens/…` in the MLflow run.
    Raises:
        RecipeError: where a given tokenizer.json cannot be used.
        NoisefoldError: where the train split yields no vocabulary.
    """
    config, folder = here.recipe.tokenizer, here.open(corpus)
    if isinstance(config, FileTokenizer):
        tokenizer = load_given(read_tokenizer(config.path), config)
    else:
        tokenizer = train_tokenizer(config, folder)
    return write_tokens(tokenizer, corpus, folder, config, here.out)


def write_tokens(
    tokenizer: HFTokenizer, corpus: ValidatedCorpus, folder: Path, config: Tokenizer, out: Path
) -> dict[str, Any]:
    """Encode the corpus batch by batch; returns the manifest's facts."""
    tokenizer_json = tokenizer.to_str().encode()
    (out / "tokenizer.json").write_bytes(tokenizer_json)
    tokenizer_digest = hashlib.sha256(tokenizer_json).hexdigest()
    metadata = {
        "noisefold.tokenizer": tokenizer_digest,
        "noisefold.labels": "\x1f".join(corpus.labels),
    }
    schema = SCHEMA.with_metadata(metadata)
    unknown = special_ids(tokenizer)[1]
    given = isinstance(config, FileTokenizer)
    prefix, suffix = surrounding_ids(tokenizer) if given and config.special_tokens else ((), ())
    windowing = Windowing(config.max_length, config.overlap, prefix, suffix, unknown)
    class_of = {label: index for index, label in enumerate(corpus.labels)}
    digests = {split: RowDigest(["id", "window", "input_ids", "label"]) for split in SPLITS}
    documents = dict.fromkeys(SPLITS, 0)
    tokens, unknowns, long_documents = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0), 0
    train_hashes: list[np.ndarray] = []
    writers = {
        split: pq.ParquetWriter(out / f"{split}.parquet", schema, compression="zstd")
        for split in SPLITS
    }
    try:
        for batch in _batches(folder):
            for split in SPLITS:
                rows = batch.filter(pc.equal(batch["split"], split))
                if not rows.num_rows:
                    continue
                texts = rows["text"].to_pylist()
                table = _windows(tokenizer, texts, rows, class_of, windowing.cut).cast(schema)
                writers[split].write_table(table)
                digests[split].update(table)
                documents[split] += rows.num_rows
                ids = pc.list_flatten(table["input_ids"])
                tokens[split] += len(ids)
                unknowns[split] += pc.sum(pc.equal(ids, unknown)).as_py() or 0
                unknowns[split] -= table.num_rows * [*prefix, *suffix].count(
                    unknown
                )  # one token may have both roles
                long_documents += pc.sum(pc.equal(table["window"], 1)).as_py() or 0
                if split == "train":
                    train_hashes.append(text_hashes(texts))
            report("tokenize", sum(documents.values()), corpus.rows_out)
    finally:
        for writer in writers.values():
            writer.close()
    # Which texts the model will have seen: a later promotion leaves them out of its comparison.
    np.save(out / TRAIN_TEXTS, np.unique(np.concatenate(train_hashes)), allow_pickle=False)
    shares = {split: unknowns[split] / max(1, tokens[split]) for split in SPLITS}
    return {
        "digest": digest_of(
            [d.hexdigest() for d in digests.values()],
            tokenizer_digest,
            corpus.labels,
            config.max_length,
        ),
        "rows_in": corpus.rows_out,
        "rows_out": sum(digest.rows for digest in digests.values()),
        "labels": corpus.labels,
        "splits": documents,
        "windows": {split: digest.rows for split, digest in digests.items()},
        "tokens": sum(tokens.values()),
        "vocab_size": tokenizer.get_vocab_size(),
        "windowing": asdict(windowing),
        "tokenizer_digest": tokenizer_digest,
        "over_length_share": long_documents / max(1, corpus.rows_out),
        "unknown_share": sum(unknowns.values()) / max(1, sum(tokens.values())),
        "unknown_shares": shares,
        "warnings": unknown_warning(shares, config, tokenizer.get_vocab_size()),
    }


def unknown_warning(
    shares: dict[str, float], config: Tokenizer, vocab_size: int
) -> tuple[str, ...]:
    """A sentence where the vocabulary does not know the texts, so that they all look the same to the model."""
    high = [
        f"{share:.0%} of the tokens of {split}"
        for split, share in shares.items()
        if share > UNKNOWN_LIMIT
    ]
    if not high:
        return ()
    if isinstance(config, FileTokenizer):
        remedy = "Give a tokenizer of this language (tokenizer.path), or a vocabulary of your own: tokenizer.kind: bpe."
    else:
        remedy = "tokenizer.kind: bpe knows every text."
        if config.min_frequency > 1:
            remedy += f" A lower tokenizer.min_frequency (it is {config.min_frequency}) keeps rarer tokens."
        if vocab_size >= config.vocab_size:
            remedy += f" The vocabulary is full: tokenizer.vocab_size {config.vocab_size:,} may be raised."
    return (
        f"The vocabulary does not know {' and '.join(high)}: to the model they are all the same. {remedy}",
    )


def _windows(
    tokenizer: HFTokenizer,
    texts: list[str],
    rows: pa.Table,
    class_of: dict[str, int],
    cut: Callable[[list[int]], list[list[int]]],
) -> pa.Table:
    ids, labels = rows["id"].to_pylist(), rows["label"].to_pylist()
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    for identity, label, encoding in zip(ids, labels, encodings, strict=True):
        for window, input_ids in enumerate(cut(encoding.ids)):
            columns["id"].append(identity)
            columns["window"].append(window)
            columns["input_ids"].append(input_ids)
            columns["length"].append(len(input_ids))
            columns["label"].append(class_of[label])
    return pa.table(columns, schema=SCHEMA)


def train_tokenizer(config: Tokenizer, folder: Path) -> HFTokenizer:
    """Train on the texts of the train split alone, so that validation and test stay unseen."""
    assert isinstance(config, TrainedTokenizer)
    tokenizer, trainer = blank_tokenizer(config)
    if isinstance(config, WordPieceTokenizer):
        _train_wordpiece(tokenizer, config, folder)
    else:
        tokenizer.train_from_iterator(_train_texts(folder), trainer)
    if tokenizer.get_vocab_size() <= len(SPECIAL_TOKENS):
        raise NoisefoldError(
            f"The {config.kind} tokenizer found no token that occurs {config.min_frequency} times in the train split.",
            "Lower tokenizer.min_frequency or give more rows.",
        )
    return tokenizer


def _train_wordpiece(tokenizer: HFTokenizer, config: WordPieceTokenizer, folder: Path) -> None:
    """The same vocabulary from the same texts, which its trainer by itself does not give.

    It numbers characters within a word (##a) as a hash map with a random seed yields its words, and breaks ties by
    those numbers. Special tokens it numbers first and in order, so these are such to it, and to the tokenizer no more.
    """
    inner: set[str] = set()
    for texts in _train_texts(folder):
        for text in texts:
            pieces = tokenizer.pre_tokenizer.pre_tokenize_str(
                tokenizer.normalizer.normalize_str(text)
            )
            inner.update(*(piece[1:] for piece, _ in pieces))
    numbered = [*SPECIAL_TOKENS, *(f"##{character}" for character in sorted(inner))]
    trained, _ = blank_tokenizer(config)
    trained.train_from_iterator(
        _train_texts(folder),
        trainers.WordPieceTrainer(**{**_trained_by(config), "special_tokens": numbered}),
    )
    tokenizer.model = models.WordPiece(
        trained.get_vocab(with_added_tokens=False), unk_token="[UNK]"
    )
    tokenizer.add_special_tokens(SPECIAL_TOKENS)


def _trained_by(config: TrainedTokenizer) -> dict[str, Any]:
    """What every trainer is told."""
    return {
        "vocab_size": config.vocab_size,
        "min_frequency": config.min_frequency,
        "special_tokens": SPECIAL_TOKENS,
        "show_progress": False,
    }


def blank_tokenizer(config: TrainedTokenizer) -> tuple[HFTokenizer, trainers.Trainer]:
    lower = [normalizers.Lowercase()] if config.lowercase else []
    common = _trained_by(config)
    if isinstance(config, BpeTokenizer):
        tokenizer = HFTokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *lower])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer, trainers.BpeTrainer(
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **common
        )
    cleaned = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=config.lowercase
    )
    if isinstance(config, WordPieceTokenizer):
        tokenizer = HFTokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), cleaned])
        # Kana stays whole, as in BERT: what is within a run of it, WordPiece finds.
        by_cluster = pre_tokenizers.Split(Regex(CLUSTERS), "isolated")
        in_reach = pre_tokenizers.Split(Regex(rf"\S{{{_LONGEST_WORD}}}"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [by_cluster, pre_tokenizers.BertPreTokenizer(), in_reach]
        )
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer, trainers.WordPieceTrainer(**common)
    tokenizer = HFTokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), cleaned])
    unspaced = pre_tokenizers.Split(Regex(UNSPACED), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([unspaced, pre_tokenizers.BertPreTokenizer()])
    return tokenizer, trainers.WordLevelTrainer(**common)


def load_given(data: bytes, config: FileTokenizer | Any) -> HFTokenizer:
    try:
        tokenizer = load_tokenizer(data)
        prefix, suffix = surrounding_ids(tokenizer)
    except BundleError as error:
        raise RecipeError(
            f"tokenizer.path {config.path}: {error}.",
            "Give a tokenizer.json of Hugging Face tokenizers.",
        ) from None
    special = config.special_tokens * (len(prefix) + len(suffix))
    least = config.overlap + special + 1
    if config.max_length < least:
        raise RecipeError(
            f"tokenizer.max_length is {config.max_length}: {special} special tokens and an overlap of "
            f"{config.overlap} leave no room for a window.",
            f"Set tokenizer.max_length to {least} or more, or lower tokenizer.overlap.",
        )
    return tokenizer


def text_hashes(texts: Sequence[str]) -> np.ndarray:
    """`text_hash` of each text, as uint64 (N,)."""
    return np.fromiter(map(text_hash, texts), np.uint64, len(texts))


def _batches(folder: Path) -> Iterator[pa.Table]:
    return read_parts(folder / "corpus", _BATCH, ["id", "text", "label", "split"], _BATCH_BYTES)


def _train_texts(folder: Path) -> Iterator[list[str]]:
    for batch in _batches(folder):
        yield batch.filter(pc.equal(batch["split"], "train"))["text"].to_pylist()
