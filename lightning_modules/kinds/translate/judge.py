"""How a translator is judged: by its translations, as it is served, and by what it says of others'.

Shapes: N pairs (`lightning_modules.kinds.translate.measured`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from data_contracts.errors import SourceError
from data_contracts.kinds.base import Metric
from data_contracts.kinds.translate import Translate
from data_contracts.recipe.sections import StatisticsConfig
from data_contracts.results import Block, Interval
from lightning_modules.kinds.judging import JUDGES, Comparable, Rivals, RowFigure, with_slices
from lightning_modules.kinds.translate import scores
from lightning_modules.kinds.translate.dictionary import Dictionary
from lightning_modules.kinds.translate.measured import DRAWN, NATS, Measured, nats_of, sure_of
from lightning_modules.kinds.translate.objective import TranslationModel
from lightning_modules.kinds.translate.report import Judged, report_of
from lightning_modules.kinds.translate.scoring import pairs_of, teacher_forced, with_targets
from lightning_modules.reparameterizations.noise_left import drawn

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

ROLES = ("id", "source", "target")  # of a validated row; the others are slices
FLOOR = "of a dictionary counted from the train split, word by word"
_ANSWERS = ("translation", "log_probability", "tokens")


class TranslateJudge:
    """See `lightning_modules.kinds.judging.Judge`.

    `scored` has id, translation, and of the model's own: log_probability and tokens of the
    translation, nats and target_tokens of the target.
    """

    metrics: ClassVar[tuple[Metric, ...]] = Translate.metrics
    token_columns: ClassVar[tuple[str, ...]] = ("id", "window", "input_ids", "context")
    truth: ClassVar[tuple[str, ...]] = ("target",)
    fits: ClassVar[bool] = False
    exact: ClassVar[tuple[str, ...]] = ("id", "translation")

    def __init__(
        self, facts: Mapping[str, Any], task: Translate, statistics: StatisticsConfig
    ) -> None:
        self.scripts: tuple[str, str] = (facts["source_script"], facts["target_script"])
        self.task, self.statistics = task, statistics
        self.scores = scores.Scores(self.scripts[1])
        self.floor: np.ndarray | None = None  # (N, COUNTS) of the dictionary, on the test rows

    @property
    def decided(self) -> None:
        return None

    def facts(self) -> dict[str, Any]:
        """What the dictionary scores, and how others repeat the figures."""
        if self.floor is None:
            return {}
        sums = self.floor.sum(axis=0, keepdims=True)
        return {
            "dictionary_chrf": float(scores.chrf(sums)[0]),
            "dictionary_bleu": float(scores.bleu(sums)[0]),
            "signatures": self.scores.signatures,
        }

    def score(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        # What of its answers the recipe decides now; it may have been trained before.
        bundle.facts = {**bundle.facts, **self.task.served_facts({})}
        return self._scored(bundle, windows)

    def _scored(self, bundle: Bundle, windows: pa.Table) -> pa.Table:
        reader = bundle.lossless_tokenizer
        sources = [
            reader.decode(ids[:-1].tolist(), skip_special_tokens=False)
            for ids, _ in pairs_of(windows)
        ]
        answered = bundle.predict({"source": sources}, {})
        nats = teacher_forced(bundle, windows)
        columns: dict[str, Any] = {
            "id": pa.array(windows["id"].to_pylist(), pa.large_string()),
            "translation": pa.array(answered["translation"], pa.large_string()),
            "log_probability": pa.array(answered["log_probability"], pa.float64()),
            "tokens": pa.array(answered["tokens"], pa.int64()),
            "nats": pa.array(nats[:, 0], pa.float64()),
            "target_tokens": pa.array(nats[:, 1].astype(np.int64)),
        }
        if self.task.draws and bundle.noise:
            columns[DRAWN] = self._under_noise(bundle, windows, answered["translation"])
        return pa.table(columns)

    def _under_noise(
        self, bundle: Bundle, windows: pa.Table, translations: Sequence[str]
    ) -> pa.Array:
        """(N,) log-probability per token of what was answered, the mean over draws."""
        said = with_targets(bundle, windows, translations)
        total = np.zeros(len(said))
        for seed in range(self.task.draws):
            with drawn(bundle.network, bundle.noise, seed):
                nats, tokens = teacher_forced(bundle, said).T
            total -= nats / np.maximum(tokens, 1)
        return pa.array(total / self.task.draws)

    def fitted(self, rows: pa.Table, scored: pa.Table) -> Self:
        return self

    def tried(self, bundle: Bundle, rows: pa.Table, tokens: Path) -> Self:
        """With the dictionary beside it."""
        judge = copy(self)
        judge.floor = self._counts(self._by_dictionary(rows, tokens), rows)
        return judge

    def _by_dictionary(self, rows: pa.Table, tokens: Path) -> list[str]:
        return Dictionary.of_tokens(tokens, *self.scripts).translate(rows["source"].to_pylist())

    def _counts(self, said: Sequence[str], rows: pa.Table) -> np.ndarray:
        return self.scores.counts(said, rows["target"].to_pylist())

    def without_rows(self, tokens: Path) -> dict[str, tuple[str, ...]]:
        return {}

    def gaps(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        return []

    def warnings(self, without: Mapping[str, Sequence[str]]) -> list[str]:
        return []

    def _measured(self, rows: pa.Table, scored: pa.Table) -> Measured:
        counts = self._counts(scored["translation"].to_pylist(), rows)
        if self.floor is None:
            return Measured(counts, nats_of(scored))
        sure = sure_of(scored, scores.chrf(counts))
        return Measured(counts, nats_of(scored), self.floor, sure)

    def evidence(self, rows: pa.Table, scored: pa.Table) -> Any:
        return self._measured(rows, scored).evidence()

    def answers(self, rows: pa.Table, scored: pa.Table) -> pa.Table:
        """id, source, target, translation, chrf of the sentence, what the model says of both,
        slices.
        """
        counts = self._counts(scored["translation"].to_pylist(), rows)
        columns: dict[str, Any] = {"id": pa.array(scored["id"].to_pylist(), pa.string())}
        columns |= {name: rows[name] for name in ("source", "target")}
        columns |= {"translation": scored["translation"], "chrf": scores.chrf(counts)}
        told = (*_ANSWERS[1:], *NATS, *(name for name in (DRAWN,) if name in scored.column_names))
        columns |= {name: scored[name] for name in told}
        return pa.table(with_slices(columns, rows, ROLES))

    def predictions(self, table: pa.Table) -> pa.Table:
        """id and translation; nats and target_tokens where they are told.

        Without these NLL is no figure of such a program.
        """
        said = _translations(table)
        told = [name for name in NATS if name in table.column_names and not table[name].null_count]
        found = pa.table({"id": table["id"], "translation": said})
        if len(told) < len(NATS):
            return found
        for name in NATS:
            found = found.append_column(name, table[name].cast(pa.float64()))
        return found

    def unmeasured(self, rows: pa.Table) -> tuple[str, ...]:
        return ()

    def beside(self, scored: pa.Table) -> dict[str, float]:
        return {}

    def report(
        self, rows: pa.Table, scored: pa.Table, found: Mapping[str, Interval]
    ) -> list[Block]:
        judged = Judged(self._measured(rows, scored), found, self.scores.signatures)
        texts = {"source": rows["source"], "target": rows["target"]}
        return report_of(judged, pa.table({**texts, "translation": scored["translation"]}))

    # --- the gate

    def row_figure(self, predictions: pa.Table) -> RowFigure:
        return RowFigure("Sentence chrF", predictions["chrf"].to_numpy())

    def comparable(self, predictions: pa.Table, champion: Bundle) -> Comparable:
        every = np.ones(len(predictions), dtype=bool)
        if champion.kind != self.task.kind:
            why = f"The champion is of kind {champion.kind}, this one translates"
            return Comparable(every, fault=f"{why}: they cannot be compared.")
        theirs = (champion.facts["source_script"], champion.facts["target_script"])
        if theirs == self.scripts:
            return Comparable(every)
        why = (
            f"The champion translates from {_words(theirs)}, this one from {_words(self.scripts)}: "
            "they cannot be compared."
        )
        return Comparable(every, fault=why)

    def ask(self, bundle: Bundle, predictions: pa.Table) -> pa.Table:
        """Another model's translations, and what it says, in its own tokens, of the targets."""
        objective = TranslationModel(self.task, bundle.facts)
        rows = predictions.select(list(ROLES))
        windows = objective.encode(rows, bundle.lossless_tokenizer, bundle.windowing)
        return self._scored(bundle, windows)

    def against(
        self, predictions: pa.Table, asked: pa.Table, champion: Bundle, name: str
    ) -> Rivals:
        ours, theirs = (self.evidence(predictions, one) for one in (predictions, asked))
        bleu = ours.point()["bleu"] - theirs.point()["bleu"]
        return Rivals(ours, theirs, f"of {name}", figures={"bleu_difference": bleu})

    def against_constant(self, predictions: pa.Table, tokens: Path) -> Rivals:
        """This model beside the dictionary."""
        said = self._by_dictionary(predictions, tokens)
        theirs = Measured(self._counts(said, predictions)).evidence()
        return Rivals(self.evidence(predictions, predictions), theirs, FLOOR)


def _words(scripts: tuple[str, str]) -> str:
    one, other = scripts
    return f"{one} script into {other}"


def _translations(table: pa.Table) -> pa.ChunkedArray:
    """The column of translations, each a text.

    Raises:
        SourceError: there is none, or a row has none.
    """
    if "translation" not in table.column_names:
        raise SourceError(
            f"It has no column translation, but {', '.join(table.column_names)}.",
            "Give each id its translation in a column of that name.",
        )
    said = table["translation"]
    kind = said.type.value_type if pt.is_dictionary(said.type) else said.type
    if not (pt.is_string(kind) or pt.is_large_string(kind)):
        raise SourceError(
            f"Its column translation holds {kind}, and not texts.", "Write it as text."
        )
    if said.null_count:
        missing = table["id"].filter(pc.is_null(said))[0].as_py()
        raise SourceError(
            f"{said.null_count:,} rows have no translation, the first of them id {missing}.",
            "Give each a text; an empty one says that nothing was translated.",
        )
    return said.cast(pa.large_string())


JUDGES["translate"] = TranslateJudge
