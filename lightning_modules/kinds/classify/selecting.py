"""What the valid split decides beside the temperature: which answers are sure enough, and sets of
labels; and what both show on the test split.

Shapes: N documents, C classes, S resamples, K columns of evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from data_contracts.kinds.classify import Classify
from data_contracts.results import Block, Curve, Table, Text
from lightning_modules.evidence import Evidence, Floats
from lightning_modules.kinds.classify import sets
from lightning_modules.kinds.classify.answering import NEVER
from lightning_modules.selective import exact_interval, risk_coverage, threshold_of

_STEPS = 20  # of the coverage


@dataclass(frozen=True)
class Selection:
    """Null where the recipe does not ask for it.

    abstain_below: of the highest probability.
    conformal: `method` and `threshold`.
    """

    abstain_below: float | None = None
    conformal: dict[str, Any] | None = None

    @classmethod
    def fitted(cls, task: Classify, log_proba_NC: Floats, labels_N: np.ndarray) -> Selection:
        """From the valid split, as the registered model answers it."""
        proba = np.exp(log_proba_NC)
        below, conformal = None, None
        if task.abstain is not None:
            right = proba.argmax(axis=1) == labels_N
            # An answer more, and that one wrong: few answers promise little.
            below = threshold_of(
                proba.max(axis=1), right, task.abstain.precision, never=NEVER, spare=1.0
            )
        if task.conformal is not None:
            method = task.conformal.method
            own = sets.scores(proba, method)[np.arange(len(labels_N)), labels_N]
            threshold = sets.threshold_of(own, task.conformal.coverage)
            conformal = {"method": method, "threshold": threshold}
        return cls(below, conformal)

    def facts(self) -> dict[str, Any]:
        return {"abstain_below": self.abstain_below, "conformal": self.conformal}

    def warnings(self, task: Classify) -> list[str]:
        told = []
        if task.abstain is not None and self.abstain_below == NEVER:
            told.append(
                "On the valid split no probability gives the promised precision of "
                f"{task.abstain.precision:.0%}, so that the model abstains from every answer. A "
                "lower task.abstain.precision lets some stand."
            )
        if self.conformal is not None and self.conformal["threshold"] == sets.EVERY:
            told.append(
                "The valid split has too few rows for label sets of the promised coverage, so that "
                "every set holds all labels. Give it more rows, or lower task.conformal.coverage."
            )
        return told

    def columns(self, log_proba_NC: Floats) -> dict[str, np.ndarray]:
        """(N,) `abstain`, and (N, C) `label_set`, whether each label is in it."""
        proba, found = np.exp(log_proba_NC), {}
        if self.abstain_below is not None:
            found["abstain"] = proba.max(axis=1) < self.abstain_below
        if self.conformal is not None:
            found["label_set"] = sets.members(proba, self.conformal)
        return found

    def added_to(self, evidence: Evidence, log_proba_NC: Floats, labels_N: np.ndarray) -> Evidence:
        """The figures of what is served of this, beside the others."""
        served = self.columns(log_proba_NC)
        columns, names = [np.ones(len(labels_N))], ["rows"]
        if "abstain" in served:
            given = ~served["abstain"]
            columns.append(given)
            names.append("answered")
            if given.any():  # of none nothing is known
                columns.append(given & (log_proba_NC.argmax(axis=1) == labels_N))
                names.append("right")
        if "label_set" in served:
            inside = served["label_set"]
            columns += [inside[np.arange(len(labels_N)), labels_N], inside.sum(axis=1)]
            names += ["covered", "size"]
        if len(names) == 1:
            return evidence
        more = sparse.csr_matrix(np.stack([one.astype(float) for one in columns], axis=1))
        values = sparse.csr_matrix(sparse.hstack([evidence.values, more]))
        return replace(evidence, values=values, figures=_Both(evidence.figures, tuple(names)))


@dataclass(frozen=True)
class _Both:
    """Figures of the first columns, and those of the last ones."""

    first: Any
    names: tuple[str, ...]

    def __call__(self, sums: Floats) -> dict[str, Floats]:
        """(S,) each, of sums (S, K)."""
        count = len(self.names)
        found = dict(self.first(sums[:, :-count]))
        own = dict(zip(self.names, sums[:, -count:].T, strict=True))
        rows = np.maximum(own["rows"], 1)
        if "answered" in own:
            found["answered"] = own["answered"] / rows
        if "right" in own:
            given = own["answered"]
            share = own["right"] / np.where(given > 0, given, 1)
            found["selective_accuracy"] = np.where(given > 0, share, np.nan)
        if "covered" in own:
            found["set_coverage"] = own["covered"] / rows
            found["set_size"] = own["size"] / rows
        return found


# --- the report


def report_of(
    selection: Selection, task: Classify, log_proba_NC: Floats, labels_N: np.ndarray, level: float
) -> list[Block]:
    """Risk and coverage of any model, and what abstaining and label sets have kept of what they
    promise.

    Args:
        level: of the intervals.
    """
    confidence = np.exp(log_proba_NC.max(axis=1))
    right = log_proba_NC.argmax(axis=1) == labels_N
    found = risk_coverage(confidence, right)
    rows: list[tuple[Any, ...]] = [
        ("AURC", found.area),
        ("AURC if every right answer were surer than every wrong one", found.best),
        ("error of all (what AURC would be if nothing told)", float(1 - right.mean())),
    ]
    promises = [Text(one) for one in _promises(selection, task, log_proba_NC, labels_N, level)]
    return [
        Text("How sure and how right", "heading"),
        _curve(found.risk),
        Table(("figure", "value"), tuple(rows), name="selective"),
        *promises,
    ]


def _curve(risk_N: Floats) -> Curve:
    edges = np.linspace(0, 1, _STEPS + 1)
    ends = np.maximum(np.ceil(edges[1:] * len(risk_N)).astype(int), 1)
    return Curve(
        name="risk_coverage",
        title="Error among the surest",
        x_words="share that is answered",
        y_words="error",
        edges=tuple(edges.tolist()),
        rows=tuple(np.diff(ends, prepend=0).tolist()),
        x=tuple((ends / len(risk_N)).tolist()),
        y=tuple(risk_N[ends - 1].tolist()),
        note="the texts with the highest probabilities are answered first",
    )


def _promises(
    selection: Selection, task: Classify, log_proba_NC: Floats, labels_N: np.ndarray, level: float
) -> list[str]:
    served, rows = selection.columns(log_proba_NC), len(labels_N)
    right = log_proba_NC.argmax(axis=1) == labels_N
    told = []
    if task.abstain is not None and "abstain" in served:
        given = ~served["abstain"]
        hits, many = int((right & given).sum()), int(given.sum())
        told.append(
            f"Abstaining below a probability of {selection.abstain_below:.4f}, for a promised "
            f"precision of {task.abstain.precision:.1%}: {many:,} of {rows:,} texts are answered"
            + (f", and of these {_share(hits, many, level)} rightly." if many else ".")
        )
    if task.conformal is not None and "label_set" in served:
        inside = served["label_set"]
        covered = int(inside[np.arange(rows), labels_N].sum())
        sizes = inside.sum(axis=1)
        told.append(
            f"Label sets ({task.conformal.method}) of a promised coverage of "
            f"{task.conformal.coverage:.1%} hold the true label of {_share(covered, rows, level)} "
            f"of the texts. They have {sizes.mean():.2f} labels in the mean, "
            f"{(sizes == 1).mean():.1%} have one, the largest {int(sizes.max())}."
        )
    return told


def _share(hits: int, rows: int, level: float) -> str:
    low, high = exact_interval(hits, rows, level)
    return f"{hits / rows:.1%} ({low:.1%} to {high:.1%}, exact binomial)"


def decided(selection: Selection, temperature: float) -> float | Mapping[str, Any]:
    """What the valid split decided, for the digest of a report."""
    own = {name: value for name, value in selection.facts().items() if value is not None}
    return {"temperature": temperature, **own} if own else temperature
