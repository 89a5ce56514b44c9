"""Answers to every row of a source, in parts that are kept while the work goes on.

An attempt that dies loses the part in work, and the next one reads past the rows that have an
answer. The rows themselves stay where they are; `tasks.deliver` lays the answers beside them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.artifacts import Snapshot
from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.asking import AskingRecipe
from data_contracts.recipe.source import FileSource, Source
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import RowDigest
from tasks.ingest import refuse_changed, source_files
from tasks.progress import report
from tasks.serving.answer_file import answer_names
from tasks.serving.asked_rows import AskedRows, asked_rows, columns_of
from tasks.serving.predict import Predictor
from tasks.sources import sql
from tasks.sources.files import list_files
from tasks.stage import Here

# What an attempt that dies loses at most, beside what is in work.
_PART_SECONDS, _PART_ROWS = 10.0, 20_000
_FEW = 5  # rows without an answer that are named
PLACE = ("file", "row")  # of a row of the source, beside its answers
REASON = "reason"
TYPES = {"string": pa.string(), "number": pa.float64(), "boolean": pa.bool_()}


class Answering(Protocol):
    """Rows of a table to rows of answers: `file`, `row`, columns of its own, and `reason`, why a
    row has none.

    at_once: rows that are answered together; no part ends between them.
    """

    schema: pa.Schema
    at_once: int

    def answer(self, file: str, rows: AskedRows) -> pa.Table: ...


def schema_of(answers: dict[str, pa.DataType]) -> pa.Schema:
    """Of the answers' tables, with columns of their own."""
    place = {"file": pa.string(), "row": pa.int64()}
    return pa.schema({**place, **answers, REASON: pa.string()})


def answer_rows(
    here: Here[Any],
    snapshot: Snapshot,
    predictor: Predictor,
    answering: Answering,
) -> dict[str, Any]:
    """Answer each row of the recipe's source into parts; returns the fields of an `Answers`.

    Safe to repeat: it goes on behind the last part that is there.

    Raises:
        SourceError: naming file and row or column, where the rows cannot be read, hold no column of
            texts, or change while they are read.
    """
    recipe: AskingRecipe = here.recipe
    source = source_files(recipe.source, here.keep)
    files = list_files(source)
    columns, asked = columns_of(files, source, recipe.column, here.keep, predictor)
    parts = Parts(here.keep / "parts", answering.schema)
    tally = Tally(list(answering.schema.names))
    done = parts.rows
    for table in parts.written():
        tally.add(table)
    report(recipe.verb, tally.rows)
    types: dict[str, str] = {}
    with closing(batches(source, asked, here.keep)) as read:
        for file, rows in read:
            types = types or types_of(rows)
            for some in rows.pieces(answering.at_once):
                if done > 0:  # answered by an attempt before this one
                    done -= len(some.numbers)
                    continue
                table = answering.answer(file, some)
                parts.write(table)
                tally.add(table)
                report(recipe.verb, tally.rows)
    parts.end()
    if not tally.rows:
        raise SourceError(f"{files[0].name}: no rows.", "Check the export that writes it.")
    try:
        refuse_changed(recipe.source, snapshot, source)
    except SourceError:
        shutil.rmtree(parts.folder)  # answers to other rows: no attempt may go on behind them
        raise
    # The rows of a query stay beside their answers: asked again it may give them in another order.
    for path in (*parts.paths(), *here.keep.glob(sql.NAME)):
        shutil.copyfile(path, here.out / path.name)
    told = [name for name in answering.schema.names if name not in (*PLACE, REASON)]
    names, _ = answer_names(columns, told)
    return {
        "digest": tally.digest.hexdigest(),
        "rows_in": tally.rows,
        "rows_out": tally.rows - tally.refused,
        "model": predictor.uri,
        "fingerprint": snapshot.fingerprint,
        "columns": {name: types.get(name, "string") for name in columns},
        "asked": asked,
        "names": dict(zip([*told, REASON, "model"], names, strict=True)),
        "refused": tally.refused,
        "first_refused": tuple(tally.first),
        "warnings": _warnings(tally),
    }


