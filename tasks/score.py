"""score: every row of a source, with what a registered version answers and how sure it is.

The answers are an artifact of the store, in parts that are kept while the work goes on: an attempt
that dies loses the part in work, and the next one reads past the rows that have an answer. The rows
themselves stay where they are; `tasks.deliver` lays the answers beside them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.artifacts import FetchedModel, Scores, Snapshot
from data_contracts.errors import NoisefoldError, SourceError
from data_contracts.recipe.score import ScoreRecipe
from data_contracts.recipe.source import FileSource
from lightning_modules.reparameterizations.noise_left import Alphas, drawn, load_noise
from lightning_modules.reparameterizations.seeds import mix
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import RowDigest
from tasks.ingest import refuse_changed, source_files
from tasks.progress import report
from tasks.reports.scored import log_scores
from tasks.serving.answer_file import answer_names
from tasks.serving.asked_rows import AskedRows, asked_rows, columns_of
from tasks.serving.predict import Predictor, predictor_of
from tasks.sources import sql
from tasks.sources.files import list_files
from tasks.stage import Here, RunContext, stage

# What an attempt that dies loses at most, beside what is in work.
_PART_SECONDS, _PART_ROWS = 10.0, 20_000
_FEW = 5  # rows without an answer that are named
PLACE = ("file", "row")  # of a row of the source, beside its answers
REASON = "reason"
_TYPES = {"string": pa.string(), "number": pa.float64(), "boolean": pa.bool_()}


def _tell(scores: Scores, run: RunContext[ScoreRecipe]) -> None:
    with run.tracker.once("score", scores.key) as fresh:
        if fresh:
            log_scores(scores, run.store.open(scores), run.tracker)


@stage(
    Scores,
    version=1,
    shaped_by=("model", "column", "params", "draws", "seed", "source.reading"),
    tell=_tell,
)
def score(here: Here[ScoreRecipe], snapshot: Snapshot, model: FetchedModel) -> dict[str, Any]:
    """Answer each row. Safe to repeat: it goes on behind the last part that is there.

    Raises:
        SourceError: naming file and row or column, where the rows cannot be read, hold no column of
            texts, or change while they are read.
        NoisefoldError: the version cannot be loaded, has no such parameter, or no noise to draw.
    """
    recipe = here.recipe
    source = source_files(recipe.source, here.keep)
    files = list_files(source)
    predictor = predictor_of(model.folder, model.name, model.version)
    predictor.take_params(
        [(name, str(one)) for name, value in recipe.params.items() for one in _each(value)]
    )
    noise = _noise(predictor, model) if recipe.draws else {}
    columns, asked = columns_of(files, source, recipe.column, here.keep, predictor)
    answering = _Answering(predictor, noise, recipe.draws, recipe.seed)
    parts = _Parts(here.keep / "parts", answering.schema)
    tally = _Tally(list(answering.schema.names))
    done = parts.rows
    for table in parts.written():
        tally.add(table)
    report("score", tally.rows)
    with closing(_batches(source, asked, here.keep)) as batches:
        for file, rows in batches:
            if done > 0:  # answered by an attempt before this one
                done -= len(rows.numbers)
                continue
            table = answering.answer(file, rows)
            parts.write(table)
            tally.add(table)
            report("score", tally.rows)
    parts.end()
    if not tally.rows:
        raise SourceError(f"{files[0].name}: no rows.", "Check the export that writes it.")
    try:
        refuse_changed(recipe.source, snapshot, source)
    except SourceError:
        shutil.rmtree(parts.folder)  # answers to other rows: no attempt may go on behind them
        raise
    # The rows of a query stay beside their answers: asked again it may give them in another order.
    for path in (*parts.paths(), *here.keep.glob(sql.NAME)):
        shutil.copyfile(path, here.out / path.name)
    names, _ = answer_names(columns, answering.told)
    return {
        "digest": tally.digest.hexdigest(),
        "rows_in": tally.rows,
        "rows_out": tally.rows - tally.refused,
        "model": predictor.uri,
        "fingerprint": snapshot.fingerprint,
        "columns": tuple(columns),
        "asked": asked,
        "names": dict(zip([*answering.told, REASON, "model"], names, strict=True)),
        "refused": tally.refused,
        "first_refused": tuple(tally.first),
        "warnings": _warnings(tally),
    }


def _batches(
    source: FileSource, asked: dict[str, str], scratch: Path
) -> Generator[tuple[str, AskedRows]]:
    for file in list_files(source):
        with closing(asked_rows(file, source, asked, scratch)) as batches:
            for rows in batches:
                yield file.name, rows


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _noise(predictor: Predictor, model: FetchedModel) -> Alphas:
    """What is drawn from.

    Raises:
        NoisefoldError: draws would say nothing of this model.
    """
    if why := predictor.task.undrawn:
        raise NoisefoldError(
            f"draws: {predictor.name} is a {predictor.task.words.lower()}, and {why}.",
            "Leave draws out.",
        )
    noise = load_noise(model.bundle.parent)
    if noise:
        return noise
    raise NoisefoldError(
        f"draws: {predictor.uri} has no noise beside it: its method has none at its weights, or it "
        "was registered before versions had it.",
        "Leave draws out, or retrain it with model.reparameterization: {kind: "
        "multiplicative_noise}.",
    )


class _Answering:
    """Rows of a table to rows of answers: `file`, `row`, the model's columns, how sure each is, and
    why a row has none.
    """

    def __init__(self, predictor: Predictor, noise: Alphas, draws: int, seed: int) -> None:
        self.predictor, self.noise = predictor, noise
        self.seeds = [mix(seed, number) for number in range(draws)]
        nothing: dict[str, list[Any]] = {name: [] for name in predictor.outputs}
        sure = predictor.task.certainty(nothing, [nothing] if draws else [])
        self.sure = [name for name in sure if name not in predictor.outputs]
        answers = {name: _TYPES[kind] for name, kind in predictor.outputs.items()}
        answers |= dict.fromkeys(self.sure, pa.float64())
        self.told = list(answers)
        place = {"file": pa.string(), "row": pa.int64()}
        self.schema = pa.schema({**place, **answers, REASON: pa.string()})

    def answer(self, file: str, rows: AskedRows) -> pa.Table:
        found = self.predictor.answer(rows.asked, rows.reasons)
        have = [row for row, reason in enumerate(found.reasons) if reason is None]
        sure = self._certainty(rows, found.columns, have) if have else {}
        columns: dict[str, Any] = {"file": [file] * len(rows.numbers), "row": rows.numbers}
        columns |= found.columns
        for name in self.sure:
            values: list[float | None] = [None] * len(rows.numbers)
            for row, value in zip(have, sure.get(name, ()), strict=True):
                values[row] = value
            columns[name] = values
        arrays = {
            name: pa.array(values, self.schema.field(name).type, from_pandas=True)
            for name, values in {**columns, REASON: found.reasons}.items()
        }
        return pa.table(arrays, schema=self.schema)

    def _certainty(
        self, rows: AskedRows, answers: Mapping[str, list[Any]], have: list[int]
    ) -> dict[str, list[float]]:
        asked = {name: [texts[row] for row in have] for name, texts in rows.asked.items()}
        draws = []
        for seed in self.seeds:
            with drawn(self.predictor.bundle.network, self.noise, seed):
                draws.append(self.predictor.answer(asked).columns)
        told = {name: [values[row] for row in have] for name, values in answers.items()}
        return self.predictor.task.certainty(told, draws)


class _Parts:
    """Answers in files that each appear whole, in the order of the rows."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if any(pq.read_schema(path) != schema for path in self.paths()):
            raise NoisefoldError(  # the key would be another one, had anything changed
                f"{folder} holds parts with other columns.", f"Remove {folder}, and run again."
            )
        self.number = len(self.paths())
        self.rows = sum(pq.read_metadata(path).num_rows for path in self.paths())
        self._held: list[pa.Table] = []
        self._since = time.monotonic()

    def paths(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def written(self) -> Iterator[pa.Table]:
        return read_parts(self.folder, _PART_ROWS)

    def write(self, table: pa.Table) -> None:
        self._held.append(table)
        rows = sum(one.num_rows for one in self._held)
        if rows >= _PART_ROWS or time.monotonic() - self._since >= _PART_SECONDS:
            self.end()

    def end(self) -> None:
        """Nothing is held that is not on disk."""
        if self._held:
            path = self.folder / f"part-{self.number:05d}.parquet"
            temporary = path.with_suffix(".tmp")
            pq.write_table(pa.concat_tables(self._held), temporary, compression="zstd")
            os.replace(temporary, path)
            self.number += 1
        self._held, self._since = [], time.monotonic()


class _Tally:
    """What the answers are in all."""

    def __init__(self, columns: list[str]) -> None:
        self.rows, self.refused = 0, 0
        self.first: list[str] = []
        self.digest = RowDigest(columns)

    def add(self, table: pa.Table) -> None:
        self.digest.update(table)
        self.rows += table.num_rows
        refused = table.filter(pa.compute.is_valid(table[REASON]))
        self.refused += refused.num_rows
        for row in refused.slice(0, _FEW - len(self.first)).to_pylist():
            self.first.append(f"{row['file']}, row {row['row']}: {row[REASON]}")


def _warnings(tally: _Tally) -> tuple[str, ...]:
    if not tally.refused:
        return ()
    more = "; …" if tally.refused > len(tally.first) else ""
    named = "; ".join(tally.first)
    return (f"{tally.refused:,} of {tally.rows:,} rows have no answer ({named}{more}).",)
