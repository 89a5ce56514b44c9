"""Text files whose lines belong together by their numbers, one file for each role of a contract."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from data_contracts.contract.contract import Split
from data_contracts.errors import SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.tables.batch import Ask, Batch
from data_contracts.tables.parallel import Side, read_parallel
from data_contracts.tables.read import PLAIN_TEXT, is_table
from data_contracts.urls import shown_url
from tasks.sources.reach import filesystem, is_http, missing, reaching
from tasks.sources.source_file import SourceFile, described, with_short_names


def list_parallel_files(source: FileSource) -> list[SourceFile]:
    """The files by split, each with its role.

    Raises:
        SourceError: where one is missing, or is a folder, a glob or a table.
    """
    files = [
        _file(url, split, role, source)
        for split, urls in source.by_split.items()
        if isinstance(urls, dict)
        for role, url in urls.items()
    ]
    return with_short_names(files)


def _file(url: str, split: Split | None, role: str, source: FileSource) -> SourceFile:
    fs, path = filesystem(url)
    shown = shown_url(url)
    if not is_http(fs):
        with reaching(path, shown):
            there, folder = fs.exists(path), fs.isdir(path)
        pattern = not there and any(mark in path for mark in "*?[")
        if folder or pattern:
            raise SourceError(
                f"{shown} is a {'folder' if folder else 'glob'}, and source.url names a file for "
                f"each of {', '.join(source.roles)}, whose lines belong together.",
                f"Name the one file of {role}; join several in the same order first (cat).",
            )
        if not there:
            raise missing(shown)
    if source.format == "auto" and is_table(path):
        raise SourceError(
            f"{shown} is a table by its name, and source.url names a text file for each of "
            f"{', '.join(source.roles)}, whose lines belong together.",
            "Where one table holds them all, give it as source.url and name its columns in the "
            "contract; where the file is text, set source.format: text.",
        )
    return replace(described(fs, path, split, PLAIN_TEXT), role=role)


def read_side_by_side(
    files: Sequence[SourceFile],
    source: FileSource,
    ask: Ask,
    most: int | None,
    scratch: Path | None,
) -> Generator[tuple[SourceFile, Batch]]:
    """The rows of each split's files, under the names of all of them.

    Args:
        most: rows of each split; the lines that follow are only counted.
    """
    for _, group in groupby(files, key=lambda file: file.split):
        together = list(group)
        named = replace(together[0], name="+".join(file.name for file in together), role=None)
        with contextlib.ExitStack() as stack:
            sides = [
                Side(file.role or "", file.name, stack.enter_context(file.open(scratch)).stream)
                for file in together
            ]
            batches = read_parallel(sides, ask, encoding=source.encoding, most=most)
            with contextlib.closing(batches):
                for batch in batches:
                    yield named, batch
