"""deliver: the rows of a source and what is said of them as one file, held to its contract first.

The file appears whole or not at all. Written again it is the same, byte for byte, so a repeated
attempt finds it done; another one in its place is refused unless the recipe says to replace it.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect.client.schemas import State
from prefect.states import Completed
from upath import UPath

from data_contracts.artifacts import Answers, Delivered, File, Snapshot
from data_contracts.contract.rules import CorpusRule
from data_contracts.errors import NoisefoldError
from data_contracts.recipe.asking import WritingRecipe
from data_contracts.recipe.score import OutputContract
from data_contracts.recipe.source import FileSource
from data_contracts.tables.read import name_parts
from data_contracts.urls import resolve, shown_url
from tasks.answered import PLACE, REASON, beside, same_rows
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import hash_file
from tasks.progress import report
from tasks.serving.answer_file import Output, answer_file, output_file
from tasks.stage import RunContext, step

_ROWS = 20_000  # of answers that are held at a time
ABSTAIN = "abstain"  # the answers' own word on whether they are sure enough


@step
def deliver(
    run: RunContext[Any], answers: Answers, snapshot: Snapshot
) -> Delivered | State[Delivered]:
    """Write the rows with their answers. Safe to repeat.

    Raises:
        NoisefoldError: the answers break their contract, or something else bears the output's name
            or it cannot be written; nothing is written then.
        SourceError: the rows changed since they were answered.
    """
    parts = run.store.open(answers)
    hold(parts, run.recipe.contract)

    def write(written: Path) -> None:
        with same_rows(parts, run.recipe.source, snapshot, written.parent) as files:
            _lay_beside(files, answers, parts, written)

    return put_whole(run, write, answers.rows_in, answers.refused)


def put_whole(
    run: RunContext[Any], write: Callable[[Path], None], rows: int, refused: int = 0
) -> Delivered | State[Delivered]:
    """Bring a file to where the recipe says, in one step.

    Args:
        write: makes the file, in a folder of its own.
        rows: that it holds; refused: of these, such as have no answer.
    Raises:
        NoisefoldError: something else bears its name, or it cannot be written.
    """
    recipe: WritingRecipe = run.recipe
    run.store.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="noisefold-", dir=run.store.work) as folder:
        scratch = Path(folder)
        written = scratch / f"output{_ending(recipe.output)}"
        write(written)
        file = hash_file(UPath(written))
        same = _put(written, file, recipe, scratch)
    done = Delivered(
        output=shown_url(recipe.output),
        sha256=file.sha256,
        size=file.size,
        rows=rows,
        refused=refused,
        same=same,
    )
    text = f"{done.output} holds this already"
    return Completed(name="Cached", message=text, data=done) if same else done


def hold(parts: Path, contract: OutputContract) -> None:
    """Hold the answers to their contract, by Great Expectations.

    Raises:
        NoisefoldError: naming each rule that is broken.
    """
    from data_contracts.contract.expectations import Suite, corpus_frame

    seen = _aggregates(parts)
    rules = [
        CorpusRule("rows", "rows", low=contract.min_rows),
        CorpusRule("unanswered", "rows with neither an answer nor a reason", high=0),
        CorpusRule("not_numbers", "answers that are no finite number", high=0),
    ]
    if contract.max_refused_share is not None:
        share = contract.max_refused_share
        rules.append(CorpusRule("refused_share", "share of rows without an answer", high=share))
    if contract.max_abstained_share is not None:
        if ABSTAIN not in pq.read_schema(next(iter(sorted(parts.glob("part-*.parquet"))))).names:
            raise NoisefoldError(
                "contract.max_abstained_share: the model answers without a column abstain.",
                "Leave it out, or retrain with task.abstain.",
            )
        share = contract.max_abstained_share
        rules.append(CorpusRule("abstained_share", "share of unsure answers", high=share))
    frame = corpus_frame({rule.name: seen[rule.name] for rule in rules})
    broken = [one.rule for one in Suite("answers", rules).run(frame) if not one.success]
    if not broken:
        return
    told = "; ".join(
        f"{rule.words}: {rule.shown(seen[rule.name])}, where {rule.limit} may be"
        for rule in broken
        if isinstance(rule, CorpusRule)
    )
    raise NoisefoldError(
        f"The answers break their contract ({told}); nothing was written.",
        "Mend the source, or change the section contract of the score.",
    )


def _aggregates(parts: Path) -> dict[str, float]:
    found = {"rows": 0.0, "refused": 0.0, "unanswered": 0.0, "not_numbers": 0.0, "abstained": 0.0}
    for table in read_parts(parts, _ROWS):
        answers = [name for name in table.column_names if name not in (*PLACE, REASON)]
        given = pc.is_null(table[REASON])
        found["rows"] += table.num_rows
        found["refused"] += table.num_rows - (pc.sum(given).as_py() or 0)
        empty = pc.and_(given, pc.is_null(table[answers[0]]))
        found["unanswered"] += pc.sum(empty).as_py() or 0
        if ABSTAIN in answers:
            found["abstained"] += pc.sum(table[ABSTAIN]).as_py() or 0
        for name in answers:
            if pa.types.is_floating(table[name].type):
                odd = pc.invert(pc.is_finite(table[name]))
                found["not_numbers"] += pc.sum(odd).as_py() or 0
    for name in ("refused", "abstained"):
        found[f"{name}_share"] = found[name] / max(found["rows"], 1)
    return found


def _ending(output: str) -> str:
    format, compression = name_parts(output)
    packed = {"gzip": ".gz", "zstd": ".zst"}.get(compression or "", "")
    return f".{format}{packed}"


def _lay_beside(source: FileSource, answers: Answers, parts: Path, written: Path) -> None:
    """Read the rows once more, with the answers beside them."""
    names, rows_read = answers.names, 0
    with ExitStack() as opened:
        target = answer_file(Output(str(written), True, io.StringIO()), written.parent)
        make = opened.enter_context(target)
        writer = opened.enter_context(
            closing(make(list(answers.columns), [names[name] for name in names]))
        )
        read = opened.enter_context(closing(beside(source, answers.asked, parts, written.parent)))
        for rows, table in read:
            columns = {
                names[name]: table[name].combine_chunks()
                for name in table.column_names
                if name not in PLACE
            }
            columns[names["model"]] = pa.array([answers.model] * table.num_rows)
            writer.write(rows.carried, columns)
            rows_read += len(rows.numbers)
            report("deliver", rows_read, answers.rows_in)


def _put(written: Path, file: File, recipe: WritingRecipe, scratch: Path) -> bool:
    """Bring the file to its place; whether it was there already."""
    target = UPath(resolve(recipe.output))
    try:
        there = target.exists()
    except (OSError, ValueError, ImportError) as error:
        raise NoisefoldError(
            f"output {shown_url(recipe.output)}: {error}.",
            "Give a path, or a URL that fsspec can write to.",
        ) from error
    if there and hash_file(target) == file:
        return True
    if there and not recipe.replace:
        raise NoisefoldError(
            f"output: {shown_url(recipe.output)} is there already, with something else in it.",
            "Put {day} into the output's name, or say replace: true.",
        )
    try:
        # A day's folder may be a new one.
        with suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
        with output_file(recipe.output, scratch, True) as path:
            shutil.copyfile(written, path)
    except NoisefoldError as error:
        raise NoisefoldError(error.cause.replace("--output ", "output "), error.remedy) from error
    return False
