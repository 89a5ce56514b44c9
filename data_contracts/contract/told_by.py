"""How much the texts tell of a column: the one that they tell most of is what they are about."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from data_contracts.contract.columns import LOOKED_AT

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+")


def told_by(texts: Sequence[str | None], cells: Sequence[str | None]) -> float:
    """How much of a column the texts tell: (right - commonest) / (1 - commonest) of Naive Bayes on
    rows set aside.
    """
    both = [(t, c) for t, c in zip(texts, cells, strict=True) if t and c is not None]
    both = both[:: max(1, len(both) // LOOKED_AT)]
    rows = [
        ({token.casefold() for token in _TOKEN.findall(text[:2_000])}, cell) for text, cell in both
    ]
    train, held = rows[::2], rows[1::2]
    if len(held) < 10:
        return 0.0
    labels = Counter(cell for _, cell in train)
    tokens = {label: Counter[str]() for label in labels}
    for found, cell in train:
        tokens[cell].update(sorted(found))

    def score(found: set[str], label: str) -> float:
        seen = labels[label]
        return math.log(seen) + sum(
            math.log((tokens[label][token] + 0.5) / (seen + 1)) for token in sorted(found)
        )

    right = sum(max(labels, key=lambda label: score(found, label)) == cell for found, cell in held)
    commonest = Counter(cell for _, cell in held).most_common(1)[0][1]
    return max(0.0, (right - commonest) / max(1, len(held) - commonest))
