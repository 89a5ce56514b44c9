"""Manifests: what one stage hands to the next. Small, frozen, JSON; never a tensor, a frame or an
open handle.

A manifest is the only commit of a stage (`tasks.artifacts.store`): `files` vouches for the bytes,
`digest` for the meaning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from data_contracts.contract.days import Days, WindowRead
from data_contracts.results import Interval


class File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str
    size: int = Field(description="Bytes.")


class Artifact(BaseModel):
    """What every stage result has. `key` names the work that made it, `digest` what came out."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: ClassVar[str]
    # What rows_in and rows_out count, where a person reads them.
    counted: ClassVar[tuple[str, str]] = ("rows", "rows")

    key: str = Field(description="Digest of (input digests, recipe parts, stage version).")
    made_from: dict[str, str] = Field(
        default={}, description="Key of each artifact that went in, by its stage."
    )
    uri: str = Field(description="Folder of the files, a URL or a path.")
    digest: str = Field(description="Content digest that does not depend on how files are cut.")
    files: dict[str, File] = Field(description="Byte hash of each file below `uri`.")
    rows_in: int
    rows_out: int
    warnings: tuple[str, ...] = Field(
        default=(), description="Sentences for a person to read though the stage went well."
    )

    @property
    def identity(self) -> Any:
        """What the key of a stage that reads it has of it: the digest, and more where more of it is
        told.
        """
        return self.digest

    @field_validator("files")
    @classmethod
    def _names_stay_inside(cls, files: dict[str, File]) -> dict[str, File]:
        for name in files:
            parts = name.split("/")
            long = len(name) > 1000 or max(map(len, parts)) > 255  # no file system takes it
            if (
                long
                or name.startswith("/")
                or "\\" in name
                or "\0" in name
                or {"", ".", ".."} & set(parts)
            ):
                raise ValueError(f"{name[:300]!r} is no file below the artifact's folder")
        return files


class Snapshot(BaseModel):
    """A source as it was when the run began."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fingerprint: str = Field(description="Digest of the files as they are, without their rows.")
    window: WindowRead | None = Field(
        default=None, description="Days of the window that are there."
    )

    @property
    def identity(self) -> str:
        return self.fingerprint


class FetchedModel(BaseModel):
    """A version of a registered model, fetched whole: what a training starts or learns from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: str
    bundle: Path = Field(description="Local folder of the bundle; its files count by `digest`.")
    digest: str = Field(description="SHA-256 of bundle.json, which names those of the other files.")

    @property
    def identity(self) -> str:
        return self.digest

    @property
    def folder(self) -> Path:
        """Of the version's own files, which MLflow loads."""
        return self.bundle.parent.parent

    @property
    def texts(self) -> Path:
        """Hashes of the texts it was trained on."""
        return self.bundle.parent / "train_texts.npy"

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


class Spelling(BaseModel):
    """Cells of a category that were read otherwise than they are written, as `1` for `1.0`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    written: str
    read: str
    rows: int


class RawCorpus(Artifact):
    """Parquet parts in source order: id, the contract's roles, split, slices..., fault, file, row.

    `row` counts from 1, the header not counted. `fault` is the reason for which a cell of the row
    is none; null for nearly every row.
    """

    stage: ClassVar[str] = "ingest"
    fingerprint: str = Field(description="Digest of the source files as they were read.")
    splits: dict[str, int] = Field(description="Rows per split.")
    source_files: int
    days: tuple[Days, ...] = Field(
        default=(), description="That the files are named for, where a window chose them by these."
    )
    told: tuple[str, ...] = Field(
        default=(), description="Sentences on what was read otherwise than one may think."
    )
    spelled: tuple[Spelling, ...] = Field(
        default=(), description="Spellings of categories, by rows."
    )
    left_out: dict[str, int] = Field(
        default={}, description="Rows that the contract does not select, by what speaks against."
    )

    @property
    def identity(self) -> Any:
        """With what ingest has to tell, and the days of the files: the rows alone have neither."""
        told = [self.told, [one.model_dump() for one in self.spelled], self.left_out]
        return [self.digest, told, list(map(str, self.days))]


class ValidatedCorpus(Artifact):
    """`corpus/*.parquet` (id, the contract's roles, split, slices...), `quarantine.parquet`,
    `report.html`, `report.json`."""

    stage: ClassVar[str] = "validate"
    contract_name: str
    contract_version: int
    facts: dict[str, Any] = Field(
        description="What the rows say that later stages have to know, by the contract's kind."
    )
    splits: dict[str, int]
    quarantined: dict[str, int] = Field(
        description="Rows per first reason; sums to rows_in - rows_out."
    )
    category_rows: dict[str, dict[str, dict[str, int]]] = Field(
        default={}, description="Kept rows of each value of a category, by its role and by split."
    )

    @property
    def labels(self) -> tuple[str, ...]:
        """Of a corpus of kind classify: sorted, or in the contract's order; the index is the class
        id.
        """
        return tuple(self.facts["labels"])


class WindowingFacts(BaseModel):
    """How documents are cut into windows [prefix ids suffix] of token ids; neighbours share ids, so
    none is lost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)
    max_length: int = Field(description="Most ids of a window, special tokens included.")
    overlap: int = Field(description="Ids that neighbours share, at least.")
    prefix_ids: tuple[int, ...] = Field(
        default=(), description="Special tokens before each window."
    )
    suffix_ids: tuple[int, ...] = Field(default=(), description="Special tokens after each window.")
    unknown_id: int = Field(
        default=1, description="What an empty document is, without special tokens."
    )


