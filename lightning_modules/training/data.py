"""Token Parquet -> padded batches: Arrow into flat buffers, no Python loop per row.

The order of an epoch is a function of (seed, epoch) only, so a training that died resumes by
skipping what it did.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch

from lightning_modules.kinds.base import Batch, Objective

# Batches sorted by length together: enough to pad little, few enough to keep the order random.
POOL_BATCHES = 50
# Columns that any kind's table may have: what to learn of a row in place of its own answer, and
# whether the source gave the row (variant 0) or it was made up from one.
OPTIONAL = ("targets", "variant")


class TokenTable:
    """One split in memory: all ids in one flat buffer (4 bytes per token), with the start and
    length of each row.

    A row is a window; `documents` numbers, from 0, the document that each is of. `columns` are the
    kind's own, (N) or, of lists that are of one length, (N, K). `given` are the rows that the
    source gave, by number.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        self.path = path
        there = [name for name in OPTIONAL if name in pq.read_schema(path).names]
        table = pq.read_table(path, columns=["input_ids", "window", *columns, *there])
        chunks = [chunk.flatten().to_numpy() for chunk in table["input_ids"].chunks]
        lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in table["input_ids"].chunks]
        self.ids = np.concatenate(chunks or [np.empty(0, np.int32)])
        self.lengths = np.concatenate(lengths or [np.empty(0, np.int32)]).astype(np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.columns = {name: _values(table[name]) for name in (*columns, *there)}
        # Windows of a document stand together and count from 0.
        self.documents = np.cumsum(table["window"].to_numpy() == 0) - 1
        variant = self.columns.pop("variant", np.zeros(len(self.lengths), np.int64))
        self.given = np.flatnonzero(variant == 0)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_documents(self) -> int:
        return int(self.documents[-1]) + 1 if len(self) else 0

    def digest(self) -> int:
        """Checksum of the rows in their order: a checkpoint belongs to one table."""
        checksum = 0
        for values in (self.ids, self.lengths, *self.columns.values()):
            checksum = zlib.crc32(np.ascontiguousarray(values).data, checksum)
        return checksum

    def ids_of(self, rows: np.ndarray) -> np.ndarray:
        """All token ids of some rows, one after the other."""
        inside = np.zeros(len(self), bool)
        inside[rows] = True
        return self.ids[np.repeat(inside, self.lengths)]

    def batch(self, rows: np.ndarray) -> Batch:
        """Rows as input_ids (B, T), lengths (B), documents (B) and the columns; padding is id 0,
        which no network reads.
        """
        lengths = self.lengths[rows]
        position = np.arange(lengths.max())
        inside = position < lengths[:, None]
        at = self.starts[rows, None] + position
        ids = np.zeros(at.shape, dtype=np.int64)
        ids[inside] = self.ids[at[inside]]
        arrays = {
            "input_ids": ids,
            "lengths": lengths,
            "documents": self.documents[rows],
            **{name: values[rows] for name, values in self.columns.items()},
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """A column as numbers: whole ones as int64; lists, which have to be of one length, as rows of a
    matrix.
    """
    array = column.combine_chunks()
    if pa.types.is_list(array.type):
        offsets = np.unique(np.diff(array.offsets.to_numpy()))
        if len(offsets) > 1:
            raise ValueError("lists of a token table's own columns have to be of one length")
        return array.flatten().to_numpy().reshape(len(array), -1)
    values = array.to_numpy(zero_copy_only=False)
    return values.astype(np.int64) if np.issubdtype(values.dtype, np.integer) else values


class EpochOrder:
    """Batches of like length: shuffle the rows, sort each pool of batches by length, shuffle the
    batches.
    """

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
    """Batches of one table, made in this process: a gather of a few microseconds is cheaper than a
    worker's queue.

    Lightning calls `sampler.set_epoch` before each epoch, stores `state_dict` in checkpoints, and
    after a restart in mid-epoch gives it back, so that the batches done are skipped once.
    """

    batch_sampler = None  # Lightning looks for it beside `sampler`

    def __init__(
        self, table: TokenTable, sampler: EpochOrder | FixedOrder, objective: Objective
    ) -> None:
        self.table, self.sampler, self.objective = table, sampler, objective
        self.batches_done = self.skip = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing runs before the first batch is asked for, by when set_epoch has been
        # called.
        skip, self.skip = self.skip, 0
        for index, rows in enumerate(self.sampler):
            if index >= skip:
                self.batches_done = index + 1
                yield self.objective.batch(self.table, rows)

    def state_dict(self) -> dict[str, Any]:
        return {"batches_done": self.batches_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skip = state["batches_done"]


class TokenData(pl.LightningDataModule):
    """`train|valid|test.parquet` of a token folder, as an objective wants them.

    Args:
        train: the train rows, where they are not those of the folder.
    """

    def __init__(
        self,
        folder: Path,
        objective: Objective,
        *,
        batch_size: int,
        seed: int,
        train: Path | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.objective = Path(folder), objective
        self.batch_size, self.seed = batch_size, seed
        self.train_file = train or self.folder / "train.parquet"
        self.tables: dict[str, TokenTable] = {}

    def table(self, split: str) -> TokenTable:
        if split not in self.tables:
            path = self.train_file if split == "train" else self.folder / f"{split}.parquet"
            learnt = self.objective.learnt
            columns = self.objective.token_schema.names if learnt is None else learnt
            self.tables[split] = TokenTable(path, columns)
        return self.tables[split]

    def train_dataloader(self) -> TokenLoader:
        table = self.table("train")
        order = EpochOrder(table.lengths, self.batch_size, self.seed)
        return TokenLoader(table, order, self.objective)

    def val_dataloader(self) -> TokenLoader:
        return self.in_order("valid")

    def test_dataloader(self) -> TokenLoader:
        return self.in_order("test")

    def in_order(self, split: str) -> TokenLoader:
        """Every row of a split once."""
        table = self.table(split)
        return TokenLoader(table, FixedOrder(table.lengths, self._many), self.objective)

    def given(self) -> Iterator[Batch]:
        """Every train row that the source gave, once."""
        table = self.table("train")
        for rows in FixedOrder(table.lengths[table.given], self._many):
            yield self.objective.batch(table, table.given[rows])

    @property
    def _many(self) -> int:
        # No gradients are kept, so larger batches fit; the size has no effect on what comes out.
        return 4 * self.batch_size
