"""What promises of precision and of coverage keep, and whether texts without a class are told apart.

    NOISEFOLD_HOME=.noisefold/benchmarks noisefold retrain benchmarks/recipes/NAME.yaml \\
        --set task.abstain.precision=0.9 --set task.conformal.coverage=0.9     # for each NAME
    python -m benchmarks.selective NAME ... [--results FOLDER]

The figures are those of the newest version's evaluation: promised by the valid split, measured on
the test split, 95 % bootstrap intervals over its rows. Out of scope are the test texts of another
data set, for which the model has no class; AUROC of telling them from its own test texts by the
doubt (1: all of them are doubted more), with as many of each, 1,000 at most.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

from benchmarks.peers.data import HOME
from benchmarks.queue import read
from lightning_modules.doubting import doubting_of
from tasks.serving.explained import load_explainer
from tasks.settings import Settings
from tasks.tracking.runs import connect
from tasks.tracking.versions import find_version

MEASURES = ("margin", "entropy", "least_confident")  # bald needs draws beside the answers
HERE = Path(__file__).resolve().parent
ELSEWHERE = {"sst2": "trec", "trec": "sst2", "chnsenticorp": "thucnews"}
MOST = 1000


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """The figures of the newest version, and the AUROC of each measure of doubt."""
    model = f"noisefold-{name}"
    client, _ = connect(settings)
    versions = client.search_model_versions(f"name = '{model}'")
    newest = max(int(one.version) for one in versions)
    run = find_version(client, model, str(newest)).run_id
    report = client.download_artifacts(run, "evaluation/report.json")
    rows = client.download_artifacts(run, "evaluation/predictions.parquet")
    own = pq.read_table(rows, columns=["text"])["text"].to_pylist()
    others, _ = read(ELSEWHERE[name], "test", MOST)
    count = min(len(own), len(others), MOST)
    chosen = np.random.default_rng(0).permutation(len(own))[:count]
    texts = [*(own[one] for one in chosen), *others[:count]]
    with load_explainer(settings, model, str(newest)) as explainer:
        doubting = doubting_of(explainer.bundle)
        answers = explainer.bundle.predict({"text": texts})
        found = {
            measure: doubting.of(explainer.bundle, answers, measure).doubt for measure in MEASURES
        }
    strange = np.repeat([0, 1], count)
    told = {name: float(roc_auc_score(strange, doubt)) for name, doubt in found.items()}
    content = json.loads(Path(report).read_text(encoding="utf-8"))
    return {"report": content, "auroc": told, "texts": count}


def lines_of(name: str, found: Mapping[str, Any]) -> list[str]:
    report = found["report"]
    metrics, area = report["metrics"], {row["figure"]: row["value"] for row in report["selective"]}

    def share(figure: str) -> str:
        one = metrics[figure]
        return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"

    size = metrics["set_size"]["value"]
    cells = [share("accuracy"), share("answered"), share("selective_accuracy")]
    cells += [share("set_coverage"), f"{size:.2f}", f"{area['AURC']:.4f}"]
    doubts = [f"{found['auroc'][one]:.3f}" for one in MEASURES]
    return [
        f"| {name} | {report['rows']:,} | {' | '.join(cells)} |",
        f"| {name} | {ELSEWHERE[name]} | {found['texts']:,} | {' | '.join(doubts)} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*ELSEWHERE])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    settings = Settings(home=Path(os.environ.get("NOISEFOLD_HOME", HOME)))
    kept, strange = [], []
    for name in options.names:
        one, other = lines_of(name, measure(name, settings))
        kept.append(one)
        strange.append(other)
    text = "\n".join(
        [
            "# What promises keep",
            "",
            f"`python -m benchmarks.selective {' '.join(options.names)}`, after a retrain of each "
            "with `task.abstain.precision=0.9` and `task.conformal.coverage=0.9` (LAC).",
            "",
            "| recipe | test rows | accuracy of all | answered | accuracy of the answered "
            "(promised .9) | label sets that hold the truth (promised .9) | labels in a set | AURC |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *kept,
            "",
            "Texts that the model has no class for, told by its doubt (AUROC):",
            "",
            f"| recipe | texts of | of each | {' | '.join(MEASURES)} |",
            f"|---|---|--:|{'--:|' * len(MEASURES)}",
            *strange,
            "",
        ]
    )
    (options.results / "selective.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
