"""teach, distill: what a registered model says of the train texts, and of texts made up from them,
as token rows for `train` to learn.

A large model distils into a small one (Hinton 2015, https://arxiv.org/abs/1503.02531): the small
one learns the large one's probabilities, on more texts than there are labels for. Asking the large
one is the dear part, so its answers are an artifact of their own, which every seed and every
student of the same rows shares; and what an attempt has asked, no later attempt asks again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.artifacts import (
    FetchedModel,
    Lessons,
    TaughtTokens,
    TokenDataset,
    ValidatedCorpus,
)
from data_contracts.contract.contract import SPLITS
from data_contracts.errors import RecipeError
from data_contracts.recipe.sections import DistillationConfig
from data_contracts.sample.variants import Variants
from lightning_modules.network.tokenizer import load_tokenizer
from lightning_modules.network.windows import Windowing
from tasks.artifacts.store import RowDigest, digest_of
from tasks.progress import report, tell
from tasks.serving.fetched import Named, fetch_named
from tasks.stage import Here, RunContext, stage
from tasks.start import SeenRows, refuse_seen
from tasks.tokenize import TEACHER_TEXTS, TRAIN_TEXTS, ValidatedRows
from tasks.tracking.bookkeeping import TEACHER
from tasks.tracking.runs import Tracker

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle
    from lightning_modules.kinds.base import Objective

LESSONS_FILE = "lessons.parquet"
_PART = 100  # train texts whose answers are saved together


def _tell(lessons: Lessons, run: RunContext) -> None:
    seen = {f"seen_{split}_rows": lessons.seen[split] for split in ("valid", "test")}
    figures = {"texts": lessons.rows_out, **lessons.figures, **seen}
    run.tracker.log_metrics({f"teach/{name}": value for name, value in figures.items()})
    run.tracker.set_tags({"noisefold.teacher_digest": lessons.teacher})
    if "agreement" in lessons.figures:
        share = lessons.figures["agreement"]
        tell("teach", f"The teacher agrees with {share:.1%} of the train rows.")
    if lessons.seen["test"]:
        rows = f"{lessons.seen['test']:,} of the test rows"
        tell("teach", f"It was trained on {rows}; promotion leaves them out.")


@stage(
    Lessons,
    version=2,
    shaped_by=("task.kind", "distillation.augmentations", "distillation.seed"),
    tell=_tell,
)
def teach(here: Here, corpus: ValidatedCorpus, teacher: FetchedModel) -> dict[str, Any]:
    """What the teacher answers to every train text, and to the texts made up from each.

    Effects: Parquet below the store's key, manifest last; figures as `teach/…` in the MLflow run.
    Safe to repeat: an interrupted attempt leaves the answers it had.
    Raises:
        RecipeError: where it cannot answer for these rows, or was trained on the rows it is
            measured on.
    """
    # Here: a rerun that finds everything done loads no torch.
    from lightning_modules.bundle import Bundle
    from lightning_modules.kinds.base import objective_of

    config = here.recipe.distillation
    assert config is not None
    bundle = Bundle.load(teacher.bundle)
    objective = objective_of(here.recipe.task, corpus.facts)
    if (fault := objective.cannot_teach(bundle)) is not None:
        raise RecipeError(
            f"The teacher {teacher} {fault}.",
            "Give distillation.teacher a model that was trained for the same task.",
        )
    known = np.load(teacher.texts, allow_pickle=False)
    train, seen = _read(ValidatedRows(here.open(corpus), here.recipe.contract), known, teacher)
    _ask(objective, bundle, train, config, here.keep / "answers")
    np.save(here.out / TEACHER_TEXTS, known, allow_pickle=False)
    return {
        **_gather(objective, here.keep / "answers", here.out, train),
        "rows_in": train.num_rows,
        "teacher": teacher.digest,
        "seen": seen,
    }


def _read(
    rows: ValidatedRows, known: np.ndarray, teacher: FetchedModel
) -> tuple[pa.Table, dict[str, int]]:
    """The train rows, and how many rows of each split the teacher was trained on."""
    seen = SeenRows(known)
    train = [part.drop_columns(["split"]) for split, part in seen.parts(rows) if split == "train"]
    refuse_seen(f"The teacher {teacher}", seen.seen, seen.count)
    return pa.concat_tables(train), seen.seen


def _ask(
    objective: Objective, bundle: Bundle, train: pa.Table, config: DistillationConfig, answers: Path
) -> None:
    """A file of answers for each `_PART` train texts; those that are there are not asked again."""
    import torch

    from lightning_modules.kinds.base import ASKED

    answers.mkdir(parents=True, exist_ok=True)
    if torch.cuda.is_available():
        bundle.network.to("cuda")
    ids, texts = train["id"].to_pylist(), list(objective.texts(train))
    variants = Variants(texts, config.seed)
    for number, first in enumerate(range(0, len(texts), _PART)):
        file = _part(answers, number)
        if not file.exists():
            rows = [
                (ids[i], variant, text)
                for i in range(first, min(first + _PART, len(texts)))
                for variant, text in enumerate([texts[i], *variants.of(i, config.augmentations)])
            ]
            asked = pa.table([*map(list, zip(*rows, strict=True))], schema=ASKED)
            partial = file.with_suffix(".tmp")
            pq.write_table(objective.answered(bundle, asked), partial, compression="zstd")
            os.replace(partial, file)
        report("teach", min(first + _PART, len(texts)), len(texts))


def _gather(objective: Objective, answers: Path, out: Path, train: pa.Table) -> dict[str, Any]:
    """All answers in one file, and what the manifest says of them."""
    first = pq.read_schema(_part(answers, 0))
    digest = RowDigest(first.names)
    with pq.ParquetWriter(out / LESSONS_FILE, first, compression="zstd") as writer:
        for table in _tables(answers):
            digest.update(table)
            writer.write_table(table)
    return {
        "digest": digest.hexdigest(*objective.facts.values()),
        "rows_out": digest.rows,
        "figures": objective.teaching(train, _tables(answers)),
    }


def _tables(answers: Path) -> Iterator[pa.Table]:
    number = 0
    while (file := _part(answers, number)).exists():
        yield pq.read_table(file)
        number += 1


def _part(answers: Path, number: int) -> Path:
    return answers / f"part-{number:05d}.parquet"


@stage(TaughtTokens, version=1, shaped_by=("task.kind", "distillation.weight"))
def distill(here: Here, tokens: TokenDataset, lessons: Lessons) -> dict[str, Any]:
    """The train rows written anew, with the teacher's soft targets and the texts made up from them.

    The other splits and the tokenizer are those of `tokens`, and so is what comes out, for whoever
    trains on it. Safe to repeat.
    """
    from lightning_modules.kinds.base import objective_of

    config = here.recipe.distillation
    assert config is not None
    folder, taught = here.open(tokens), here.open(lessons)
    for name in (*(f"{split}.parquet" for split in SPLITS if split != "train"), "tokenizer.json"):
        shutil.copyfile(folder / name, here.out / name)
    tokenizer = load_tokenizer((folder / "tokenizer.json").read_bytes())
    windowing = Windowing.of(tokens.windowing)
    objective_of(here.recipe.task, tokens.facts).soften(
        folder / "train.parquet",
        taught / LESSONS_FILE,
        config.weight,
        lambda texts: windowing.encode(tokenizer, texts),
        here.out / "train.parquet",
    )
    own = np.load(folder / TRAIN_TEXTS, allow_pickle=False)
    teachers = np.load(taught / TEACHER_TEXTS, allow_pickle=False)
    np.save(here.out / TRAIN_TEXTS, np.union1d(own, teachers), allow_pickle=False)
    windows = pq.read_metadata(here.out / "train.parquet").num_rows
    facts = tokens.model_dump(exclude={"key", "uri", "digest", "files", "made_from", "warnings"})
    return {
        **facts,
        "digest": digest_of(tokens.digest, lessons.digest, config.weight),
        "rows_in": lessons.rows_out,
        "rows_out": tokens.rows_out - tokens.windows["train"] + windows,
        "windows": {**tokens.windows, "train": windows},
        "taught_by": lessons.teacher,
    }


def find_teacher(config: DistillationConfig, tracker: Tracker, fetched: Path) -> FetchedModel:
    """The version to learn from; pinned in the run, so that a rerun learns from the same one.

    Raises:
        RecipeError: the registry has no such model, or no champion of it, or its files are gone or
            damaged.
    """
    remedy = (
        "Train the teacher first, with `noisefold retrain` and its own recipe, or correct the "
        "section distillation."
    )
    named = Named(config.teacher, config.version, TEACHER)
    return fetch_named(named, "to learn from", remedy, tracker, fetched)
