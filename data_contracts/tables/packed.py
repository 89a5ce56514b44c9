"""Compressed files: their plain bytes, in a bounded memory, as long as they expand no further than
text does.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, cast

from data_contracts.errors import SourceError
from data_contracts.tables.batch import FREE_EXPANSION, MAX_EXPANSION

COMPRESSIONS = {
    ".gz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zip": "zip",
}
_LZMA_MEMORY = 1 << 27  # bytes; xz -9 needs half of it
_MAX_CONTENTS = 1 << 20  # bytes of a zip's table of contents
_PIECE = 1 << 16


def decompressed(stream: IO[bytes], compression: str | None, name: str) -> IO[bytes]:
    """The plain bytes of a gzip, zstd, bzip2 or xz stream; one that ends early raises EOFError,
    also in zstd.

    Memory is bounded by a buffer, however far the data expand, and so is the expansion.
    Raises:
        SourceError: while it is read, where it expands as no text does; `name` is what the message
            calls it.
    """
    if compression is None:
        return stream
    counted = _Counted(stream)
    if compression == "gzip":
        plain: Any = gzip.GzipFile(fileobj=cast(Any, counted), mode="rb")
    elif compression == "zstd":
        plain = _Chunks(_zstd_chunks(counted))
    elif compression == "bzip2":
        plain = _Chunks(_chunks(counted, bz2.BZ2Decompressor))
    elif compression == "xz":
        plain = _Chunks(
            _chunks(counted, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY))
        )
    else:
        raise ValueError(f"{name}: {compression} is no stream; a zip file is opened by `unzipped`")
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
                f"{self._name}: its {self._compressed.bytes:,} bytes expand more than "
                f"{MAX_EXPANSION} times.",
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


def _chunks(stream: _Counted, decompressor_of: Callable[[], Any]) -> Iterator[bytes]:
    """What bzip2's and xz's decompressors give, piece by piece, over streams that follow one
    another.
    """
    decompressor = None
    data = stream.read(_PIECE)
    while data:
        if decompressor is None:
            data = data.lstrip(b"\0") if data[:4] == b"\0\0\0\0" else data  # xz pads its streams
            if not data:
                data = stream.read(_PIECE)
                continue
            decompressor = decompressor_of()
        try:
            yield decompressor.decompress(data, _PIECE)
            while not decompressor.eof and not decompressor.needs_input:
                yield decompressor.decompress(b"", _PIECE)
        except (
            OSError,
            lzma.LZMAError,
        ) as error:  # bz2's OSError has no errno: it is of the data, not of the disk
            raise EOFError(str(error)) from error
        data = b""
        if decompressor.eof:
            data, decompressor = decompressor.unused_data, None
        data = data or stream.read(_PIECE)
    if decompressor is not None:
        raise EOFError("the last stream is not complete")


def _zstd_chunks(stream: _Counted) -> Iterator[bytes]:
    # zstandard's own stream_reader ends a truncated frame in silence, as if the data were complete.
    import zstandard

    decompressor, frame = zstandard.ZstdDecompressor(), None
    # A block of 4 bytes may hold 128 KiB, and what is fed at once comes out at once: small pieces
    # bound the memory.
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


@contextmanager
def unzipped(
    stream: IO[bytes], name: str, knows: Callable[[str], bool]
) -> Iterator[tuple[str, IO[bytes]]]:
    """The one data file of a zip: its name and its plain bytes.

    Args:
        stream: seekable.
        name: what the messages call the zip.
        knows: whether a file of such a name is a data file; where none is, the only file there is
            is taken.
    Raises:
        SourceError: where there are several, or none, or one that is encrypted or packed by a rare
            method.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if not size:
        raise SourceError(f"{name}: the file is empty.", "Check the export that writes it.")
    try:
        archive = zipfile.ZipFile(_Modest(stream, name))
    except (
        zipfile.BadZipFile,
        ValueError,
        OverflowError,
        NotImplementedError,
        UnicodeError,
    ) as error:
        raise SourceError(
            f"{name}: no zip file, or a damaged one ({error}).", "Write or download it again."
        ) from None
    with archive:
        member = _only_member(archive.infolist(), name, knows)
        try:
            plain = archive.open(member)
        except (
            zipfile.BadZipFile,
            ValueError,
            OverflowError,
            NotImplementedError,
            UnicodeError,
        ) as error:
            raise SourceError(
                f"{name}: a damaged zip file ({error}).", "Write or download it again."
            ) from None
        compressed = _Counted(stream)
        compressed.bytes = size
        yield (
            PurePosixPath(member.filename).name,
            io.BufferedReader(_Bounded(plain, compressed, name), 1 << 18),
        )


def _only_member(
    members: Sequence[zipfile.ZipInfo], name: str, knows: Callable[[str], bool]
) -> zipfile.ZipInfo:
    files = [
        one for one in members if one.filename and not one.is_dir() and not _hidden(one.filename)
    ]
    data = [one for one in files if knows(one.filename)] or files
    if len(data) != 1:
        there = ", ".join(one.filename[:100] for one in data[:5]) + (" …" if len(data) > 5 else "")
        what = f"holds {len(data):,} files ({there})" if data else "holds no file"
        raise SourceError(
            f"{name} {what}; one data file is read from a zip.",
            "Unpack it: a folder of files is read as it is; or pack each file by itself.",
        )
    [member] = data
    if member.flag_bits & 0x1:
        raise SourceError(
            f"{name}: {member.filename[:100]} is encrypted.", "Unpack it, and give the file itself."
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourceError(
            f"{name}: {member.filename[:100]} is packed by a method that is not read (number "
            f"{member.compress_type}).",
            "Pack it in the usual way (deflate), or as .gz.",
        )
    return member


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(path).parts)


class _Modest:
    """A seekable stream of which none reads much at once, as zipfile does where a file says so."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name
        self.seek, self.tell, self.close = stream.seek, stream.tell, lambda: None

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_CONTENTS:
            raise SourceError(
                f"{self._name}: its table of contents is too long.", "Give the data file itself."
            )
        return self._stream.read(size if size >= 0 else _MAX_CONTENTS)
