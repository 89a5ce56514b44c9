"""Tune one peer on a data set's validation split and write its test predictions.

    .venv-peers/bin/python -m benchmarks.peers NAME --dataset trec --seeds 0,1,2

One CPU thread. `cpu_seconds_train` is the chosen configuration's own training, start to end; what
the search took stands beside it. `texts_per_second` is measured on the test texts, tokenization
included, in CPU time.
"""

from __future__ import annotations

import os

for variable in (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
):
    os.environ[variable] = (
        "false" if variable.startswith("TOK") else "1"
    )  # before numpy and torch read them

import argparse  # noqa: E402
import time  # noqa: E402
from importlib import import_module, metadata  # noqa: E402

from benchmarks.peers.data import (  # noqa: E402
    Facts,
    Fitted,
    Search,
    merit,
    predictions_file,
    read_corpus,
    write_predictions,
)

# peer: (module, function, distributions whose versions are worth noting)
PEERS = {
    "tfidf": ("tfidf", "fit", ("scikit-learn",)),
    "tfidf_both": ("tfidf", "fit_both", ("scikit-learn",)),
    "fasttext": ("fast_text", "fit", ("fasttext-numpy2-wheel",)),
    "hf_trainer": ("minilm", "fit_trainer", ("transformers", "torch")),
    "peft_lora": ("minilm", "fit_lora", ("peft", "transformers", "torch")),
    "bayesian_torch": ("bayesian", "fit_bayesian_torch", ("bayesian-torch", "torch")),
    "blitz": ("bayesian", "fit_blitz", ("blitz-bayesian-pytorch", "torch")),
    "torch_uncertainty": ("bayesian", "fit_torch_uncertainty", ("torch-uncertainty", "torch")),
}


def run(peer: str, dataset: str, seed: int) -> str:
    corpus = read_corpus(dataset)
    module, function, distributions = PEERS[peer]
    started = time.process_time()
    fitted: Fitted = getattr(import_module(f"benchmarks.peers.{module}"), function)(corpus, seed)
    trained = time.process_time()
    log_proba = fitted.log_proba(corpus.test.texts)
    facts = Facts(
        parameters=fitted.parameters,
        bytes=fitted.bytes,
        cpu_seconds_train=round(fitted.cpu_seconds_train, 2),
        texts_per_second=round(len(log_proba) / (time.process_time() - trained), 1),
        chosen=fitted.chosen,
    )
    search = Search(
        round(trained - started, 2), {name: metadata.version(name) for name in distributions}
    )
    path = predictions_file(dataset, peer, seed)
    write_predictions(path, corpus.test.ids, log_proba, corpus.labels, facts, search)
    accuracy, mean = merit(corpus.test.y, log_proba)
    return f"{dataset} {peer} seed {seed}: accuracy {100 * accuracy:.1f}, NLL {-mean:.3f}; {facts} {search}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument(
        "--dataset", required=True, help="a recipe of benchmarks/recipes, or several with commas"
    )
    parser.add_argument("--seeds", default="0")
    options = parser.parse_args()
    for dataset in options.dataset.split(","):
        for seed in map(int, options.seeds.split(",")):
            print(run(options.peer, dataset, seed), flush=True)


if __name__ == "__main__":
    main()
