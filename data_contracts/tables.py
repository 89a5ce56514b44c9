"""CSV, JSON Lines and Parquet as Arrow batches of text columns, each row with its number in the file.

Works on an open binary stream and knows nothing of disks or networks. Memory is bounded by one batch. Every fault is a
`SourceError` that names the file and the row or column; an error of the stream itself (a lost connection) passes
through as it is. Lines, cells, columns and the expansion of compressed data are bounded (`table_batch`). Rows count
from 1: records without the header in CSV, lines in JSON Lines.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any, Literal

from data_contracts.errors import SourceError
from data_contracts.table_batch import FREE_EXPANSION, MAX_EXPANSION, Batch, Place, bad_encoding
from data_contracts.table_parquet import read_parquet
from data_contracts.table_text import read_csv, read_jsonl

Format = Literal["csv", "jsonl", "parquet"]
EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_NO_ENCODINGS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


def name_parts(name: str) -> tuple[Format | None, str | None]:
    """Format and compression as the end of a file name tells them: `a.csv.gz` → ("csv", "gzip")."""
    stem = name.lower()
    compression = next((kind for end, kind in COMPRESSIONS.items() if stem.endswith(end)), None)
    if compression:
        stem = stem.rpartition(".")[0]
    return next((kind for end, kind in EXTENSIONS.items() if stem.endswith(end)), None), compression


def read_batches(
    stream: IO[bytes],
    name: str,
    *,
    format: Format,
    columns: Sequence[str] | None = None,
    text: str | None = None,
    encoding: str = "utf-8",
    batch_rows: int = 50_000,
) -> Iterator[Batch]:
    """Read an uncompressed stream (a seekable one for Parquet).

    Args:
        name: what to call the file in errors.
        columns: the ones to read, all of which must be there; None reads every column.
        text: the one among them that must hold strings; others may hold numbers, which become decimal text.
    """
    place = Place(name, encoding=encoding)
    readers = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet}
    source = stream if format == "parquet" else _decoded(stream, place)
    try:
        yield from readers[format](source, place, columns, text, batch_rows)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"the compressed data end early or are damaged after row {place.row} ({error})"
        raise SourceError(f"{name}: {what}.", "Write or download the file again.") from error
    except UnicodeError as error:  # of some codecs also the plain one, as at a missing byte order mark
        raise bad_encoding(place, place.row + 1) from error
    finally:
        if isinstance(source, io.TextIOWrapper):
            source.detach()  # the stream is its opener's to close


def _decoded(stream: IO[bytes], place: Place) -> io.TextIOWrapper:
    try:
        info = codecs.lookup(place.encoding)
        # Python's codecs are more than text encodings: zlib, idna, or escapes that Python's own source uses.
        if not getattr(info, "_is_text_encoding", True) or info.name in _NO_ENCODINGS:
            raise LookupError
        codec = info.name
    except (LookupError, ValueError):  # ValueError: a NUL in it
        raise SourceError(
            f"{place.file}: no text encoding is called {place.encoding!r}.",
            "Set source.encoding, for example to utf-8.",
        ) from None
    codec = "utf-8-sig" if codec == "utf-8" else codec  # spreadsheets put a byte order mark first
    # newline="\n" for JSON Lines and "" for csv would both keep U+0085 and U+2028 inside their line; "" suits csv.
    return io.TextIOWrapper(stream, encoding=codec, errors="surrogateescape", newline="")


def decompressed(stream: IO[bytes], compression: str | None, name: str) -> IO[bytes]:
    """The plain bytes of a gzip or zstd stream; one that ends early raises EOFError, also in zstd.

    Memory is bounded by a buffer, however far the data expand, and so is the expansion.
    Raises:
        SourceError: while it is read, where it expands as no text does; `name` is what the message calls it.
    """
    if compression is None:
        return stream
    counted = _Counted(stream)
    if compression == "gzip":
        plain: Any = gzip.GzipFile(fileobj=counted, mode="rb")  # type: ignore[arg-type]
    else:
        plain = _Chunks(_zstd_chunks(counted))
    return io.BufferedReader(_Bounded(plain, counted, name), 1 << 18)


class _Counted:
    """A stream that counts the bytes it gave."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.bytes = stream, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.bytes += len(data)
        return data


class _Bounded(io.RawIOBase):
    """What comes out of a decompressor, as long as it stands in a proportion to what went in."""

    def __init__(self, plain: Any, compressed: _Counted, name: str) -> None:
        self._plain, self._compressed, self._name, self._bytes = plain, compressed, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._plain.readinto(buffer)
        self._bytes += count
        if self._bytes > MAX_EXPANSION * self._compressed.bytes + FREE_EXPANSION:
            raise SourceError(
                f"{self._name}: its {self._compressed.bytes:,} bytes expand more than {MAX_EXPANSION} times.",
                "No text does. If these are your data, give them uncompressed.",
            )
        return count


class _Chunks(io.RawIOBase):
    """A readable stream over an iterator of byte strings."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _zstd_chunks(stream: _Counted) -> Iterator[bytes]:
    # zstandard's own stream_reader ends a truncated frame in silence, as if the data were complete.
    import zstandard

    decompressor, frame = zstandard.ZstdDecompressor(), None
    # A block of 4 bytes may hold 128 KiB, and what is fed at once comes out at once: small pieces bound the memory.
    while data := stream.read(1 << 8):
        while data:
            if frame is None:
                frame = decompressor.decompressobj()
            try:
                yield frame.decompress(data)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from error
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise EOFError("the last zstd frame is not complete")
