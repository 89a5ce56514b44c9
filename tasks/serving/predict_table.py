"""A table in, the same table with a model's answers out: CSV, JSON Lines or Parquet, streamed,
whole or not at all.

Every column of the input is carried along as it is; what a Parquet file or a JSON record holds
beside the texts keeps its type, as far as the format that is written knows it. A text that cannot
be answered (blank, missing, no string) refuses its own row: no answer, and why in the column
`reason`. Memory is bounded by a batch.
"""

from __future__ import annotations

import difflib
import errno
import gzip
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Protocol, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.tables.batch import Ask, Batch, plain_text
from data_contracts.tables.read import (
    PLAIN_TEXT,
    Format,
    name_parts,
    read_batches,
    read_records,
)
from data_contracts.urls import redacted, resolve, shown_url
from tasks.serving.predict import Answers, Predictor
from tasks.sources.files import list_files
from tasks.sources.source_file import Opened, SourceFile

ROWS = 256  # answered at a time
FEW = 5  # refused rows that are named
_SURROGATES = re.compile("[\ud800-\udfff]")
_TO_STDOUT = "-"
_JSON = ("jsonl", "json")


@dataclass(frozen=True)
class AskedRows:
    """Some rows of a file: what the model is asked, why a row cannot be, and everything they hold
    (a record each, or a table).
    """

    numbers: list[int]
    asked: dict[str, list[str | None]]  # by the model's inputs
    reasons: list[str | None]
    carried: pa.Table | list[dict[str, Any]]


@dataclass
class Done:
    """How a table went: rows read, rows refused, and the first of those by file, row and reason."""

    model: str
    rows: int = 0
    refused: int = 0
    first: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        return self.rows - self.refused

    def note(self, file: str, numbers: Sequence[int], answers: Answers) -> None:
        self.rows += len(numbers)
        self.refused += len(answers.refused)
        for row in answers.refused[: FEW - len(self.first)]:
            self.first.append(f"{file}, row {numbers[row]}: {answers.reasons[row]}")


@dataclass(frozen=True)
class Output:
    """Where a table with answers goes: a path or URL whose name tells the format; "-" is `stdout`.

    force: replace what is there.
    """

    name: str
    force: bool
    stdout: TextIO
    stdout_format: Format = "csv"


def predict_table(
    predictor: Predictor,
    source: FileSource,
    output: Output,
    *,
    column: str | None,
    strict: bool,
    progress: Callable[[int], None] = lambda rows: None,
) -> Done:
    """Answer the texts of one column, and write the table with the answers.

    Args:
        source: one file or several of the same columns.
        column: of the texts; None where there is just one, or one called text.
        strict: refuse the whole where a row is refused; nothing is written then.
    Raises:
        SourceError: naming the file, and the row or column where there is one.
        NoisefoldError: the output cannot be written, or is there already.
    """
    done = Done(predictor.uri)
    with tempfile.TemporaryDirectory(prefix="noisefold-") as folder, ExitStack() as opened:
        scratch, files = Path(folder), list_files(source)
        columns, asked = _columns(files, source, column, scratch, predictor)
        names, done.renamed = _names(columns, list(predictor.outputs))
        target = opened.enter_context(_target(output, scratch))
        writer = opened.enter_context(closing(target(columns, names)))
        for file in files:
            with closing(_rows(file, source, asked, scratch)) as batches:
                for rows in batches:
                    answers = predictor.answer(rows.asked, rows.reasons)
                    done.note(file.name, rows.numbers, answers)
                    writer.write(rows.carried, _answer_columns(answers, predictor, names))
                    progress(done.rows)
        if not done.rows:
            raise SourceError(f"{files[0].name}: no rows.", "Check the export that writes it.")
        if strict and done.refused:
            raise refused_rows(done.refused, done.rows, done.first)
    return done


