"""queue: the rows of a table without labels that are most worth labelling, as a file that a person
fills in and a source reads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.contract.contract import DataContract
from data_contracts.contract.frames import joined
from data_contracts.contract.text import text_hash
from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.source import FileSource
from data_contracts.tables.take import take_rows
from lightning_modules.bundle import Bundle
from lightning_modules.doubting import Doubting, diverse, doubting_of, pool_of
from tasks.serving.answer_file import Output
from tasks.serving.predict import Answers
from tasks.serving.predict_table import predict_table, write_table

SUGGESTION, PROBABILITY, DOUBT, MODEL = "suggestion", "probability", "doubt", "model"
_MEASURED = {SUGGESTION: "string", PROBABILITY: "number", DOUBT: "number"}


@dataclass(frozen=True)
class Queued:
    """How a queue came about.

    rows: that were read.
    without: such as have nothing to be asked.
    filled: such as have an answer already.
    learnt: such as the model was trained on.
    repeated: the same as a row before.
    queued: of the rest.
    """

    model: str
    rows: int
    without: int
    filled: int
    learnt: int
    repeated: int
    queued: int


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    measure: of the doubt (`lightning_modules.doubting.MEASURES`).
    spread: not many rows that are alike.
    """

    rows: int
    measure: str
    spread: bool


@dataclass
class _Doubts:
    """Answers a table's rows as `Predictor` does, by how much the model doubts its answer."""

    bundle: Bundle
    uri: str
    doubting: Doubting
    measure: str
    inputs: tuple[str, ...]
    optional: tuple[str, ...] = ()
    outputs: dict[str, str] = field(default_factory=lambda: dict(_MEASURED))

    @property
    def only_input(self) -> str:
        return self.inputs[0]

    def answer(
        self, columns: Mapping[str, Sequence[str | None]], reasons: Sequence[str | None] = ()
    ) -> Answers:
        texts = columns[self.only_input]
        found = list(reasons) or [None] * len(texts)
        for row, text in enumerate(texts):
            if found[row] is None and not (text and text.strip()):
                found[row] = f"the {self.only_input} is missing or empty"
        asked = [row for row, reason in enumerate(found) if reason is None]
        told: dict[str, list[Any]] = {name: [None] * len(texts) for name in _MEASURED}
        if asked:
            given = {self.only_input: [cast(str, texts[row]) for row in asked]}
            said = self.doubting.of(self.bundle, given, self.measure)
            values = (said.suggestions, said.probability.tolist(), said.doubt.tolist())
            for name, some in zip(_MEASURED, values, strict=True):
                for row, value in zip(asked, some, strict=True):
                    told[name][row] = value
        return Answers(told, found)


def queue_table(  # noqa: PLR0913 - a table, its model and what is wished for, by name
    bundle: Bundle,
    uri: str,
    contract: DataContract,
    source: FileSource,
    output: Output,
    wish: Wish,
    *,
    learnt: np.ndarray,
    progress: Callable[[int], None] = lambda rows: None,
) -> Queued:
    """Write the rows that are most worth labelling, under the contract's own columns: that of the
    answer is empty, for a person to fill in.

    Args:
        learnt: hashes of the texts that the model was trained on (`train_texts.npy`).
    Raises:
        SourceError: naming the file, and the row or column where there is one.
        NoisefoldError: the model is of a kind that has no queue, or the output cannot be written.
    """
    doubting = doubting_of(bundle)
    if contract.kind != bundle.kind or len(bundle.asked) != 1 or len(contract.answer) != 1:
        raise NoisefoldError(
            f"{uri} is of kind {bundle.kind}, the contract of kind {contract.kind}.",
            "Name the recipe that the model was trained by.",
        )
    asked, answer = bundle.asked[0], contract.answer[0]
    column, filled = contract.sources[asked], contract.sources[answer]
    doubts = _Doubts(bundle, uri, doubting, wish.measure, bundle.asked)
    with tempfile.TemporaryDirectory(prefix="noisefold-") as folder:
        scratch = str(Path(folder) / "doubts.parquet")
        whole = Output(scratch, False, output.stdout)
        done = predict_table(doubts, source, whole, column=column, strict=False, progress=progress)
        table = pq.read_table(scratch)
    names = {name: done.renamed.get(name, name) for name in (*_MEASURED, "reason", MODEL)}
    open_rows, counts = _open_rows(table, contract, (asked, filled), names, learnt)
    if not len(open_rows):
        raise SourceError(
            f"No row of {source.url} is left to label: {counts['filled']:,} have a {answer} "
            f"already, {counts['learnt']:,} are rows that the model was trained on, "
            f"{counts['without']:,} have nothing to be asked.",
            "Give rows that are new.",
        )
    doubt = table[names[DOUBT]].to_numpy()[open_rows]
    places = open_rows[_chosen(bundle, doubting, table, column, doubt, open_rows, wish)]
    chosen = take_rows(table, places)
    told = {SUGGESTION: names[SUGGESTION], PROBABILITY: names[PROBABILITY], DOUBT: names[DOUBT]}
    more: dict[str, pa.Array] = {}
    if filled not in table.column_names:
        more[filled] = pa.nulls(len(places), pa.string())
    more |= {name: chosen[own].combine_chunks() for name, own in told.items()}
    more[MODEL] = pa.array([uri] * len(places), pa.string())
    carried = chosen.drop_columns([name for name in names.values() if name in chosen.column_names])
    write_table(carried, more, output)
    return Queued(uri, done.rows, queued=len(places), **counts)


def _open_rows(
    table: pa.Table,
    contract: DataContract,
    columns: tuple[str, str],
    names: Mapping[str, str],
    learnt: np.ndarray,
) -> tuple[np.ndarray, dict[str, int]]:
    """Numbers of the rows that nobody has answered yet, and how many others there are, and why.

    Args:
        columns: the role that is asked, and the source's column of the answer.
    """
    asked, filled = columns
    without = ~table[names[DOUBT]].is_valid().to_numpy()
    has = np.zeros(len(table), bool)
    if filled in table.column_names:
        cells = table[filled].cast(pa.string()).to_pylist()
        has = np.array([bool(cell and cell.strip()) for cell in cells]) & ~without
    texts = table[contract.sources[asked]].cast(pa.string())
    told = pa.table({asked: texts})
    apart = [name for name in contract.kept_apart if name == asked]
    hashes = np.fromiter(map(text_hash, joined(apart, told)), np.uint64, len(table))
    known = np.isin(hashes, learnt) & ~without & ~has
    left = np.flatnonzero(~(without | has | known))
    _, first = np.unique(hashes[left], return_index=True)
    counts = {
        "without": int(without.sum()),
        "filled": int(has.sum()),
        "learnt": int(known.sum()),
        "repeated": len(left) - len(first),
    }
    return left[np.sort(first)], counts


def _chosen(  # noqa: PLR0913 - what the choice is made of, by name
    bundle: Bundle,
    doubting: Doubting,
    table: pa.Table,
    column: str,
    doubt: np.ndarray,
    rows: np.ndarray,
    wish: Wish,
) -> np.ndarray:
    """Places in `rows`, those first that are doubted most."""
    pool = pool_of(doubt, wish.rows)
    if not wish.spread:
        return pool[: wish.rows]
    texts = take_rows(table.select([column]), rows[pool])[column].cast(pa.string()).to_pylist()
    vectors = doubting.vectors(bundle, {bundle.asked[0]: texts})
    return pool[diverse(doubt[pool], vectors, wish.rows)]
