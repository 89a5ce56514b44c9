"""A table with a model's answers, written whole or not at all: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import errno
import gzip
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Protocol, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import NoisefoldError
from data_contracts.tables.batch import plain_text
from data_contracts.tables.read import Format, name_parts
from data_contracts.urls import redacted, resolve, shown_url
from tasks.serving.asked_rows import SURROGATES

_TO_STDOUT = "-"


@dataclass(frozen=True)
class Output:
    """Where a table with answers goes: a path or URL whose name tells the format; "-" is `stdout`.

    force: replace what is there.
    """

    name: str
    force: bool
    stdout: TextIO
    stdout_format: Format = "csv"


def answer_names(
    columns: Sequence[str], outputs: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
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


# --- writing --------------------------------------------------------------------------------------


class AnswerWriter(Protocol):
    """Takes rows and their answers, a batch at a time."""

    def write(
        self, carried: pa.Table | list[dict[str, Any]], answers: dict[str, pa.Array]
    ) -> None: ...

    def close(self) -> None: ...


Target = Callable[[list[str], list[str]], AnswerWriter]


@contextmanager
def answer_file(output: Output, scratch: Path) -> Iterator[Target]:
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
            self.stream.write(json_line({**record, **answer}) + "\n")

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
        return None if value is None else SURROGATES.sub("\ufffd", value)
    if isinstance(value, bool | int | float | Decimal):
        return plain_text(value)
    return json_line(value) if isinstance(value, dict | list) else str(value)


def json_line(value: Any) -> str:
    """JSON on one line, without what JSON has no word for."""
    text = json.dumps(_finite(value), ensure_ascii=False, default=str)
    return json.dumps(_finite(value), default=str) if SURROGATES.search(text) else text


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
