"""CSV, JSON, Parquet and plain text as Arrow batches of text columns, each row with its number in
the file.

Works on an open binary stream and knows nothing of disks or networks. Memory is bounded by one
batch. Every fault is a `SourceError` that names the file and the row or column; an error of the
stream itself (a lost connection) passes through as it is. Lines, cells, columns and the expansion
of compressed data are bounded (`table_batch`, `table_packed`). Rows count from 1: records without
the header in CSV, lines in JSON Lines and plain text, records in a JSON array.
"""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any, Literal

from data_contracts.errors import SourceError
from data_contracts.tables.batch import EVERYTHING, Ask, Batch, Place, bad_encoding, with_categories
from data_contracts.tables.csv import read_csv
from data_contracts.tables.documents import read_documents
from data_contracts.tables.encoding import MARK_BYTES, kind_of, marked
from data_contracts.tables.json import read_json, records
from data_contracts.tables.packed import COMPRESSIONS
from data_contracts.tables.parquet import read_parquet
from data_contracts.tables.questions import one_by_one

Format = Literal["csv", "jsonl", "json", "parquet", "text"]
PLAIN_TEXT: Format = "text"
EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": PLAIN_TEXT,
}
_TABBED = (".tsv", ".tab")
_TEXT_READERS: dict[str, Any] = {
    "csv": read_csv,
    "jsonl": read_json,
    "json": read_json,
    PLAIN_TEXT: read_documents,
}
_NO_ENCODINGS = {
    "idna",
    "punycode",
    "unicode-escape",
    "raw-unicode-escape",
    "undefined",
    "mbcs",
    "oem",
}

_SHEET = (
    "Save the sheet as CSV (UTF-8) from its program, or with "
    "pandas.read_excel(path).to_csv(out, index=False)."
)
_UNPACK = (
    "Unpack it; a folder of files is read as it is, and so is one file in .gz, .zst, .bz2, .xz or "
    ".zip."
)
# What people have beside tables, and how to make a table of it.
_OTHERS = {
    (".xlsx", ".xls", ".xlsm", ".xlsb"): ("an Excel workbook", _SHEET),
    (".ods", ".numbers"): ("a spreadsheet", _SHEET),
    (".feather", ".arrow", ".ipc"): (
        "Arrow's own format",
        "Write Parquet: pandas.read_feather(path).to_parquet(out).",
    ),
    (".orc",): ("an ORC file", "Write Parquet: pandas.read_orc(path).to_parquet(out)."),
    (".pkl", ".pickle", ".joblib"): (
        "a pickle, which may run any code when it is opened",
        "Write Parquet or CSV where it was made: frame.to_parquet(out).",
    ),
    (".dta", ".sav", ".sas7bdat", ".rds", ".rdata"): (
        "a statistics program's own format",
        "Export CSV (UTF-8) from it, or read it with pandas (read_stata, read_spss, read_sas) and "
        "write to_csv.",
    ),
    (".db", ".sqlite", ".sqlite3"): (
        "a database",
        "Export the query as CSV: sqlite3 -csv -header file 'select …'.",
    ),
    (".npy", ".npz", ".h5", ".hdf5", ".tfrecord", ".avro"): (
        "no table of texts",
        "Write its rows as Parquet or CSV.",
    ),
    (".xml",): (
        "XML",
        "Write its records as CSV or JSON Lines: pandas.read_xml(path).to_csv(out, index=False).",
    ),
    (".html", ".htm"): (
        "a web page",
        "Write its table as CSV: pandas.read_html(path)[0].to_csv(out, index=False).",
    ),
    (".txt", ".text", ".dat"): (
        "plain text, whose columns the name does not tell",
        "Where it is a table, name it .csv or .tsv, or set source.format: csv (and "
        "source.separator); where it is text, set source.format: text.",
    ),
    (".md", ".pdf", ".doc", ".docx", ".rtf"): (
        "a document",
        "Write its texts and labels as CSV or JSON Lines; where the file itself is the text, set "
        "source.format: text.",
    ),
    (".conll", ".conllu", ".iob", ".bio"): (
        "words with a tag each",
        "Write one text and one label per row, as CSV.",
    ),
    (".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"): ("an archive", _UNPACK),
}


def name_parts(name: str) -> tuple[Format | None, str | None]:
    """Format and compression as the end of a file name tells them: `a.csv.gz` → ("csv", "gzip")."""
    stem, compression = _stem(name)
    return next((kind for end, kind in EXTENSIONS.items() if stem.endswith(end)), None), compression


def is_table(name: str) -> bool:
    """Whether a file of this name holds rows of several columns; beside such a file, plain text is
    taken for a note on it.
    """
    return name_parts(name)[0] not in (None, PLAIN_TEXT)


