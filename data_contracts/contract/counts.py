"""Counts over a corpus: additive, so that parts of it are counted one by one, or elsewhere."""

from __future__ import annotations

from collections import Counter

from data_contracts.contract.sections import SPLITS, Split

Counts = Counter[tuple[str, str, str]]  # (what is counted, split, value) → how many


def per_split(counts: Counts, what: str) -> dict[Split, Counter[str]]:
    """Of one thing that is counted: how often each value occurs, by split."""
    found: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
    for (counted, split, value), times in counts.items():
        if counted == what and split in found:
            found[split][value] = times
    return found