class TokenDataset(Artifact):
    """`train|valid|test.parquet` (id, window, input_ids, length, what the kind adds),
    `tokenizer.json`, `train_texts.npy`.
    """

    stage: ClassVar[str] = "tokenize"
    counted: ClassVar[tuple[str, str]] = ("rows", "windows")
    facts: dict[str, Any] = Field(
        description="What the rows say that later stages have to know, by their kind."
    )
    splits: dict[str, int] = Field(description="Documents per split.")
    windows: dict[str, int] = Field(description="Token rows per split.")
    tokens: int
    vocab_size: int
    windowing: WindowingFacts
    tokenizer_digest: str
    over_length_share: float = Field(description="Share of documents cut into several windows.")
    unknown_share: float = Field(description="Share of tokens that are the unknown token.")
    unknown_shares: dict[str, float] = Field(description="The same per split.")


class TaughtTokens(TokenDataset):
    """Token rows whose train split has a teacher's soft targets, and texts made up from its own."""

    stage: ClassVar[str] = "distill"
    taught_by: str = Field(description="Content digest of the teacher's bundle.")


class Lessons(Artifact):
    """`lessons.parquet` (id, variant, text, and what the teacher says of it by its kind),
    `teacher_texts.npy` (hashes of the teacher's train texts).

    Variant 0 is the train row itself, the others are made up from it.
    """

    stage: ClassVar[str] = "teach"
    counted: ClassVar[tuple[str, str]] = ("rows", "texts")
    teacher: str = Field(description="Content digest of the teacher's bundle.")
    figures: dict[str, float] = Field(description="How well it fits the rows, by the kind.")
    seen: dict[str, int] = Field(description="Rows per split that the teacher was trained on.")


class TrainedModel(Artifact):
    """`bundle/` (see lightning_modules.bundle), `metrics.jsonl`, `history.json`."""

    stage: ClassVar[str] = "train"
    counted: ClassVar[tuple[str, str]] = ("windows", "windows")
    run_id: str = Field(description="MLflow run that trained it.")
    best_epoch: int
    epochs: int
    steps: int
    monitor: str = Field(
        description="The metric whose best epoch was kept, as `validation` has it."
    )
    validation: dict[str, float] = Field(
        description="`val/<metric>` of that epoch, over the documents of the valid split."
    )
    parameters: int = Field(description="After folding.")
    warm_started_from: str | None = None
    taught_by: str | None = Field(
        default=None, description="Content digest of the teacher's bundle."
    )
    cpu_seconds: float = Field(
        default=0.0,
        description="CPU time of the training process from its data on; 0: not recorded.",
    )


class EvaluationReport(Artifact):
    """`predictions.parquet` (test), `report.json`, tables and plots."""

    stage: ClassVar[str] = "evaluate"
    metrics: dict[str, Interval] = Field(
        description="test/<name>, as registered; of a part without a test row there is none."
    )
    facts: dict[str, Any] = Field(
        default_factory=dict,
        description="What the kind says of how the model answers (classify: its temperature).",
    )
    without_rows: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Per split, the parts that have no row there; a split that has all is absent.",
    )
    row_figure: str = Field(description="What `slices` have the mean of, in words.")
    slices: tuple[tuple[str, float, int], ...] = Field(
        description="Of the test split, the largest first: which rows, their mean, their number."
    )


class Measurement(Artifact):
    """What a folded model costs to use. It has no files: the figures are all."""

    stage: ClassVar[str] = "measure"
    bytes: int = Field(description="Size of the bundle.")
    texts_per_second: float = Field(description="From text to label, per second of one CPU thread.")


class RegisteredModel(Artifact):
    """A version in the MLflow registry. It has no files in the store: the registry holds them."""

    stage: ClassVar[str] = "register"
    name: str
    version: str
    run_id: str
    model_uri: str = Field(description="models:/<name>/<version>")
    created: bool = Field(description="False: a version with this digest was there already.")


class Scores(Artifact):
    """`part-00000.parquet …`: a row for each row of a source, in their order: file, row, what the
    model answers, how sure it is, and why a row has no answer (`reason`).
    """

    stage: ClassVar[str] = "score"
    model: str = Field(description="models:/<name>/<version>")
    fingerprint: str = Field(description="Digest of the source files as they were read.")
    columns: tuple[str, ...] = Field(description="Of the source's tables, in order.")
    asked: dict[str, str] = Field(description="The column that holds each of the model's inputs.")
    names: dict[str, str] = Field(
        description="What each answer is called beside these columns, by its own name."
    )
    refused: int = Field(description="Rows without an answer.")
    first_refused: tuple[str, ...] = Field(description="Some of them, each with file and reason.")


class Delivered(BaseModel):
    """A file of answers, as it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    output: str = Field(description="Where it lies, without what may be secret in an address.")
    sha256: str
    size: int = Field(description="Bytes.")
    rows: int
    refused: int
    same: bool = Field(description="It was there already, byte for byte.")

    @property
    def rows_in(self) -> int:
        return self.rows

    @property
    def rows_out(self) -> int:
        return self.rows


class SignalDrift(BaseModel):
    """How far one thing about the rows has moved from what it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    signal: str
    psi: float = Field(description="Population stability index; 0: the same shares.")
    p: float = Field(description="Of the two-sample test, by itself.")
    adjusted_p: float = Field(description="Over all signals (Holm).")
    before: str = Field(description="Of the reference, in words.")
    now: str
    drifted: bool


class Drift(Artifact):
    """New rows beside those that a version was measured on; `signals.json` holds their values."""

    stage: ClassVar[str] = "monitor"
    model: str = Field(description="models:/<name>/<version>")
    fingerprint: str
    reference_rows: int
    refused: int = Field(description="Of the rows that were drawn, those without a text.")
    signals: tuple[SignalDrift, ...]
    drifted: bool
