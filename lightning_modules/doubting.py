"""Which rows are most worth labelling: those that a model doubts, and not many that are alike.

Of the rows that are doubted most a few times as many as are asked for are put into as many clusters
as are asked for, by the documents' vectors and weighed by the doubt, and each cluster gives the row
that is doubted most (after Zhdanov 2019, https://arxiv.org/abs/1901.05954). So of near-duplicates
one is chosen.

A kind whose rows can be queued has a file `doubted.py` beside its head, which puts a function into
`DOUBTED`. Shapes: N rows, D size of a document's vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data_contracts.errors import NoisefoldError

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

MEASURES = ("margin", "entropy", "least_confident", "bald")
POOL = 5  # rows that are looked at, for each that is asked for
_SEED = 0  # of the clusters' first centres: the same rows give the same queue


class Doubted(NamedTuple):
    """What a model says of N rows, and how much it doubts it: from 0, not at all, to 1."""

    suggestions: list[str]
    probability: np.ndarray
    doubt: np.ndarray


Columns = Mapping[str, Sequence[Any]]


class Task(NamedTuple):
    """A row of a queue, as a person is shown it.

    asked: the name of the column that is asked, and what it holds.
    answer: the name of the column that a person fills in.
    others: what else the row has, by column.
    believed: probability, doubt and version of the model, by name.
    """

    asked: tuple[str, str]
    answer: str
    suggestion: str
    others: Mapping[str, Any]
    believed: Mapping[str, Any]


class Doubting(NamedTuple):
    """What a kind tells of rows.

    answer: its name for what people answer.
    of: what a bundle's answers (`Bundle.predict`, `TaskConfig.certainty`) say, by one of
        `MEASURES`.
    vectors: (N, D) of their documents, each of length 1.
    tasks: a row as a labelling tool reads it, by the tool's name.
    """

    answer: str
    of: Callable[[Bundle, Columns, str], Doubted]
    vectors: Callable[[Bundle, Columns], np.ndarray]
    tasks: Mapping[str, Callable[[Bundle, Task], dict[str, Any]]]


DOUBTED: dict[str, Doubting] = {}


def doubting_of(bundle: Bundle) -> Doubting:
    """What tells the doubt of a bundle's kind.

    Raises:
        NoisefoldError: nothing does.
    """
    if bundle.kind not in DOUBTED:
        room = f"{type(bundle.head).__module__.rpartition('.')[0]}.doubted"
        if find_spec(room) is not None:
            import_module(room)
    if bundle.kind not in DOUBTED:
        raise NoisefoldError(
            f"Rows for a model of kind {bundle.kind} cannot be put into a queue.",
            "It is for models that choose one of several answers which the contract names.",
        )
    return DOUBTED[bundle.kind]


def doubt_of(proba_NC: np.ndarray, measure: str) -> np.ndarray:
    """(N,) from 0 to 1, of two classes or more.

    margin: 1 - (p_1 - p_2), of the two likeliest (Scheffer 2001); entropy: over log C;
    least_confident: 1 - p_1, over 1 - 1 / C (Lewis & Gale 1994).
    """
    classes = proba_NC.shape[1]
    highest = np.sort(proba_NC, axis=1)[:, ::-1]
    if measure == "margin":
        return 1 - (highest[:, 0] - highest[:, 1])
    if measure == "entropy":
        logs = np.log(np.where(proba_NC > 0, proba_NC, 1))
        return -(proba_NC * logs).sum(axis=1) / np.log(classes)
    return (1 - highest[:, 0]) / (1 - 1 / classes)


def pool_of(doubt_N: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the rows that a queue of so many is chosen from, those that are doubted most
    first.
    """
    return np.argsort(-doubt_N, kind="stable")[: POOL * count]


def diverse(doubt_N: np.ndarray, vectors_ND: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the rows of a queue, of a pool in the order of doubt: of each cluster the one that
    is doubted most, and where a model tells fewer rows apart than are asked for, the next ones.
    """
    from sklearn.cluster import KMeans

    rows, vectors = len(vectors_ND), vectors_ND.astype(np.float64)
    clusters = min(count, len(np.unique(vectors, axis=0)))
    cluster_of = np.zeros(rows, np.int64)
    if clusters > 1:
        found = KMeans(clusters, n_init=1, random_state=_SEED)  # pyright: ignore[reportArgumentType]
        # Of no doubt at all no centre could be weighed.
        cluster_of = found.fit_predict(vectors, sample_weight=doubt_N + 1e-9)
    _, first = np.unique(cluster_of, return_index=True)
    rest = np.setdiff1d(np.arange(rows), first)
    return np.sort(np.concatenate([first, rest[: max(0, count - len(first))]]))
