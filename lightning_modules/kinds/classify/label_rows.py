"""How many rows each label has in a split, and what follows for the figures where it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from data_contracts.contract.contract import SPLITS
from data_contracts.errors import listed


def label_counts(tokens: Path, split: str, classes: int) -> np.ndarray:
    """Documents (not windows) of each class in one split of a token folder, (classes,)."""
    table = pq.read_table(tokens / f"{split}.parquet", columns=["window", "label"])
    first = table["window"].to_numpy() == 0
    return np.bincount(table["label"].to_numpy()[first], minlength=classes)


def labels_without_rows(tokens: Path, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Per split, the labels that none of its rows has; a split that has them all is absent."""
    found: dict[str, tuple[str, ...]] = {}
    for split in SPLITS:
        counts = label_counts(tokens, split, len(labels))
        if missing := tuple(label for label, rows in zip(labels, counts, strict=True) if not rows):
            found[split] = missing
    return found


def missing_labels(without: Mapping[str, Sequence[str]], labels: int) -> list[str]:
    """What to know of figures where a split lacks labels, a sentence per split.

    Args:
        without: see `labels_without_rows`.
        labels: how many there are.
    """
    told = []
    if missing := without.get("test"):
        told.append(
            f"No test row has the label {listed(missing)}, so nothing is known of it: macro "
            f"figures "
            f"are means over {labels - len(missing):,} of {labels:,} labels, and their intervals "
            "leave open what the rest would be."
        )
    if missing := without.get("valid"):
        told.append(
            f"No valid row has the label {listed(missing)}, "
            "so it had no part in the choice of the epoch."
        )
    if missing := without.get("train"):
        told.append(
            f"No train row has the label {listed(missing)}, so the model has not learnt it."
        )
    return told
