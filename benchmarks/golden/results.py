"""A retrain as a user starts it, and its results as a user reads them: from MLflow alone.

`read_results` is the one place that knows where they lie and what the columns are called, so that
code may move and recipes may be spelled otherwise while the committed results stay.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import pyarrow as pa

THREADS = 1  # `execution.threads` of every recipe
NO_SLICES = {"id", "text", "label", "predicted", "confidence", "correct", "probabilities"}


class Results(TypedDict):
    """Of one retrain. `facts` and `figures` are by name; a digest is the SHA-256 of the bytes."""

    facts: dict[str, str | int]
    figures: dict[str, float]
    tensors: dict[str, str]  # by name, "F32 [2, 32] DIGEST": what folding has left, as it is served
    predictions: dict[str, str]  # digests over the test rows, in the order of the file


def isolate(home: Path) -> None:
    """State in `home` alone, whatever the caller's environment names.

    Before Prefect and MLflow are imported: they read theirs then.
    """
    ours = ("PREFECT_", "MLFLOW_", "NOISEFOLD_")
    for name in [name for name in os.environ if name.startswith(ours)]:
        del os.environ[name]
    os.environ["NOISEFOLD_HOME"] = str(home)


def retrain(recipe: Path) -> dict[str, Any]:
    """`noisefold retrain RECIPE --json` within this process; returns the document that it prints.

    The second finds all imported, and Prefect's temporary server at work, which is half of what a
    process of its own costs.
    Raises:
        RuntimeError: the command failed; with what it said.
    """
    import noisefold

    out, log, status = io.StringIO(), io.StringIO(), None
    before, sys.argv = sys.argv, ["noisefold", "retrain", str(recipe), "--json"]
    try:
        with redirect_stdout(out), redirect_stderr(log):
            noisefold.main()
    except SystemExit as end:
        status = end.code
    finally:
        sys.argv = before
    if status:
        raise RuntimeError(f"{recipe.name} failed: {log.getvalue()[-4000:]}")
    return json.loads(out.getvalue())


def read_results(told: dict[str, Any], scratch: Path) -> Results:
    """All that is compared of a retrain: what it told, its MLflow run, the version that it left.

    Args:
        scratch: folder that does not exist yet, for what is downloaded.
    """
    import mlflow
    import pyarrow.parquet as pq
    from mlflow.artifacts import download_artifacts

    mlflow.set_tracking_uri(told["tracking_uri"])
    mlflow.set_registry_uri(told["tracking_uri"])
    client, run = mlflow.MlflowClient(), told["run_id"]
    scratch.mkdir()
    evaluation = Path(client.download_artifacts(run, "evaluation", str(scratch)))
    version = download_artifacts(artifact_uri=told["model_uri"], dst_path=str(scratch / "model"))
    bundle = Path(version) / "artifacts" / "bundle"
    report = json.loads((evaluation / "report.json").read_text(encoding="utf-8"))
    described = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    tokenizer = (bundle / "tokenizer.json").read_bytes()
    predictions = pq.read_table(evaluation / "predictions.parquet")
    slices = [name for name in predictions.column_names if name not in NO_SLICES]
    probabilities = predictions["probabilities"].combine_chunks().flatten().to_numpy()
    figures = {
        **run_figures(client, run),
        **bounded({f"test/{name}": one for name, one in report["metrics"].items()}),
        **decision_figures(told["decision"], told["headlines"][0]),
        "temperature fitted": report["temperature"] or 1.0,
        "temperature served": described["temperature"],
        **slice_figures(predictions, slices),
    }
    return {
        "facts": {
            "best epoch": described["meta"]["best_epoch"],
            "vocabulary": vocabulary_size(tokenizer),
            "tokenizer": sha256(tokenizer),
            "test rows": predictions.num_rows,
            "decision": told["decision"]["outcome"],
            "reasons of the decision": len(told["decision"]["reasons"]),
        },
        "figures": dict(sorted(figures.items())),
        "tensors": tensor_digests((bundle / "model.safetensors").read_bytes()),
        "predictions": {
            "rows": sha256_of_texts(predictions["id"].to_pylist()),
            "labels": sha256_of_texts(predictions["predicted"].to_pylist()),
            "probabilities": sha256(probabilities.astype("<f8").tobytes()),
        },
    }


def run_figures(client: Any, run: str) -> dict[str, float]:
    """What the MLflow run has of the teacher, and of validation after each epoch.

    Nothing of training's own curves: they hold a speed.
    """
    last = client.get_run(run).data.metrics
    figures = {n: v for n, v in last.items() if n.startswith("teach/")}
    for name in last:
        if name.startswith("val/"):
            points = sorted(client.get_metric_history(run, name), key=lambda point: point.step)
            figures |= {f"{name} of epoch {n}": point.value for n, point in enumerate(points, 1)}
    return figures


def bounded(figures: dict[str, dict[str, float] | None]) -> dict[str, float]:
    """Value and bounds of each figure that there is."""
    found = {}
    for name, one in figures.items():
        if one is not None:
            found |= {name: one["value"], f"{name}_low": one["low"], f"{name}_high": one["high"]}
    return found


def decision_figures(decision: dict[str, Any], metric: str) -> dict[str, float]:
    """By what the version won, or lost: the first metric of its kind."""
    differences = {
        f"promotion/{metric}_difference": decision["difference"],
        f"promotion/{metric}_over_constant": decision["over_constant"],
    }
    notes = {f"promotion/{name}": value for name, value in decision["notes"].items()}
    return bounded(differences) | notes


def slice_figures(predictions: pa.Table, columns: list[str]) -> dict[str, float]:
    """The accuracy on every value of the contract's slices, which no file of the run tells."""
    right: dict[str, list[bool]] = {}
    correct = predictions["correct"].to_pylist()
    for column in columns:
        for value, is_right in zip(predictions[column].to_pylist(), correct, strict=True):
            right.setdefault(f"accuracy where {column} is {value}", []).append(is_right)
    return {name: sum(rows) / len(rows) for name, rows in right.items()}


def vocabulary_size(tokenizer_json: bytes) -> int:
    from tokenizers import Tokenizer

    return Tokenizer.from_buffer(tokenizer_json).get_vocab_size()


def tensor_digests(safetensors: bytes) -> dict[str, str]:
    """Type, shape and digest of each tensor of a file, by name."""
    from safetensors import deserialize

    return {
        name: f"{tensor['dtype']} {tensor['shape']} {sha256(bytes(tensor['data']))}"
        for name, tensor in sorted(deserialize(safetensors))
    }


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of_texts(texts: Iterable[str]) -> str:
    """Of texts in their order; as JSON, so that no two lists have the same bytes."""
    return sha256(json.dumps(list(texts), ensure_ascii=False).encode())


def machine() -> dict[str, str | int]:
    """What decides the last bits of a sum: processor, instructions in use, torch, threads."""
    import torch

    return {
        "cpu": cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": THREADS,
    }


def cpu_model(facts: Path = Path("/proc/cpuinfo")) -> str:
    """As the kernel names it, with family and model where the name alone says little."""
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    pairs = (line.partition(":") for line in reversed(lines))  # the first processor's stand last
    first = {key.strip(): value.strip() for key, _, value in pairs}
    if "model name" not in first:
        return platform.processor() or platform.machine()
    family, model = first.get("cpu family", "?"), first.get("model", "?")
    return f"{first['model name']} (family {family}, model {model})"
