"""The rows of a run as MLflow's data sets: what the "Datasets" of a run and of a model show.

A set per split, with the contexts that MLflow's own pages know (training, validation, evaluation),
the columns' schema, and the source that the recipe names.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from data_contracts.artifacts import Answers, Drift, ValidatedCorpus
from data_contracts.contract.contract import Split
from data_contracts.recipe.source import FileSource, Source, SqlSource
from data_contracts.urls import shown_url
from tasks.artifacts.parquet_parts import read_parts
from tasks.artifacts.store import digest_of
from tasks.sources import sql

if TYPE_CHECKING:
    from mlflow.data.dataset_source import DatasetSource
    from mlflow.entities import DatasetInput

CONTEXTS: dict[Split, str] = {"train": "training", "valid": "validation", "test": "evaluation"}
# Arrow's names of types, as MLflow calls them; what is none of these is shown as text.
_TYPES = {
    "bool": "boolean",
    "float": "float",
    "double": "double",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "integer"),
    **dict.fromkeys(("int64", "uint32"), "long"),
}
_SHOWN = 100  # rows that the schema is told from
_DIGEST = 8  # characters; as MLflow's own, so that a column of them is readable


def of_corpus(
    corpus: ValidatedCorpus, source: Source, folder: Path, profile: dict[str, Any]
) -> list[DatasetInput]:
    """A data set for each split that has rows.

    Args:
        folder: of the corpus' files.
        profile: what is said of all of them, beside their rows.
    """
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import Dataset, DatasetInput, InputTag

    first = _first_rows(folder).to_pandas()
    inputs = []
    for split, context in CONTEXTS.items():
        if not corpus.splits.get(split):
            continue
        name, digest = name_and_digest(corpus, split)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns of numbers that may one day lack a value
            told = from_pandas(
                first, source=_source(source, split), name=name, digest=digest
            ).to_dict()
        about = json.dumps({"num_rows": corpus.splits[split], **profile}, ensure_ascii=False)
        dataset = Dataset(**(told | {"profile": about}))
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
    return inputs


def of_asked(name: str, verb: str, asked: Answers | Drift, source: Source) -> DatasetInput:
    """The rows that a registered model was asked, as one data set.

    Args:
        name: of the run's description; verb: of its flow, the context.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    shown = _source(source, None)
    columns = [
        {"type": _TYPES.get(kind, "string"), "name": one, "required": False}
        for one, kind in asked.columns.items()
    ]
    dataset = Dataset(
        name=name,
        digest=digest_of(asked.fingerprint)[:_DIGEST],
        source_type=shown._get_source_type(),
        source=shown.to_json(),
        schema=json.dumps({"mlflow_colspec": columns}, ensure_ascii=False),
        profile=json.dumps({"num_rows": asked.rows_in, "refused": asked.refused}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", verb)])


def name_and_digest(corpus: ValidatedCorpus, split: Split) -> tuple[str, str]:
    """What a split's data set is called, and the digest of its content."""
    return f"{corpus.contract_name} {split}", digest_of(corpus.digest, split)[:_DIGEST]


def _source(source: Source, split: Split | None) -> DatasetSource:
    """Where the rows come from, without what in an address may be secret."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.exceptions import MlflowException

    shown = shown_source(source, split)
    if not isinstance(source, FileSource):
        return CodeDatasetSource({"mlflow.source.name": shown})
    try:
        return resolve_dataset_source(shown)
    except MlflowException:  # an address of a store that MLflow does not know
        return CodeDatasetSource({"mlflow.source.name": shown})


def shown_source(source: Source, split: Split | None = None) -> str:
    """Where rows come from, without what in an address may be secret.

    Args:
        split: of these rows alone; one without a file of its own is drawn from the first.
    """
    if isinstance(source, SqlSource):
        return sql.shown(source)
    if not isinstance(source, FileSource):
        return "noisefold's bundled sample"
    shown = {
        name: shown_url(url) if isinstance(url, str) else " + ".join(map(shown_url, url.values()))
        for name, url in source.by_split.items()
    }
    if split is not None or None in shown:
        return shown.get(split) or next(iter(shown.values()))
    return ", ".join(f"{name}: {url}" for name, url in shown.items())


def _first_rows(folder: Path) -> pa.Table:
    return next(iter(read_parts(folder / "corpus", _SHOWN))).slice(0, _SHOWN)
