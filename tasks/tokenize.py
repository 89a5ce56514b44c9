"""tokenize: validated documents → token windows in Parquet, and the tokenizer that made them.

What of a row is text, and which columns stand beside its tokens, the kind's objective says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Tokenizer as HFTokenizer

from data_contracts.artifacts import TokenDataset, ValidatedCorpus
from data_contracts.contract.contract import SPLITS, DataContract, Split
from data_contracts.contract.frames import joined
from data_contracts.contract.text import text_hash
from data_contracts.errors import RecipeError
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.tokenizer import (
    ByteTokenizer,
    CharacterTokenizer,
    FileTokenizer,
    ModelTokenizer,
    Tokenizer,
)
from lightning_modules.network.tokenizer import special_ids, surrounding_ids
from lightning_modules.network.windows import Windowing
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import RowDigest, digest_of
from tasks.progress import report, tell
from tasks.stage import Here, RunContext, stage
from tasks.vocabulary import load_given, train_tokenizer

if TYPE_CHECKING:
    from lightning_modules.kinds.base import Objective

# Hashes of the texts that a model learns from: of TokenDataset, of TrainedModel (with its
# teacher's), and of the teacher itself in Lessons.
TRAIN_TEXTS, SEEN_TEXTS, TEACHER_TEXTS = "train_texts.npy", "seen_texts.npy", "teacher_texts.npy"
UNKNOWN_LIMIT = 0.2  # share of a split's tokens from which a person is told
_BATCH = 10_000
_BATCH_BYTES = 1 << 20  # a token and what the tokenizer notes about it take some 200 bytes


def _tell(tokens: TokenDataset, run: RunContext) -> None:
    for sentence in tokens.warnings:
        tell("tokenize", sentence)


@stage(TokenDataset, version=2, shaped_by=("task.kind", "tokenizer", "window"), tell=_tell)
def tokenize(here: Here, corpus: ValidatedCorpus) -> dict[str, Any]:
    """Train the tokenizer on the train split only, and write every split as token windows.

    A document longer than `window.max_length` becomes several overlapping windows: nothing is cut.
    Safe to repeat.
    Effects: Parquet below the store's key, manifest last.
    Raises:
        RecipeError: where a given tokenizer.json cannot be used.
        NoisefoldError: where the train split yields no vocabulary.
    """
    # Here: a rerun that finds everything done loads no torch.
    from lightning_modules.kinds.base import objective_of

    recipe, folder = here.recipe, here.open(corpus)
    objective = objective_of(recipe.task, corpus.facts)
    rows = ValidatedRows(folder, recipe.contract)
    if isinstance(recipe.tokenizer, FileTokenizer):
        tokenizer = load_given(recipe.tokenizer, recipe.window, lossless=recipe.task.lossless)
    elif isinstance(recipe.tokenizer, ModelTokenizer):
        # The run puts its file in place of it (`tasks.start.with_tokenizer_of`).
        raise RecipeError(
            "tokenizer.kind model: the model that training.warm_start names was not fetched.",
            "Fetch it first: noisefold retrain and compare do.",
        )
    else:

        def texts() -> Iterator[list[str]]:
            return (list(objective.texts(some)) for some in rows.of("train"))

        tokenizer = train_tokenizer(recipe.tokenizer, texts)
    if recipe.task.lossless:
        # As `load_lossless` has it, by which the model is served: "[EOS]" in a text is text.
        tokenizer.encode_special_tokens = True
    return write_tokens(tokenizer, objective, rows, recipe, here.out, corpus.rows_out)


@dataclass(frozen=True)
class ValidatedRows:
    """The validated rows, batch by batch, with what a kind reads of them."""

    folder: Path
    contract: DataContract

    def batches(self) -> Iterator[pa.Table]:
        columns = ["id", *(role.name for role in self.contract.roles), "split"]
        return read_parts(self.folder / "corpus", _BATCH, columns, _BATCH_BYTES)

    def of(self, split: Split) -> Iterator[pa.Table]:
        for batch in self.batches():
            yield batch.filter(pc.equal(batch["split"], split))

    def hashes(self, rows: pa.Table) -> np.ndarray:
        """Of what may stand in one split alone, uint64 (N,): the text, or what the kind says."""
        return text_hashes(joined(self.contract.kept_apart, rows))


@dataclass
class Counts:
    """What a split came to, added up over its batches."""

    digest: RowDigest
    documents: int = 0
    written: int = 0  # of these, such as have a row
    tokens: int = 0
    unknown: int = 0
    long: int = 0  # documents of several windows
    hashes: list[np.ndarray] = field(default_factory=list)

    def add(self, rows: pa.Table, table: pa.Table, windowing: Windowing) -> None:
        self.digest.update(table)
        self.documents += rows.num_rows
        self.written += pc.sum(pc.equal(table["window"], 0)).as_py() or 0
        ids = pc.list_flatten(table["input_ids"])
        self.tokens += len(ids)
        self.unknown += pc.sum(pc.equal(ids, windowing.unknown_id)).as_py() or 0
        # One token may have both roles.
        around = (*windowing.prefix_ids, *windowing.suffix_ids)
        self.unknown -= table.num_rows * around.count(windowing.unknown_id)
        self.long += pc.sum(pc.equal(table["window"], 1)).as_py() or 0


def write_tokens(
    tokenizer: HFTokenizer,
    objective: Objective,
    rows: ValidatedRows,
    recipe: Recipe,
    out: Path,
    total: int,
) -> dict[str, Any]:
    """Encode the corpus of `total` rows batch by batch; returns the manifest's own fields."""
    from lightning_modules.kinds.base import TOKENS

    tokenizer_json = tokenizer.to_str().encode()
    (out / "tokenizer.json").write_bytes(tokenizer_json)
    tokenizer_digest = hashlib.sha256(tokenizer_json).hexdigest()
    schema = pa.schema([*TOKENS, *objective.token_schema]).with_metadata(
        {
            "noisefold.tokenizer": tokenizer_digest,
            "noisefold.facts": json.dumps(objective.facts, ensure_ascii=False),
        }
    )
    windowing = windowing_of(tokenizer, recipe)
    digested = ["id", "window", "input_ids", *objective.token_schema.names]
    counts = {split: Counts(RowDigest(digested)) for split in SPLITS}
    beside = objective.beside(rows.batches(), out)
    writers = {
        split: pq.ParquetWriter(out / f"{split}.parquet", schema, compression="zstd")
        for split in SPLITS
    }
    try:
        for batch in rows.batches():
            for split in SPLITS:
                some = batch.filter(pc.equal(batch["split"], split))
                if not some.num_rows:
                    continue
                table = objective.encode(some, tokenizer, windowing).cast(schema)
                writers[split].write_table(table)
                counts[split].add(some, table, windowing)
                if split == "train":
                    counts[split].hashes.append(rows.hashes(some))
            report("tokenize", sum(one.documents for one in counts.values()), total)
    finally:
        for writer in writers.values():
            writer.close()
    # Which texts the model will have seen: a later promotion leaves them out of its comparison.
    seen = np.unique(np.concatenate([np.zeros(0, np.uint64), *counts["train"].hashes]))
    np.save(out / TRAIN_TEXTS, seen, allow_pickle=False)
    digests = [one.digest.hexdigest() for one in counts.values()]
    facts = list(objective.facts.values())
    made = [] if beside is None else [beside]
    tokens = sum(one.tokens for one in counts.values())
    shares = {split: one.unknown / max(1, one.tokens) for split, one in counts.items()}
    return {
        "digest": digest_of(digests, tokenizer_digest, *facts, *made, windowing.max_length),
        "rows_in": total,
        "rows_out": sum(one.digest.rows for one in counts.values()),
        "facts": objective.facts,
        "splits": {split: one.documents for split, one in counts.items()},
        "windows": {split: one.digest.rows for split, one in counts.items()},
        "tokens": tokens,
        "vocab_size": tokenizer.get_vocab_size(),
        "windowing": asdict(windowing),
        "tokenizer_digest": tokenizer_digest,
        "over_length_share": sum(one.long for one in counts.values()) / max(1, total),
        "unknown_share": sum(one.unknown for one in counts.values()) / max(1, tokens),
        "unknown_shares": shares,
        "warnings": (
            *left_out_warning(counts, windowing.max_length),
            *unknown_warning(shares, recipe.tokenizer, tokenizer.get_vocab_size()),
        ),
    }


