"""queue: the rows of a source that are most worth labelling, of those that were scored.

What a model doubts is told by its answers (`tasks.score`); here rows are left out that need no
label, the queue is chosen, and its rows are read once more. It is written as a table for a person
to fill in and a source to read, or as tasks of a labelling tool.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect.client.schemas import State

from data_contracts.artifacts import Delivered, FetchedModel, Queue, Scores, Snapshot
from data_contracts.contract.text import text_hash
from data_contracts.errors import SourceError
from data_contracts.recipe.queue import QueueRecipe
from data_contracts.recipe.source import FileSource
from data_contracts.tables.read import name_parts
from data_contracts.tables.take import take_rows
from lightning_modules.bundle import Bundle
from lightning_modules.doubting import Doubted, Doubting, Task, diverse, doubting_of, pool_of
from tasks.answered import REASON, beside, same_rows
from tasks.artifacts.store import digest_of
from tasks.deliver import put_whole
from tasks.reports.queued import log_queue
from tasks.serving.answer_file import Output, answer_file, answer_names, compressed, json_line
from tasks.serving.asked_rows import AskedRows
from tasks.serving.predict_table import write_table
from tasks.stage import Here, RunContext, stage, step

SUGGESTION, PROBABILITY, DOUBT, MODEL = "suggestion", "probability", "doubt", "model"
_TOLD = (SUGGESTION, PROBABILITY, DOUBT)


def _tell(queue: Queue, run: RunContext[QueueRecipe]) -> None:
    with run.tracker.once("queue", queue.key) as fresh:
        if fresh:
            log_queue(queue, run.store.open(queue), run.tracker)


@stage(Queue, version=1, shaped_by=("answer", "rows", "by", "spread"), tell=_tell)
def queue(
    here: Here[QueueRecipe], scores: Scores, snapshot: Snapshot, model: FetchedModel
) -> dict[str, Any]:
    """Choose the rows. Safe to repeat.

    Raises:
        SourceError: no row is left to label, or the rows changed since they were scored.
        NoisefoldError: the model is of a kind that has no queue.
    """
    recipe, parts = here.recipe, here.open(scores)
    bundle = Bundle.load(model.bundle)
    doubting = doubting_of(bundle)
    answer = recipe.answer or doubting.answer
    with same_rows(parts, recipe.source, snapshot, here.keep) as source:
        seen = _Seen(bundle, doubting, recipe.by, answer)
        with closing(beside(source, scores.asked, parts, here.keep)) as read:
            for rows, answers in read:
                seen.add(rows, answers)
        left, counts = seen.open_rows(np.load(model.texts, allow_pickle=False))
        if not len(left):
            raise SourceError(
                f"No row is left to label: {counts['filled']:,} have a {answer} already, "
                f"{counts['learnt']:,} are rows that the model was trained on, "
                f"{counts['without']:,} have nothing to be asked.",
                "Give rows that are new.",
            )
        doubt = seen.doubt[left]
        pool = pool_of(doubt, recipe.rows)
        pooled = _Pooled(left[pool], seen, (scores, parts))
        table = pooled.read(source, here.keep)
    chosen = np.arange(min(recipe.rows, len(pool)))
    if recipe.spread:
        texts = {
            name: table[column].cast(pa.string()).to_pylist()
            for name, column in scores.asked.items()
        }
        chosen = diverse(doubt[pool], doubting.vectors(bundle, texts), recipe.rows)
    table = take_rows(table, chosen)
    if answer not in table.column_names:
        place = len(scores.columns)
        table = table.add_column(place, answer, pa.nulls(len(table), pa.string()))
    pq.write_table(table, here.out / "queue.parquet", compression="zstd")
    return {
        "digest": digest_of(scores.digest, snapshot.identity, left[pool][chosen].tolist(), answer),
        "rows_in": scores.rows_in,
        "rows_out": len(chosen),
        "model": scores.model,
        "asked": scores.asked,
        "answer": answer,
        "names": pooled.names,
        **counts,
    }


class _Seen:
    """What is known of each row, in the order of the rows."""

    def __init__(self, bundle: Bundle, doubting: Doubting, measure: str, answer: str) -> None:
        self.bundle, self.doubting, self.measure, self.answer = bundle, doubting, measure, answer
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, rows: AskedRows, answers: pa.Table) -> None:
        doubt = np.full(len(answers), np.nan)
        have = answers[REASON].is_null().to_numpy()
        if have.any():
            doubt[have] = self.said(answers.filter(pa.array(have))).doubt
        cells = zip(*rows.asked.values(), strict=True)
        hashes = [text_hash("\0".join(cell or "" for cell in row)) for row in cells]
        self._parts.append((doubt, np.array(hashes, np.uint64), self._filled(rows)))

    def said(self, answers: pa.Table) -> Doubted:
        """What the model believes of rows that have an answer."""
        columns = {name: answers[name].to_pylist() for name in answers.column_names}
        return self.doubting.of(self.bundle, columns, self.measure)

    def _filled(self, rows: AskedRows) -> np.ndarray:
        """Which rows somebody has answered."""
        carried = rows.carried
        if isinstance(carried, list):
            cells: Sequence[Any] = [record.get(self.answer) for record in carried]
        elif self.answer in carried.column_names:
            cells = carried[self.answer].to_pylist()
        else:
            cells = [None] * len(rows.numbers)
        return np.array([cell is not None and bool(str(cell).strip()) for cell in cells], bool)

    @property
    def doubt(self) -> np.ndarray:
        """NaN of a row that has nothing to be asked."""
        return np.concatenate([part[0] for part in self._parts])

    def open_rows(self, learnt: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
        """Numbers of the rows that nobody has answered yet, and how many others there are, and why.

        Args:
            learnt: hashes of what the model was trained on.
        """
        hashes = np.concatenate([part[1] for part in self._parts])
        without = np.isnan(self.doubt)
        filled = np.concatenate([part[2] for part in self._parts]) & ~without
        known = np.isin(hashes, learnt) & ~without & ~filled
        left = np.flatnonzero(~(without | filled | known))
        _, first = np.unique(hashes[left], return_index=True)
        counts = {
            "without": int(without.sum()),
            "filled": int(filled.sum()),
            "learnt": int(known.sum()),
            "repeated": len(left) - len(first),
        }
        return left[np.sort(first)], counts


class _Pooled:
    """Rows that a queue is chosen from, read once more.

    Args:
        places: their numbers, those first that are doubted most.
    """

    def __init__(self, places: np.ndarray, seen: _Seen, scored: tuple[Scores, Path]) -> None:
        self.places, self.seen = places, seen
        self.scores, self.parts = scored
        names, _ = answer_names([*self.scores.columns, seen.answer], _TOLD)
        self.names = dict(zip((*_TOLD, REASON, MODEL), names, strict=True))
        del self.names[REASON]

    def read(self, source: FileSource, scratch: Path) -> pa.Table:
        """Their columns, and what the model believes of them, in the order of `places`."""
        path = scratch / "pool.parquet"
        columns, first = list(self.scores.columns), 0
        with (
            answer_file(Output(str(path), True, io.StringIO()), scratch) as target,
            closing(target(columns, list(self.names.values()))) as writer,
            closing(beside(source, self.scores.asked, self.parts, scratch)) as read,
        ):
            for rows, answers in read:
                own = self.places[(self.places >= first) & (self.places < first + len(answers))]
                if len(own):
                    here = np.sort(own) - first
                    carried = rows.carried
                    some = (
                        [carried[place] for place in here]
                        if isinstance(carried, list)
                        else take_rows(carried, here)
                    )
                    writer.write(some, self._believed(take_rows(answers, here)))
                first += len(answers)
        return take_rows(pq.read_table(path), np.argsort(np.argsort(self.places)))

    def _believed(self, answers: pa.Table) -> dict[str, pa.Array]:
        said = self.seen.said(answers)
        return {
            self.names[SUGGESTION]: pa.array(said.suggestions, pa.string()),
            self.names[PROBABILITY]: pa.array(said.probability, pa.float64()),
            self.names[DOUBT]: pa.array(said.doubt, pa.float64()),
            self.names[MODEL]: pa.array([self.scores.model] * len(answers), pa.string()),
        }


# --- the file -------------------------------------------------------------------------------------


@step
def hand_out(
    run: RunContext[QueueRecipe], queue: Queue, model: FetchedModel
) -> Delivered | State[Delivered]:
    """Write the queue as a table, or as tasks of a labelling tool. Safe to repeat.

    Raises:
        NoisefoldError: something else bears the output's name, or it cannot be written.
    """
    table = pq.read_table(run.store.open(queue) / "queue.parquet")

    def write(written: Path) -> None:
        if run.recipe.format == "table":
            names = list(queue.names.values())
            told = {name: table[name].combine_chunks() for name in names}
            write_table(table.drop_columns(names), told, Output(str(written), True, io.StringIO()))
            return
        bundle = Bundle.load(model.bundle)
        tool = doubting_of(bundle).tasks[run.recipe.format]
        lines = [json_line(tool(bundle, one)) for one in _tasks(queue, table)]
        format, compression = name_parts(written.name)
        whole = f"[{', '.join(lines)}]" if format == "json" else "\n".join(lines)
        with compressed(written, compression) as stream:
            stream.write(f"{whole}\n".encode())

    return put_whole(run, write, queue.rows_out)


def _tasks(queue: Queue, table: pa.Table) -> list[Task]:
    """The rows as a person is shown them."""
    names, (asked,) = queue.names, queue.asked.values()
    others = [
        name for name in table.column_names if name not in (asked, queue.answer, *names.values())
    ]
    return [
        Task(
            (asked, row[asked]),
            queue.answer,
            row[names[SUGGESTION]],
            {name: row[name] for name in others},
            {name: row[names[name]] for name in (PROBABILITY, DOUBT, MODEL)},
        )
        for row in table.to_pylist()
    ]