def refused_rows(refused: int, rows: int, first: Sequence[str]) -> NoisefoldError:
    """The fault that --strict makes of rows without an answer."""
    return NoisefoldError(
        f"{refused:,} of {rows:,} rows have no text to answer ({'; '.join(first)}); --strict takes "
        f"that for a fault, "
        "and no file is written.",
        "Mend the rows, or leave out --strict: such rows then get no answer, and the reason.",
    )


# --- which columns --------------------------------------------------------------------------------


def _columns(
    files: list[SourceFile],
    source: FileSource,
    column: str | None,
    scratch: Path,
    predictor: Predictor,
) -> tuple[list[str], dict[str, str]]:
    """The columns of all files, and for each of the model's inputs the one that holds it."""
    columns: list[str] = []
    for file in files:
        there = _columns_of(file, source, column, scratch)
        if file.format not in _JSON and columns and there != columns:
            other = next(iter(set(there) ^ set(columns)), "their order")
            raise SourceError(
                f"{file.name}: its columns are not those of {files[0].name} ({other}).",
                "Predict them one by one.",
            )
        columns += [name for name in there if name not in columns]
    return columns, _asked_columns(files[0].name, columns, column, predictor)


def _asked_columns(
    file: str, columns: list[str], wanted: str | None, predictor: Predictor
) -> dict[str, str]:
    """Where a model is asked one column, any may hold it; of several each has its own name."""
    if not columns:
        raise SourceError(f"{file}: no rows.", "Check the export that writes it.")
    if wanted is not None or len(predictor.inputs) == 1:
        only = predictor.only_input
        return {only: _text_column(file, columns, wanted, only)}
    needed = [name for name in predictor.inputs if name not in predictor.optional]
    if missing := [name for name in needed if name not in columns]:
        raise SourceError(
            f"{file}: no column {missing[0]!r}, which the model is asked.",
            f"Give the columns {', '.join(needed)} these names.",
        )
    return {name: name for name in predictor.inputs if name in columns}


def _text_column(file: str, columns: list[str], wanted: str | None, usual: str) -> str:
    if wanted is None and len(columns) == 1:
        return columns[0]
    name = usual if wanted is None else wanted
    if name in columns:
        return name
    shown = ", ".join(repr(one[:60]) for one in columns[:20]) + (" …" if len(columns) > 20 else "")
    if wanted is None:
        raise SourceError(
            f"{file}: which column holds the texts? It has {shown}.", "Name it with --column."
        )
    folded = {one.strip().casefold(): one for one in columns}
    near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    raise SourceError(
        f"{file}: no column {name!r}. It has {shown}.{hint}",
        "Name the column of the texts: --column.",
    )


def _columns_of(
    file: SourceFile, source: FileSource, column: str | None, scratch: Path
) -> list[str]:
    with file.open(scratch) as opened:
        if opened.format == PLAIN_TEXT:
            raise SourceError(
                f"{file.name} is plain text, and no table.",
                "Where each of its lines is a text, give them on standard input with --lines; "
                "where it is a table, say of which format: --format csv.",
            )
        if opened.format == "parquet":
            with _parquet(file, opened.stream) as table:
                there = list(table.schema_arrow.names)
            if twice := next((name for name in there if there.count(name) > 1), None):
                raise SourceError(
                    f"{file.name}: two columns are called {twice!r}.",
                    "Give each column a name of its own.",
                )
            return there
        if opened.format in _JSON:  # a record may have keys that the ones before it lack
            found = read_records(opened.stream, file.name, encoding=source.encoding)
            return list(dict.fromkeys(key for _, record in found for key in record))
        with closing(_csv(file, opened, source, () if column is None else (column,))) as batches:
            first = next(batches, None)
    if first is None:
        raise SourceError(
            f"{file.name}: no rows, a header at most.", "Check the export that writes it."
        )
    return list(first.columns)


