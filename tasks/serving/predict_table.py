"""A table in, the same table with a model's answers out: CSV, JSON Lines or Parquet, streamed,
whole or not at all.

Every column of the input is carried along as it is; what a Parquet file or a JSON record holds
beside the texts keeps its type, as far as the format that is written knows it. A text that cannot
be answered (blank, missing, no string) refuses its own row: no answer, and why in the column
`reason`. Memory is bounded by a batch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyarrow as pa

from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.tables.read import Format
from tasks.serving.answer_file import Output, answer_file, answer_names
from tasks.serving.asked_rows import asked_rows, columns_of
from tasks.serving.predict import Answers, Predictor
from data_contracts.tables.batch import Ask, Batch, plain_text
from data_contracts.tables.read import (
    PLAIN_TEXT,
    Format,
    name_parts,
    read_batches,
    read_records,
)
from data_contracts.urls import redacted, resolve, shown_url
from tasks.serving.predict import Answers
from tasks.sources.files import list_files

FEW = 5  # refused rows that are named


@dataclass
class Done:
    """How a table went: rows read, rows refused, and the first of those by file, row and reason."""

    model: str
    rows: int = 0
    refused: int = 0
    first: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        return self.rows - self.refused

    def note(self, file: str, numbers: Sequence[int], answers: Answers) -> None:
        self.rows += len(numbers)
        self.refused += len(answers.refused)
        for row in answers.refused[: FEW - len(self.first)]:
            self.first.append(f"{file}, row {numbers[row]}: {answers.reasons[row]}")


@dataclass(frozen=True)
class Output:
    """Where a table with answers goes: a path or URL whose name tells the format; "-" is `stdout`.

    force: replace what is there.
    """

    name: str
    force: bool
    stdout: TextIO
    stdout_format: Format = "csv"


class Answering(Protocol):
    """What answers a table's rows: `Predictor`, or what has its words."""

    inputs: Any  # names of what it is asked
    optional: Any
    outputs: dict[str, str]

    @property
    def uri(self) -> str: ...

    @property
    def only_input(self) -> str: ...

    def answer(
        self, columns: Mapping[str, Sequence[str | None]], reasons: Sequence[str | None] = ()
    ) -> Answers: ...


def predict_table(
    predictor: Answering,
    source: FileSource,
    output: Output,
    *,
    column: str | None,
    strict: bool,
    progress: Callable[[int], None] = lambda rows: None,
) -> Done:
    """Answer the texts of one column, and write the table with the answers.

    Args:
        source: one file or several of the same columns.
        column: of the texts; None where there is just one, or one called text.
        strict: refuse the whole where a row is refused; nothing is written then.
    Raises:
        SourceError: naming the file, and the row or column where there is one.
        NoisefoldError: the output cannot be written, or is there already.
    """
    done = Done(predictor.uri)
    with tempfile.TemporaryDirectory(prefix="noisefold-") as folder, ExitStack() as opened:
        scratch, files = Path(folder), list_files(source)
        columns, asked = columns_of(files, source, column, scratch, predictor)
        names, done.renamed = answer_names(columns, list(predictor.outputs))
        target = opened.enter_context(answer_file(output, scratch))
        writer = opened.enter_context(closing(target(columns, names)))
        for file in files:
            with closing(asked_rows(file, source, asked, scratch)) as batches:
                for rows in batches:
                    answers = predictor.answer(rows.asked, rows.reasons)
                    done.note(file.name, rows.numbers, answers)
                    writer.write(rows.carried, _answer_columns(answers, predictor, names))
                    progress(done.rows)
        if not done.rows:
            raise SourceError(f"{files[0].name}: no rows.", "Check the export that writes it.")
        if strict and done.refused:
            raise refused_rows(done.refused, done.rows, done.first)
    return done


def refused_rows(refused: int, rows: int, first: Sequence[str]) -> NoisefoldError:
    """The fault that --strict makes of rows without an answer."""
    return NoisefoldError(
        f"{refused:,} of {rows:,} rows have no text to answer ({'; '.join(first)}); --strict takes "
        f"that for a fault, "
        "and no file is written.",
        "Mend the rows, or leave out --strict: such rows then get no answer, and the reason.",
    )


def write_table(carried: pa.Table, more: dict[str, pa.Array], output: Output) -> None:
    """A table, and columns behind it, to where answers go.

    Raises:
        NoisefoldError: it cannot be written, or is there already.
    """
    with (
        tempfile.TemporaryDirectory(prefix="noisefold-") as folder,
        _target(output, Path(folder)) as target,
        closing(target(carried.column_names, list(more))) as writer,
    ):
        writer.write(carried, more)


