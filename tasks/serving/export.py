"""export: a registered version as an ONNX model in MLflow's layout, which is served without torch.

It is held to the version itself on the test rows of its evaluation, by a fresh process that serves
what was written, before it appears.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import NoisefoldError
from tasks.serving.check import (
    NOISE_FILE,
    Unservable,
    fetch_version,
    predictions_of,
    serve,
    size_of,
)
from tasks.settings import Settings
from tasks.tracking.runs import connect, quiet_mlflow
from tasks.tracking.versions import find_version

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

Precision = Literal["fp32", "int8"]
NEEDED = ("onnx", "onnxruntime")
TOLERANCE = 1e-5  # of a number of an answer, in float32
# mlflow-skinny is MLflow without its UI, SQL store and plots; it loads and serves a model.
_SERVING = ("mlflow-skinny", "onnxruntime", "tokenizers", "numpy", "pandas")


@dataclass(frozen=True)
class Export:
    """What was written, and how it answers beside what it was exported from."""

    model: str  # models:/NAME/VERSION
    folder: str
    precision: Precision
    digest: str
    rows: int  # test rows that both were asked
    same_answers: float  # share of them with the same first column, the label of a classifier
    largest_difference: float  # of a number of an answer, a probability
    bytes: int
    bytes_before: int


def export(settings: Settings, name: str, alias: str, out: Path, precision: Precision) -> Export:
    """Write a version to `out`, a new folder.

    Args:
        alias: an alias such as champion, or a version number.
    Effects: the folder, whole or not at all.
    Raises:
        NoisefoldError: there is no such version, it cannot be read or be exported, `out` is there
            already, a package is missing, or in float32 it would answer otherwise.
    """
    _refuse_early(out)
    client, _ = connect(settings)
    found = find_version(client, name, alias)
    uri = f"models:/{name}/{found.version}"
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that it appears at once.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as name_of_scratch:
        scratch = Path(name_of_scratch)
        try:
            model = fetch_version(client, name, str(found.version), scratch / "fetched")
            measured = pq.read_table(predictions_of(client, found, scratch)).to_pydict()
            bundle, written, digest = _written(model, scratch, precision)
            question = bundle.head.question(measured)
            before = bundle.predict(question)
            _, after = serve(written, question, scratch)
        except LookupError as error:
            raise NoisefoldError(
                f"{uri} cannot be exported: {error}.", "It is served as it is, with torch."
            ) from error
        except (Unservable, OSError, ValueError, pa.ArrowException) as error:  # BundleError is one
            raise NoisefoldError(
                f"{uri} cannot be exported: {error}.",
                "`noisefold history` shows the other versions; --version chooses one.",
            ) from error
        same, away = compared(before, after)
        if precision == "fp32" and not away <= TOLERANCE:
            raise NoisefoldError(
                f"{uri}: as ONNX it answers otherwise, by up to {away:.2g} on {len(same):,} test "
                f"rows; at most {TOLERANCE:g} is rounding. Nothing was written.",
                "Serve it as it is, with torch.",
            )
        sizes = [size_of(folder / "artifacts" / "bundle") for folder in (written, model)]
        for cache in [*written.rglob("__pycache__")]:  # of the process that has served it
            shutil.rmtree(cache)
        os.replace(written, out)
    return Export(uri, str(out), precision, digest, len(same), float(same.mean()), away, *sizes)


def compared(
    before: Mapping[str, Sequence[Any]], after: Mapping[str, Sequence[Any]]
) -> tuple[np.ndarray, float]:
    """Which rows (N,) have the same first answer, and how far the furthest numbers lie apart.

    Raises:
        ValueError: a column is missing.
    """
    if before.keys() != after.keys():
        raise ValueError(f"it answers {', '.join(after)} in place of {', '.join(before)}")
    first = next(iter(before))
    same = np.array([one == other for one, other in zip(before[first], after[first], strict=True)])
    numbers = [name for name, values in before.items() if all(type(v) is float for v in values)]
    away = (np.abs(np.subtract(before[name], after[name])).max(initial=0) for name in numbers)
    return same, float(max(away, default=0.0))


def _refuse_early(out: Path) -> None:
    if missing := [package for package in NEEDED if find_spec(package) is None]:
        raise NoisefoldError(
            f"An export needs the package {missing[0]}, which is not installed.",
            "pip install 'noisefold[onnx]'",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise NoisefoldError(
            f"{out} is there already.", "Name a new folder, or remove this one first."
        )


def _written(model: Path, scratch: Path, precision: Precision) -> tuple[Bundle, Path, str]:
    """The version's bundle, the folder of its export, and the digest of that."""
    from mlflow.models import Model

    from lightning_modules.bundle import Bundle
    from lightning_modules.exporting.save import save_exported
    from lightning_modules.shipping import ship_exported
    from tasks.register import save_pyfunc

    bundle = Bundle.load(model / "artifacts" / "bundle")
    digest = save_exported(scratch / "bundle", bundle, precision)
    own = Model.load(str(model))
    if own.signature is None:
        raise Unservable("its MLmodel has no signature")
    beside = {path.name: path for path in (model / "artifacts").iterdir() if path.is_file()}
    beside.pop(NOISE_FILE, None)  # it is drawn into torch's weights
    names = {"MODEL_CARD.md": "model_card"}
    folder = scratch / "model"
    with quiet_mlflow():
        save_pyfunc(
            folder,
            Model(artifact_path="model"),
            code=ship_exported(bundle.kind, scratch / "code"),
            artifacts={
                "bundle": scratch / "bundle",
                **{names.get(path.name, path.stem): path for path in beside.values()},
            },
            signature=own.signature,
            examples=own.load_input_example(str(model)),
            requirements=[f"{package}=={installed(package)}" for package in _SERVING],
        )
    return bundle, folder, digest
