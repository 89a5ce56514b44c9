"""What a training is told: one model that the parent writes as JSON and the training process
reads.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.artifacts import WindowingFacts
from data_contracts.kinds.base import AnyTask, TaskConfig
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import ExecutionConfig, TrainingConfig


class TrainingJob(BaseModel):
    """One training, from a token folder to a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Path = Field(description="Folder of train.parquet, valid.parquet and tokenizer.json.")
    facts: dict[str, Any] = Field(description="What the data say of the kind: its labels, say.")
    vocab_size: int
    windowing: WindowingFacts
    task: Annotated[TaskConfig, AnyTask]
    model: ModelConfig
    training: TrainingConfig
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)
    start: Path | None = Field(
        default=None, description="Bundle to start from; null: fresh weights."
    )
    asks: bool = Field(
        default=False, description="After each epoch the parent says whether it goes on."
    )
    work: Path = Field(description="Checkpoints and metrics; what the next attempt takes up.")
    out: Path = Field(description="Where the bundle and its history go.")

    @property
    def tokenizer_json(self) -> bytes:
        """The tokenizer that made the tokens."""
        return (self.tokens / "tokenizer.json").read_bytes()

    def write(self, file: Path) -> None:
        """As JSON, with the module that defines the kind: a process that reads it need not know the
        kind.
        """
        job = {**self.model_dump(mode="json"), "kind_defined_in": type(self.task).__module__}
        file.write_text(json.dumps(job), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> TrainingJob:
        """What `write` has written. The module that defines the kind is imported: the file is our
        own.
        """
        job = json.loads(file.read_text(encoding="utf-8"))
        import_module(job.pop("kind_defined_in"))
        return cls.model_validate(job)
