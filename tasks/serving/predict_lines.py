"""Lines of text in, a line of answer for each: the same number of lines, with the same ends.

A blank line is no question, and stays as it is. Memory is bounded by a batch.
"""

from __future__ import annotations

import codecs
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import IO, TextIO

from data_contracts.errors import NoisefoldError, SourceError, printable, printable_json
from data_contracts.recipe.source import FileSource
from data_contracts.tables.encoding import find_encoding, kind_of
from data_contracts.tables.read import PLAIN_TEXT, name_parts
from tasks.serving.answer_file import compressed, output_file
from tasks.serving.asked_rows import ROWS
from tasks.serving.predict import Predictor
from tasks.sources.files import list_files

_LONGEST = 1 << 24  # characters of a line
_HEAD = 1 << 16


class Lines:
    """What a model says to each line: the first text that it answers, or one JSON object."""

    def __init__(self, predictor: Predictor, *, as_json: bool = False) -> None:
        self.predictor, self.as_json = predictor, as_json
        texts = (name for name, kind in predictor.outputs.items() if kind == "string")
        self.column = next(texts)
        self.read = self.answered = 0

    def answer(self, lines: Iterable[str], out: TextIO) -> None:
        source, shown = iter(lines), _on_a_terminal if out.isatty() else str
        while batch := list(islice(source, ROWS)):
            out.writelines(map(shown, self._answered(batch)))
            out.flush()

    def _answered(self, lines: Sequence[str]) -> Iterator[str]:
        name = self.predictor.only_input
        texts = [_text(line) for line in lines]
        answers = self.predictor.answer({name: texts})
        rows = zip(lines, texts, answers.rows(), answers.reasons, strict=True)
        for line, text, answer, reason in rows:
            self.read += 1
            self.answered += reason is None
            if self.as_json:
                told = {name: text, **self.predictor.task.told(answer)}
                told |= {} if reason is None else {"reason": reason}
                yield printable_json(json.dumps(told, ensure_ascii=False)) + "\n"
            elif reason is not None:
                yield line
            else:
                said = answer[self.column]
                # One line for one, whatever the model says.
                said = said if "\n" in text else " ".join(said.splitlines())
                yield said + line[len(text) :]


def predict_file(
    lines: Lines, source: FileSource, output: str | None, force: bool, stdout: TextIO
) -> None:
    """Answer the lines of a file, into another one: whole or not at all.

    Args:
        output: a path or URL; compressed where it ends so; None: `stdout`.
    Raises:
        SourceError: naming the file, and the line where there is one.
        NoisefoldError: the output cannot be written, or is there already.
    """
    with tempfile.TemporaryDirectory(prefix="noisefold-") as folder, ExitStack() as opened:
        scratch = Path(folder)
        files = list_files(source)
        if len(files) > 1:
            raise SourceError(
                f"{source.url} is {len(files):,} files ({files[0].name}, {files[1].name}, …).",
                "Give them one by one.",
            )
        out = stdout
        if output is not None:
            path = opened.enter_context(output_file(output, scratch, force))
            stream = opened.enter_context(compressed(path, name_parts(output)[1]))
            out = opened.enter_context(io.TextIOWrapper(stream, encoding="utf-8", newline=""))
        [file] = files
        plain = opened.enter_context(file.open(scratch))
        lines.answer(read_lines(plain.stream, file.name, source.encoding), out)


def lines_of(url: str, encoding: str) -> FileSource:
    """A file whose lines are texts, whatever its name."""
    return FileSource.model_construct(url=url, format=PLAIN_TEXT, encoding=encoding, separator=None)


def is_plain(name: str) -> bool:
    """Whether a file of this name is a text a line: `test.de`, say, and all that is no table."""
    return name_parts(name)[0] in (None, PLAIN_TEXT)


def read_lines(stream: IO[bytes], name: str, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file with their ends, which are line feeds alone.

    Raises:
        SourceError: it is no text, or not in this encoding.
    """
    try:
        codec = codecs.lookup(encoding).name
    except LookupError:
        raise NoisefoldError(
            f"--encoding {encoding}: there is no such encoding.", "For example --encoding utf-8."
        ) from None
    buffered = io.BufferedReader(stream, _HEAD)  # pyright: ignore[reportArgumentType]
    head = buffered.peek(_HEAD)
    if (kind := kind_of(head)) is not None:
        raise SourceError(
            f"{name} is {kind}, and no text of lines.",
            "Unpack it; of a table, let the name end in .csv, .jsonl or .parquet.",
        )
    text = io.TextIOWrapper(
        buffered, "utf-8-sig" if codec == "utf-8" else codec, errors="strict", newline="\n"
    )
    number = 0
    try:
        while line := text.readline(_LONGEST):
            number += 1
            if len(line) == _LONGEST and not line.endswith("\n"):
                raise SourceError(
                    f"{name}, line {number:,}: it is longer than {_LONGEST:,} characters.",
                    "Is it a text with a sentence a line?",
                )
            yield line
    except UnicodeError:
        raise SourceError(
            f"{name}, line {number + 1:,} or soon after: it is not in {encoding}{_rather(head)}.",
            "Say which encoding it has: --encoding.",
        ) from None
    finally:
        with suppress(ValueError):  # it is closed already
            text.detach().detach()  # whoever opened the stream closes it


def _rather(head: bytes) -> str:
    found = find_encoding(head, whole=len(head) < _HEAD)
    return "" if found is None or found.name in ("ascii", "utf-8") else f", but {found.name} fits"


def _on_a_terminal(line: str) -> str:
    return printable(line.replace("\r\n", "\n"))


def _text(line: str) -> str:
    """A line without its end, that of Windows included."""
    return line.removesuffix("\n").removesuffix("\r")
