"""What reading long documents in windows is worth: the same recipe on the first window of each
document alone.

    python -m benchmarks.cut_at_limit imdb [--seeds 0,1,2] [--limit 256]

Trains and predicts as tools do that cut a text at a limit of tokens (that of the recipe where none
is given). Its test predictions go to `.noisefold/benchmarks/peers/NAME/cut_at_LIMIT-SEED.parquet`,
which the comparison of NAME reads like any program's.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.peers.data import HOME, predictions_file
from data_contracts.contract.contract import SPLITS
from data_contracts.recipe.reading import load_recipe
from data_contracts.recipe.recipe import Recipe
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.judge import log_proba_of
from lightning_modules.kinds.classify.predictions import write_predictions
from lightning_modules.kinds.judging import judge_of
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
from tasks.artifacts.store import ArtifactStore
from tasks.evaluate import read_rows, score_split
from tasks.ingest import ingest, survey
from tasks.settings import Settings
from tasks.stage import looking
from tasks.tokenize import tokenize
from tasks.validate import validate

RECIPES = Path(__file__).resolve().parent / "recipes"


def run(recipe: Recipe, dataset: str, limit: int, seed: int) -> None:
    """Train on first windows, predict from first windows."""
    store = ArtifactStore(str(HOME / "artifacts"), HOME / "work")
    tokenizer = recipe.tokenizer.model_copy(update={"max_length": limit})
    here = looking(recipe.model_copy(update={"tokenizer": tokenizer}), Settings(home=HOME), store)
    raw = ingest.make(here, survey(recipe.source)).manifest
    corpus = validate.make(here, raw).manifest
    tokens = tokenize.make(here, corpus).manifest
    with tempfile.TemporaryDirectory() as name:
        whole, cut = store.open(tokens), Path(name) / "tokens"
        cut.mkdir()
        shutil.copyfile(whole / "tokenizer.json", cut / "tokenizer.json")
        for split in SPLITS:
            windows = pq.read_table(whole / f"{split}.parquet")
            pq.write_table(windows.filter(pc.equal(windows["window"], 0)), cut / f"{split}.parquet")
        job = TrainingJob(
            tokens=cut,
            facts={"labels": list(tokens.labels)},
            vocab_size=tokens.vocab_size,
            windowing=tokens.windowing,
            task=recipe.task,
            model=recipe.model,
            execution=recipe.execution,
            training=recipe.training.model_copy(update={"seed": seed}),
            work=Path(name) / "work",
            out=Path(name) / "out",
        )
        result = fit(job, lambda event: None)
        bundle = Bundle.load(Path(name) / "out" / "bundle")
        started = time.process_time()
        judge = judge_of(recipe.task, tokens.facts, recipe.statistics)
        test = score_split(judge, bundle, cut / "test.parquet")
        facts = {
            "parameters": result.parameters,
            "cpu_seconds_train": round(result.cpu_seconds, 2),
            "chosen": f"the first {tokens.windowing.max_length} tokens of each text",
        }
    write_predictions(
        predictions_file(dataset, f"cut_at_{limit}", seed),
        test["id"].to_pylist(),
        log_proba_of(test),
        tokens.labels,
        facts,
    )
    rows = read_rows(store.open(corpus), "test", test["id"], ["id", "label"])
    accuracy = judge.evidence(rows, test).point()["accuracy"]
    seconds = time.process_time() - started
    print(
        f"{dataset} cut at {limit}, seed {seed}: accuracy {accuracy:.4f}, predicted in "
        f"{seconds:.0f} CPU s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="a recipe of benchmarks/recipes")
    parser.add_argument("--seeds", default="0,1,2", help="comma separated")
    parser.add_argument("--limit", type=int, help="tokens; the recipe's where not given")
    options = parser.parse_args()
    recipe = load_recipe(RECIPES / f"{options.dataset}.yaml")
    for seed in map(int, options.seeds.split(",")):
        run(recipe, options.dataset, options.limit or recipe.window.max_length, seed)


if __name__ == "__main__":
    main()
