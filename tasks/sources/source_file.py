"""One file of a source: how it is called, which version of it there is, and its plain bytes."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import unquote, urlsplit

from data_contracts.contract.contract import Split
from data_contracts.contract.days import Days
from data_contracts.errors import SourceError
from data_contracts.tables.packed import decompressed, unzipped
from data_contracts.tables.read import Format, is_table, name_parts, unknown_format, usual_separator
from data_contracts.urls import shown_url
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
    role: str | None = None  # of parallel files: which part of each row its lines are

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


def described(
    fs: Any, path: str, split: Split | None, format: Format | Literal["auto"]
) -> SourceFile:
    """A file by its path, called by all of it.

    Raises:
        SourceError: where nothing tells its format.
    """
    plain = unquote(urlsplit(path).path) if is_http(fs) else path
    by_name, compression = name_parts(plain)
    kind = by_name if format == "auto" else format
    if kind is None and compression != "zip":
        raise unknown_format(shown_url(path), plain)
    return SourceFile(fs, path, plain, kind, compression, split)


def with_short_names(files: Sequence[SourceFile]) -> list[SourceFile]:
    """The files, each called by the last part of its path, with as many folders before it as make
    all of them different.
    """
    paths = [file.name for file in files]
    names = _short_names(paths)
    return [replace(file, name=name) for file, name in zip(files, names, strict=True)]


def _short_names(paths: list[str]) -> list[str]:
    parts = [[part for part in path.split("/") if part] or [path] for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(paths)):
            return names
    return paths


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
