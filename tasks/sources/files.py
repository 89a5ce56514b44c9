"""Finding, naming and opening the files of a source, wherever fsspec reaches.

A missing file is the user's to mend (`SourceError`); a server that does not answer may answer
later, so it stays an `OSError` (`ConnectionError`), which the task retries.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from dataclasses import replace
from datetime import date
from pathlib import Path, PurePosixPath

from data_contracts.contract.contract import Split
from data_contracts.contract.days import Days
from data_contracts.errors import SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.tables.batch import EVERYTHING, Ask, Batch
from data_contracts.tables.read import (
    PLAIN_TEXT,
    is_table,
    name_parts,
    other_kind,
    read_batches,
    unknown_format,
)
from data_contracts.urls import shown_url
from tasks.sources.dated_files import FoundFiles, below, chosen, fixed_window, governed
from tasks.sources.parallel import list_parallel_files, read_side_by_side
from tasks.sources.reach import filesystem, is_http, is_local, missing, reaching
from tasks.sources.source_file import SourceFile, described, with_short_names

_SPECIAL = re.compile(r"[*?\[]")


def read_rows(
    source: FileSource,
    ask: Ask = EVERYTHING,
    *,
    max_rows_per_file: int | None = None,
    scratch: Path | None = None,
) -> Generator[tuple[SourceFile, Batch]]:
    """The rows of a source in reading order: what everything that looks at rows reads them through.

    Args:
        ask: what of its tables; separators are the source's own to say.
        max_rows_per_file: stop each file after so many rows.
        scratch: where a remote or compressed file that must be seekable is put; None: the system's
            temporary folder.
    Raises:
        SourceError: naming file and row or column.
    """
    ask = replace(ask, separator=source.separator, documents=source.documents)
    if max_rows_per_file is not None:
        ask = replace(ask, batch_rows=min(ask.batch_rows, max_rows_per_file))
    files = list_files(source)
    if source.roles:
        yield from read_side_by_side(files, source, ask, max_rows_per_file, scratch)
        return
    for file in files:
        left = max_rows_per_file
        with file.open(scratch) as opened:
            if source.says_documents and opened.format != PLAIN_TEXT:
                raise SourceError(
                    f"source.documents says what of plain text is a row, and {file.name} is "
                    f"{opened.format}.",
                    "Leave it out, or set source.format: text.",
                )
            batches = read_batches(
                opened.stream,
                file.name,
                replace(ask, usual_separator=opened.separator),
                format=opened.format,
                encoding=source.encoding,
            )
            with contextlib.closing(batches):
                for batch in batches:
                    yield file, batch if left is None else batch.first(left)
                    left = None if left is None else left - len(batch.rows)
                    if left is not None and left <= 0:
                        break


def list_files(source: FileSource) -> list[SourceFile]:
    """The files of a source in reading order: by split as given, then by the days that a window
    read, then by name.

    So a later day is read later however its name is spelled, and its labels correct earlier ones.

    Raises:
        SourceError: where a file is missing, a folder or glob holds none, a name tells no format,
            or a window is set and a name does not tell a day.
    """
    if source.roles:
        return list_parallel_files(source)
    window = fixed_window(source)
    found: dict[Split | None, FoundFiles] = {
        split: _expand(url, source)
        for split, url in source.by_split.items()
        if isinstance(url, str)
    }
    days: dict[Split | None, dict[str, Days | None]] = {
        split: chosen(one, window) for split, one in found.items()
    }
    if window is not None:
        governed(found, days)
    files = [
        replace(described(found[split].fs, path, split, source.format), days=told)
        for split, paths in days.items()
        for path, told in sorted(paths.items(), key=_reading_order)
    ]
    return with_short_names(files)


def _reading_order(file: tuple[str, Days | None]) -> tuple[date, str]:
    path, days = file
    return days.last if days is not None else date.min, path


def _expand(url: str, source: FileSource) -> FoundFiles:
    window, placed = fixed_window(source), False
    if window is not None:
        filled = url.replace("{start}", str(window.first)).replace("{end}", str(window.last))
        url, placed = filled, filled != url
    fs, path = filesystem(url)
    shown = shown_url(url)
    with reaching(path, shown):
        if is_http(fs):  # no listing there, and `?` starts the query
            return FoundFiles(fs, (path,), None, shown, placed)
        folder = fs.isdir(path)
        if not folder and (fs.exists(path) or not _SPECIAL.search(path)):
            if not fs.exists(path):
                raise missing(shown)
            return FoundFiles(fs, (path,), None, shown, placed)
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
    if is_local(fs):
        _refuse_links_out(Path(base).resolve(), found, f"{what} {shown}")
    _refuse_saved_data_sets(found, f"{what} {shown}")
    known = _known(found, source.format)
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
    return FoundFiles(fs, tuple(known), base.rstrip("/"), f"{what} {shown}", placed)


def _refuse_saved_data_sets(found: list[str], what: str) -> None:
    """A folder of Hugging Face's datasets holds JSON that is no data, and Arrow files that are."""
    names = {PurePosixPath(one).name for one in found}
    if "dataset_dict.json" in names or {"state.json", "dataset_info.json"} <= names:
        raise SourceError(
            f"{what} is a data set that Hugging Face's datasets saved (save_to_disk), in Arrow's "
            f"own format.",
            "Write a Parquet file of each split: "
            "datasets.load_from_disk(path)['train'].to_parquet('train.parquet').",
        )


def left_aside(source: FileSource) -> list[str]:
    """Files of the source's folders and globs that may hold rows and are not read, each with what
    it is.
    """
    found: list[str] = []
    for url in source.urls:
        fs, path = filesystem(url)
        if is_http(fs) or source.format != "auto":
            continue
        with reaching(path, shown_url(url)):
            there = (
                fs.ls(path, detail=False)
                if fs.isdir(path)
                else fs.glob(path)
                if _SPECIAL.search(path)
                else []
            )
        folders = {one for one in there if is_local(fs) and fs.isdir(one)}
        read = _known([one for one in there if one not in folders], source.format)
        for one in sorted(set(there).difference(read)):
            name = PurePosixPath(one).name
            if name.startswith((".", "_")):
                continue
            if one in folders and name_parts(name)[0] is not None:
                found.append(f"{name} (a folder)")
            elif (kind := other_kind(name)) is not None:
                found.append(f"{name} ({kind[0]})")
    return found


def _refuse_links_out(base: Path, found: list[str], what: str) -> None:
    """Who may put a file into a folder must not be able to have any other file of this machine
    read.
    """
    for one in found:
        if not Path(one).resolve().is_relative_to(base):
            raise SourceError(
                f"{what}: {PurePosixPath(one).name} is a link that leads out of it.",
                "Put the file itself there, or name it in source.url.",
            )


def _known(paths: list[str], format: str) -> list[str]:
    """Those that are read. A text beside tables tells of them (readme.txt), and is none itself."""
    known = [one for one in paths if _wanted(one, format)]
    tables = [one for one in known if is_table(one)] if format == "auto" else []
    return [one for one in known if not tables or name_parts(one)[0] != PLAIN_TEXT]


def _wanted(path: str, format: str) -> bool:
    name = PurePosixPath(path).name
    kind, compression = name_parts(name)
    known = format != "auto" or kind is not None or compression == "zip"
    # Hugging Face's, beside the data.
    return known and not name.startswith((".", "_")) and name != "dataset_infos.json"
