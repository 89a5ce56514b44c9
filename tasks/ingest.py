"""ingest: the rows of a source, as they are, under the pipeline's own column names.

Comes in: a source (the sample, files at any fsspec URL) and the contract's column map. Goes out: `RawCorpus`, Parquet
parts with id, text, label, split, slices, file, row. Nothing is judged here beyond what makes a row unreadable; the
contract's limits are `validate`'s. Rows stream in Arrow batches, so memory does not grow with the data.

Safe to repeat: the artifact's key is the fingerprint of the source and what shapes the rows, and a source that changes
while it is read ends in an error, so a key never vouches for a mixture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.client.schemas import State

from data_contracts import sample
from data_contracts.artifacts import RawCorpus
from data_contracts.contract import SPLITS, DataContract, Split
from data_contracts.days import WindowRead, merged
from data_contracts.errors import SourceError
from data_contracts.expectations import arrow_schema, raw_schema
from data_contracts.recipe import FileSource, SampleSource, Source
from data_contracts.table_batch import Batch
from data_contracts.tables import read_batches
from data_contracts.text import SPLIT_NAMES, draw_split
from tasks.dated_files import window_read
from tasks.parquet_parts import PartWriter
from tasks.progress import report
from tasks.readers import SourceFile, list_files
from tasks.stage import STAGE, settle
from tasks.store import ArtifactStore, Outcome, RowDigest, Workspace, digest_of

VERSION = 2


def fingerprint(source: Source) -> str:
    """What the source holds now, without reading its rows.

    SHA-256 of each local file, ETag (or Last-Modified) and size of a remote one, the generator's own code with rows,
    seed and classes for the sample.
    """
    return survey(source)[0]


def survey(source: Source) -> tuple[str, WindowRead | None]:
    """The fingerprint, and which days of its window the source holds (None without a window)."""
    if isinstance(source, SampleSource):
        generator = Path(sample.__file__).read_text(encoding="utf-8")
        return digest_of("sample", generator, source.rows, source.seed, source.classes), None
    files = list_files(source)
    return _fingerprint(files), window_read(source, files)


def _fingerprint(files: list[SourceFile]) -> str:
    """A file named for another day is another file, whatever is in it; which window asked for it is no part of it."""
    return digest_of("files", [[f.name, f.split, f.version(), *([str(f.days)] if f.days else [])] for f in files])


def ingest_source(
    source: Source, contract: DataContract, fingerprint: str, store: ArtifactStore, *, batch_rows: int
) -> Outcome[RawCorpus]:
    """Read the source into the store, or find that it was read already.

    Raises:
        SourceError: naming file and row or column, where the data cannot be read or change while they are read.
        OSError: where a server does not answer; a later attempt may succeed.
    """
    columns, shares = contract.columns, contract.splits
    shape = {
        "source": source.model_dump(mode="json", include={"kind", "format", "encoding"}),
        "columns": columns.model_dump(mode="json"),
        "splits": {"valid": shares.valid, "test": shares.test},
    }

    def build(workspace: Workspace) -> dict[str, Any]:
        files = _sample_files(source, workspace) if isinstance(source, SampleSource) else list_files(source)
        digest, splits = RowDigest(arrow_schema(contract).names), dict.fromkeys(SPLITS, 0)
        report("ingest", 0)
        with (
            PartWriter(workspace.out, raw_schema(contract), batch_rows) as parts,
            closing(_rows(files, source, contract, workspace.keep, batch_rows)) as tables,
        ):
            for table in tables:
                parts.write(table)
                digest.update(table)
                for split in table.column("split").to_pylist():
                    splits[split] += 1
                report("ingest", parts.rows)
        if not parts.rows:
            names = ", ".join(file.name for file in files[:3])
            raise SourceError(f"{names}: no rows, a header at most.", "Check the export that writes it.")
        if not isinstance(source, SampleSource) and _fingerprint(list_files(source)) != fingerprint:
            raise SourceError(
                f"The source ({', '.join(file.name for file in files[:3])}) changed while it was read.",
                "Run again when the export has finished; better, write a new file and rename it into place.",
            )
        return {
            "digest": digest.hexdigest(),
            "rows_in": parts.rows,
            "rows_out": parts.rows,
            "fingerprint": fingerprint,
            "splits": splits,
            "source_files": len(files),
            "days": merged(file.days for file in files if file.days is not None),
        }

    return store.once(RawCorpus, inputs=[fingerprint], config=shape, version=VERSION, build=build)


def _sample_files(source: SampleSource, workspace: Workspace) -> list[SourceFile]:
    path = workspace.keep / "sample.parquet"
    sample.write_sample(path, source.rows, source.seed, source.classes)
    return list_files(FileSource(url=str(path)))


def _rows(
    files: Iterable[SourceFile], source: Source, contract: DataContract, scratch: Path, batch_rows: int
) -> Iterator[pa.Table]:
    """All files, batch by batch, as tables of the raw schema."""
    columns = contract.columns
    by_url = isinstance(source, FileSource) and isinstance(source.url, dict)
    split_column = None if by_url else columns.split  # the URL's split is the more explicit one
    # A split that the source gives no URL for is drawn from its train rows.
    drawn = tuple(split for split in ("valid", "test") if not (by_url and split in source.url))  # type: ignore[union-attr]
    named = [columns.id, columns.text, columns.label, split_column, *columns.slices]
    wanted = [name for name in named if name is not None]
    encoding = source.encoding if isinstance(source, FileSource) else "utf-8"
    for file in files:
        with file.open(scratch) as stream:
            batches = read_batches(
                stream,
                file.name,
                format=file.format,
                columns=wanted,
                text=columns.text,
                encoding=encoding,
                batch_rows=batch_rows,
            )
            with closing(batches):
                for batch in batches:
                    yield _raw_table(batch, file, contract, split_column, drawn)


def _raw_table(
    batch: Batch, file: SourceFile, contract: DataContract, split_column: str | None, drawn: tuple[Split, ...]
) -> pa.Table:
    columns, rows = contract.columns, batch.rows.to_pylist()
    ids = batch.columns[columns.id].to_pylist() if columns.id else [None] * len(rows)
    values = {
        "id": [f"{file.name}#{row}" if one is None else one for one, row in zip(ids, rows, strict=True)],
        "text": batch.columns[columns.text],
        "label": batch.columns[columns.label],
        "split": _splits(batch, file, contract, split_column, drawn),
        **{name: batch.columns[name] for name in columns.slices},
        "file": [file.name] * len(rows),
        "row": batch.rows,
    }
    schema = raw_schema(contract)
    arrays = [v if isinstance(v, pa.Array) else pa.array(v, pa.string()) for v in map(values.get, schema.names)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _splits(
    batch: Batch, file: SourceFile, contract: DataContract, split_column: str | None, drawn: tuple[Split, ...]
) -> list[Split]:
    """Given by the URL (only train gives rows away to splits without a URL), by the row, or drawn."""
    rows = batch.rows.to_pylist()
    given: list[Split | None] = [file.split] * len(rows)
    if file.split == "train" and drawn:
        given = [None] * len(rows)
    elif split_column:
        given = _given_splits(batch.columns[split_column].to_pylist(), rows, split_column, file.name)
    if None not in given:
        return given  # type: ignore[return-value]
    texts = batch.columns[contract.columns.text].to_pylist()
    return [split or draw_split(text or "", contract.splits, drawn) for split, text in zip(given, texts, strict=True)]


def _given_splits(values: list[str | None], rows: list[int], column: str, file: str) -> list[Split | None]:
    """train, valid or test in any of their usual spellings; null where the split is to be drawn."""
    known: dict[str | None, Split | None] = {None: None}
    for value, row in zip(values, rows, strict=True):
        if value not in known:
            split = SPLIT_NAMES.get((value or "").strip().casefold())
            if split is None and (value or "").strip():
                raise SourceError(
                    f"{file}, row {row}: column {column!r} holds {value!r}, which is no split.",
                    f"Use one of {', '.join(SPLIT_NAMES)}, or set columns.split to null to have splits drawn.",
                )
            known[value] = split
    return [known[value] for value in values]


@task(name="ingest", **STAGE)
def ingest(
    source: Source, contract: DataContract, source_fingerprint: str, batch_rows: int, store: ArtifactStore
) -> RawCorpus | State[RawCorpus]:
    """Read the source into Parquet under the pipeline's own column names. Safe to repeat."""
    return settle(ingest_source(source, contract, source_fingerprint, store, batch_rows=batch_rows))
