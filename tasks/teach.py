"""teach: what a registered model says of the train texts, and of texts made up from them, for `train` to learn.

A large model distils into a small one (Hinton 2015, https://arxiv.org/abs/1503.02531): the small one learns the large
one's probabilities, on more texts than there are labels for. Asking the large one is the dear part, so its answers are
an artifact of their own, which every seed and every student of the same rows shares; and what an attempt has asked, no
later attempt asks again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from data_contracts.artifacts import FetchedModel, Lessons, ValidatedCorpus
from data_contracts.contract.contract import SPLITS
from data_contracts.errors import NoisefoldError, RecipeError
from data_contracts.recipe.sections import DistillationConfig
from data_contracts.sample.variants import Variants
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.figures import apply_temperature
from lightning_modules.kinds.classify.head import log_proba
from lightning_modules.kinds.classify.soft_targets import LESSONS
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import RowDigest
from tasks.progress import report, tell
from tasks.serving.fetched import fetch_model
from tasks.stage import Here, RunContext, stage
from tasks.tokenize import TEACHER_TEXTS, text_hashes
from tasks.tracking.runs import TEACHER, Tracker

MOST_SEEN = 0.01  # share of the valid or test rows that a teacher may have been trained on
_PART = 100  # train texts whose answers are saved together


def _tell(lessons: Lessons, run: RunContext) -> None:
    seen = {f"teach/seen_{split}_rows": lessons.seen[split] for split in ("valid", "test")}
    figures = {"teach/texts": lessons.rows_out, "teach/agreement": lessons.agreement}
    run.tracker.log_metrics({**figures, "teach/confidence": lessons.confidence, **seen})
    run.tracker.set_tags({"noisefold.teacher_digest": lessons.teacher})
    tell("teach", f"The teacher agrees with {lessons.agreement:.1%} of the train labels.")
    if lessons.seen["test"]:
        tell(
            "teach",
            f"It was trained on {lessons.seen['test']:,} of the test rows; promotion leaves them out.",
        )


@stage(
    Lessons, version=2, shaped_by=("distillation.augmentations", "distillation.seed"), tell=_tell
)
def teach(here: Here, corpus: ValidatedCorpus, teacher: FetchedModel) -> dict[str, Any]:
    """The teacher's log-probabilities of every train text and of the texts made up from each.

    Effects: Parquet below the store's key, manifest last; figures as `teach/…` in the MLflow run. Safe to repeat: an
    interrupted attempt leaves the answers it had.
    Raises:
        RecipeError: where it does not know a label of the contract, or was trained on the rows it is measured on.
    """
    config = here.recipe.distillation
    assert config is not None
    bundle, folder = Bundle.load(teacher.bundle), here.open(corpus) / "corpus"
    if unknown := sorted(set(corpus.facts["labels"]) - set(bundle.facts["labels"])):
        raise RecipeError(
            f"The teacher {teacher} does not know the label {unknown[0]!r}"
            + (f" and {len(unknown) - 1} more of the contract's." if len(unknown) > 1 else "."),
            "Give distillation.teacher a model that was trained for the same labels.",
        )
    known = np.load(teacher.texts, allow_pickle=False)
    train, seen = _read(folder, known, teacher)
    _ask(bundle, corpus.facts["labels"], train, config, here.keep / "answers")
    np.save(here.out / TEACHER_TEXTS, known, allow_pickle=False)
    facts = _gather(here.keep / "answers", here.out, train, corpus.facts["labels"])
    return {
        **facts,
        "rows_in": train.num_rows,
        "labels": corpus.facts["labels"],
        "teacher": teacher.digest,
        "seen": seen,
    }


def _read(
    folder: Path, known: np.ndarray, teacher: FetchedModel
) -> tuple[pa.Table, dict[str, int]]:
    """The train rows, and how many rows of each split the teacher was trained on."""
    train: list[pa.Table] = []
    rows: dict[str, int] = dict.fromkeys(SPLITS, 0)
    seen: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for batch in read_parts(folder, 10_000, ["id", "text", "label", "split"]):
        for split in SPLITS:
            part = batch.filter(pc.equal(batch["split"], split))
            hashes = text_hashes(part["text"].to_pylist())
            rows[split] += part.num_rows
            seen[split] += int(np.isin(hashes, known).sum())
            if split == "train":
                train.append(part.select(["id", "text", "label"]))
    for split in ("valid", "test"):
        if seen[split] > MOST_SEEN * rows[split]:
            raise RecipeError(
                f"The teacher {teacher} was trained on {seen[split]:,} of the {rows[split]:,} {split} rows, so figures "
                "on them would say nothing.",
                "Train it on the same source with the same splits.",
            )
    return pa.concat_tables(train), seen


def _ask(
    bundle: Bundle,
    labels: tuple[str, ...],
    train: pa.Table,
    config: DistillationConfig,
    answers: Path,
) -> None:
    """A file of answers for each `_PART` train texts; those that are there already are not asked for again."""
    answers.mkdir(parents=True, exist_ok=True)
    if torch.cuda.is_available():
        bundle.network.to("cuda")
    columns = [bundle.facts["labels"].index(label) for label in labels]
    ids, texts = train["id"].to_pylist(), train["text"].to_pylist()
    variants = Variants(texts, config.seed)
    for number, first in enumerate(range(0, len(texts), _PART)):
        file = _part(answers, number)
        if not file.exists():
            rows = [
                (ids[i], variant, text)
                for i in range(first, min(first + _PART, len(texts)))
                for variant, text in enumerate([texts[i], *variants.of(i, config.augmentations)])
            ]
            says = log_proba(bundle, [text for _, _, text in rows])
            # Among the labels of the contract.
            says = apply_temperature(says[:, columns], bundle.facts["temperature"])
            table = pa.table(
                [*map(list, zip(*rows, strict=True)), list(says.astype(np.float32))],
                schema=LESSONS,
            )
            partial = file.with_suffix(".tmp")
            pq.write_table(table, partial, compression="zstd")
            os.replace(partial, file)
        report("teach", min(first + _PART, len(texts)), len(texts))


def _gather(answers: Path, out: Path, train: pa.Table, labels: tuple[str, ...]) -> dict[str, Any]:
    """All answers in one file, and what the manifest says of them."""
    digest, class_of = (
        RowDigest(LESSONS.names),
        {label: index for index, label in enumerate(labels)},
    )
    truth = np.array([class_of[label] for label in train["label"].to_pylist()])
    says, confident = np.empty(len(truth), np.int64), {"rows": [0, 0.0], "variants": [0, 0.0]}
    done = 0
    with pq.ParquetWriter(out / "lessons.parquet", LESSONS, compression="zstd") as writer:
        for table in _tables(answers):
            digest.update(table)
            writer.write_table(table)
            proba = np.exp(
                table["log_proba"].combine_chunks().flatten().to_numpy().reshape(-1, len(labels))
            )
            own = table["variant"].to_numpy() == 0
            says[done : done + own.sum()] = proba[own].argmax(axis=1)
            done += int(own.sum())
            for name, some in (("rows", own), ("variants", ~own)):
                confident[name][0] += int(some.sum())
                confident[name][1] += float(proba[some].max(axis=1).sum())
    count, total = confident["variants"] if confident["variants"][0] else confident["rows"]
    return {
        "digest": digest.hexdigest(labels),
        "rows_out": digest.rows,
        "agreement": float((says == truth).mean()),
        "confidence": total / count,
    }


def _tables(answers: Path) -> Iterator[pa.Table]:
    number = 0
    while (file := _part(answers, number)).exists():
        yield pq.read_table(file)
        number += 1


def _part(answers: Path, number: int) -> Path:
    return answers / f"part-{number:05d}.parquet"


def find_teacher(config: DistillationConfig, tracker: Tracker, fetched: Path) -> FetchedModel:
    """The version to learn from; pinned in the run, so that a rerun learns from the same one.

    Raises:
        RecipeError: the registry has no such model, or no champion of it, or its files are gone or damaged.
    """
    pinned = tracker.tag(TEACHER)
    pinned = (
        pinned.rpartition("/")[2] if pinned and pinned.startswith(f"{config.teacher}/") else None
    )
    version = str(config.version) if config.version else pinned
    remedy = "Train the teacher first, with `noisefold retrain` and its own recipe, or correct the section distillation."
    try:
        found = fetch_model(tracker, config.teacher, fetched, version=version)
    except NoisefoldError as error:
        raise RecipeError(error.cause, remedy) from error
    if found is None:
        raise RecipeError(f"There is no champion of {config.teacher} to learn from.", remedy)
    tracker.set_tags({TEACHER: f"{config.teacher}/{found.version}"})
    return found
