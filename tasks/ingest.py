"""ingest: the rows of a source, as they are, under the pipeline's own column names.

Comes in: a source (the sample, files at any fsspec URL) and the contract's column map. Goes out:
`RawCorpus`, Parquet parts with id, the roles of the contract (text, label), split, slices, fault,
file, row. Nothing is judged here beyond what makes a row unreadable (`fault`); the contract's
limits are `validate`'s. Rows stream in Arrow batches, so memory does not grow with the data but for
12 bytes per row where ids come from several files.

Categories get one spelling (`data_contracts.tables.categories`), rows that the contract does not
select are left out, and an id that stands in several files gets its file's name. All three are
counted and told.

Safe to repeat: the artifact's key is the fingerprint of the source and what shapes the rows, and a
source that changes while it is read ends in an error, so a key never vouches for a mixture.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_contracts.artifacts import RawCorpus, Snapshot
from data_contracts.contract.contract import SPLITS, DataContract, Split
from data_contracts.contract.days import merged
from data_contracts.contract.frames import raw_schema
from data_contracts.contract.raw import Cells, raw_table, selected
from data_contracts.errors import SourceError
from data_contracts.recipe.source import FileSource, SampleSource, Source, SqlSource
from data_contracts.sample import bundled
from data_contracts.tables.batch import Batch
from tasks.artifacts.parquet_parts import PartWriter
from tasks.artifacts.store import RowDigest, digest_of
from tasks.progress import report, tell
from tasks.sources import sql
from tasks.sources.asked import ANSWER, asked, rejected
from tasks.sources.dated_files import window_read
from tasks.sources.files import left_aside, list_files, read_rows
from tasks.sources.ids import TOLD, Ids, put_file_before
from tasks.sources.source_file import SourceFile
from tasks.sources.tally import Tally
from tasks.stage import Here, RunContext, stage


def survey(source: Source) -> Snapshot:
    """What the source holds now, without reading its rows, and which days of its window (None
    without a window).

    SHA-256 of each local file, ETag (or Last-Modified) and size of a remote one, the generator's
    own code and options for a sample, of a query its rows or what it is known by.
    """
    if isinstance(source, SampleSource):
        return Snapshot(fingerprint=digest_of("sample", *bundled.made_of(source)))
    if isinstance(source, SqlSource):
        return Snapshot(fingerprint=sql.fingerprint(source))
    files = list_files(source)
    return Snapshot(fingerprint=fingerprint_of(files), window=window_read(source, files))


def fingerprint_of(files: list[SourceFile]) -> str:
    """Of a source's files as they are now.

    A file named for another day is another file, whatever is in it, and so is one that has
    another role; which window asked for it is no part of it.
    """
    return digest_of("files", [_identity(file) for file in files])


def _identity(file: SourceFile) -> list[str | None]:
    more = [str(file.days)] if file.days else [file.role] if file.role else []
    return [file.name, file.split, file.version(), *more]


def _tell(_: RawCorpus, run: RunContext) -> None:
    source = run.recipe.source
    if isinstance(source, FileSource) and (aside := left_aside(source)):
        tell("ingest", f"Left aside: {', '.join(aside[:5])}{' …' if len(aside) > 5 else ''}.")


@stage(RawCorpus, version=2, shaped_by=("source.reading", "contract.reading"), tell=_tell)
def ingest(here: Here, snapshot: Snapshot) -> dict[str, Any]:
    """Read the source into Parquet under the pipeline's own column names. Safe to repeat.

    Raises:
        SourceError: naming file and row or column, where the data cannot be read or change while
            they are read.
        OSError: where a server does not answer; a later attempt may succeed.
    """
    source, contract = here.recipe.source, here.recipe.contract
    batch_rows = here.recipe.execution.batch_rows
    files = source_files(source, here.keep)
    digest, tally, splits = _new_digest(contract), Tally(), dict.fromkeys(SPLITS, 0)
    ids = Ids() if contract.columns.id is not None else None
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
    refuse_changed(source, snapshot, files)
    there = list_files(files)
    if ids is not None and (several := ids.in_several_files()) is not None:
        digest = put_file_before(several, here.out, contract, batch_rows)
        tally.told[TOLD] += int(several.sum())
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
    """Of all columns, file and row too: which of two answers counts depends on where they stand."""
    return RowDigest(raw_schema(contract).names)


def source_files(source: Source, folder: Path) -> FileSource:
    """The source as files: the rows of a bundled sample, or of a query, are written below
    `folder`.
    """
    if isinstance(source, FileSource):
        return source
    if isinstance(source, SqlSource):
        path = folder / sql.NAME
        # A query need not give its rows in one order: an attempt goes on with those it began with.
        if not path.exists():
            sql.write_rows(source, path)
        return FileSource(url=str(path))
    path = folder / "sample.parquet"
    bundled.write(source, path)
    return FileSource(url=str(path))


def refuse_changed(source: Source, snapshot: Snapshot, files: FileSource) -> None:
    """
    Raises:
        SourceError: the files are others than when the run began.
    """
    if isinstance(source, SampleSource):
        return
    now = (
        sql.fingerprint(source, Path(next(files.urls)))
        if isinstance(source, SqlSource)
        else fingerprint_of(list_files(files))
    )
    if now != snapshot.fingerprint:
        names = _names(files)
        if isinstance(source, SqlSource):
            Path(next(files.urls)).unlink(missing_ok=True)  # no attempt may go on with these
        raise SourceError(
            f"The source ({names}) changed while it was read.",
            "Run again when the export has finished; better, write a new file and rename it into "
            "place.",
        )


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


def _rows(
    source: FileSource, contract: DataContract, tally: Tally, scratch: Path, batch_rows: int
) -> Generator[pa.Table]:
    """All files, batch by batch, as tables of the raw schema."""
    given = source.splits
    ask = replace(asked(source, contract), batch_rows=batch_rows)
    batches = read_rows(source, ask, scratch=scratch)
    with closing(batches):
        for file, batch in batches:
            _refuse_rejected(batch, file, contract)
            tally.add(batch)
            rows = len(batch.rows)
            names = [file.name] * rows
            splits: list[Split | None] = [file.split] * rows
            cells = Cells(batch.columns, batch.rows, names, splits, batch.faults)
            chosen, against = selected(cells, contract)
            for column, speaking in against.items():
                tally.leave_out(column, speaking)
            table = raw_table(cells, contract, given)
            if not chosen.all():
                table = table.filter(pa.array(chosen))
            if table.num_rows:
                yield table


def _refuse_rejected(batch: Batch, file: SourceFile, contract: DataContract) -> None:
    if ANSWER not in batch.columns:
        return
    answers = rejected(batch.columns[ANSWER].unique().to_pylist(), contract)
    if answers:
        answer = next(one for one in answers if one != "accept")
        row = batch.rows[batch.columns[ANSWER].to_pylist().index(answer)]
        raise SourceError(
            f"{file.name}, row {row}: the answer is {answer!r}, as Prodigy writes it where a label "
            f"was not accepted.",
            "Set select: {answer: [accept]} in the contract, or name all the answers that count "
            "there.",
        )
