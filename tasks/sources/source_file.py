"""One file of a source: how it is called, which version of it there is, and its plain bytes."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from data_contracts.contract.contract import Split
from data_contracts.contract.days import Days
from data_contracts.errors import SourceError
from data_contracts.tables.packed import decompressed, unzipped
from data_contracts.tables.read import Format, is_table, name_parts, unknown_format, usual_separator
from tasks.sources.reach import is_http, is_local, reaching

# What different file systems call the mark of a version, strongest first.
_VERSION_KEYS = (
    "ETag",
    "etag",
    "md5",
    "Content-MD5",
    "content_md5",
    "Last-Modified",
    "LastModified",
    "updated",
    "mtime",
)


@dataclass(frozen=True)
class Opened:
    """The plain bytes of a file, what they are, and what stands between the cells where that is
    CSV.
    """

    stream: IO[bytes]
    format: Format
    separator: str


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is how rows and errors call it: the shortest ending of its path
    that is unique.
    """

    fs: Any
    path: str
    name: str
    format: Format | None  # None: of a zip, which the file in it tells
    compression: str | None
    split: Split | None
    days: Days | None = None  # told by its name, where a window chose it by that

    @property
    def remote(self) -> bool:
        return not is_local(self.fs)

    @contextmanager
    def open(self, scratch: Path | None) -> Iterator[Opened]:
        """The uncompressed bytes; seekable for Parquet, for which a remote or compressed file is
        spooled to disk.
        """
        with contextlib.ExitStack() as stack, reaching(self.path, self.name):
            # block_size=0: one streamed GET; fsspec's range requests fail on servers that do not
            # know them.
            options = {"block_size": 0} if is_http(self.fs) else {}
            stream: IO[bytes] = stack.enter_context(self.fs.open(self.path, "rb", **options))
            name, format, compression = self.name, self.format, self.compression
            if compression == "zip":
                stream = _spooled(stream, self.name, scratch, stack) if self.remote else stream
                inner, stream = stack.enter_context(unzipped(stream, self.name, is_table))
                by_name, compression = name_parts(inner)
                format = format or by_name
                if format is None or compression == "zip":
                    raise unknown_format(f"{self.name}: {inner}", inner)
                name = inner if by_name else name
            stream = decompressed(stream, compression, self.name)
            if format == "parquet" and (self.remote or self.compression):
                stream = _spooled(stream, self.name, scratch, stack)
            assert format is not None  # of a zip alone it is left open
            yield Opened(stream, format, usual_separator(name))

    def version(self) -> str:
        """SHA-256 of a local file's bytes; of a remote one what its server says of its version and
        size.
        """
        with reaching(self.path, self.name):
            if self.remote:
                self.fs.invalidate_cache()
                info = self.fs.info(self.path)
                mark = next((f"{key}={info[key]}" for key in _VERSION_KEYS if info.get(key)), None)
                if mark is not None:
                    return f"{mark} size={info.get('size')}"
            sha = hashlib.sha256()
            options = {"block_size": 0} if is_http(self.fs) else {}
            with self.fs.open(self.path, "rb", **options) as stream:
                while chunk := stream.read(1 << 20):
                    sha.update(chunk)
            return f"sha256={sha.hexdigest()}"


def _spooled(
    stream: IO[bytes], name: str, scratch: Path | None, stack: contextlib.ExitStack
) -> IO[bytes]:
    spool: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
    try:
        shutil.copyfileobj(stream, spool, 1 << 20)
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(
            f"{name}: the compressed data end early or are damaged ({error}).",
            "Write or download the file again.",
        ) from error
    spool.seek(0)
    return spool
