"""score: every row of a source, with what a registered version answers and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from data_contracts.artifacts import FetchedModel, Scores, Snapshot
from data_contracts.errors import NoisefoldError
from data_contracts.recipe.queue import QueueRecipe
from data_contracts.recipe.score import ScoreRecipe
from lightning_modules.reparameterizations.noise_left import Alphas, drawn, load_noise
from lightning_modules.reparameterizations.seeds import mix
from tasks.answered import REASON, TYPES, answer_rows, schema_of
from tasks.reports.scored import log_scores
from tasks.serving.asked_rows import ROWS, AskedRows
from tasks.serving.predict import Predictor, predictor_of
from tasks.stage import Here, RunContext, stage
from tasks.tracking.data_sets import of_asked

Asking = ScoreRecipe | QueueRecipe


def _tell(scores: Scores, run: RunContext[Asking]) -> None:
    with run.tracker.once("score", scores.key) as fresh:
        if fresh:
            log_scores(scores, run.store.open(scores), run.tracker)
            recipe = run.recipe
            rows = of_asked(recipe.name, recipe.verb, scores, recipe.source)
            run.tracker.log_data_sets([rows])


@stage(
    Scores,
    version=2,
    shaped_by=("model", "column", "params", "drawn", "seed", "source.reading"),
    tell=_tell,
)
def score(here: Here[Asking], snapshot: Snapshot, model: FetchedModel) -> dict[str, Any]:
    """Answer each row. Safe to repeat: it goes on behind the last part that is there.

    Raises:
        SourceError: naming file and row or column, where the rows cannot be read, hold no column of
            texts, or change while they are read.
        NoisefoldError: the version cannot be loaded, has no such parameter, or no noise to draw.
    """
    recipe = here.recipe
    predictor = predictor_of(model.folder, model.name, model.version)
    predictor.take_params(
        [(name, str(one)) for name, value in recipe.params.items() for one in _each(value)]
    )
    noise = _noise(predictor, model) if recipe.drawn else {}
    answering = _Answering(predictor, noise, recipe.drawn, recipe.seed)
    return answer_rows(here, snapshot, predictor, answering)


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _noise(predictor: Predictor, model: FetchedModel) -> Alphas:
    """What is drawn from.

    Raises:
        NoisefoldError: draws would say nothing of this model.
    """
    if why := predictor.task.undrawn:
        raise NoisefoldError(
            f"draws: {predictor.name} is a {predictor.task.words.lower()}, and {why}.",
            "Leave draws out.",
        )
    noise = load_noise(model.bundle.parent)
    if noise:
        return noise
    raise NoisefoldError(
        f"draws: {predictor.uri} has no noise beside it: its method has none at its weights, or it "
        "was registered before versions had it.",
        "Do without draws (of a queue: choose by another doubt), or retrain it with "
        "model.reparameterization: {kind: multiplicative_noise}.",
    )


class _Answering:
    """Rows of a table to rows of answers: `file`, `row`, the model's columns, how sure each is, and
    why a row has none.
    """

    at_once = ROWS

    def __init__(self, predictor: Predictor, noise: Alphas, draws: int, seed: int) -> None:
        self.predictor, self.noise = predictor, noise
        self.seeds = [mix(seed, number) for number in range(draws)]
        nothing: dict[str, list[Any]] = {name: [] for name in predictor.outputs}
        sure = predictor.task.certainty(nothing, [nothing] if draws else [])
        self.sure = [name for name in sure if name not in predictor.outputs]
        answers = {name: TYPES[kind] for name, kind in predictor.outputs.items()}
        answers |= dict.fromkeys(self.sure, pa.float64())
        self.schema = schema_of(answers)

    def answer(self, file: str, rows: AskedRows) -> pa.Table:
        found = self.predictor.answer(rows.asked, rows.reasons)
        have = [row for row, reason in enumerate(found.reasons) if reason is None]
        sure = self._certainty(rows, found.columns, have) if have else {}
        columns: dict[str, Any] = {"file": [file] * len(rows.numbers), "row": rows.numbers}
        columns |= found.columns
        for name in self.sure:
            values: list[float | None] = [None] * len(rows.numbers)
            for row, value in zip(have, sure.get(name, ()), strict=True):
                values[row] = value
            columns[name] = values
        arrays = {
            name: pa.array(values, self.schema.field(name).type, from_pandas=True)
            for name, values in {**columns, REASON: found.reasons}.items()
        }
        return pa.table(arrays, schema=self.schema)

    def _certainty(
        self, rows: AskedRows, answers: Mapping[str, list[Any]], have: list[int]
    ) -> dict[str, list[float]]:
        asked = {name: [texts[row] for row in have] for name, texts in rows.asked.items()}
        draws = []
        for seed in self.seeds:
            with drawn(self.predictor.bundle.network, self.noise, seed):
                draws.append(self.predictor.answer(asked).columns)
        told = {name: [values[row] for row in have] for name, values in answers.items()}
        return self.predictor.task.certainty(told, draws)