# --- which columns --------------------------------------------------------------------------------


def _columns(
    files: list[SourceFile],
    source: FileSource,
    column: str | None,
    scratch: Path,
    predictor: Answering,
) -> tuple[list[str], dict[str, str]]:
    """The columns of all files, and for each of the model's inputs the one that holds it."""
    columns: list[str] = []
    for file in files:
        there = _columns_of(file, source, column, scratch)
        if file.format not in _JSON and columns and there != columns:
            other = next(iter(set(there) ^ set(columns)), "their order")
            raise SourceError(
                f"{file.name}: its columns are not those of {files[0].name} ({other}).",
                "Predict them one by one.",
            )
        columns += [name for name in there if name not in columns]
    return columns, _asked_columns(files[0].name, columns, column, predictor)


def _asked_columns(
    file: str, columns: list[str], wanted: str | None, predictor: Answering
) -> dict[str, str]:
    """Where a model is asked one column, any may hold it; of several each has its own name."""
    if not columns:
        raise SourceError(f"{file}: no rows.", "Check the export that writes it.")
    if wanted is not None or len(predictor.inputs) == 1:
        only = predictor.only_input
        return {only: _text_column(file, columns, wanted, only)}
    needed = [name for name in predictor.inputs if name not in predictor.optional]
    if missing := [name for name in needed if name not in columns]:
        raise SourceError(
            f"{file}: no column {missing[0]!r}, which the model is asked.",
            f"Give the columns {', '.join(needed)} these names.",
        )
    return {name: name for name in predictor.inputs if name in columns}


def _text_column(file: str, columns: list[str], wanted: str | None, usual: str) -> str:
    if wanted is None and len(columns) == 1:
        return columns[0]
    name = usual if wanted is None else wanted
    if name in columns:
        return name
    shown = ", ".join(repr(one[:60]) for one in columns[:20]) + (" …" if len(columns) > 20 else "")
    if wanted is None:
        raise SourceError(
            f"{file}: which column holds the texts? It has {shown}.", "Name it with --column."
        )
    folded = {one.strip().casefold(): one for one in columns}
    near = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    raise SourceError(
        f"{file}: no column {name!r}. It has {shown}.{hint}",
        "Name the column of the texts: --column.",
    )


def _columns_of(
    file: SourceFile, source: FileSource, column: str | None, scratch: Path
) -> list[str]:
    with file.open(scratch) as opened:
        if opened.format == PLAIN_TEXT:
            raise SourceError(
                f"{file.name} is plain text, and no table.",
                "Where each of its lines is a text, give them on standard input with --lines; "
                "where it is a table, say of which format: --format csv.",
            )
        if opened.format == "parquet":
            with _parquet(file, opened.stream) as table:
                there = list(table.schema_arrow.names)
            if twice := next((name for name in there if there.count(name) > 1), None):
                raise SourceError(
                    f"{file.name}: two columns are called {twice!r}.",
                    "Give each column a name of its own.",
                )
            return there
        if opened.format in _JSON:  # a record may have keys that the ones before it lack
            found = read_records(opened.stream, file.name, encoding=source.encoding)
            return list(dict.fromkeys(key for _, record in found for key in record))
        with closing(_csv(file, opened, source, () if column is None else (column,))) as batches:
            first = next(batches, None)
    if first is None:
        raise SourceError(
            f"{file.name}: no rows, a header at most.", "Check the export that writes it."
        )
    return list(first.columns)


def _names(columns: Sequence[str], outputs: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What the columns of the answers are called, in order, and those that a column of the input
    has made give way.
    """
    names, renamed, taken = [], {}, set(columns)
    for plain in [*outputs, "reason", "model"]:
        name = plain
        while name in taken:
            name = f"predicted_{name}"
        if name != plain:
            renamed[plain] = name
        taken.add(name)
        names.append(name)
    return names, renamed


def _answer_columns(
    answers: Answers, predictor: Answering, names: list[str]
) -> dict[str, pa.Array]:
    types = {"string": pa.string(), "number": pa.float64(), "boolean": pa.bool_()}
    columns = [
        pa.array(values, types[predictor.outputs[name]], from_pandas=True)
        for name, values in answers.columns.items()
    ]
    columns += [
        pa.array(answers.reasons, pa.string()),
        pa.array([predictor.uri] * len(answers.reasons), pa.string()),
    ]
    return dict(zip(names, columns, strict=True))


def spool(stream: IO[bytes], folder: Path, format: Format) -> Path:
    """Standard input as a file: a table is read more than once."""
    path = folder / f"stdin.{format}"
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    return path
