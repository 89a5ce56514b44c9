"""Look at the first rows of a source as a retrain would read them, and find out how where nobody
said it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from data_contracts.contract.rows import Found, Rows
from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.reading import describe
from data_contracts.recipe.source import FileSource
from data_contracts.tables.batch import EVERYTHING, Ask
from data_contracts.tables.csv import SEPARATORS
from data_contracts.tables.encoding import Encoding, find_encoding, marked
from data_contracts.tables.read import PLAIN_TEXT
from data_contracts.tables.separator import find_separator
from tasks.sources.files import list_files, read_rows
from tasks.sources.source_file import SourceFile

# Looked at of each file: the limits have headroom, so more rows would hardly move them.
MAX_ROWS = 200_000
MAX_CHARACTERS = 1 << 28  # held of all rows together
SCANNED = 1 << 22  # bytes of a file in which its encoding is looked for
MOST_FILES = 50  # whose encoding is looked for
LINES = 1 << 18  # bytes by which its separator is told


@dataclass(frozen=True)
class Asked:
    """The rows that a person names on the command line, and how to read them; null: found out."""

    url: str | Mapping[str, str | dict[str, str]]
    encoding: str | None = None
    separator: str | None = None
    format: str | None = None
    documents: str | None = None

    def source(self, **found: str) -> FileSource:
        given = {
            "encoding": self.encoding,
            "separator": self.separator,
            "format": self.format,
            "documents": self.documents,
        }
        fields = {**found, **{name: value for name, value in given.items() if value is not None}}
        url = self.url if isinstance(self.url, str) else dict(self.url)
        try:
            return FileSource.model_validate({"url": url, **fields})
        except ValidationError as error:
            raise SourceError(
                f"The source cannot be read so: {describe(error, FileSource)}",
                "See --help for the options.",
            ) from None


@dataclass(frozen=True)
class Seen:
    """What was read, the source that reads it again, and what of it was found out."""

    rows: Rows
    source: FileSource
    found: Found


def look(asked: Asked, most: int = MAX_ROWS) -> Seen:
    """Read the first rows of every file, all columns.

    Raises:
        SourceError: where they cannot be read, naming the option that helps.
    """
    with as_options():
        files = list_files(asked.source())
        heads = [_head(file) for file in files[:MOST_FILES]]
        found = _find_out(asked, heads)
        source = asked.source(**found.fields)
        rows = first_rows(source, most)
        tables = {head.name for head in heads if head.format == "csv"}
        rows.header = {name: header for name, header in rows.header.items() if name in tables}
        rows.plain = not source.roles and all(head.format == PLAIN_TEXT for head in heads)
        return Seen(
            rows, source, Found(found.fields, (*found.told, *_splits_in_names(files, asked)))
        )


def look_closer(
    source: FileSource,
    columns: Sequence[str],
    texts: Sequence[str],
    categories: Sequence[str],
    most: int = MAX_ROWS,
) -> Rows:
    """The same rows by the columns that matter, texts and categories as a retrain reads them."""
    ask = Ask(list(dict.fromkeys(columns)), texts, dict.fromkeys(categories))
    with as_options():
        return first_rows(source, most, ask)


def first_rows(source: FileSource, most: int, ask: Ask = EVERYTHING) -> Rows:
    """The first `most` rows of every file of a source, `MAX_CHARACTERS` in all."""
    rows, taken, characters = Rows(), dict[str, int](), 0
    rows.given = source.splits
    ask = replace(ask, batch_rows=min(most + 1, 20_000))
    batches = read_rows(source, ask, max_rows_per_file=most + 1)
    with closing(batches):
        for file, batch in batches:
            rows.header.setdefault(file.name, list(batch.columns))
            before = taken.get(file.name, 0)
            count = rows.add(batch, file.name, file.split, most - before)
            taken[file.name] = before + count
            characters += sum(column.nbytes for column in batch.columns.values())
            rows.complete &= count == len(batch.rows)
            if characters > MAX_CHARACTERS:
                rows.complete = False
                break
    return rows


def hint(source: FileSource) -> str:
    """What the bytes of a source that could not be read look like, as fields to set; empty where
    nothing is found.
    """
    try:
        heads = [_head(file) for file in list_files(source)[:MOST_FILES]]
        found = _find_out(Asked(source.url), heads).fields
    except (NoisefoldError, OSError):
        return ""
    differ = {name: value for name, value in found.items() if value != getattr(source, name)}
    shown = " and ".join(f"source.{name} to {value!r}" for name, value in differ.items())
    return f"By its bytes, set {shown}." if shown else ""


@dataclass(frozen=True)
class _Head:
    """What the first bytes of a file say."""

    name: str
    format: str
    usual: str  # what stands between its cells by its name
    encoding: Encoding | None  # that fits; None: none does
    data: bytes  # the first of them

    def text(self, encoding: str) -> str:
        """Its first lines, whole ones."""
        try:
            text = self.data.decode(marked(self.data) or encoding, "replace")
        except LookupError:  # no encoding has that name: the reader says so
            return ""
        return text if len(self.data) < LINES else text[: text.rfind("\n") + 1]


def _head(file: SourceFile) -> _Head:
    with file.open(None) as opened:
        data = b"" if opened.format == "parquet" else opened.stream.read(SCANNED)
    encoding = find_encoding(data, whole=len(data) < SCANNED)
    return _Head(file.name, opened.format, opened.separator, encoding, data[:LINES])


def _find_out(asked: Asked, heads: list[_Head]) -> Found:
    """Encoding and separator of the text files, as fields of the source."""
    fields, told = dict[str, str](), list[str]()
    texts = [head for head in heads if head.format != "parquet"]
    if asked.encoding is None and (one := _one_encoding(texts)) is not None:
        head, encoding = one
        fields["encoding"] = encoding.name
        told.append(_guessed(head, encoding))
    table = next((head for head in texts if head.format == "csv"), None)
    if asked.separator is None and table is not None:
        text = table.text(asked.encoding or fields.get("encoding", "utf-8"))
        separator = find_separator(text, table.usual)
        if separator is not None and separator != table.usual:
            fields["separator"] = separator
            name = SEPARATORS.get(separator, repr(separator))
            told.append(f"{table.name}: the cells are separated by {name} (source.separator).")
    return Found(fields, tuple(told))


def _one_encoding(heads: list[_Head]) -> tuple[_Head, Encoding] | None:
    """The encoding of all files, with the first that has it; None where they are UTF-8."""
    found = [(head, one) for head in heads if (one := _encoding(head)).name != "ascii"]
    names = {one.name: head for head, one in reversed(found)}
    if len(names) > 1 or (
        len(found) < len(heads) and any(name.startswith("utf-16") for name in names)
    ):
        shown = ", ".join(f"{head.name} in {name}" for name, head in names.items())
        raise SourceError(
            f"The files are in different encodings: {shown}.", "Save them all as UTF-8."
        )
    return None if not found or found[0][1].name == "utf-8" else found[0]


def _encoding(head: _Head) -> Encoding:
    if head.encoding is None:
        raise SourceError(
            f"{head.name}: the bytes are not UTF-8, nor any encoding that could be told.",
            "Give its encoding with --encoding, for example --encoding gb18030, or save the file "
            "as UTF-8.",
        )
    return head.encoding


def _guessed(head: _Head, encoding: Encoding) -> str:
    others = f"; it could be {' or '.join(encoding.others)} too" if encoding.others else ""
    return (
        f"{head.name} is not UTF-8 and is read as {encoding.name} (source.encoding), told by its "
        f"bytes{others}. Look "
        f"whether this is right: {encoding.excerpt!r}. Otherwise give --encoding."
    )


_NAMED = re.compile(r"(?<![a-z])(train|test|valid|val|dev)(ing|ation)?(?![a-z])", re.I)


def _splits_in_names(files: list[SourceFile], asked: Asked) -> tuple[str, ...]:
    """Files called train and test beside each other mean splits, and one URL for all of them takes
    no notice.
    """
    if not isinstance(asked.url, str) or len(files) < 2:
        return ()
    named = {
        found[1].lower()[:3]: file.name for file in files if (found := _NAMED.search(file.name))
    }
    if len(named) < 2:
        return ()
    names = ", ".join(sorted(named.values()))
    return (
        f"The names of the files ({names}) tell splits, of which a folder or a glob takes no "
        f"notice: give each by "
        "--train, --valid, --test to keep them.",
    )


class as_options:
    """A remedy that names a field of a recipe names the option in its place: there is no recipe
    yet.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, NoisefoldError):
            remedy = _as_option(error.remedy)
            if remedy != error.remedy:
                raise type(error)(error.cause, remedy) from None


def _as_option(remedy: str) -> str:
    for field in ("encoding", "separator", "format", "documents"):
        remedy = re.sub(
            rf"\b([Ss]et|[Nn]ame the one it has in) source\.{field}( to)?\b:?",
            rf"give --{field}",
            remedy,
        )
        remedy = re.sub(rf"source\.{field}:?", f"--{field}", remedy)
    remedy = re.sub(
        r"Check source\.url; a relative path starts at the recipe's folder\.",
        "Check the path.",
        remedy,
    )
    remedy = remedy.replace("name it in source.url", "name it by its path")
    remedy = re.sub(
        r"Name (the|another) column in the contract(, under columns)?",
        r"Name \1 column with --text or --label",
        remedy,
    )
    return remedy[:1].upper() + remedy[1:]
