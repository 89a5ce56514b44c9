"""What an exported model costs to serve, beside the one that it comes from.

    taskset -c 0 python -m benchmarks.export [--model NAME] [--version champion] [--results FOLDER]

A registered classifier is exported by `noisefold export` in float32 and with weights of 8 bits.
`one text`: CPU milliseconds from a text to its label and probabilities, without MLflow, over up to
2,000 of its test rows, the three in turn for each text. `texts / CPU s`: all of them at once, best
of five rounds in turn. `ready`: CPU seconds and peak memory of a process of its own, from its start
to its first answer; `MLflow` the same behind its pyfunc. One thread.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"))

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from lightning_modules.bundle import Bundle
from lightning_modules.exported import Exported
from tasks.serving.check import fetch_version
from tasks.serving.export import Export, Precision, export
from tasks.settings import Settings
from tasks.tracking.runs import connect
from tasks.tracking.versions import find_version

RESULTS = Path(__file__).resolve().parent / "results"
TEXTS, ROUNDS = 2_000, 5
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
# Peak memory of this process alone, which ru_maxrss is not: it begins with the parent's.
READY = """
import os, sys
folder, text, way = sys.argv[1:]
if way == "mlflow":
    import mlflow.pyfunc, pandas
    mlflow.pyfunc.load_model(folder).predict(pandas.DataFrame({"text": [text]}))
else:
    sys.path.insert(0, folder + "/code")
    if os.path.exists(folder + "/artifacts/bundle/model.onnx"):
        from lightning_modules.exported import Exported as Model
    else:
        from lightning_modules.bundle import Bundle as Model
    Model.load(folder + "/artifacts/bundle").predict({"text": [text]})
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
times = os.times()
print(times.user + times.system, int(peak.split()[1]) / 1000)
"""


def ready(folder: Path, text: str, way: str) -> tuple[float, float]:
    """CPU seconds and megabytes of a fresh process, the least of three."""
    found = [
        subprocess.run(
            [sys.executable, "-I", "-c", READY, str(folder), text, way],
            capture_output=True, text=True, check=True,
        ).stdout.split()
        for _ in range(3)
    ]  # fmt: skip
    return min(float(one[0]) for one in found), min(float(one[1]) for one in found)


def cpu_of(model: Any, texts: list[str]) -> float:
    started = time.process_time()
    model.predict({"text": texts})
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="noisefold-sample")
    parser.add_argument("--version", default="champion")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings()
    client, _ = connect(settings)
    found = find_version(client, args.model, args.version)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folders = {"torch": fetch_version(client, args.model, str(found.version), scratch / "own")}
        done: dict[str, Export] = {}
        for precision in PRECISIONS:
            folders[precision] = scratch / precision
            done[precision] = export(
                settings, args.model, args.version, folders[precision], precision
            )
        path = client.download_artifacts(found.run_id, "evaluation/predictions.parquet", name)
        texts = pq.read_table(path, columns=["text"])["text"].to_pylist()[:TEXTS]
        models: dict[str, Any] = {
            which: (Bundle if which == "torch" else Exported).load(folder / "artifacts" / "bundle")
            for which, folder in folders.items()
        }
        for model in models.values():
            model.predict({"text": texts[:50]})
        single: dict[str, list[float]] = {
            which: [] for which in models
        }  # milliseconds of each text
        for text in texts:
            for which, model in models.items():
                single[which].append(1000 * cpu_of(model, [text]))
        whole: dict[str, list[float]] = {which: [] for which in models}
        for _ in range(ROUNDS):
            for which, model in models.items():
                whole[which].append(cpu_of(model, texts))
        lines = [
            f"# Serving {args.model}: torch, ONNX Runtime, and 8 bits",
            "",
            f"`python -m benchmarks.export --model {args.model}`",
            "",
            f"Encoder {models['torch'].network.describe()['encoder']['kind']}, {len(texts):,} test "
            "rows; one thread. Milliseconds and seconds are of CPU time.",
            "",
            "| | MB | same label | largest difference | one text, ms: p50 | p99 | texts / CPU s | "
            "ready, s | memory, MB | MLflow: ready, s | memory, MB |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for which, folder in folders.items():
            bytes_ = sum(file.stat().st_size for file in (folder / "artifacts/bundle").iterdir())
            agreed = done.get(which)
            costs = [ready(folder, texts[0], way) for way in ("plain", "mlflow")]
            cells = [
                {"torch": "torch", "fp32": "ONNX", "int8": "ONNX, 8 bits"}[which],
                f"{bytes_ / 1e6:.2f}",
                f"{agreed.same_answers:.2%}" if agreed else "–",
                f"{agreed.largest_difference:.1g}" if agreed else "–",
                *(f"{np.percentile(single[which], q):.2f}" for q in (50, 99)),
                f"{len(texts) / min(whole[which]):,.0f}",
                *(
                    f"{value:.2f}" if n == 0 else f"{value:.0f}"
                    for cost in costs
                    for n, value in enumerate(cost)
                ),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        versions = {
            one: __import__(one).__version__ for one in ("torch", "onnxruntime", "tokenizers")
        }
        lines += ["", "Versions: " + json.dumps(versions) + "."]
        args.results.mkdir(parents=True, exist_ok=True)
        text = "\n".join(lines) + "\n"
        (args.results / "export.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