def _names(columns: Sequence[str], outputs: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What the columns of the answers are called, in order, and those that a column of the input
    has made give way.
    """
    names, renamed, taken = [], {}, set(columns)
    for plain in [*outputs, "reason", "model"]:
        name = plain
        while name in taken:
            name = f"predicted_{name}"
        if name != plain:
            renamed[plain] = name
        taken.add(name)
        names.append(name)
    return names, renamed


def _answer_columns(
    answers: Answers, predictor: Predictor, names: list[str]
) -> dict[str, pa.Array]:
    types = {"string": pa.string(), "number": pa.float64()}
    columns = [
        pa.array(values, types[predictor.outputs[name]], from_pandas=True)
        for name, values in answers.columns.items()
    ]
    columns += [
        pa.array(answers.reasons, pa.string()),
        pa.array([predictor.uri] * len(answers.reasons), pa.string()),
    ]
    return dict(zip(names, columns, strict=True))


# --- reading --------------------------------------------------------------------------------------


def _rows(
    file: SourceFile, source: FileSource, asked: dict[str, str], scratch: Path
) -> Generator[AskedRows]:
    """The rows of one file, at most `ROWS` at a time."""
    with file.open(scratch) as opened:
        if opened.format == "parquet":
            yield from _parquet_rows(file, opened.stream, asked)
        elif opened.format in _JSON:
            yield from _json_rows(
                read_records(opened.stream, file.name, encoding=source.encoding), asked
            )
        else:
            for batch in _csv(file, opened, source, tuple(asked.values())):
                texts = {name: batch.columns[column].to_pylist() for name, column in asked.items()}
                numbers = batch.rows.to_pylist()
                yield AskedRows(numbers, texts, [None] * len(numbers), pa.table(batch.columns))


def _csv(
    file: SourceFile, opened: Opened, source: FileSource, columns: tuple[str, ...]
) -> Generator[Batch]:
    ask = Ask(
        texts=columns, separator=source.separator, usual_separator=opened.separator, batch_rows=ROWS
    )
    return read_batches(
        opened.stream, file.name, ask, format=opened.format, encoding=source.encoding
    )


def _json_rows(
    records: Iterator[tuple[int, dict[str, Any]]], asked: dict[str, str]
) -> Iterator[AskedRows]:
    numbers: list[int] = []
    held: list[dict[str, Any]] = []
    characters = 0
    for number, record in records:
        numbers.append(number)
        held.append(record)
        cells = [record.get(column) for column in asked.values()]
        characters += sum(len(cell) for cell in cells if isinstance(cell, str))
        if len(held) == ROWS or characters > 1 << 21:
            yield _of_records(numbers, held, asked)
            numbers, held, characters = [], [], 0
    if held:
        yield _of_records(numbers, held, asked)


def _of_records(
    numbers: list[int], records: list[dict[str, Any]], asked: dict[str, str]
) -> AskedRows:
    reasons: list[str | None] = [None] * len(records)
    texts: dict[str, list[str | None]] = {name: [] for name in asked}
    for row, record in enumerate(records):
        for name, column in asked.items():
            value = record.get(column)
            if value is not None and not isinstance(value, str):
                reasons[row] = reasons[row] or f"the {name} is no string but {_json_type(value)}"
            # "\\ud83d" alone is a legal JSON escape for no character at all: U+FFFD, as in what
            # the model was trained on.
            text = _SURROGATES.sub("\ufffd", value) if isinstance(value, str) else None
            texts[name].append(text)
    return AskedRows(numbers, texts, reasons, records)


def _json_type(value: Any) -> str:
    names = {dict: "a JSON object", list: "a JSON array", bool: "a JSON boolean"}
    return names.get(type(value), "a JSON number")


def _parquet_rows(
    file: SourceFile, stream: IO[bytes], asked: dict[str, str]
) -> Iterator[AskedRows]:
    with _parquet(file, stream) as table:
        for column in asked.values():
            kind = table.schema_arrow.field(column).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not _is_text(kind):
                what = f"column {column!r} is of type {kind}, expected text"
                raise SourceError(f"{file.name}: {what}.", "Name another column: --column.")
        first = 1
        for batch in table.iter_batches(batch_size=ROWS):
            rows = batch.num_rows
            texts = {
                name: batch.column(column).cast(pa.string()).to_pylist()
                for name, column in asked.items()
            }
            if rows:
                numbers = list(range(first, first + rows))
                yield AskedRows(numbers, texts, [None] * rows, pa.Table.from_batches([batch]))
            first += rows


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


@contextmanager
def _parquet(file: SourceFile, stream: IO[bytes]) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(stream) as table:
            yield table
    except NoisefoldError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # Of the disk or the network, not of the data.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        detail = (str(error).splitlines() or [type(error).__name__])[0][:300].rstrip(".")
        raise SourceError(
            f"{file.name}: not a Parquet file, or a damaged one ({detail}).",
            "Write or download the file again.",
        ) from error


# --- writing --------------------------------------------------------------------------------------


class AnswerWriter(Protocol):
    """Takes rows and their answers, a batch at a time."""

    def write(
        self, carried: pa.Table | list[dict[str, Any]], answers: dict[str, pa.Array]
    ) -> None: ...

    def close(self) -> None: ...


Target = Callable[[list[str], list[str]], AnswerWriter]


@contextmanager
def _target(output: Output, scratch: Path) -> Iterator[Target]:
    """What makes a writer of columns and names of answers. The output appears when the block ends
    well.
    """
    if output.name == _TO_STDOUT:
        yield lambda columns, names: _writer(output.stdout_format, output.stdout, columns, names)
        return
    format, compression = name_parts(output.name)
    if format not in ("csv", "jsonl", "parquet") or (format == "parquet" and compression):
        raise NoisefoldError(
            f"--output {shown_url(output.name)}: the name does not tell the format.",
            "Let it end in .csv, .jsonl (each also with .gz or .zst) or .parquet; - is standard "
            "output.",
        )
    with output_file(output.name, scratch, output.force) as path, ExitStack() as opened:
        if format == "parquet":
            yield lambda columns, names: _ParquetWriter(path, columns)
            return
        stream = opened.enter_context(compressed(path, compression))
        text = opened.enter_context(io.TextIOWrapper(stream, encoding="utf-8", newline=""))
        yield lambda columns, names: _writer(format, text, columns, names)


@contextmanager
def output_file(output: str, scratch: Path, force: bool) -> Iterator[Path]:
    """A temporary file that takes its place when all is written: beside it, or (elsewhere) by an
    upload.
    """
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(resolve(output))
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else {*fs.protocol}
        if protocols & {"http", "https"}:
            raise ValueError("a web server takes no files")
        there = fs.exists(path)
    except NoisefoldError:
        raise
    except (ValueError, ImportError) as error:
        raise NoisefoldError(
            f"--output {shown_url(output)}: {error}.",
            "Give a path, or a URL that fsspec can write to.",
        ) from None
    if there and not force:
        raise NoisefoldError(
            f"{shown_url(output)} is there already.",
            "Choose another name, or replace it by --force.",
        )
    local, target = bool(protocols & {"file", "local"}), Path(path)
    temporary = (
        target.with_name(f".{target.name}.{os.getpid()}.part") if local else scratch / "output"
    )
    with ExitStack() as opened:
        with _writable(output):
            temporary.touch()
        opened.callback(lambda: temporary.unlink(missing_ok=True))
        try:
            yield temporary
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _unwritable(output, error) from error
            raise  # of the input
        with _writable(output):
            os.replace(temporary, target) if local else fs.put_file(str(temporary), path)


@contextmanager
def _writable(output: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(output, error) from error


def _unwritable(output: str, error: OSError) -> NoisefoldError:
    return NoisefoldError(
        f"--output {shown_url(output)} cannot be written "
        f"({error.strerror or redacted(str(error))}).",
        "Name a folder that is there, that this user may write and that has space.",
    )


@contextmanager
def compressed(path: Path, compression: str | None) -> Iterator[IO[bytes]]:
    with path.open("wb") as plain:
        if compression == "gzip":
            with gzip.GzipFile(fileobj=plain, mode="wb", mtime=0) as stream:
                yield cast(IO[bytes], stream)
        elif compression == "zstd":
            import zstandard

            with zstandard.ZstdCompressor().stream_writer(plain, closefd=False) as stream:
                yield stream
        else:
            yield plain


def _writer(format: str, stream: TextIO, columns: list[str], names: list[str]) -> AnswerWriter:
    return _JsonlWriter(stream) if format == "jsonl" else _CsvWriter(stream, columns, names)


class _JsonlWriter:
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, carried: pa.Table | list[dict[str, Any]], answers: dict[str, pa.Array]) -> None:
        records = carried if isinstance(carried, list) else carried.to_pylist()
        for record, answer in zip(records, pa.table(answers).to_pylist(), strict=True):
            self.stream.write(_json_line({**record, **answer}) + "\n")

    def close(self) -> None:
        self.stream.flush()


class _CsvWriter:
    """RFC 4180. Python's csv module leaves a carriage return unquoted where its lines end in a line
    feed alone.
    """

    def __init__(self, stream: TextIO, columns: list[str], names: list[str]) -> None:
        self.stream, self.columns = stream, columns
        self._line([*columns, *names])

    def write(self, carried: pa.Table | list[dict[str, Any]], answers: dict[str, pa.Array]) -> None:
        records = carried if isinstance(carried, list) else carried.to_pylist()
        for record, answer in zip(records, pa.table(answers).to_pylist(), strict=True):
            self._line(
                [
                    *(_as_text(record.get(name)) for name in self.columns),
                    *map(_as_text, answer.values()),
                ]
            )

    def _line(self, cells: Sequence[str | None]) -> None:
        quoted = (
            '"' + cell.replace('"', '""') + '"'
            if any(c in cell for c in ',"\r\n') or cell != cell.strip()
            else cell
            for cell in (cell or "" for cell in cells)
        )
        self.stream.write(",".join(quoted) + "\n")

    def close(self) -> None:
        self.stream.flush()


class _ParquetWriter:
    """Columns of a Parquet file keep their types; what JSON records hold becomes text: no schema
    stands for it.
    """

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path, self.columns = path, columns
        self._file: pq.ParquetWriter | None = None
        self._held: list[pa.Table] = []

    def write(self, carried: pa.Table | list[dict[str, Any]], answers: dict[str, pa.Array]) -> None:
        if isinstance(carried, list):
            texts = {
                name: [_as_text(record.get(name)) for record in carried] for name in self.columns
            }
            table = pa.table(
                {name: pa.array(values, pa.string()) for name, values in texts.items()}
            )
        else:
            table = carried
        for name, column in answers.items():
            table = table.append_column(name, column)
        self._held.append(table)
        # Row groups of some size: a reader pays for each of them.
        if (
            sum(one.num_rows for one in self._held) >= 50_000
            or sum(one.nbytes for one in self._held) >= 1 << 25
        ):
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        table, self._held = pa.concat_tables(self._held), []
        if self._file is None:
            self._file = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        self._file.write_table(table)

    def close(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()


def _as_text(value: Any) -> str | None:
    """A value as a cell of text: numbers as the pipeline reads them, lists and objects as JSON."""
    if value is None or isinstance(value, str):
        return None if value is None else _SURROGATES.sub("\ufffd", value)
    if isinstance(value, bool | int | float | Decimal):
        return plain_text(value)
    return _json_line(value) if isinstance(value, dict | list) else str(value)


def _json_line(value: Any) -> str:
    text = json.dumps(_finite(value), ensure_ascii=False, default=str)
    return json.dumps(_finite(value), default=str) if _SURROGATES.search(text) else text


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def spool(stream: IO[bytes], folder: Path, format: Format) -> Path:
    """Standard input as a file: a table is read more than once."""
    path = folder / f"stdin.{format}"
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    return path
