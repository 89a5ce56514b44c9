"""Before an alias moves: does the version, fetched from the registry and loaded in a fresh process,
answer as measured?

The evaluation measured the bundle of this machine's store. What serves is what the registry hands
out: other files, through another loader, in another process. `check_served` closes that gap with
rows of the evaluation itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import RecipeError
from data_contracts.tables.take import evenly, take_rows
from data_contracts.yaml_text import read_yaml
from tasks.engines.fork_server import ForkServer, Request
from tasks.tracking.bookkeeping import DIGEST
from tasks.tracking.runs import quiet_mlflow
from tasks.tracking.versions import GONE

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from lightning_modules.kinds.heads import Head

NOISE_FILE = "noise.safetensors"  # see lightning_modules.reparameterizations.noise_left
PROFILE_FILE = "profile.json"  # see tasks.profiles
ROWS = 200
# Windows are batched otherwise than in the evaluation, and float32 sums differ with the batch's
# width.
TOLERANCE = 1e-4
SECONDS = 300
# What MLflow writes for a model from code (mlflow 3.17), with the names that `tasks.register`
# gives.
_FLAVOR = {
    "loader_module": "mlflow.pyfunc.loaders.code_model",
    "model_code_path": "pyfunc.py",
    "code": "code",
}
_ARTIFACTS = {
    "bundle": "artifacts/bundle",
    "train_texts": "artifacts/train_texts.npy",
    "model_card": "artifacts/MODEL_CARD.md",
}
# What a version may have beside: alpha of the noise that it was trained with, to draw from again;
# what the rows looked like that it was measured on.
_BESIDE = {"noise": f"artifacts/{NOISE_FILE}", "profile": f"artifacts/{PROFILE_FILE}"}
# The rest says what the model was saved with, and decides nothing about loading it.
_FLAVOR_KEYS = {*_FLAVOR, "artifacts", "cloudpickle_version", "env", "python_version", "streamable"}
# -I: nothing of this repository's folder, of the caller's folder or of PYTHONPATH stands in for
# what the model brings.
_fork_server = ForkServer(("mlflow.pyfunc", "pandas", "tokenizers", "torch"), options=("-I",))
_SERVE = str(Path(__file__).with_name("serving_process.py"))


_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt"}


@dataclass(frozen=True)
class Served:
    """What a version showed where it was served: rows compared, and what serving it takes."""

    rows: int
    megabytes: float
    milliseconds_per_text: float
    compared: str = "answers"  # of each row, in words


class Unservable(Exception):
    """The version cannot be loaded, or does not answer as it did when it was measured; the text
    says which.
    """


def check_served(client: MlflowClient, name: str, version: str, predictions: Path) -> Served:
    """Compare what the registry's version answers with what its evaluation found.

    Args:
        predictions: `predictions.parquet` of the version's evaluation.
    Raises:
        Unservable: with the reason.
        MlflowException: the registry does not answer, which another attempt may heal.
    """
    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch:
        folder = Path(scratch)
        model = fetch_version(client, name, version, folder / "model")
        head, facts = served_head(model)
        try:
            measured = sample(pq.read_table(predictions), ROWS)
            question = head.question(measured)
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise Unservable(
                f"the predictions of its evaluation cannot be read ({type(error).__name__})"
            ) from error
        seconds, answer = serve(model, question, folder)
        size = size_of(model / "artifacts" / "bundle")
    rows = len(question[head.asked[0]])
    try:
        away = np.array(head.differences(facts, measured, answer))
    except (KeyError, TypeError, ValueError) as error:
        raise Unservable(str(error)) from error
    wrong = ~(away <= TOLERANCE)  # NaN is wrong
    if wrong.any():
        row = int(np.argmax(wrong))
        shown = question[head.asked[0]][row]
        raise Unservable(
            f"{int(wrong.sum())} of {rows} rows have other {head.compared} than in its "
            f"evaluation (by {away[row]:.2g} for {shown[:60]!r}; at most {TOLERANCE:g} is rounding)"
        )
    return Served(rows, size / 1e6, 1000 * seconds / rows, head.compared)


def sample(predictions: pa.Table, rows: int) -> dict[str, list[Any]]:
    """Columns of up to `rows` evaluated rows, spread evenly."""
    return take_rows(predictions, evenly(predictions.num_rows, rows)).to_pydict()


def served_head(model: Path) -> tuple[type[Head], dict[str, Any]]:
    """The head of a version's kind, and the facts of its bundle.

    Raises:
        Unservable: its description is missing or cannot be read, or nothing here knows its kind.
    """
    # Here: whoever looks at the registry alone loads no torch, and one who predicts loads the files
    # that the version brings and none of ours.
    from lightning_modules.bundle_files import DESCRIPTION
    from lightning_modules.kinds.answering import DEFAULT_KIND
    from lightning_modules.kinds.heads import head_class

    try:
        stated = json.loads((model / "artifacts" / "bundle" / DESCRIPTION).read_text("utf-8"))
        return head_class(stated["network"].get("kind", DEFAULT_KIND)), stated
    except FileNotFoundError as error:
        raise Unservable(f"{DESCRIPTION} is missing") from error
    except LookupError as error:
        raise Unservable(str(error)) from error
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise Unservable(f"its {DESCRIPTION} cannot be read ({type(error).__name__})") from error


def start_imports() -> None:
    """Begin what the process that serves a version imports. Returns at once."""
    _fork_server.start(_variables())


def _variables() -> dict[str, str]:
    return {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}


def serve(
    model: Path, columns: dict[str, list[str]], folder: Path
) -> tuple[float, dict[str, list[Any]]]:
    """CPU seconds and answer of a fresh process that knows nothing but the model's folder.

    Args:
        columns: what it is asked.
    Raises:
        Unservable: it failed, with the last line of what it said, or took too long.
    """
    question = folder / "question.json"
    answer = folder / "answer.json"
    question.write_text(json.dumps(columns, ensure_ascii=False), encoding="utf-8")
    log = folder / "serving.log"
    request = Request(
        name="noisefold-serve",
        file=_SERVE,
        arguments=[str(model), str(question), str(answer)],
        environment=_variables(),
        folder=str(folder),
    )
    with log.open("wb") as said:
        child = _fork_server.spawn(request, errors=said, output=said)
        try:
            status = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            rows = max(map(len, columns.values()))
            raise Unservable(f"it did not answer {rows} rows within {SECONDS} s") from None
        finally:
            child.kill()
            child.wait()
            assert child.stdin is not None
            child.stdin.close()
    if status or not answer.is_file():
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise Unservable(
            f"a fresh process that loads it ends with status {status}: "
            f"{(last or ['it said nothing'])[-1][:500]}"
        )
    try:
        content = json.loads(answer.read_text(encoding="utf-8"))
        return float(content["seconds"]), dict(content["columns"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unservable(f"its answer cannot be read ({type(error).__name__})") from error


def fetch_version(client: MlflowClient, name: str, version: str, folder: Path) -> Path:
    """The version's files from the registry.

    Raises:
        Unservable: they are gone, or not those of a version that this pipeline registered.
        MlflowException: the registry does not answer.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    folder.mkdir(parents=True, exist_ok=True)
    try:
        source = client.get_model_version_download_uri(name, version)
        with quiet_mlflow():
            model = Path(
                download_artifacts(
                    artifact_uri=source, dst_path=str(folder), tracking_uri=client.tracking_uri
                )
            )
        inspect(model, client.get_model_version(name, version).tags.get(DIGEST))
        return model
    except MlflowException as error:
        if error.error_code not in GONE and not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise Unservable(error.message.splitlines()[0]) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unservable(f"{Path(error.filename or 'a file').name} is missing") from error