def batches(
    source: FileSource, asked: dict[str, str], scratch: Path
) -> Generator[tuple[str, AskedRows]]:
    """The rows of all files in order, each with the name of its file."""
    for file in list_files(source):
        with closing(asked_rows(file, source, asked, scratch)) as batches:
            for rows in batches:
                yield file.name, rows


def types_of(rows: AskedRows) -> dict[str, str]:
    """The type of each column, as these rows have it."""
    carried = rows.carried
    try:
        table = pa.Table.from_pylist(carried) if isinstance(carried, list) else carried
    except pa.ArrowException:  # JSON may hold this and that under one name
        return {}
    return {field.name: str(field.type) for field in table.schema}


class Parts:
    """Answers in files that each appear whole, in the order of the rows."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if any(pq.read_schema(path) != schema for path in self.paths()):
            raise NoisefoldError(  # the key would be another one, had anything changed
                f"{folder} holds parts with other columns.", f"Remove {folder}, and run again."
            )
        self.number = len(self.paths())
        self.rows = sum(pq.read_metadata(path).num_rows for path in self.paths())
        self._held: list[pa.Table] = []
        self._since = time.monotonic()

    def paths(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def written(self) -> Iterator[pa.Table]:
        return read_parts(self.folder, _PART_ROWS)

    def write(self, table: pa.Table) -> None:
        self._held.append(table)
        rows = sum(one.num_rows for one in self._held)
        if rows >= _PART_ROWS or time.monotonic() - self._since >= _PART_SECONDS:
            self.end()

    def end(self) -> None:
        """Nothing is held that is not on disk."""
        if self._held:
            path = self.folder / f"part-{self.number:05d}.parquet"
            temporary = path.with_suffix(".tmp")
            pq.write_table(pa.concat_tables(self._held), temporary, compression="zstd")
            os.replace(temporary, path)
            self.number += 1
        self._held, self._since = [], time.monotonic()


class Tally:
    """What the answers are in all."""

    def __init__(self, columns: list[str]) -> None:
        self.rows, self.refused = 0, 0
        self.first: list[str] = []
        self.digest = RowDigest(columns)

    def add(self, table: pa.Table) -> None:
        self.digest.update(table)
        self.rows += table.num_rows
        refused = table.filter(pa.compute.is_valid(table[REASON]))
        self.refused += refused.num_rows
        for row in refused.slice(0, _FEW - len(self.first)).to_pylist():
            self.first.append(f"{row['file']}, row {row['row']}: {row[REASON]}")


def _warnings(tally: Tally) -> tuple[str, ...]:
    if not tally.refused:
        return ()
    more = "; …" if tally.refused > len(tally.first) else ""
    named = "; ".join(tally.first)
    return (f"{tally.refused:,} of {tally.rows:,} rows have no answer ({named}{more}).",)


# --- the rows once more, with their answers -------------------------------------------------------


@contextmanager
def same_rows(
    parts: Path, source: Source, snapshot: Snapshot, scratch: Path
) -> Iterator[FileSource]:
    """The rows that were answered, to be read inside the block.

    Args:
        parts: folder of the answers; those of a query hold its rows too.
    Raises:
        SourceError: at the end, where they are others by now.
    """
    kept = parts / sql.NAME
    if kept.exists():
        yield FileSource(url=str(kept))
        return
    files = source_files(source, scratch)
    yield files
    refuse_changed(source, snapshot, files)


def beside(
    source: FileSource, asked: dict[str, str], parts: Path, scratch: Path
) -> Generator[tuple[AskedRows, pa.Table]]:
    """The rows of a source, each batch with the table of its answers.

    Raises:
        SourceError: they are others than those that were answered.
    """
    tables, held = read_parts(parts, _PART_ROWS), pa.table({})
    with closing(batches(source, asked, scratch)) as read:
        for file, rows in read:
            count = len(rows.numbers)
            while held.num_rows < count and (more := next(tables, None)) is not None:
                held = pa.concat_tables([held, more]) if held.num_rows else more
            table, held = held.slice(0, count), held.slice(count)
            if table.num_rows < count or table["row"].to_pylist() != rows.numbers:
                raise SourceError(
                    f"{file}: its rows are others than those that were answered.",
                    "Run again when the export has finished.",
                )
            yield rows, table
