"""How a language model is judged: by what it says of given documents, and by what it writes.

Shapes: N documents, K columns of evidence (`lightning_modules.kinds.generate.scoring`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.kinds.base import Metric
from data_contracts.kinds.generate import Generate
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.results import Block, Interval
from lightning_modules.evidence import Evidence
from lightning_modules.kinds.generate import scoring
from lightning_modules.kinds.generate.objective import LanguageModel
from lightning_modules.kinds.generate.report import Judged, report_of
from lightning_modules.kinds.generate.samples import Samples, write_samples
from lightning_modules.kinds.judging import JUDGES, Comparable, Rivals, RowFigure, with_slices

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

FEW = 20  # documents, below which their blocks are resampled
ROLES = ("id", "text", "prompt", "completion")  # of a validated row; the others are slices
_EVIDENCE = "evidence"  # column of `scored` and of the predictions


class GenerateJudge:
    """See `lightning_modules.kinds.judging.Judge`.

    `scored` has id and evidence, lists of blocks of K sums. An interval is over documents, or,
    where a split has fewer than `FEW`, over blocks of `scoring.BLOCK` tokens of them: a bootstrap
    of two or three rows would be none.
    """

    metrics: ClassVar[tuple[Metric, ...]] = Generate.metrics
    token_columns: ClassVar[tuple[str, ...]] = ("id", "window", "input_ids", "context", "bytes")
    truth: ClassVar[tuple[str, ...]] = ()
    fits: ClassVar[bool] = False
    exact: ClassVar[tuple[str, ...]] = ("id", "asked", "written")

    def __init__(
        self, facts: Mapping[str, Any], task: Generate, statistics: StatisticsConfig
    ) -> None:
        self.form: str = facts["form"]
        self.template: str = facts["template"]
        self.task, self.statistics = task, statistics
        self.samples: Samples | None = None

    @property
    def decided(self) -> None:
        return None

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of a row that are its text."""
        return ("text",) if self.form == "text" else ("prompt", "completion")

    def facts(self) -> dict[str, Any]:
        """What its samples show, beside what the test texts show of the same."""
        return {} if self.samples is None else self.samples.figures()

    def score(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        return self._scored(self._as_served(bundle), windows)

    def _as_served(self, bundle: Bundle) -> Bundle:
        """What of its answers the recipe decides now; it may have been trained before."""
        bundle.facts = {**bundle.facts, **self.task.served_facts({})}
        return bundle

    def _scored(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        given, adaptive = scoring.documents_of(windows), bundle.facts.get("adaptive", False)
        found = scoring.evidence_of(bundle.network, given, self.task.ece_bins, adaptive)
        return pa.table({"id": _ids(windows), _EVIDENCE: _lists(found)})

    def fitted(self, rows: pa.Table, scored: pa.Table) -> Self:
        return self

    def tried(self, bundle: Bundle, rows: pa.Table, tokens: Path) -> Self:
        judge = copy(self)
        served = self._as_served(bundle)
        judge.samples = write_samples(served, rows, tokens, self.texts[0], self.task)
        return judge

    def without_rows(self, tokens: Path) -> dict[str, tuple[str, ...]]:
        return {}

    def gaps(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        return []

    def warnings(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        return [] if self.samples is None else self.samples.warnings()

    def evidence(self, rows: pa.Table, scored: pa.Table) -> Evidence:
        """A row per document, or per block where there are few."""
        blocks = _blocks(scored[_EVIDENCE])
        return _evidence(np.concatenate(blocks) if len(blocks) < FEW else _sums(blocks))

    def answers(self, rows: pa.Table, scored: pa.Table) -> pa.Table:
        """id, the texts, bits_per_byte, accuracy, what was asked and written of some rows,
        evidence, slices.
        """
        found = scoring.figures(_sums(_blocks(scored[_EVIDENCE])), self.task.ece_bins)
        columns: dict[str, Any] = {"id": pa.array(scored["id"].to_pylist(), pa.string())}
        columns |= {name: rows[name] for name in self.texts}
        columns |= {
            "bits_per_byte": found["bits_per_byte"],
            "accuracy": found["accuracy"],
            **self._written(rows),
            _EVIDENCE: scored[_EVIDENCE],
        }
        return pa.table(with_slices(columns, rows, ROLES))

    def _written(self, rows: pa.Table) -> dict[str, pa.Array]:
        written = {} if self.samples is None else self.samples.by_row
        asked: list[str | None] = [None] * len(rows)
        texts: list[str | None] = [None] * len(rows)
        nats: list[float | None] = [None] * len(rows)
        for row, sample in written.items():
            asked[row], texts[row] = sample.prompt, sample.served.text
            nats[row] = sample.served.log_probability
        return {
            "asked": pa.array(asked, pa.string()),
            "written": pa.array(texts, pa.string()),
            "written_log_probability": pa.array(nats, pa.float64()),
        }

    def predictions(self, table: pa.Table) -> pa.Table:
        return table.select(["id", _EVIDENCE])

    def unmeasured(self, rows: pa.Table) -> tuple[str, ...]:
        return ()

    def beside(self, scored: pa.Table) -> dict[str, float]:
        return {}

    def report(
        self, rows: pa.Table, scored: pa.Table, found: Mapping[str, Interval]
    ) -> list[Block]:
        blocks = _blocks(scored[_EVIDENCE])
        sums = _sums(blocks)
        over = "blocks" if len(blocks) < FEW else "documents"
        per_row = scoring.figures(sums, self.task.ece_bins)["bits_per_byte"]
        judged = Judged(found, sums.sum(axis=0), per_row, over, self.samples)
        return report_of(self.task, judged, rows.select([*self.texts]))

    # --- the gate

    def row_figure(self, predictions: pa.Table) -> RowFigure:
        return RowFigure("Next-token accuracy", predictions["accuracy"].to_numpy())

    def comparable(self, predictions: pa.Table, champion: Bundle) -> Comparable:
        every = np.ones(len(predictions), dtype=bool)
        theirs = champion.facts
        if champion.kind == "generate" and theirs["form"] == self.form:
            if self.form == "text" or theirs["template"] == self.template:
                return Comparable(every)
            told = (
                f"The champion puts a prompt as {theirs['template']!r}, this one as "
                f"{self.template!r}; each is asked in its own way."
            )
            return Comparable(every, [told])
        form = theirs.get("form", champion.kind)
        why = (
            f"The champion was trained on {form}, this one on {self.form}: they cannot be compared."
        )
        return Comparable(every, fault=why)

    def ask(self, bundle: Bundle, predictions: pa.Table) -> pa.Table:
        """Evidence of another model, with its own tokens, of the same texts."""
        objective = LanguageModel(self.task, bundle.facts)
        rows = predictions.select(["id", *self.texts])
        windows = objective.encode(rows, bundle.lossless_tokenizer, bundle.windowing)
        return self._scored(bundle, windows)

    def against(
        self, predictions: pa.Table, asked: pa.Table, champion: Bundle, name: str
    ) -> Rivals:
        """Sums over blocks of one's own tokens do not fit another's, so few documents are compared
        by blocks of like share."""
        ours, theirs = (_blocks(one[_EVIDENCE]) for one in (predictions, asked))
        if len(ours) >= FEW:
            mine, their = self.evidence(predictions, predictions), self.evidence(asked, asked)
            return Rivals(mine, their, f"of {name}")
        pairs = [_aligned(one, other) for one, other in zip(ours, theirs, strict=True)]
        note = f"{len(ours)} documents are compared by their blocks of {scoring.BLOCK:,} tokens."
        sides = [np.concatenate(side) for side in zip(*pairs, strict=True)]
        return Rivals(_evidence(sides[0]), _evidence(sides[1]), f"of {name}", [note])

    def against_constant(self, predictions: pa.Table, tokens: Path) -> Rivals:
        """This model beside one that knows how frequent each token is, and nothing of the text."""
        theirs = always(predictions["id"].to_pylist(), tokens, self.task.ece_bins)
        asked = pa.table({"id": predictions["id"], _EVIDENCE: _lists(theirs)})
        whose = "of the frequency of each token in the train split, whatever stands before it"
        ours = self.evidence(predictions, predictions)
        return Rivals(ours, self.evidence(asked, asked), whose)


def always(ids: Sequence[str], tokens: Path, bins: int) -> list[np.ndarray]:
    """Evidence of a model that gives each token its share of the train split, with one more of
    each, in the blocks of the documents' own."""
    train = pq.read_table(tokens / "train.parquet", columns=["input_ids"])["input_ids"]
    test = pq.read_table(tokens / "test.parquet", columns=list(GenerateJudge.token_columns))
    by_id = dict(zip(_ids(test).to_pylist(), scoring.documents_of(test), strict=True))
    known = np.concatenate([chunk.flatten().to_numpy() for chunk in train.chunks])
    highest = max(int(one.ids.max()) for one in by_id.values())
    counts = np.bincount(known, minlength=highest + 1) + 1.0
    nats = -np.log(counts / counts.sum())
    commonest = int(counts.argmax())
    found = []
    for name in ids:
        one = by_id[name]
        targets = one.ids[one.first :]
        told = np.zeros((len(targets), scoring.width(bins)))
        told[:, scoring.NATS] = nats[targets]
        told[:, scoring.TOKENS] = 1
        told[:, scoring.BYTES] = one.bytes / len(targets)
        told[:, scoring.HITS] = targets == commonest
        starts = np.arange(0, len(targets), scoring.BLOCK)
        found.append(np.add.reduceat(told, starts, axis=0))
    return found


def _ids(windows: pa.Table) -> pa.ChunkedArray:
    """Of the documents, each once."""
    return windows["id"].filter(pa.array(windows["window"].to_numpy() == 0))


def _lists(found: list[np.ndarray]) -> pa.Array:
    """(N,) lists of blocks, each a list of K."""
    width = found[0].shape[1]
    flat = pa.array(np.concatenate(found).ravel(), pa.float64())
    blocks = pa.FixedSizeListArray.from_arrays(flat, width)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in found])])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), blocks)


def _blocks(column: pa.ChunkedArray) -> list[np.ndarray]:
    """(blocks, K) of each document."""
    found: list[np.ndarray] = []
    for chunk in column.chunks:
        width = chunk.type.value_type.list_size
        values = chunk.flatten().flatten().to_numpy().reshape(-1, width)
        ends = np.cumsum(np.diff(chunk.offsets.to_numpy()))
        found += np.split(values, ends[:-1])
    return found


def _aligned(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The blocks of a document under two tokenizers, joined to as many as the fewer."""
    count = min(len(one), len(other))
    return _joined(one, count), _joined(other, count)


def _joined(blocks: np.ndarray, count: int) -> np.ndarray:
    starts = np.arange(count) * len(blocks) // count
    return np.add.reduceat(blocks, starts, axis=0)


def _sums(blocks: list[np.ndarray]) -> np.ndarray:
    """(N, K) of whole documents."""
    return np.stack([one.sum(axis=0) for one in blocks])


def _evidence(values: np.ndarray) -> Evidence:
    """Of (rows, K) sums, whatever a row is."""
    return Evidence(values, partial(scoring.figures, bins=(values.shape[1] - 4) // 3))


JUDGES["generate"] = GenerateJudge