def predictions_of(client: MlflowClient, found: Any, scratch: Path | str) -> Path:
    """What a version's evaluation found, from its MLflow run.

    Args:
        found: the version, as MLflow has it.
    Raises:
        Unservable: the run holds none.
        MlflowException: the registry does not answer, which another attempt may heal.
    """
    from mlflow.exceptions import MlflowException

    try:
        with quiet_mlflow():
            return Path(
                client.download_artifacts(
                    found.run_id, "evaluation/predictions.parquet", str(scratch)
                )
            )
    except MlflowException as error:
        if error.error_code not in GONE and not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise Unservable(
            "its MLflow run holds no evaluation/predictions.parquet to check it by"
        ) from error
    except OSError as error:
        raise Unservable(
            "its MLflow run holds no evaluation/predictions.parquet to check it by"
        ) from error


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def pickles(folder: Path) -> list[str]:
    """Files below a folder that could hold a pickle, by their names."""
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in _PICKLES
    )


def inspect(model: Path, digest: str | None) -> None:
    """Look at a version's files before anything loads them: whoever may write into the registry may
    write anything.

    Raises:
        Unservable: a file may hold a pickle, the folder is to be loaded in another way than ours,
            or the bundle is not the one that was registered.
    """
    if suspects := pickles(model):
        raise Unservable(f"its files may be pickles, which are not read: {', '.join(suspects)}")
    if (model / "MLmodel").is_file() and (why := _loaded_otherwise(model)):
        raise Unservable(
            f"its MLmodel asks to be loaded in another way than noisefold saves models ({why})"
        )
    description = model / "artifacts" / "bundle" / "bundle.json"
    if digest is None or not description.is_file():
        return  # whoever loads it says what is missing
    try:
        found = json.loads(description.read_text(encoding="utf-8"))["digest"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return
    if found != digest:
        raise Unservable(
            f"its bundle is not the one that was registered: digest {found}, registered as {digest}"
        )


def _loaded_otherwise(model: Path) -> str | None:
    """How the MLmodel departs from what `tasks.register` writes; None where it does not.

    Everything that decides what MLflow imports, runs or hands to the model is compared, and a key
    that is not known is
    refused: `python_model` would be unpickled, `data` and `code` would name other folders, `config`
        other settings.

    Raises:
        Unservable: it cannot be read.
    """
    try:
        flavors = read_yaml(model / "MLmodel")["flavors"]
        flavor = flavors["python_function"]
        asked = {key: flavor.get(key) for key in ("loader_module", "model_code_path", "code")}
        paths = {name: entry["path"] for name, entry in flavor["artifacts"].items()}
    except (RecipeError, KeyError, TypeError, AttributeError) as error:
        raise Unservable(f"its MLmodel cannot be read ({type(error).__name__}: {error})") from error
    if others := sorted(set(map(str, flavors)) - {"python_function"}):
        return f"flavor {others[0][:60]}"
    if unknown := sorted(set(map(str, flavor)) - _FLAVOR_KEYS):
        return f"key {unknown[0][:60]}"
    for key, value in asked.items():
        if value != _FLAVOR[key]:
            return f"{key} {str(value)[:60]!r}"
    known = {**_ARTIFACTS, **_BESIDE}
    if not _ARTIFACTS.items() <= paths.items() <= known.items():
        return "other artifacts"
    links = sorted(
        path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_symlink()
    )
    if links:
        return f"{links[0][:60]} is a link"
    return (
        None
        if (model / _FLAVOR["model_code_path"]).is_file()
        else f"no {_FLAVOR['model_code_path']}"
    )
