"""Trainings of tests: what a `TrainingJob` is made of, by name, and the fit of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from data_contracts.kinds.classify import Classify
from lightning_modules.kinds.classify.objective import Classification
from lightning_modules.training import fit as training
from lightning_modules.training.fit import FitResult
from lightning_modules.training.job import TrainingJob


def quiet(event: Mapping[str, Any]) -> None:
    """Listens to nothing."""


def fit(*, on_progress: Callable[[dict[str, Any]], None] = quiet, **job: Any) -> FitResult:
    """Fit a job; of the kind classify where it names no other."""
    return training.fit(TrainingJob(**{"task": Classify(), **job}), on_progress)


def classification(classes: int = 3, **options: Any) -> Classification:
    """The objective of so many classes, with options of the task."""
    labels = [f"class {index}" for index in range(classes)]
    return Classification(Classify.model_validate(options), {"labels": labels})
