"""Ids that stand in several files of a source: each is called after its file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.contract.contract import DataContract
from data_contracts.contract.frames import raw_schema
from data_contracts.contract.text import hash64
from tasks.artifacts.parquet_parts import PartWriter, read_parts
from tasks.artifacts.store import RowDigest

TOLD = "ids that stand in several files are called <file>:<id>"


class Ids:
    """Where each id stands, in 12 bytes per row: a hash of it, and the number of its file."""

    def __init__(self) -> None:
        self._hashes: list[np.ndarray] = []
        self._files: list[np.ndarray] = []
        self._numbers: dict[str, int] = {}

    def add(self, table: pa.Table) -> None:
        self._hashes.append(
            np.array([hash64(one) for one in table.column("id").to_pylist()], np.uint64)
        )
        names = table.column("file").to_pylist()
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
        self._files.append(np.array(numbers, np.int32))

    def in_several_files(self) -> np.ndarray | None:
        """Whether the id of each row stands in more than one file; None where none does."""
        if len(self._numbers) < 2:
            return None
        hashes, files = np.concatenate(self._hashes), np.concatenate(self._files)
        order = np.lexsort((files, hashes))
        same = hashes[order][1:] == hashes[order][:-1]
        elsewhere = hashes[order][1:][same & (files[order][1:] != files[order][:-1])]
        several = np.isin(hashes, elsewhere)
        return several if several.any() else None


def put_file_before(
    several: np.ndarray, folder: Path, contract: DataContract, batch_rows: int
) -> RowDigest:
    """Write the parts again, with `<file>:<id>` in the place of ids that stand in several files."""
    plain, start, digest = (
        folder.with_name(folder.name + "-ids"),
        0,
        RowDigest(raw_schema(contract).names),
    )
    shutil.rmtree(plain, ignore_errors=True)
    shutil.move(folder, plain)
    with PartWriter(folder, raw_schema(contract), batch_rows) as parts:
        for table in read_parts(plain, batch_rows):
            chosen = pa.array(several[start : start + table.num_rows])
            named = pc.binary_join_element_wise(table.column("file"), table.column("id"), ":")
            ids = pc.if_else(chosen, named, table.column("id"))
            table = table.set_column(table.schema.get_field_index("id"), "id", ids)
            parts.write(table)
            digest.update(table)
            start += table.num_rows
    shutil.rmtree(plain)
    return digest
