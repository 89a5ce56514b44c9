"""Finding, naming and opening the files of a source, wherever fsspec reaches.

A missing file is the user's to mend (`SourceError`); a server that does not answer may answer later, so it stays an
`OSError` (`ConnectionError`), which the task retries.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from data_contracts.contract import Split
from data_contracts.days import Days
from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe import FileSource
from data_contracts.table_batch import Batch
from data_contracts.tables import EXTENSIONS, Format, decompressed, name_parts, read_batches
from data_contracts.urls import redacted, resolve, shown_url
from tasks.dated_files import Found, below, chosen, fixed_window, governed

_SPECIAL = re.compile(r"[*?\[]")
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
class SourceFile:
    """One file of a source. `name` is how rows and errors call it: the shortest ending of its path that is unique."""

    fs: Any
    path: str
    name: str
    format: Format
    compression: str | None
    split: Split | None
    days: Days | None = None  # told by its name, where a window chose it by that

    @property
    def remote(self) -> bool:
        return not _is_local(self.fs)

    @contextmanager
    def open(self, scratch: Path | None) -> Iterator[IO[bytes]]:
        """The uncompressed bytes; seekable for Parquet, for which a remote or compressed file is spooled to disk."""
        with contextlib.ExitStack() as stack, _reaching(self.path, self.name):
            # block_size=0: one streamed GET; fsspec's range requests fail on servers that do not know them.
            options = {"block_size": 0} if _is_http(self.fs) else {}
            stream: IO[bytes] = decompressed(
                stack.enter_context(self.fs.open(self.path, "rb", **options)), self.compression, self.name
            )
            if self.format == "parquet" and (self.remote or self.compression):
                spool = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
                try:
                    shutil.copyfileobj(stream, spool, 1 << 20)
                except EOFError as error:
                    raise SourceError(
                        f"{self.name}: the compressed data end early ({error}).", "Write or download the file again."
                    ) from error
                stream = spool
            yield stream

    def version(self) -> str:
        """SHA-256 of a local file's bytes; of a remote one what its server says of its version and size."""
        with _reaching(self.path, self.name):
            if self.remote:
                self.fs.invalidate_cache()
                info = self.fs.info(self.path)
                mark = next((f"{key}={info[key]}" for key in _VERSION_KEYS if info.get(key)), None)
                if mark is not None:
                    return f"{mark} size={info.get('size')}"
            sha = hashlib.sha256()
            options = {"block_size": 0} if _is_http(self.fs) else {}
            with self.fs.open(self.path, "rb", **options) as stream:
                while chunk := stream.read(1 << 20):
                    sha.update(chunk)
            return f"sha256={sha.hexdigest()}"


def read_rows(
    source: FileSource,
    *,
    columns: Sequence[str] | None = None,
    text: str | None = None,
    label: str | None = None,
    batch_rows: int = 50_000,
    max_rows_per_file: int | None = None,
    scratch: Path | None = None,
) -> Iterator[tuple[SourceFile, Batch]]:
    """The rows of a source in reading order: what everything that looks at rows reads them through.

    Args:
        columns: the ones to read, all of which must be there; None reads every column that can be shown as text.
        text: the one that must hold strings.
        label: the one that holds the label.
        max_rows_per_file: stop each file after so many rows.
        scratch: where a remote or compressed file that must be seekable is put; None: the system's temporary folder.
    Raises:
        SourceError: naming file and row or column.
    """
    for file in list_files(source):
        left = max_rows_per_file
        with file.open(scratch) as stream:
            batches = read_batches(
                stream,
                file.name,
                format=file.format,
                columns=columns,
                text=text,
                encoding=source.encoding,
                batch_rows=batch_rows if left is None else min(batch_rows, left),
            )
            with contextlib.closing(batches):
                for batch in batches:
                    yield file, batch if left is None else batch.first(left)
                    left = None if left is None else left - len(batch.rows)
                    if left is not None and left <= 0:
                        break


def list_files(source: FileSource) -> list[SourceFile]:
    """The files of a source in reading order: by split as given, then by name.

    Raises:
        SourceError: where a file is missing, a folder or glob holds none, a name tells no format, or a window is set
            and a name does not tell a day.
    """
    urls: dict[Split | None, str] = dict(source.url) if isinstance(source.url, dict) else {None: source.url}  # type: ignore[arg-type]
    window = fixed_window(source)
    found = {split: _expand(url, source) for split, url in urls.items()}
    days = {split: chosen(one, window) for split, one in found.items()}
    if window is not None:
        governed(found, days)
    files = [
        replace(_describe(found[split].fs, path, split, source.format), days=told)
        for split, paths in days.items()
        for path, told in paths.items()
    ]
    names = _short_names([file.name for file in files])
    return [replace(file, name=name) for file, name in zip(files, names, strict=True)]


