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
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import pyarrow as pa

from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.tables.read import Format
from tasks.serving.answer_file import Output, answer_file, answer_names
from tasks.serving.asked_rows import Asks, asked_rows, columns_of
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


class Answering(Asks, Protocol):
    """What answers a table's rows: `Predictor`, or what has its words."""

    outputs: dict[str, str]

    @property
    def uri(self) -> str: ...

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
        answer_file(output, Path(folder)) as target,
        closing(target(carried.column_names, list(more))) as writer,
    ):
        writer.write(carried, more)


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
