"""How often `noisefold monitor` raises an alarm: on rows like the reference, where none is due, and
on rows of which a part comes from elsewhere.

    noisefold retrain benchmarks/recipes/chnsenticorp.yaml
    python -m benchmarks.drift noisefold-chnsenticorp ../shared/data/chnsenticorp/test.csv \\
        ../shared/data/thucnews/test.csv

Rows of the first file are drawn anew each time: a reference, and rows beside it that it does not
hold. Each signal of each row is computed once; what is drawn are rows.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lightning_modules.bundle import Bundle
from tasks.artifacts.store import ArtifactStore
from tasks.drift import compare
from tasks.profiles import Profile, Signals, Vocabulary, load_profile, signals
from tasks.serving.fetched import fetch_to_ask
from tasks.serving.predict import predictor_of
from tasks.settings import Settings
from tasks.tracking.runs import connect
from tasks.tracking.versions import find_version

REFERENCE, NOW, TRIES = 700, 500, 1000
SHARES = (0.05, 0.1, 0.2, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("test", type=Path, help="rows like those that the model was measured on")
    parser.add_argument("other", type=Path, help="rows from elsewhere")
    parser.add_argument("--column", default="text")
    parser.add_argument("--tries", type=int, default=TRIES)
    asked = parser.parse_args()
    settings = Settings()
    client, _ = connect(settings)
    store = ArtifactStore(settings.artifacts_url, settings.work)
    version = str(find_version(client, asked.model, "champion").version)
    model = fetch_to_ask(client, asked.model, version, store.fetched)
    profile = load_profile(model.bundle.parent, asked.model)
    predictor = predictor_of(model.folder, asked.model, version)
    bundle: Bundle = predictor.bundle
    vocabulary = Vocabulary(profile.token_counts, profile.token_total, profile.vocab_size)

    def seen(file: Path) -> Signals:
        texts = pd.read_csv(file)[asked.column].dropna()
        texts = [text for text in texts if text.strip()][:5000]
        return signals(bundle, predictor.task, {predictor.only_input: texts}, vocabulary)

    like, other = seen(asked.test), seen(asked.other)
    print(f"| {asked.test.parent.name}, {like.rows:,} rows | alpha .01 | alpha .05 | no PSI |")
    print("|---|--:|--:|--:|")
    rng = np.random.default_rng(0)
    for share in (0.0, *SHARES):
        told = Counter[str]()
        for reference, now in drawn(like, other, share, asked.tries, rng):
            for name, alpha, psi in (("a", 0.01, 0.1), ("b", 0.05, 0.1), ("c", 0.01, 0.0)):
                told[name] += any(one.drifted for one in compare(reference, now, alpha, psi))
        where = f"{share:.0%} from {asked.other.parent.name}" if share else "none from elsewhere"
        rates = " | ".join(f"{100 * told[name] / asked.tries:.1f} %" for name in "abc")
        print(f"| {where} | {rates} |", flush=True)


def drawn(
    like: Signals, other: Signals, share: float, tries: int, rng: np.random.Generator
) -> Iterator[tuple[Profile, Signals]]:
    """References, and as many times rows beside them, of which `share` are others."""
    foreign = round(share * NOW)
    for _ in range(tries):
        places = rng.permutation(like.rows)
        reference = part(like, places[:REFERENCE])
        own = part(like, places[REFERENCE : REFERENCE + NOW - foreign])
        strange = part(other, rng.choice(other.rows, foreign, replace=False))
        yield profile_like(reference), joined(own, strange)


def part(of: Signals, places: np.ndarray) -> Signals:
    numbers = {name: values[places] for name, values in of.numbers.items()}
    categories = {name: [told[p] for p in places] for name, told in of.categories.items()}
    return Signals(numbers, categories)


def joined(one: Signals, other: Signals) -> Signals:
    numbers = {
        name: np.concatenate([one.numbers[name], other.numbers[name]]) for name in one.numbers
    }
    categories = {name: one.categories[name] + other.categories[name] for name in one.categories}
    return Signals(numbers, categories)


def profile_like(seen: Signals) -> Profile:
    return Profile.of(seen, {}, 0, 1)


if __name__ == "__main__":
    main()