def usual_separator(name: str) -> str:
    """What stands between the cells of a CSV file of this name, where nothing else tells."""
    return "\t" if _stem(name)[0].endswith(_TABBED) else ","


def _stem(name: str) -> tuple[str, str | None]:
    stem = name.lower()
    end = next((end for end in COMPRESSIONS if stem.endswith(end)), None)
    return (stem.removesuffix(end), COMPRESSIONS[end]) if end else (stem, None)


def other_kind(name: str) -> tuple[str, str] | None:
    """What a file of this name is and how to make a table of it, for kinds that are known and not
    read.
    """
    stem = _stem(name)[0]
    return next((told for ends, told in _OTHERS.items() if stem.endswith(ends)), None)


def unknown_format(shown: str, name: str) -> SourceError:
    """The error of a file whose name tells no format that is read."""
    if (told := other_kind(name)) is not None:
        return SourceError(f"{shown} is {told[0]}.", told[1])
    return SourceError(
        f"{shown}: the name does not tell the format.",
        f"Known endings: {', '.join(EXTENSIONS)}, each also with {', '.join(COMPRESSIONS)}; or set "
        f"source.format.",
    )


def read_batches(
    stream: IO[bytes], name: str, ask: Ask = EVERYTHING, *, format: Format, encoding: str = "utf-8"
) -> Generator[Batch]:
    """Read an uncompressed stream (a seekable one for Parquet).

    Args:
        name: what to call the file in errors.
        encoding: of CSV, JSON and plain text; a byte order mark, which is exact, comes before it.
    Raises:
        SourceError: naming the file, and the row or column where there is one.
    """
    place = Place(name, encoding=encoding)
    usual, rows = ask.usual_separator or usual_separator(name), max(1, ask.batch_rows)
    ask = replace(ask, usual_separator=usual, batch_rows=rows)
    if format == "parquet":
        with _damage_told(place):
            yield from (
                with_categories(batch, ask.categories) for batch in read_parquet(stream, place, ask)
            )
        return
    with text_of(stream, place) as source:
        for batch in _TEXT_READERS[format](source, place, ask):
            yield with_categories(batch, ask.categories)


def read_records(
    stream: IO[bytes], name: str, *, encoding: str = "utf-8"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of JSON Lines or a JSON array with their rows, whole: what is nested in them
    stays, but for questions that are nested in their contexts.

    Args and errors: as of `read_batches`.
    """
    place = Place(name, encoding=encoding)
    with text_of(stream, place) as source:
        source.reconfigure(newline="\n")
        for row, record, _ in one_by_one(records(source, place), place, flat=False):
            yield row, record


@contextmanager
def text_of(stream: IO[bytes], place: Place) -> Iterator[io.TextIOWrapper]:
    """The characters of a stream, in the encoding of the place unless a byte order mark says
    another; bytes that are not in it stay as surrogates.
    """
    with _damage_told(place):
        source = _decoded(stream, place)
        try:
            yield source
        finally:
            source.detach()  # the stream is its opener's to close


@contextmanager
def _damage_told(place: Place) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile) as error:
        what = (
            f"the compressed data end early or are damaged after {place.unit} {place.row} ({error})"
        )
        raise SourceError(f"{place.file}: {what}.", "Write or download the file again.") from error
    except (
        UnicodeError
    ) as error:  # of some codecs also the plain one, as at a missing byte order mark
        raise bad_encoding(place, place.row + 1) from error


def _decoded(stream: IO[bytes], place: Place) -> io.TextIOWrapper:
    codec = _codec(place)
    head = b""
    while len(head) < MARK_BYTES and (piece := stream.read(MARK_BYTES - len(head))):
        head += piece
    if (kind := kind_of(head)) is not None:
        raise place.error(
            f"it is {kind}, and no text",
            "Give it the ending of what it is, or export the rows as CSV.",
        )
    place.encoding = (mark := marked(head)) or place.encoding
    # newline="\n" for JSON Lines and "" for csv would both keep U+0085 and U+2028 inside their
    # line; "" suits csv.
    whole = io.BufferedReader(_Again(head, stream), 1 << 18)
    return io.TextIOWrapper(whole, encoding=mark or codec, errors="surrogateescape", newline="")


def _codec(place: Place) -> str:
    try:
        info = codecs.lookup(place.encoding)
        # Python's codecs are more than text encodings: zlib, idna, or escapes that Python's own
        # source uses.
        if not getattr(info, "_is_text_encoding", True) or info.name in _NO_ENCODINGS:
            raise LookupError
    except (LookupError, ValueError):  # ValueError: a NUL in it
        raise SourceError(
            f"{place.file}: no text encoding is called {place.encoding!r}.",
            "Set source.encoding, for example to utf-8.",
        ) from None
    return info.name


class _Again(io.RawIOBase):
    """A stream of which the first bytes were read already."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._stream.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)