def _expand(url: str, source: FileSource) -> Found:
    window, placed = fixed_window(source), False
    if window is not None:
        filled = url.replace("{start}", str(window.first)).replace("{end}", str(window.last))
        url, placed = filled, filled != url
    fs, path = _filesystem(url)
    shown = shown_url(url)
    with _reaching(path, shown):
        if _is_http(fs):  # no listing there, and `?` starts the query
            return Found(fs, (path,), None, shown, placed)
        folder = fs.isdir(path)
        if not folder and (fs.exists(path) or not _SPECIAL.search(path)):
            if not fs.exists(path):
                raise _missing(shown)
            return Found(fs, (path,), None, shown, placed)
        listed = fs.glob(path) if not folder else fs.ls(path, detail=False) if window is None else below(fs, path)
        found = sorted(one for one in listed if fs.isfile(one))
    what = "folder" if folder else "glob"
    base = path if folder else re.split(r"[^/]*[*?\[]", path)[0]
    if _is_local(fs):
        _refuse_links_out(Path(base).resolve(), found, f"{what} {shown}")
    known = [one for one in found if _wanted(one, source.format)]
    if not known:
        there = f"; it holds {', '.join(PurePosixPath(one).name for one in found[:5])}" if found else ""
        way = ""
        if folder and (folders := sorted(PurePosixPath(one).name for one in set(listed) - set(found))):
            there += f"{', and' if found else '; it holds'} the folders {', '.join(folders[:5])}"
            way = f" Files in folders are named by a glob: {shown.rstrip('/')}/*/*."
        raise SourceError(
            f"{what} {shown}: no file of a known kind{there}.",
            f"Known endings: {', '.join(EXTENSIONS)}, each also with .gz or .zst; or set source.format.{way}",
        )
    return Found(fs, tuple(known), base.rstrip("/"), f"{what} {shown}", placed)


def _refuse_links_out(base: Path, found: list[str], what: str) -> None:
    """Who may put a file into a folder must not be able to have any other file of this machine read."""
    for one in found:
        if not Path(one).resolve().is_relative_to(base):
            raise SourceError(
                f"{what}: {PurePosixPath(one).name} is a link that leads out of it.",
                "Put the file itself there, or name it in source.url.",
            )


def _wanted(path: str, format: str) -> bool:
    name = PurePosixPath(path).name
    return not name.startswith((".", "_")) and (format != "auto" or name_parts(name)[0] is not None)


def _describe(fs: Any, path: str, split: Split | None, format: str) -> SourceFile:
    plain = unquote(urlsplit(path).path) if _is_http(fs) else path
    by_name, compression = name_parts(plain)
    kind = by_name if format == "auto" else format
    if kind is None:
        raise SourceError(
            f"{shown_url(path)}: the name does not tell the format.",
            f"Known endings: {', '.join(EXTENSIONS)}, each also with .gz or .zst; or set source.format.",
        )
    return SourceFile(fs, path, plain, kind, compression, split)  # type: ignore[arg-type]


def _short_names(paths: list[str]) -> list[str]:
    """The last part of each path, with as many folders before it as make all of them different."""
    parts = [[part for part in path.split("/") if part] or [path] for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(paths)):
            return names
    return paths


def _filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        from aiohttp import ClientTimeout

        # aiohttp ends a request after 5 minutes in all, however well it goes: bound the silence instead.
        timeout = ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    try:
        return url_to_fs(resolve(url), **options)
    except NoisefoldError:
        raise
    except (ValueError, ImportError) as error:
        cause = redacted(f"{shown_url(url)}: {error}.")
        raise SourceError(cause, "Give a path, or a URL that fsspec can open.") from _harmless(error)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _is_local(fs: Any) -> bool:
    return bool({"file", "local"} & set(_protocols(fs)))


def _is_http(fs: Any) -> bool:
    return bool({"http", "https"} & set(_protocols(fs)))


def _missing(shown: str) -> SourceError:
    return SourceError(
        f"{shown}: no such file or folder.", "Check source.url; a relative path starts at the recipe's folder."
    )


@contextmanager
def _reaching(path: str, name: str) -> Iterator[None]:
    """Sorts the faults of reaching a file into those to mend (SourceError) and those that may heal (OSError)."""
    try:
        yield
    except NoisefoldError:
        raise
    except Exception as error:
        # fsspec calls every failed look-up over http FileNotFoundError; its cause tells why.
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        status, shown, told = getattr(cause, "status", None), shown_url(path), _harmless(error)
        if isinstance(cause, FileNotFoundError) or status in (404, 410):
            raise _missing(shown) from told
        if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
            raise SourceError(
                f"{shown}: the server refuses it (HTTP {status}).", "Check the URL and its access."
            ) from told
        if isinstance(cause, (PermissionError, IsADirectoryError, NotADirectoryError)):
            raise SourceError(
                f"{shown}: cannot be read ({os.strerror(cause.errno or 0)}).", "Check its permissions."
            ) from told
        if type(cause).__module__.partition(".")[0] == "aiohttp" or isinstance(cause, TimeoutError):
            detail = f"HTTP {status}" if status else redacted(str(cause)) or type(cause).__name__
            raise ConnectionError(f"{shown} cannot be reached or was cut off: {detail}") from told
        if told is None:
            raise ConnectionError(f"{shown}: {type(error).__name__}: {redacted(str(error))}") from None
        raise


def _harmless(error: BaseException) -> BaseException | None:
    """The error as the cause of another, whose traceback shows it; None where it or its causes tell a secret."""
    chain: BaseException | None = error
    while chain is not None:
        if redacted(str(chain)) != str(chain):
            return None
        chain = chain.__cause__ or chain.__context__
    return error
