"""Two classifiers, or one and a constant answer, on the same rows.

# Note [judged as served]
Each model is judged by the one label that it gives to whoever asks it: the argmax over all its
labels. Where the label set changed, the rows are those of the shared labels, and any other answer
to such a row is wrong, be it a label that is new or one that is gone. An argmax among the shared
labels alone would be an answer that nobody is ever given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_contracts.errors import listed
from lightning_modules.evidence import Evidence
from lightning_modules.kinds.classify.figures import answers
from lightning_modules.kinds.judging import Comparable, Rivals

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def shared_labels(labels: Sequence[str], champion: Bundle) -> list[str]:
    """The labels that both models know, in our order."""
    theirs = set(champion.facts["labels"])
    return [label for label in labels if label in theirs]


def of_shared_labels(predictions: pa.Table, labels: Sequence[str], champion: Bundle) -> Comparable:
    """The rows whose label both models know."""
    shared = shared_labels(labels, champion)
    known = set(shared)
    rows = np.array([name in known for name in predictions["label"].to_pylist()], dtype=bool)
    told: list[str] = []
    if _changed(labels, shared, champion):
        added = ", ".join(sorted(set(labels) - known)) or "none"
        dropped = ", ".join(sorted(set(champion.facts["labels"]) - known)) or "none"
        others = int((~rows).sum())
        beside = f", and {others:,} of new labels are not" if others else ""
        told.append(
            f"The label set changed (new: {added}; gone: {dropped}), "
            f"so rows of the {len(shared)} shared labels are compared{beside}."
        )
    fault = None
    if len(shared) < 2:
        fault = (
            "Fewer than two labels are shared, so nothing can be compared. `noisefold promote` "
            "makes it champion by hand; without the alias champion the rule for a first champion "
            "decides."
        )
    return Comparable(rows, told, fault)


def against_champion(
    predictions: pa.Table, asked: Sequence[str], labels: Sequence[str], champion: Bundle, name: str
) -> Rivals:
    """Both models on rows of shared labels. See Note [judged as served].

    Args:
        asked: (N,) the label that serving the champion gives to each row.
        name: of the champion, in sentences.
    """
    shared = shared_labels(labels, champion)
    number = {label: index for index, label in enumerate(shared)}
    other = len(shared)  # any label that is not shared is one and the same wrong answer
    true = np.array([number[label] for label in predictions["label"].to_pylist()])
    ours = np.array([number.get(said, other) for said in predictions["predicted"].to_pylist()])
    theirs = np.array([number.get(said, other) for said in asked])
    notes: list[str] = []
    if _changed(labels, shared, champion):
        notes.append(
            "A label that is not shared is the answer of the challenger to "
            f"{int((ours == other).sum()):,} of them, of {name} to "
            f"{int((theirs == other).sum()):,}; as served, that is wrong."
        )
    if absent := [label for label, index in number.items() if index not in true]:
        notes.append(
            f"No compared row has the label {listed(absent)}, so the comparison says nothing of it."
        )
    accuracy, p, alone = mcnemar(true == ours, true == theirs)
    right = [f"{float((says == true).mean()):.4f}" for says in (ours, theirs)]
    notes.append(
        f"Accuracy {right[0]} less {right[1]}, that of {name}: {accuracy:+.4f}; {alone[0]:,} rows "
        f"only the challenger has right, {alone[1]:,} only the champion (McNemar's exact test: "
        f"p = {p:.3g}; for information)."
    )
    figures = {"accuracy_difference": accuracy, "mcnemar_p": p}
    return Rivals(*_both(true, ours, theirs), f"of {name}", notes, figures)


def against_commonest(predictions: pa.Table, commonest: str) -> Rivals:
    """A model beside always answering the commonest label of the train split."""
    names, said = predictions["label"].to_pylist(), predictions["predicted"].to_pylist()
    which = "the commonest label of the train split"
    if commonest not in names:  # always wrong, so there is nothing in beating it
        commonest = Counter(names).most_common(1)[0][0]
        which = "the commonest label among them"
    distinct = dict.fromkeys([*names, *said, commonest])
    number = {name: index for index, name in enumerate(distinct)}
    true = np.array([number[name] for name in names])
    ours = np.array([number[name] for name in said])
    constant = np.full(len(names), number[commonest])
    fault = None
    if len(set(said)) == 1:
        fault = f"It answers all of them with {said[0]}, so it is a constant answer itself."
    whose = f"of always answering {commonest} ({which})"
    return Rivals(*_both(true, ours, constant), whose, fault=fault)


def mcnemar(one: Bools, other: Bools) -> tuple[float, float, tuple[int, int]]:
    """Difference in accuracy, two-sided p of McNemar's exact test, and the rows that just one of
    the two has right.

    Under equal accuracy each discordant row falls to either side like a coin (McNemar 1947,
    doi:10.1007/BF02295996).
    Args:
        one, other: (N,) whether each model has the row right.
    """
    from scipy.stats import binomtest

    alone = (int((one & ~other).sum()), int((other & ~one).sum()))
    p = float(binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0
    return float(one.mean() - other.mean()), p, alone


def _changed(labels: Sequence[str], shared: Sequence[str], champion: Bundle) -> bool:
    return len(shared) < max(len(labels), len(champion.facts["labels"]))


def _both(true: Ints, one: Ints, other: Ints) -> tuple[Evidence, Evidence]:
    """Evidence of two models on the same rows, of class numbers (N,) as each answers."""
    classes = int(max(true.max(), one.max(), other.max())) + 1
    return answers(true, one, classes), answers(true, other, classes)
