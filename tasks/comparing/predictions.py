"""Predictions of other programs for the test rows: a Parquet file per seed.

Its column `id` names the test rows of the validated corpus, each once, in any order; what stands
beside it is the kind's (its judge reads it; for classify see `write_predictions` of
`lightning_modules.kinds.classify.predictions`). The schema's metadata may hold `noisefold.facts`,
a JSON object with the fields of `Facts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.artifacts import ValidatedCorpus
from data_contracts.errors import SourceError
from data_contracts.recipe.compared import FACTS, Facts, same_names
from data_contracts.recipe.recipe import Recipe
from lightning_modules.kinds.judging import Judge, judge_of
from tasks.artifacts.store import ArtifactStore

_REWRITE = "See tasks/comparing/predictions.py for what such a file holds."


@dataclass(frozen=True)
class Predictions:
    """What a kind's judge reads of N documents (`id` and its own), and what the program says of
    itself."""

    scored: pa.Table
    facts: Facts


def read_predictions(path: str | Path, judge: Judge) -> Predictions:
    """Read a file of predictions.

    Raises:
        SourceError: naming the file and what is wrong with it.
    """
    name = Path(path).name
    try:
        table = pq.read_table(path)
        facts = Facts.model_validate_json((table.schema.metadata or {}).get(FACTS, b"{}"))
        ids = table["id"].cast(pa.large_string())
        scored = judge.predictions(table.set_column(table.column_names.index("id"), "id", ids))
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file.", "Correct the path under predictions.") from None
    except SourceError as error:
        raise SourceError(f"{name}: {error.cause}", error.remedy) from None
    except (pa.ArrowException, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise SourceError(
            f"{name}: no predictions file ({type(error).__name__}: {error}).", _REWRITE
        ) from None
    return Predictions(scored, facts)


@dataclass(frozen=True)
class TestRows:
    """The test split that everything is measured on: id, and the columns that say what is right."""

    __test__ = False  # no test class of pytest's

    rows: pa.Table
    judge: Judge
    digest: str

    @classmethod
    def of(cls, corpus: ValidatedCorpus, store: ArtifactStore, recipe: Recipe) -> TestRows:
        judge = judge_of(recipe.task, corpus.facts, recipe.statistics)
        table = read_test(corpus, store, ["id", *judge.truth])
        ids = table["id"].cast(pa.large_string())
        return cls(table.set_column(0, "id", ids), judge, corpus.digest)

    def align(self, scored: pa.Table, origin: str) -> pa.Table:
        """What was scored, in the order of these rows.

        Raises:
            SourceError: where the ids are not exactly those of the test split.
        """
        ids, wanted = scored["id"].cast(pa.large_string()), self.rows["id"]
        if pc.count_distinct(ids, mode="all").as_py() < len(ids):
            raise SourceError(f"{origin}: an id stands twice.", _REWRITE)
        places = pc.index_in(wanted, value_set=ids)
        if places.null_count or len(ids) != len(wanted):
            try:
                same_names("ids", ids.to_pylist(), wanted.to_pylist())
            except SourceError as error:
                raise SourceError(f"{origin}: {error.cause}", error.remedy) from None
        return scored.take(places)


def read_test(corpus: ValidatedCorpus, store: ArtifactStore, columns: list[str]) -> pa.Table:
    return pq.read_table(
        store.open(corpus) / "corpus", columns=columns, filters=[("split", "==", "test")]
    )
