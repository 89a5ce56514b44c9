"""Token Parquet -> padded batches: Arrow into flat buffers, no Python loop per row.

The order of an epoch is a function of (seed, epoch) only, so a training that died resumes by skipping what it did.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch
from torch import Tensor

Batch = dict[str, Tensor]
Encode = Callable[[list[str]], tuple[list[list[int]], np.ndarray]]
POOL_BATCHES = 50  # batches sorted by length together: enough to pad little, few enough to keep the order random


class TokenTable:
    """One split in memory: all ids in one flat buffer (4 bytes per token), with the start and length of each row.

    A row is a window; `documents` numbers, from 0, the document that each is of.
    """

    def __init__(self, path: Path, columns: tuple[str, str] = ("input_ids", "label")) -> None:
        ids, target = columns
        table = pq.read_table(path, columns=[*columns, "window"])
        chunks = [chunk.flatten().to_numpy() for chunk in table[ids].chunks]
        lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in table[ids].chunks]
        self.ids = np.concatenate(chunks or [np.empty(0, np.int32)])
        self.lengths = np.concatenate(lengths or [np.empty(0, np.int32)]).astype(np.int64)
        self.labels = table[target].to_numpy().astype(np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        # Windows of a document stand together and count from 0.
        self.documents = np.cumsum(table["window"].to_numpy() == 0) - 1

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_documents(self) -> int:
        return int(self.documents[-1]) + 1 if len(self) else 0

    def digest(self) -> int:
        """Checksum of the rows in their order: a checkpoint belongs to one table."""
        return zlib.crc32(
            self.labels, zlib.crc32(self.lengths, zlib.crc32(np.ascontiguousarray(self.ids)))
        )

    def batch(self, rows: np.ndarray) -> Batch:
        """Rows as input_ids (B, T), lengths (B), labels (B), documents (B); padding is id 0, which no network reads."""
        lengths = self.lengths[rows]
        position = np.arange(lengths.max())
        inside = position < lengths[:, None]
        at = self.starts[rows, None] + position
        ids = np.zeros(at.shape, dtype=np.int64)
        ids[inside] = self.ids[at[inside]]
        return {
            "input_ids": torch.from_numpy(ids),
            "lengths": torch.from_numpy(lengths),
            "labels": torch.from_numpy(self.labels[rows]),
            "documents": torch.from_numpy(self.documents[rows]),
        }


class TaughtTable(TokenTable):
    """The train split, and texts made up from it that a teacher alone has labelled.

    Its batches also have `targets` (B, C), the distributions to learn: of a made-up text the teacher's, of a row of the
    split the teacher's with weight `weight`, its label with the rest. Every window of a document has the document's.

    Args:
        lessons: Parquet of id, variant (0: the row itself), text, log_proba.
        encode: texts -> windows of token ids, and for each window the index of its text.
    """

    def __init__(
        self, path: Path, lessons: Path, encode: Encode, *, num_classes: int, weight: float
    ) -> None:
        super().__init__(path)
        ids, lengths, targets = [self.ids], [self.lengths], []
        documents, known = [self.documents], self.num_documents
        names, own = [], []  # of the rows themselves
        with pq.ParquetFile(lessons) as file:
            for batch in file.iter_batches(batch_size=10_000):
                proba = np.exp(batch["log_proba"].flatten().to_numpy().reshape(-1, num_classes))
                made_up = batch["variant"].to_numpy() > 0
                names.append(batch["id"].filter(pa.array(~made_up)))
                own.append(proba[~made_up])
                windows, document = encode(batch["text"].filter(pa.array(made_up)).to_pylist())
                lengths.append(np.fromiter(map(len, windows), np.int64, len(windows)))
                ids.append(
                    np.fromiter(chain.from_iterable(windows), np.int32, int(lengths[-1].sum()))
                )
                targets.append(proba[made_up][document])
                documents.append(known + document)
                known += int(made_up.sum())
        place = pc.index_in(
            pq.read_table(path, columns=["id"])["id"], value_set=pa.chunked_array(names)
        )
        taught = np.concatenate(own)[place.to_numpy()]
        labelled = np.eye(num_classes, dtype=np.float32)[self.labels]
        self.ids, self.lengths = np.concatenate(ids), np.concatenate(lengths)
        self.documents = np.concatenate(documents)
        self.targets = np.concatenate([weight * taught + (1 - weight) * labelled, *targets]).astype(
            np.float32
        )
        self.labels = self.targets.argmax(axis=1)
        self.starts = np.cumsum(self.lengths) - self.lengths

    def digest(self) -> int:
        return zlib.crc32(self.targets, super().digest())

    def batch(self, rows: np.ndarray) -> Batch:
        return {**super().batch(rows), "targets": torch.from_numpy(self.targets[rows])}


class EpochOrder:
    """Batches of like length: shuffle the rows, sort each pool of batches by length, shuffle the batches."""

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rows = rng.permutation(len(self.lengths))
        pool = POOL_BATCHES * self.batch_size
        for first in range(0, len(rows), pool):
            part = rows[first : first + pool]
            rows[first : first + pool] = part[np.argsort(self.lengths[part], kind="stable")]
        for batch in rng.permutation(len(self)):
            yield rows[batch * self.batch_size : (batch + 1) * self.batch_size]


class FixedOrder:
    """Every row once, by length: for validation."""

    def __init__(self, lengths: np.ndarray, batch_size: int) -> None:
        self.rows, self.batch_size = np.argsort(lengths, kind="stable"), batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        for first in range(0, len(self.rows), self.batch_size):
            yield self.rows[first : first + self.batch_size]


class TokenLoader:
    """Batches of one table, made in this process: a gather of a few microseconds is cheaper than a worker's queue.

    Lightning calls `sampler.set_epoch` before each epoch, stores `state_dict` in checkpoints, and after a restart in
    mid-epoch gives it back, so that the batches done are skipped once.
    """

    batch_sampler = None  # Lightning looks for it beside `sampler`

    def __init__(self, table: TokenTable, sampler: EpochOrder | FixedOrder) -> None:
        self.table, self.sampler = table, sampler
        self.batches_done = self.skip = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing runs before the first batch is asked for, by when set_epoch has been called.
        skip, self.skip = self.skip, 0
        for index, rows in enumerate(self.sampler):
            if index >= skip:
                self.batches_done = index + 1
                yield self.table.batch(rows)

    def state_dict(self) -> dict[str, Any]:
        return {"batches_done": self.batches_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skip = state["batches_done"]


class TokenData(pl.LightningDataModule):
    """`train|valid|test.parquet` of a token folder."""

    def __init__(
        self,
        folder: Path,
        *,
        batch_size: int,
        seed: int,
        columns: tuple[str, str] = ("input_ids", "label"),
    ) -> None:
        super().__init__()
        self.folder, self.batch_size, self.seed, self.columns = (
            Path(folder),
            batch_size,
            seed,
            columns,
        )
        self.tables: dict[str, TokenTable] = {}
        self.taught: TaughtTable | None = None

    @property
    def trained_on(self) -> TokenTable:
        """What an epoch goes through: the train split, or what a teacher has made of it."""
        return self.taught or self.table("train")

    def table(self, split: str) -> TokenTable:
        if split not in self.tables:
            self.tables[split] = TokenTable(self.folder / f"{split}.parquet", self.columns)
        return self.tables[split]

    def train_dataloader(self) -> TokenLoader:
        table = self.trained_on
        return TokenLoader(table, EpochOrder(table.lengths, self.batch_size, self.seed))

    def val_dataloader(self) -> TokenLoader:
        return self.in_order("valid")

    def test_dataloader(self) -> TokenLoader:
        return self.in_order("test")

    def in_order(self, split: str) -> TokenLoader:
        """Every row of a split once."""
        table = self.table(split)
        # No gradients are kept, so larger batches fit; the size has no effect on what comes out.
        return TokenLoader(table, FixedOrder(table.lengths, 4 * self.batch_size))
