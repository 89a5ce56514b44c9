"""explain: which tokens carried a registered version's answer to each row of a source.

Explanations are kept part by part, as answers are (`tasks.answered`); `tasks.deliver` lays them
beside the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from itertools import islice
from typing import Any

import pyarrow as pa

from data_contracts.artifacts import Explanations, FetchedModel, Snapshot
from data_contracts.errors import NoisefoldError
from data_contracts.recipe.explain import ExplainRecipe
from lightning_modules.bundle import Bundle
from lightning_modules.explaining.asked import refuse_unexplained
from lightning_modules.explaining.explain import Explanation
from lightning_modules.explaining.explain import explain as explain_answer
from tasks.answered import REASON, TYPES, answer_rows, beside, schema_of
from tasks.ingest import source_files
from tasks.reports.explanations import SHOWN, dump_shown, log_explanations
from tasks.serving.asked_rows import AskedRows
from tasks.serving.predict import Predictor, predictor_of
from tasks.stage import Here, RunContext, stage
from tasks.tracking.data_sets import of_asked

_TOKEN = pa.struct(
    [
        ("column", pa.string()),
        ("token", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("contribution", pa.float64()),
    ]
)
# How an explanation stood its check: null where there was none.
_DELETED = ("deletion_strongest", "deletion_random", "deletion_random_high")
_NUMBERS = ("score", "baseline", "error", *_DELETED)


def _tell(explanations: Explanations, run: RunContext[ExplainRecipe]) -> None:
    with run.tracker.once("explain", explanations.key) as fresh:
        if fresh:
            log_explanations(explanations, run.store.open(explanations), run.tracker)
            recipe = run.recipe
            rows = of_asked(recipe.name, recipe.verb, explanations, recipe.source)
            run.tracker.log_data_sets([rows])


@stage(
    Explanations,
    version=1,
    shaped_by=("model", "column", "target", "check", "source.reading"),
    tell=_tell,
)
def explain(here: Here[ExplainRecipe], snapshot: Snapshot, model: FetchedModel) -> dict[str, Any]:
    """Explain each row. Safe to repeat: it goes on behind the last part that is there.

    Raises:
        SourceError: naming file and row or column, where the rows cannot be read, hold no column of
            texts, or change while they are read.
        NoisefoldError: models of this kind cannot be explained, or no row of these.
    """
    recipe = here.recipe
    predictor = predictor_of(model.folder, model.name, model.version)
    bundle = Bundle.load(model.bundle)  # by this code, not the version's own
    refuse_unexplained(bundle)
    fields = answer_rows(here, snapshot, predictor, _Explaining(predictor, bundle, recipe))
    if not fields["rows_out"]:
        raise NoisefoldError(
            f"None of {fields['rows_in']:,} rows could be explained "
            f"({'; '.join(fields['first_refused'])}).",
            "Mend the rows, or target.",
        )
    source = source_files(recipe.source, here.keep)
    with closing(beside(source, fields["asked"], here.out, here.keep)) as read:
        pairs = ((rows, answers) for rows, answers in islice(read, SHOWN))
        dump_shown(pairs, here.out)
    return fields


class _Explaining:
    """Rows of a table to rows of explanations."""

    at_once = 1  # each takes a second or so, which a kill is not to multiply

    def __init__(self, predictor: Predictor, bundle: Bundle, recipe: ExplainRecipe) -> None:
        self.bundle, self.recipe = bundle, recipe
        self.optional = predictor.optional
        self.answers = list(predictor.outputs)
        answers = {name: TYPES[kind] for name, kind in predictor.outputs.items()}
        more: dict[str, pa.DataType] = {"target": pa.string(), "words": pa.string()}
        more |= dict.fromkeys(_NUMBERS, pa.float64())
        more |= {"notes": pa.string(), "tokens": pa.list_(_TOKEN)}
        self.schema = schema_of({**answers, **more})

    def answer(self, file: str, rows: AskedRows) -> pa.Table:
        records = []
        for place, number in enumerate(rows.numbers):
            question = {name: texts[place] for name, texts in rows.asked.items()}
            record, reason = self._explained(question, rows.reasons[place])
            records.append({"file": file, "row": number, **record, REASON: reason})
        return pa.Table.from_pylist(records, schema=self.schema)

    def _explained(
        self, question: Mapping[str, str | None], reason: str | None
    ) -> tuple[dict[str, Any], str | None]:
        """What carried the answer to one row, or why that is not told."""
        given = {name: text for name, text in question.items() if text and text.strip()}
        for name in question:
            if reason is None and name not in given and name not in self.optional:
                reason = f"the {name} is missing or empty"
        if reason is not None:
            return {}, reason
        try:
            found = explain_answer(self.bundle, given, self.recipe.target, check=self.recipe.check)
        except NoisefoldError as error:
            return {}, error.cause
        return self._record(found), None

    def _record(self, found: Explanation) -> dict[str, Any]:
        check = found.deletion
        deleted = (
            (None,) * 3 if check is None else (check.strongest, check.random, check.random_high)
        )
        tokens = [
            {
                "column": part.column,
                "token": part.text,
                "start": part.start,
                "end": part.end,
                "contribution": part.contribution,
            }
            for part in found.parts
        ]
        return {
            **{name: found.answer[name] for name in self.answers},
            "target": found.target,
            "words": found.words,
            "score": found.score,
            "baseline": found.baseline,
            "error": found.error,
            **dict(zip(_DELETED, deleted, strict=True)),
            "notes": " ".join(found.notes) or None,
            "tokens": tokens,
        }
