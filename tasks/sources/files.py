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
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from data_contracts.contract.contract import Split
from data_contracts.contract.days import Days
from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.recipe import FileSource
from data_contracts.tables.batch import Batch
from data_contracts.tables.packed import decompressed, unzipped
from data_contracts.tables.read import (
    Format,
    name_parts,
    other_kind,
    read_batches,
    unknown_format,
    usual_separator,
)
from data_contracts.urls import redacted, resolve, shown_url
from tasks.sources.dated_files import Found, below, chosen, fixed_window, governed

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
class Opened:
    """The plain bytes of a file, what they are, and what stands between the cells where that is CSV."""

    stream: IO[bytes]
    format: Format
    separator: str


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is how rows and errors call it: the shortest ending of its path that is unique."""

    fs: Any
    path: str
    name: str
    format: Format | None  # None: of a zip, which the file in it tells
    compression: str | None
    split: Split | None
    days: Days | None = None  # told by its name, where a window chose it by that

    @property
    def remote(self) -> bool:
        return not _is_local(self.fs)

    @contextmanager
    def open(self, scratch: Path | None) -> Iterator[Opened]:
        """The uncompressed bytes; seekable for Parquet, for which a remote or compressed file is spooled to disk."""
        with contextlib.ExitStack() as stack, _reaching(self.path, self.name):
            # block_size=0: one streamed GET; fsspec's range requests fail on servers that do not know them.
            options = {"block_size": 0} if _is_http(self.fs) else {}
            stream: IO[bytes] = stack.enter_context(self.fs.open(self.path, "rb", **options))
            name, format, compression = self.name, self.format, self.compression
            if compression == "zip":
                stream = _spooled(stream, self.name, scratch, stack) if self.remote else stream
                inner, stream = stack.enter_context(
                    unzipped(stream, self.name, lambda one: name_parts(one)[0] is not None)
                )
                by_name, compression = name_parts(inner)
                format = format or by_name
                if format is None or compression == "zip":
                    raise unknown_format(f"{self.name}: {inner}", inner)
                name = inner if by_name else name
            stream = decompressed(stream, compression, self.name)
            if format == "parquet" and (self.remote or self.compression):
                stream = _spooled(stream, self.name, scratch, stack)
            yield Opened(stream, format, usual_separator(name))  # type: ignore[arg-type]

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
    optional: Sequence[str] = (),
    label_values: Sequence[str] | None = None,
) -> Iterator[tuple[SourceFile, Batch]]:
    """The rows of a source in reading order: what everything that looks at rows reads them through.

    Args:
        columns: the ones to read, all of which must be there; None reads every column that can be shown as text.
        text: the one that must hold strings.
        label: the one that holds the label, which is given as `data_contracts.tables.labels` spells it.
        max_rows_per_file: stop each file after so many rows.
        scratch: where a remote or compressed file that must be seekable is put; None: the system's temporary folder.
        optional: further columns, read where they are there.
        label_values: the labels that are known (`data_contracts.tables.read.read_batches`).
    Raises:
        SourceError: naming file and row or column.
    """
    for file in list_files(source):
        left = max_rows_per_file
        with file.open(scratch) as opened:
            batches = read_batches(
                opened.stream,
                file.name,
                format=opened.format,
                columns=columns,
                text=text,
                label=label,
                encoding=source.encoding,
                separator=source.separator,
                usual=opened.separator,
                optional=optional,
                label_values=label_values,
                batch_rows=batch_rows if left is None else min(batch_rows, left),
            )
            with contextlib.closing(batches):
                for batch in batches:
                    yield file, batch if left is None else batch.first(left)
                    left = None if left is None else left - len(batch.rows)
                    if left is not None and left <= 0:
                        break


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


def list_files(source: FileSource) -> list[SourceFile]:
    """The files of a source in reading order: by split as given, then by the days that a window read, then by name.

    So a later day is read later however its name is spelled, and its labels correct earlier ones.

    Raises:
        SourceError: where a file is missing, a folder or glob holds none, a name tells no format, or a window is set
            and a name does not tell a day.
    """
    urls: dict[Split | None, str] = (
        dict(source.url) if isinstance(source.url, dict) else {None: source.url}
    )  # type: ignore[arg-type]
    window = fixed_window(source)
    found = {split: _expand(url, source) for split, url in urls.items()}
    days = {split: chosen(one, window) for split, one in found.items()}
    if window is not None:
        governed(found, days)
    files = [
        replace(_describe(found[split].fs, path, split, source.format), days=told)
        for split, paths in days.items()
        for path, told in sorted(paths.items(), key=_reading_order)
    ]
    names = _short_names([file.name for file in files])
    return [replace(file, name=name) for file, name in zip(files, names, strict=True)]


def _reading_order(file: tuple[str, Days | None]) -> tuple[date, str]:
    path, days = file
    return days.last if days is not None else date.min, path


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
        listed = (
            fs.glob(path)
            if not folder
            else fs.ls(path, detail=False)
            if window is None
            else below(fs, path)
        )
        found = sorted(one for one in listed if fs.isfile(one))
    what = "folder" if folder else "glob"
    base = path if folder else re.split(r"[^/]*[*?\[]", path)[0]
    if _is_local(fs):
        _refuse_links_out(Path(base).resolve(), found, f"{what} {shown}")
    _refuse_saved_data_sets(found, f"{what} {shown}")
    known = [one for one in found if _wanted(one, source.format)]
    if not known:
        there = (
            f"; it holds {', '.join(PurePosixPath(one).name for one in found[:5])}" if found else ""
        )
        others = [
            told for one in found if (told := other_kind(PurePosixPath(one).name)) is not None
        ]
        remedy = unknown_format("", "").remedy
        if folder and (
            folders := sorted(PurePosixPath(one).name for one in set(listed) - set(found))
        ):
            there += f"{', and' if found else '; it holds'} the folders {', '.join(folders[:5])}"
            remedy += f" Files in folders are named by a glob: {shown.rstrip('/')}/*/*."
        raise SourceError(
            f"{what} {shown}: no file of a known kind{there}.", others[0][1] if others else remedy
        )
    return Found(fs, tuple(known), base.rstrip("/"), f"{what} {shown}", placed)


def _refuse_saved_data_sets(found: list[str], what: str) -> None:
    """A folder of Hugging Face's datasets holds JSON that is no data, and Arrow files that are."""
    names = {PurePosixPath(one).name for one in found}
    if "dataset_dict.json" in names or {"state.json", "dataset_info.json"} <= names:
        raise SourceError(
            f"{what} is a data set that Hugging Face's datasets saved (save_to_disk), in Arrow's own format.",
            "Write a Parquet file of each split: datasets.load_from_disk(path)['train'].to_parquet('train.parquet').",
        )


