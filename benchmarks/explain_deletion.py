"""What explanations are worth: how a classifier's answer changes without the tokens that they name.

    taskset -c 0 python -m benchmarks.explain_deletion NAME [NAME ...] [--texts 300] [--results FOLDER]

NAME: recipes of `recipes/` whose champion the state folder has (`noisefold retrain`). Of each, texts
of the test split, evenly spread. Measured as ERASER does (DeYoung 2020,
https://arxiv.org/abs/1911.03429, section 4): comprehensiveness, how far the probability of the
answered label falls without the strongest 1, 5, 10, 20 and 50 % of the tokens (at least one), and
sufficiency, how far it falls when nothing else is left, each the mean over these shares (AOPC). So
the first is to be high and the second low. Three orders of the tokens: integrated gradients of the
log-odds, the gradient times the input at the text itself, and at random (the mean of five). The
texts themselves are changed, and asked as any other.

Intervals: 95 %, bootstrap over the texts (2,000 resamples, seed 0), of differences paired. CPU time
is of one explanation, with its check by deletion and without, on one thread.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.peers.data import HOME
from data_contracts.errors import NoisefoldError
from data_contracts.tables.take import evenly
from lightning_modules.bundle import Bundle
from lightning_modules.explaining.asked import Asked, asked_of
from lightning_modules.explaining.explain import by_token, explain, token_contributions
from lightning_modules.explaining.gradients import gradient_times_input
from lightning_modules.explaining.pieces import Piece, pieces_of, without
from tasks.measure import one_thread
from tasks.serving.explained import load_explainer
from tasks.settings import Settings
from tasks.tracking.runs import connect

HERE = Path(__file__).resolve().parent
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
DRAWS, RESAMPLES = 5, 2000
_TITLES = {
    "integrated": "integrated gradients",
    "gradient": "gradient × input",
    "random": "at random",
}


def measure(bundle: Bundle, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """(texts, 2) comprehensiveness and sufficiency of each order; `steps`, and `ms` (texts, 2)."""
    found: dict[str, list[object]] = {name: [] for name in (*_TITLES, "steps", "ms")}
    generator = np.random.default_rng(0)
    for text in texts:
        started = time.process_time()
        try:
            asked = asked_of(bundle, {"text": text}, None)
        except NoisefoldError:  # no token
            continue
        contributions, how = token_contributions(asked)
        alone = time.process_time() - started
        started = time.process_time()
        explain(bundle, {"text": text})
        checked = time.process_time() - started
        pieces = pieces_of(asked.texts, asked.tokens)
        shape = (asked.positions_WT.shape[0], asked.positions_WT.shape[1])
        at_text = by_token(asked, gradient_times_input(asked.scores, asked.lookups, shape))
        for name, values in (("integrated", contributions), ("gradient", at_text)):
            of_pieces = np.array([values[list(piece.tokens)].sum() for piece in pieces])
            found[name].append(changes(asked, pieces, np.argsort(-of_pieces, kind="stable")))
        draws = [changes(asked, pieces, generator.permutation(len(pieces))) for _ in range(DRAWS)]
        found["random"].append(np.mean(draws, axis=0))
        found["steps"].append(how.steps)
        found["ms"].append((1000 * alone, 1000 * checked))
    return {name: np.array(values, float) for name, values in found.items()}


def changes(asked: Asked, pieces: Sequence[Piece], order: np.ndarray) -> tuple[float, float]:
    """Comprehensiveness and sufficiency of one order of a text's pieces."""
    counts = [max(1, math.ceil(share * len(pieces))) for share in SHARES]
    texts = [asked.texts]
    texts += [without(asked.texts, pieces, order[:count].tolist()) for count in counts]
    texts += [without(asked.texts, pieces, order[count:].tolist()) for count in counts]
    proba = 1 / (1 + np.exp(-asked.again(texts)))
    fall = proba[0] - proba[1:]
    return float(fall[: len(counts)].mean()), float(fall[len(counts) :].mean())


def interval(values: np.ndarray) -> str:
    """The mean with its bootstrap interval."""
    generator = np.random.default_rng(0)
    rows = generator.integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[rows].mean(axis=1), [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def table(name: str, found: Mapping[str, np.ndarray]) -> list[str]:
    count = len(found["steps"])
    better = float(np.mean(found["integrated"][:, 0] > found["random"][:, 0]))
    milliseconds = np.median(found["ms"], axis=0)
    most = int(found["steps"].max())
    lines = [
        f"## {name}",
        "",
        f"{count} texts. Better than at random by comprehensiveness: {better:.0%} of the texts. "
        f"CPU time of an explanation, median: {milliseconds[0]:.0f} ms, with its check by deletion "
        f"{milliseconds[1]:.0f} ms. Steps: median {np.median(found['steps']):.0f}, at most {most}.",
        "",
        "| order | comprehensiveness | sufficiency |",
        "|---|--:|--:|",
    ]
    for key, title in _TITLES.items():
        lines.append(f"| {title} | {interval(found[key][:, 0])} | {interval(found[key][:, 1])} |")
    for other in ("gradient", "random"):
        difference = found["integrated"] - found[other]
        lines.append(
            f"| integrated gradients less {_TITLES[other]} | {interval(difference[:, 0])} | "
            f"{interval(difference[:, 1])} |"
        )
    return [*lines, ""]


def of_recipe(name: str, settings: Settings, count: int) -> dict[str, np.ndarray]:
    """The champion of a recipe, on texts of its own evaluation."""
    model = f"noisefold-{name}"
    client, _ = connect(settings)
    with load_explainer(settings, model, "champion") as explainer:
        run = client.get_model_version(model, explainer.version).run_id
        rows = client.download_artifacts(run, "evaluation/predictions.parquet")
        texts = pq.read_table(rows, columns=["text"])["text"]
        chosen = texts.take(evenly(len(texts), count)).to_pylist()
        return measure(explainer.bundle, chosen)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    settings = Settings(home=Path(os.environ.get("NOISEFOLD_HOME", HOME)))
    lines = [
        "# What explanations are worth",
        "",
        f"`python -m benchmarks.explain_deletion {' '.join(options.names)} --texts "
        f"{options.texts}`, champions of these recipes of `recipes/`. Comprehensiveness: how far the "
        "probability falls without the strongest tokens (high is good); sufficiency: how far it "
        "falls with them alone (low is good); both as AOPC over 1, 5, 10, 20 and 50 % of the tokens.",
        "",
    ]
    with one_thread():
        for name in options.names:
            lines += table(name, of_recipe(name, settings, options.texts))
    text = "\n".join(lines)
    (options.results / "explain.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
