"""Whole retrains beside TF-IDF + logistic regression, on the same rows.

    python -m benchmarks.versus_tfidf [--only trec,sst2] [--seeds 0,1,2] [--results FOLDER]

Each cell is one `noisefold retrain` of `benchmarks/recipes/<name>.yaml`, end to end, in `.noisefold/benchmarks`; stages
that are finished are found in its store, so the command resumes where it stopped. The peer reads the validated corpus
of the same run: TF-IDF with sublinear term frequencies over word 1- to 2-grams (character 1- to 3-grams where the texts
are Chinese; for the mixed sample whichever of the two does better on validation), logistic regression, C from 0.3 to
100 chosen on the validation split. The interval is a paired bootstrap over test rows (10,000 draws) of the difference
in accuracy, seeds averaged.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss

HERE = Path(__file__).resolve().parent
HOME = HERE.parent / ".noisefold" / "benchmarks"
DATASETS = ("sample", "trec", "sst2", "ag_news", "chnsenticorp")
WORDS = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
CHARACTERS = {"analyzer": "char", "ngram_range": (1, 3)}
FEATURES = {"chnsenticorp": [CHARACTERS], "sample": [WORDS, CHARACTERS]}
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def retrain(name: str, seed: int) -> dict[str, Any]:
    """One whole run; returns the flow's result."""
    command = [
        *(sys.executable, "-P", "-m", "flows.cli", "retrain", str(HERE / "recipes" / f"{name}.yaml"), "--json"),
        *("--set", f"training.seed={seed}", "--set", f"registry.model_name=benchmark-{name}-{seed}"),
    ]
    environment = {**os.environ, "NOISEFOLD_HOME": str(HOME)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def read_split(corpus: Path, split: str) -> tuple[list[str], list[str], list[str]]:
    rows = pq.read_table(corpus / "corpus", columns=["id", "text", "label", "split"], filters=[("split", "=", split)])
    return rows["id"].to_pylist(), rows["text"].to_pylist(), rows["label"].to_pylist()


def peer(name: str, corpus: Path) -> dict[str, Any]:
    """TF-IDF + logistic regression, tuned on validation, measured on test."""
    started = time.process_time()
    (_, train_texts, train_labels), (_, valid_texts, valid_labels) = (read_split(corpus, s) for s in ("train", "valid"))
    ids, test_texts, test_labels = read_split(corpus, "test")
    best: tuple[float, Any, Any, str] | None = None
    for features in FEATURES.get(name, [WORDS]):
        vectorizer = TfidfVectorizer(sublinear_tf=True, lowercase=True, **features)
        train, valid = vectorizer.fit_transform(train_texts), vectorizer.transform(valid_texts)
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=2000).fit(train, train_labels)
            score = accuracy_score(valid_labels, model.predict(valid))
            if best is None or score > best[0]:
                best = (score, vectorizer, model, f"{features['analyzer']} {features['ngram_range']}, C = {strength:g}")
    assert best is not None
    _, vectorizer, model, chosen = best
    probabilities = model.predict_proba(vectorizer.transform(test_texts))
    predicted = model.classes_[probabilities.argmax(axis=1)]
    return {
        "chosen": chosen,
        "accuracy": accuracy_score(test_labels, predicted),
        "macro_f1": f1_score(test_labels, predicted, average="macro"),
        "nll": log_loss(test_labels, probabilities, labels=model.classes_),
        "correct": dict(zip(ids, (predicted == np.array(test_labels)).tolist(), strict=True)),
        "cpu_seconds": time.process_time() - started,
    }


def compare(name: str, seeds: list[int]) -> dict[str, Any]:
    runs = [retrain(name, seed) for seed in seeds]
    other = peer(name, Path(runs[0]["artifacts"]["validate"]))
    predictions = [pq.read_table(Path(run["artifacts"]["evaluate"]) / "predictions.parquet") for run in runs]
    ids = list(other["correct"])
    ours = np.array(
        [[dict(zip(t["id"].to_pylist(), t["correct"].to_pylist(), strict=True))[i] for i in ids] for t in predictions]
    )
    difference = ours.mean(axis=0) - np.array([other["correct"][i] for i in ids])
    draws = np.random.default_rng(0).integers(0, len(ids), (10_000, len(ids)), dtype=np.int32)
    low, high = np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
    figures = {
        k: np.array([run["metrics"][f"test/{k}"]["value"] for run in runs])
        for k in ("accuracy", "macro_f1", "nll", "ece")
    }
    train_seconds = [next(s["seconds"] for s in run["stages"] if s["name"] == "train") for run in runs]
    return {
        "dataset": name,
        "rows": len(ids),
        "seeds": seeds,
        "noisefold": {k: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else 0.0) for k, v in figures.items()},
        "peer": {k: v for k, v in other.items() if k != "correct"},
        "difference": [float(difference.mean()), float(low), float(high)],
        "train_seconds": train_seconds,
        "parameters": runs[0]["parameters"],
    }


def verdict(difference: list[float]) -> str:
    _, low, high = difference
    return "ahead" if low > 0 else "behind" if high < 0 else "level"


def as_markdown(rows: list[dict[str, Any]]) -> str:
    header = [
        *("data set", "test rows", "accuracy", "macro-F1", "NLL", "ECE"),
        *("TF-IDF + LR: accuracy", "macro-F1", "NLL", "difference in accuracy (95 %)", "noisefold is"),
    ]
    lines = [f"| {' | '.join(header)} |", "|---|" + "--:|" * 9 + "---|"]
    for row in rows:
        ours, other = row["noisefold"], row["peer"]
        mean, low, high = (100 * value for value in row["difference"])
        cells = [
            row["dataset"],
            f"{row['rows']:,}",
            *(f"{100 * ours[k][0]:.1f} ± {100 * ours[k][1]:.1f}" for k in ("accuracy", "macro_f1")),
            f"{ours['nll'][0]:.3f} ± {ours['nll'][1]:.3f}",
            f"{100 * ours['ece'][0]:.1f} ± {100 * ours['ece'][1]:.1f}",
            f"{100 * other['accuracy']:.1f}",
            f"{100 * other['macro_f1']:.1f}",
            f"{other['nll']:.3f}",
            f"{mean:+.1f} ({low:+.1f} to {high:+.1f})",
            verdict(row["difference"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(DATASETS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    options.results.mkdir(parents=True, exist_ok=True)
    cells = options.results / "versus_tfidf.json"
    known = {row["dataset"]: row for row in json.loads(cells.read_text())} if cells.exists() else {}
    for name in options.only.split(","):
        known[name] = compare(name, seeds)
        rows = [known[dataset] for dataset in DATASETS if dataset in known]
        cells.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        (options.results / "versus_tfidf.md").write_text(as_markdown(rows))
        print(as_markdown([known[name]]).splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
