"""What rows look like to a model, as a few numbers for each: the profile that a version carries of
the rows it was measured on, and the same of new ones.

    characters, tokens      how long a text is
    unknown_share           its tokens that the vocabulary does not have
    surprisal               - mean log p(token), p from the counts of the train rows: other words,
                            or the same in another measure, make it larger
    and, of the answers     what the kind of task has watched (`TaskConfig.watched`)

The reference are held-out rows: of those that it learnt from a model is surer, and no word of them
is new to it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.errors import NoisefoldError
from data_contracts.kinds.base import TaskConfig
from data_contracts.tables.take import evenly, take_rows
from lightning_modules.network.windows import encoded

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

FILE = "profile.json"
ROWS = 1000  # of the reference, at most: each is answered when a version is registered
_TOKENS = 20_000  # commonest ones that are counted each; the others together
_AT_ONCE = 256


class Profile(BaseModel):
    """The reference: values of each signal, and counts of the train rows' tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1] = 1
    rows: int
    numbers: dict[str, list[float]] = Field(description="Sorted values of each signal.")
    categories: dict[str, dict[str, int]] = Field(description="Rows of each value.")
    token_counts: dict[int, int] = Field(description="Of the commonest tokens of the train rows.")
    token_total: int
    vocab_size: int

    @classmethod
    def of(cls, seen: Signals, counts: Mapping[int, int], total: int, size: int) -> Profile:
        """The reference that rows are, and the counts of the train rows' tokens."""
        return cls(
            rows=seen.rows,
            numbers={name: sorted(map(float, rounded(v))) for name, v in seen.numbers.items()},
            categories={name: dict(Counter(told)) for name, told in seen.categories.items()},
            token_counts=dict(counts),
            token_total=total,
            vocab_size=size,
        )


@dataclass(frozen=True)
class Signals:
    """Of N rows: numbers (N,) by name, and values of categories (N) by name."""

    numbers: dict[str, NDArray[np.float64]]
    categories: dict[str, list[str]]

    @property
    def rows(self) -> int:
        return len(next(iter(self.numbers.values())))


class Vocabulary:
    """How usual a token is, from the counts of the train rows; what was not counted is as usual as
    something seen once, over all that is left.
    """

    def __init__(self, counts: Mapping[int, int], total: int, size: int) -> None:
        seen = np.zeros(size, np.float64)
        for token, count in counts.items():
            seen[token] = count
        # Laplace: each token once more than it was counted.
        self._surprisal = -np.log((seen + 1) / (total + size))

    def surprisal(self, ids: Sequence[int]) -> float:
        """Nats a token; 0 of no token."""
        return float(self._surprisal[list(ids)].mean()) if ids else 0.0


def profile_of(bundle: Bundle, task: type[TaskConfig], corpus: Path, tokens: Path) -> Profile:
    """The reference of a version that is about to be registered.

    Args:
        bundle: as it will be served.
        corpus: the folder of validated rows.
        tokens: the folder of token tables, for what is usual in the train rows.
    """
    head = bundle.head
    columns = [*head.columns(bundle.facts), "split"]
    rows = pq.read_table(corpus, columns=columns, filters=[("split", "==", "test")])
    rows = take_rows(rows, evenly(rows.num_rows, ROWS))
    questions = head.questions(bundle.facts, rows.to_pydict())
    size = _vocab_size(bundle)
    counts = _token_counts(tokens / "train.parquet", size)
    commonest = dict(Counter(counts).most_common(_TOKENS))
    total = sum(counts.values())
    seen = signals(bundle, task, questions, Vocabulary(commonest, total, size))
    return Profile.of(seen, commonest, total, size)


def load_profile(folder: Path, name: str) -> Profile:
    """The profile in a version's folder of artifacts.

    Args:
        name: of the version, in sentences.
    Raises:
        NoisefoldError: it has none, or one of another format.
    """
    try:
        return Profile.model_validate_json((folder / FILE).read_bytes())
    except FileNotFoundError:
        raise NoisefoldError(
            f"{name} carries no profile of the rows that it was measured on: it was registered "
            "before versions did.",
            "Retrain it once (noisefold retrain); the next version carries one.",
        ) from None
    except ValidationError as error:
        raise NoisefoldError(
            f"{name} carries a profile of another format ({error.errors()[0]['msg']}).",
            "Retrain it with this version of noisefold, or use the one that it was registered by.",
        ) from error


def signals(
    bundle: Bundle,
    task: type[TaskConfig],
    questions: Mapping[str, Sequence[str | None]],
    vocabulary: Vocabulary,
) -> Signals:
    """What rows look like.

    Args:
        questions: columns of texts that the model is asked, of N rows.
    """
    texts = ["\n".join(text or "" for text in row) for row in zip(*questions.values(), strict=True)]
    lengths, unknown, surprisal = [], [], []
    for ids in encoded(bundle.tokenizer, texts):
        lengths.append(len(ids))
        unknown.append(ids.count(bundle.windowing.unknown_id) / max(len(ids), 1))
        surprisal.append(vocabulary.surprisal(ids))
    numbers = {
        "characters": np.array([len(text) for text in texts], np.float64),
        "tokens": np.array(lengths, np.float64),
        "unknown_share": np.array(unknown, np.float64),
        "surprisal": np.array(surprisal, np.float64),
    }
    categories: dict[str, list[str]] = {}
    for name, values in _answers(bundle, task, questions, len(texts)).items():
        if values and isinstance(values[0], str):
            categories[name] = [str(value) for value in values]
        else:
            numbers[name] = np.array(values, np.float64)
    return Signals(numbers, categories)


def _answers(
    bundle: Bundle, task: type[TaskConfig], questions: Mapping[str, Sequence[Any]], rows: int
) -> dict[str, list[Any]]:
    """The columns of the answers that are watched."""
    found: dict[str, list[Any]] = {name: [] for name in task.watched}
    for start in range(0, rows if task.watched else 0, _AT_ONCE):
        some = {name: list(texts[start : start + _AT_ONCE]) for name, texts in questions.items()}
        answers = bundle.predict(some, None)
        told = {**answers, **task.certainty(answers, [])}
        for name, values in found.items():
            values += told.get(name, [])
    return {name: values for name, values in found.items() if len(values) == rows}


def _vocab_size(bundle: Bundle) -> int:
    highest = max(bundle.tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    return max(highest, bundle.windowing.unknown_id) + 1


def _token_counts(train: Path, size: int) -> dict[int, int]:
    counts = np.zeros(size, np.int64)
    with pq.ParquetFile(train) as file:
        for batch in file.iter_batches(batch_size=10_000, columns=["input_ids"]):
            ids = pc.list_flatten(pa.Table.from_batches([batch])["input_ids"]).to_numpy()
            counts += np.bincount(ids[ids < size], minlength=size)
    return {int(token): int(counts[token]) for token in np.flatnonzero(counts)}


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Six digits say it, in a third of the bytes. New rows are rounded alike: what is a tie in the
    profile has to be one beside it.
    """
    return np.array([float(f"{v:.6g}") if math.isfinite(v) else 0.0 for v in values], np.float64)