def left_aside(source: FileSource) -> list[str]:
    """Files of the source's folders and globs that may hold rows and are not read, each with what it is."""
    found: list[str] = []
    for url in [source.url] if isinstance(source.url, str) else source.url.values():
        fs, path = _filesystem(url)
        if _is_http(fs) or source.format != "auto":
            continue
        with _reaching(path, shown_url(url)):
            there = (
                fs.ls(path, detail=False)
                if fs.isdir(path)
                else fs.glob(path)
                if _SPECIAL.search(path)
                else []
            )
        for one in sorted(there):
            name = PurePosixPath(one).name
            if name.startswith((".", "_")):
                continue
            if name_parts(name)[0] is not None:
                found += [f"{name} (a folder)"] if _is_local(fs) and fs.isdir(one) else []
            elif (kind := other_kind(name)) is not None:
                found.append(f"{name} ({kind[0]})")
    return found


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
    kind, compression = name_parts(name)
    known = format != "auto" or kind is not None or compression == "zip"
    return (
        known and not name.startswith((".", "_")) and name != "dataset_infos.json"
    )  # Hugging Face's, beside the data


def _describe(fs: Any, path: str, split: Split | None, format: str) -> SourceFile:
    plain = unquote(urlsplit(path).path) if _is_http(fs) else path
    by_name, compression = name_parts(plain)
    kind = by_name if format == "auto" else format
    if kind is None and compression != "zip":
        raise unknown_format(shown_url(path), plain)
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
        raise SourceError(cause, "Give a path, or a URL that fsspec can open.") from _harmless(
            error
        )


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _is_local(fs: Any) -> bool:
    return bool({"file", "local"} & set(_protocols(fs)))


def _is_http(fs: Any) -> bool:
    return bool({"http", "https"} & set(_protocols(fs)))


def _missing(shown: str) -> SourceError:
    return SourceError(
        f"{shown}: no such file or folder.",
        "Check source.url; a relative path starts at the recipe's folder.",
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
        cause = (
            error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        )
        status, shown, told = getattr(cause, "status", None), shown_url(path), _harmless(error)
        if isinstance(cause, FileNotFoundError) or status in (404, 410):
            raise _missing(shown) from told
        if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
            raise SourceError(
                f"{shown}: the server refuses it (HTTP {status}).", "Check the URL and its access."
            ) from told
        if isinstance(cause, (PermissionError, IsADirectoryError, NotADirectoryError)):
            raise SourceError(
                f"{shown}: cannot be read ({os.strerror(cause.errno or 0)}).",
                "Check its permissions.",
            ) from told
        if type(cause).__module__.partition(".")[0] == "aiohttp" or isinstance(cause, TimeoutError):
            detail = f"HTTP {status}" if status else redacted(str(cause)) or type(cause).__name__
            raise ConnectionError(f"{shown} cannot be reached or was cut off: {detail}") from told
        if told is None:
            raise ConnectionError(
                f"{shown}: {type(error).__name__}: {redacted(str(error))}"
            ) from None
        raise


def _harmless(error: BaseException) -> BaseException | None:
    """The error as the cause of another, whose traceback shows it; None where it or its causes tell a secret."""
    chain: BaseException | None = error
    while chain is not None:
        if redacted(str(chain)) != str(chain):
            return None
        chain = chain.__cause__ or chain.__context__
    return error
