"""A classifier's predictions as a Parquet file, which `noisefold compare` reads.

Columns: `id` (string: the ids of the test split of the validated corpus, each once, in any order)
and `log_proba` (list<double>: natural logarithms of probabilities). The schema's metadata hold
`noisefold.labels`, a JSON list with the label of each place in `log_proba`, and `noisefold.facts`,
a JSON object with the fields of `Facts`, each of which may be absent.

Shapes: N documents, C classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.special import logsumexp

from data_contracts.errors import SourceError
from data_contracts.recipe.compared import FACTS, Facts, same_names
from lightning_modules.evidence import Floats

LABELS = b"noisefold.labels"
# The log of 0 is not finite, and one such row would hide all others.
_SMALLEST = float(np.log(np.finfo(np.float64).tiny))
_REWRITE = "Write it with lightning_modules.kinds.classify.predictions.write_predictions."


def write_predictions(
    path: str | Path,
    ids: Sequence[str],
    log_proba: Any,
    labels: Sequence[str],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write predictions for `noisefold compare`; the file appears whole or not at all.

    Args:
        ids: (N,) document ids.
        log_proba: (N, C) natural logarithms of probabilities.
        labels: (C,) the label of each column.
        facts: any of parameters, bytes, cpu_seconds_train, texts_per_second, chosen.
    """
    values = np.asarray(log_proba, np.float64)
    if values.shape != (len(ids), len(labels)):
        raise ValueError(
            f"expected log_proba of shape {(len(ids), len(labels))}, got {values.shape}"
        )
    stated = Facts.model_validate(dict(facts or {})).model_dump(exclude_none=True)
    offsets = pa.array(np.arange(len(ids) + 1) * len(labels), pa.int32())
    columns = {
        "id": pa.array(ids, pa.string()),
        "log_proba": pa.ListArray.from_arrays(offsets, pa.array(values.ravel())),
    }
    described = {
        LABELS: json.dumps(list(labels), ensure_ascii=False),
        FACTS: json.dumps(stated, ensure_ascii=False),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(
        pa.table(columns).replace_schema_metadata(described), temporary, compression="zstd"
    )
    os.replace(temporary, path)


def log_proba_of_file(table: pa.Table, labels: Sequence[str]) -> Floats:
    """(N, C) of a file of predictions, or of an evaluation's own, in the order of `labels`.

    An evaluation's has `probabilities` in place of log_proba.

    Raises:
        SourceError: where its labels are others, or a row's probabilities do not sum to 1.
        KeyError, TypeError, ValueError, pyarrow.ArrowException: where it is no such file.
    """
    named = _labels(table)
    name = "log_proba" if "log_proba" in table.column_names else "probabilities"
    # 64-bit offsets: rows times labels may be more than 2^31.
    rows = table[name].cast(pa.large_list(pa.float64())).combine_chunks()
    if rows.null_count or set(pc.list_value_length(rows).to_pylist()) - {len(named)}:
        raise SourceError(
            f"{name} does not have one value for each of {len(named)} labels.", _REWRITE
        )
    values = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(table), len(named))
    if name == "probabilities":
        with np.errstate(divide="ignore"):
            values = np.log(values)
    off = np.abs(logsumexp(values, axis=1)) if len(table) else np.zeros(1)
    if not (off < 1e-3).all():  # NaN is not
        row = int(np.argmax(~(off < 1e-3)))
        raise SourceError(
            f"the probabilities of id {table['id'][row].as_py()} do not sum to 1.", _REWRITE
        )
    same_names("labels", named, labels)
    return np.maximum(values[:, [named.index(label) for label in labels]], _SMALLEST)


def _labels(table: pa.Table) -> list[str]:
    labels = json.loads((table.schema.metadata or {})[LABELS])
    texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not labels or not texts or len(set(labels)) < len(labels):
        raise ValueError("its labels are no list of distinct texts")
    return labels