def left_out_warning(counts: Mapping[str, Counts], max_length: int) -> tuple[str, ...]:
    """A sentence where a kind learns nothing of documents that are longer than a window."""
    some = [
        f"{one.documents - one.written:,} of {one.documents:,} documents of {split}"
        for split, one in counts.items()
        if one.documents > one.written
    ]
    if not some:
        return ()
    return (
        f"Longer than window.max_length ({max_length} tokens), {' and '.join(some)} are left out "
        "of training. A larger window takes them in, and more memory.",
    )


def windowing_of(tokenizer: HFTokenizer, recipe: Recipe) -> Windowing:
    """How this recipe cuts what this tokenizer gives; special tokens are a given tokenizer's."""
    prefix, suffix = (), ()
    if isinstance(recipe.tokenizer, FileTokenizer) and recipe.window.special_tokens:
        prefix, suffix = surrounding_ids(tokenizer)
    unknown = special_ids(tokenizer)[1]
    return Windowing(recipe.window.max_length, recipe.window.overlap, prefix, suffix, unknown)


def unknown_warning(
    shares: dict[str, float], config: Tokenizer, vocab_size: int
) -> tuple[str, ...]:
    """A sentence where the vocabulary does not know the texts, so that they all look the same to
    the model.
    """
    high = [
        f"{share:.0%} of the tokens of {split}"
        for split, share in shares.items()
        if share > UNKNOWN_LIMIT
    ]
    if not high or isinstance(config, CharacterTokenizer | ByteTokenizer):
        return ()
    if isinstance(config, FileTokenizer | ModelTokenizer):
        remedy = (
            "Give a tokenizer of this language (tokenizer.path), or a vocabulary of your own: "
            "tokenizer.kind: bpe."
        )
    else:
        remedy = "tokenizer.kind: bpe knows every text."
        if config.min_frequency > 1:
            lower = f"A lower tokenizer.min_frequency (it is {config.min_frequency})"
            remedy += f" {lower} keeps rarer tokens."
        if vocab_size >= config.vocab_size:
            size = f"tokenizer.vocab_size {config.vocab_size:,}"
            remedy += f" The vocabulary is full: {size} may be raised."
    return (
        f"The vocabulary does not know {' and '.join(high)}: to the model they are all the same. "
        f"{remedy}",
    )


def text_hashes(texts: Sequence[str]) -> np.ndarray:
    """`text_hash` of each text, as uint64 (N,)."""
    return np.fromiter(map(text_hash, texts), np.uint64, len(texts))
