"""ingest: the rows of a source, as they are, under the pipeline's own column names.

Comes in: a source (the sample, files at any fsspec URL) and the contract's column map. Goes out: `RawCorpus`, Parquet
parts with id, text, label, split, slices, fault, file, row. Nothing is judged here beyond what makes a row unreadable
(`fault`); the contract's limits are `validate`'s. Rows stream in Arrow batches, so memory does not grow with the data
but for 12 bytes per row where ids come from several files.

Labels get one spelling (`data_contracts.tables.labels`), rows that the contract does not select are left out, and an
id that stands in several files gets its file's name. All three are counted and told.

Safe to repeat: the artifact's key is the fingerprint of the source and what shapes the rows, and a source that changes
while it is read ends in an error, so a key never vouches for a mixture.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.artifacts import RawCorpus, Snapshot, Spelling
from data_contracts.contract.contract import SPLITS, DataContract, Split
from data_contracts.contract.days import merged
from data_contracts.contract.expectations import raw_schema
from data_contracts.contract.text import SPLIT_NAMES, draw_split, hash64
from data_contracts.errors import SourceError
from data_contracts.recipe.recipe import FileSource, SampleSource, Source
from data_contracts.sample import generator as sample
from data_contracts.tables.batch import MAX_SPELLINGS, Batch
from data_contracts.tables.labels import label_text, unselected_rejects
from tasks.artifacts.parquet_parts import PartWriter, read_parts
from tasks.artifacts.store import RowDigest, digest_of
from tasks.progress import report, tell
from tasks.sources.dated_files import window_read
from tasks.sources.files import SourceFile, left_aside, list_files, read_rows
from tasks.stage import Here, RunContext, stage

UNKNOWN_SPLIT = "unknown_split"


def survey(source: Source) -> Snapshot:
    """What the source holds now, without reading its rows, and which days of its window (None without a window).

    SHA-256 of each local file, ETag (or Last-Modified) and size of a remote one, the generator's own code with rows,
    seed and classes for the sample.
    """
    if isinstance(source, SampleSource):
        generator = Path(sample.__file__).read_text(encoding="utf-8")
        made_by = digest_of("sample", generator, source.rows, source.seed, source.classes)
        return Snapshot(fingerprint=made_by)
    files = list_files(source)
    return Snapshot(fingerprint=_fingerprint(files), window=window_read(source, files))


def _fingerprint(files: list[SourceFile]) -> str:
    """A file named for another day is another file, whatever is in it; which window asked for it is no part of it."""
    return digest_of(
        "files", [[f.name, f.split, f.version(), *([str(f.days)] if f.days else [])] for f in files]
    )


def _tell(_: RawCorpus, run: RunContext) -> None:
    source = run.recipe.source
    if isinstance(source, FileSource) and (aside := left_aside(source)):
        tell("ingest", f"Left aside: {', '.join(aside[:5])}{' …' if len(aside) > 5 else ''}.")


@stage(RawCorpus, version=2, shaped_by=("source.reading", "contract.reading"), tell=_tell)
def ingest(here: Here, snapshot: Snapshot) -> dict[str, Any]:
    """Read the source into Parquet under the pipeline's own column names. Safe to repeat.

    Raises:
        SourceError: naming file and row or column, where the data cannot be read or change while they are read.
        OSError: where a server does not answer; a later attempt may succeed.
    """
    source, contract = here.recipe.source, here.recipe.contract
    batch_rows = here.recipe.execution.batch_rows
    files = _sample_files(source, here) if isinstance(source, SampleSource) else source
    digest, tally, splits = _new_digest(contract), Tally(), dict.fromkeys(SPLITS, 0)
    ids = _Ids() if contract.columns.id is not None else None
    report("ingest", 0)
    with (
        PartWriter(here.out, raw_schema(contract), batch_rows) as parts,
        closing(_rows(files, contract, tally, here.keep, batch_rows)) as tables,
    ):
        for table in tables:
            parts.write(table)
            digest.update(table)
            for split, rows in zip(*table.column("split").value_counts().flatten(), strict=True):
                if split.as_py() in splits:
                    splits[split.as_py()] += rows.as_py()
            if ids is not None:
                ids.add(table)
            report("ingest", parts.rows)
    if not parts.rows:
        raise _nothing_left(files, tally, contract)
    there = list_files(files)
    if not isinstance(source, SampleSource) and _fingerprint(there) != snapshot.fingerprint:
        raise SourceError(
            f"The source ({_names(files)}) changed while it was read.",
            "Run again when the export has finished; better, write a new file and rename it into place.",
        )
    if ids is not None and (several := ids.in_several_files()) is not None:
        digest = _put_file_before(several, here.out, contract, batch_rows, tally)
    return {
        "digest": digest.hexdigest(),
        "rows_in": parts.rows + tally.left_out.total(),
        "rows_out": parts.rows,
        "fingerprint": snapshot.fingerprint,
        "splits": splits,
        "source_files": len(there),
        "days": merged(file.days for file in there if file.days is not None),
        **tally.facts(),
    }


def _new_digest(contract: DataContract) -> RowDigest:
    """Of all columns, also file and row: which of two labels counts depends on where the rows stand."""
    return RowDigest(raw_schema(contract).names)


def _sample_files(source: SampleSource, here: Here) -> FileSource:
    path = here.keep / "sample.parquet"
    sample.write_sample(path, source.rows, source.seed, source.classes)
    return FileSource(url=str(path))


def _names(source: FileSource) -> str:
    return ", ".join(file.name for file in list_files(source)[:3])


def _nothing_left(source: FileSource, tally: Tally, contract: DataContract) -> SourceError:
    if not tally.left_out:
        return SourceError(
            f"{_names(source)}: no rows, a header at most.", "Check the export that writes it."
        )
    wanted = "; ".join(
        f"{name}: {' or '.join(map(repr, values))}" for name, values in contract.select.items()
    )
    found = ", ".join(f"{what} in {rows:,} rows" for what, rows in tally.left_out.most_common(5))
    return SourceError(
        f"{_names(source)}: no row that the contract selects ({wanted}); there is {found}.",
        "Change select in the contract.",
    )


@dataclass
class Tally:
    """What was read otherwise than it is written, or not at all."""

    told: Counter[str] = field(default_factory=Counter)
    spelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, batch: Batch) -> None:
        self.told += batch.told
        for spelling, rows in batch.spelled.items():
            if spelling in self.spelled or len(self.spelled) < MAX_SPELLINGS:
                self.spelled[spelling] += rows

    def leave_out(self, column: str, cells: list[str | None]) -> None:
        for cell in cells:
            what = f"{column} {(cell or '')[:60]!r}" if cell else f"no {column}"
            self.left_out[
                what if what in self.left_out or len(self.left_out) < 20 else f"another {column}"
            ] += 1

    def facts(self) -> dict[str, Any]:
        return {
            "told": tuple(
                f"{what} ({rows:,} row{'s'[: rows != 1]})"
                for what, rows in sorted(self.told.items())
            ),
            "spelled": tuple(
                Spelling(written=written, read=read, rows=rows)
                for (written, read), rows in sorted(
                    self.spelled.items(), key=lambda item: (-item[1], item[0])
                )
            ),
            "left_out": dict(sorted(self.left_out.items())),
        }


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(
    source: FileSource, contract: DataContract, tally: Tally, scratch: Path, batch_rows: int
) -> Iterator[pa.Table]:
    """All files, batch by batch, as tables of the raw schema."""
    columns = contract.columns
    by_url = isinstance(source.url, dict)
    split_column = None if by_url else columns.split  # the URL's split is the more explicit one
    # A split that the source gives no URL for is drawn from its train rows.
    drawn = tuple(split for split in ("valid", "test") if not (by_url and split in source.url))
    named = [
        columns.id,
        columns.text,
        columns.label,
        split_column,
        *columns.slices,
        *contract.select,
    ]
    batches = read_rows(
        source,
        columns=list(dict.fromkeys(name for name in named if name is not None)),
        text=columns.text,
        label=columns.label,
        batch_rows=batch_rows,
        scratch=scratch,
        optional=() if "answer" in contract.select else ("answer",),
        label_values=contract.labels.values,
    )
    with closing(batches):
        for file, batch in batches:
            _refuse_rejected(batch, file, contract)
            tally.add(batch)
            if (
                table := _selected(
                    _raw_table(batch, file, contract, split_column, drawn), batch, contract, tally
                )
            ).num_rows:
                yield table


def _refuse_rejected(batch: Batch, file: SourceFile, contract: DataContract) -> None:
    """Prodigy keeps the label of what the annotator rejected, so such a row says the opposite of what it seems to."""
    if "answer" not in batch.columns:
        return
    answers = unselected_rejects(
        set(batch.columns["answer"].unique().to_pylist()), "answer" in contract.select
    )
    if answers:
        answer = next(one for one in answers if one != "accept")
        row = batch.rows[batch.columns["answer"].to_pylist().index(answer)]
        raise SourceError(
            f"{file.name}, row {row}: the answer is {answer!r}, as Prodigy writes it where a label was not accepted.",
            "Set select: {answer: [accept]} in the contract, or name all the answers that count there.",
        )


def _selected(table: pa.Table, batch: Batch, contract: DataContract, tally: Tally) -> pa.Table:
    """The rows that the contract selects; the others are counted by the first column that speaks against them."""
    chosen = np.ones(table.num_rows, bool)
    for name, values in contract.select.items():
        cells = [label_text(cell) if cell else None for cell in batch.columns[name].to_pylist()]
        fits = np.array([(cell or "") in values for cell in cells], bool)
        tally.leave_out(name, [cells[at] for at in np.flatnonzero(chosen & ~fits)])
        chosen &= fits
    return table if chosen.all() else table.filter(pa.array(chosen))


def _raw_table(
    batch: Batch,
    file: SourceFile,
    contract: DataContract,
    split_column: str | None,
    drawn: tuple[Split, ...],
) -> pa.Table:
    columns, rows = contract.columns, batch.rows.to_pylist()
    ids = batch.columns[columns.id].to_pylist() if columns.id else [None] * len(rows)
    splits, strange = _splits(batch, file, contract, split_column, drawn)
    faults = batch.faults
    if strange:
        given = faults.to_pylist() if faults is not None else [None] * len(rows)
        faults = pa.array(
            [one or (UNKNOWN_SPLIT if at in strange else None) for at, one in enumerate(given)],
            pa.string(),
        )
    values = {
        "id": [
            f"{file.name}#{row}" if one is None else one for one, row in zip(ids, rows, strict=True)
        ],
        "text": batch.columns[columns.text],
        "label": batch.columns[columns.label],
        "split": splits,
        **{name: batch.columns[name] for name in columns.slices},
        "fault": pa.nulls(len(rows), pa.string()) if faults is None else faults,
        "file": [file.name] * len(rows),
        "row": batch.rows,
    }
    schema = raw_schema(contract)
    arrays = [
        v if isinstance(v, pa.Array) else pa.array(v, pa.string())
        for v in map(values.get, schema.names)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _splits(
    batch: Batch,
    file: SourceFile,
    contract: DataContract,
    split_column: str | None,
    drawn: tuple[Split, ...],
) -> tuple[list[str], set[int]]:
    """Given by the URL (only train gives rows away to splits without a URL), by the row, or drawn.

    Returns:
        The split of each row, and the positions of rows whose split column names none; there it stands as written.
    """
    rows = len(batch.rows)
    given: list[str | None] = [file.split] * rows
    strange: set[int] = set()
    if file.split == "train" and drawn:
        given = [None] * rows
    elif split_column:
        cells = batch.columns[split_column].to_pylist()
        known = {cell: _split_named(cell) for cell in dict.fromkeys(cells)}
        given = [known[cell] for cell in cells]
        strange = {
            at
            for at, cell in enumerate(cells)
            if known[cell] == cell and cell not in SPLITS and cell is not None
        }
    if None not in given:
        return given, strange  # type: ignore[return-value]
    texts = batch.columns[contract.columns.text].to_pylist()
    splits = [
        split or draw_split(text or "", contract.splits, drawn)
        for split, text in zip(given, texts, strict=True)
    ]
    return splits, strange


def _split_named(cell: str | None) -> str | None:
    """train, valid or test in any of their usual spellings; null where it is to be drawn; else the cell itself."""
    name = label_text(cell or "")
    return None if name is None else SPLIT_NAMES.get(name.casefold(), cell)


# --- ids --------------------------------------------------------------------------------------------------------------


class _Ids:
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


def _put_file_before(
    several: np.ndarray, folder: Path, contract: DataContract, batch_rows: int, tally: Tally
) -> RowDigest:
    """Write the parts again, with `<file>:<id>` in the place of ids that stand in several files."""
    plain, start, digest = folder.with_name(folder.name + "-ids"), 0, _new_digest(contract)
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
    tally.told["ids that stand in several files are called <file>:<id>"] += int(several.sum())
    return digest
