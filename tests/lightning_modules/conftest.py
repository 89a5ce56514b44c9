"""A debug-size corpus: 200 documents, 45 tokens, 3 classes. A model trains on it in a second or
two.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from data_contracts.recipe.sections import ExecutionConfig
from lightning_modules.network.windows import Windowing

LABELS = ("negative", "positive", "neither")
WORDS = ["good", "bad", "table", *(f"word{i}" for i in range(40))]
WINDOWING = Windowing(max_length=12, overlap=3)


def make_tokenizer(words: list[str]) -> bytes:
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def write_tokens(folder: Path, tokenizer_json: bytes, rows: dict[str, int], seed: int = 0) -> None:
    """Documents of 1 to 20 words; "good" and "bad" decide the label, "table" stands where neither
    does.
    """
    rng, tokenizer = random.Random(seed), Tokenizer.from_buffer(tokenizer_json)
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("window", pa.int32()),
            ("input_ids", pa.list_(pa.int32())),
            ("length", pa.int32()),
            ("label", pa.int32()),
        ]
    )
    for split, count in rows.items():
        table: list[dict[str, Any]] = []
        for row in range(count):
            label = rng.randrange(3)
            words = [*rng.choices(WORDS[3:], k=rng.randrange(20)), ("bad", "good", "table")[label]]
            rng.shuffle(words)
            ids = tokenizer.encode(" ".join(words)).ids
            for window, part in enumerate(WINDOWING.cut(ids)):
                cells = {"window": window, "input_ids": part, "length": len(part), "label": label}
                table.append({"id": f"{split}-{row}", **cells})
        pq.write_table(
            pa.Table.from_pylist(table, schema=schema),
            folder / f"{split}.parquet",
            row_group_size=64,
        )


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    return make_tokenizer(WORDS)


@pytest.fixture(scope="session")
def token_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: bytes) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, tokenizer_json, {"train": 200, "valid": 60, "test": 60})
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    return folder


@pytest.fixture(scope="session")
def arguments(token_folder: Path) -> Mapping[str, Any]:
    """What a job is told of the corpus. Shared by all tests, so it cannot be written to."""
    return MappingProxyType(
        {
            "tokens": token_folder,
            "vocab_size": 2 + len(WORDS),
            "facts": {"labels": list(LABELS)},
            "windowing": WINDOWING,
            "execution": ExecutionConfig(accelerator="cpu", checkpoint_every_steps=5),
        }
    )
