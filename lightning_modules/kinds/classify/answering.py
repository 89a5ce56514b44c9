"""One label of several, answered from the logits of a document's windows.

    log p(class | document) = logsumexp_w log p(class | window w) - log W, the mean of the windows'
    probabilities.

Shapes: W windows, C classes.
This file is shipped inside the registered model: it imports numpy and what ships with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from lightning_modules.kinds.answering import Answering
from lightning_modules.kinds.classify import sets
from lightning_modules.loaded import Loaded
from lightning_modules.network.batching import cut

NEVER = 2.0  # a probability that no answer has
TEXTS_CHARACTERS = 1 << 21  # of text that are worked on at a time


class Answers(Answering):
    """A label of each text, and how probable every label is."""

    kind: ClassVar[str] = "classify"
    compared: ClassVar[str] = "probabilities"

    @classmethod
    def fault(cls, facts: Mapping[str, Any]) -> str | None:
        labels, temperature = facts.get("labels"), facts.get("temperature")
        texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        if not texts or not labels or len(set(labels)) < len(labels):
            return "labels"
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            return "temperature"
        if not 0 < temperature < float("inf"):
            return "temperature"
        below = facts.get("abstain_below", 0.0)
        if type(below) not in (int, float) or not 0 <= below <= NEVER:
            return "abstain_below"
        return "conformal" if "conformal" in facts and sets.fault(facts["conformal"]) else None

    def check(self, facts: Mapping[str, Any], output: np.ndarray) -> str | None:
        labels = len(facts["labels"])
        if output.shape == (1, labels):
            return None
        return f"{labels} labels, and the network tells {output.shape[-1]} apart"

    def predict(
        self, bundle: Loaded, columns: Mapping[str, Sequence[str]], params: Mapping[str, Any]
    ) -> dict[str, list[Any]]:
        """`label`, and `probability_<label>` for every class, of each `text`; `abstain` and
        `label_set`, a JSON list, of a model that has what decides them.
        """
        proba = predict_proba(bundle, columns["text"])
        labels = bundle.facts["labels"]
        answers: dict[str, list[Any]] = {"label": [labels[row.argmax()] for row in proba]}
        for index, label in enumerate(labels):
            answers[f"probability_{label}"] = proba[:, index].tolist()
        if (below := bundle.facts.get("abstain_below")) is not None:
            answers["abstain"] = (proba.max(axis=1, initial=0) < below).tolist()
        if (conformal := bundle.facts.get("conformal")) is not None:
            found = sets.label_sets(proba, labels, conformal)
            answers["label_set"] = [json.dumps(one, ensure_ascii=False) for one in found]
        return answers

    @classmethod
    def differences(
        cls,
        facts: Mapping[str, Any],
        measured: Mapping[str, Sequence[Any]],
        answer: Mapping[str, Any],
    ) -> list[float]:
        """The largest difference of a probability, per row."""
        wanted = np.asarray(measured["probabilities"], np.float64)  # (N, C)
        columns = [f"probability_{label}" for label in facts["labels"]]
        lists = {name: values for name, values in answer.items() if isinstance(values, list)}
        missing = [name for name in columns if len(lists.get(name, ())) != len(wanted)]
        if missing:
            raise ValueError(f"it answers without {', '.join(missing[:3])}")
        try:
            found = np.array([answer[name] for name in columns], np.float64).T
        except (TypeError, ValueError) as error:
            raise ValueError(f"its probabilities are no numbers ({error})") from error
        return np.abs(found - wanted).max(axis=1).tolist()


def log_proba_of_windows(
    bundle: Loaded,
    windows: Sequence[Sequence[int]],
    document: np.ndarray,
    batch_tokens: int = 16384,
) -> np.ndarray:
    """log p(class | document) as float64 (documents, C), at temperature 1; every document needs a
    window.

    Windows of like length share a batch of at most `batch_tokens` padded positions.
    """
    document = np.asarray(document, dtype=np.int64)
    counts = np.bincount(document)
    if not counts.all():
        raise ValueError(f"document {int(np.argmin(counts))} has no window")
    classes = len(bundle.facts["labels"])
    log_proba = np.empty((len(windows), classes))
    for rows, logits in bundle.run(windows, batch_tokens):
        log_proba[rows] = _log_softmax(logits)
    total = np.full((len(counts), classes), -np.inf)
    np.logaddexp.at(total, document, log_proba)
    return total - np.log(counts)[:, None]


def log_proba(bundle: Loaded, texts: Sequence[str]) -> np.ndarray:
    """log p(class | text) as float64 (texts, C), at temperature 1.

    Memory is bounded, whatever their number and length: `TEXTS_CHARACTERS` of text are worked on at
    a time.
    """
    parts = [np.empty((0, len(bundle.facts["labels"])))]
    for some in cut([len(text) for text in texts], TEXTS_CHARACTERS):
        parts.append(log_proba_of_windows(bundle, *bundle.encode(texts[some])))
    return np.concatenate(parts)


def predict_proba(bundle: Loaded, texts: Sequence[str]) -> np.ndarray:
    """p(class | text), float64 (texts, C): softmax of the document's log-probabilities over the
    temperature.
    """
    scaled = log_proba(bundle, texts) / bundle.facts["temperature"]
    proba = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return proba / proba.sum(axis=1, keepdims=True)


def _log_softmax(logits_WC: np.ndarray) -> np.ndarray:
    """In float64."""
    shifted = logits_WC.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
