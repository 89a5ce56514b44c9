"""The validated corpus of a data set, as the one file that the peers read.

    .venv/bin/python -m benchmarks.peers.corpus NAME [NAME ...]

Ingest and validation are those of `noisefold retrain benchmarks/recipes/NAME.yaml` in
`.noisefold/benchmarks`: same store, same rows. Columns id, text, label, split; the labels in the
model's order stand in the schema metadata.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.data import HOME, LABELS, corpus_file

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
COLUMNS = ["id", "text", "label", "split"]


def export(name: str) -> dict[str, int]:
    """Ingest and validate one recipe's source, write its rows; returns how many each split has."""
    return export_recipe(RECIPES / f"{name}.yaml", corpus_file(name))


def export_recipe(file: Path, out: Path) -> dict[str, int]:
    """The same of a recipe that lies anywhere."""
    from data_contracts.recipe.reading import load_recipe
    from tasks.artifacts.store import ArtifactStore
    from tasks.ingest import ingest, survey
    from tasks.settings import Settings
    from tasks.stage import looking
    from tasks.validate import validate

    recipe = load_recipe(file)
    store = ArtifactStore(str(HOME / "artifacts"), HOME / "work")
    here = looking(recipe, Settings(home=HOME), store)
    raw = ingest.make(here, survey(recipe.source)).manifest
    corpus = validate.make(here, raw).manifest
    table = pq.read_table(store.open(corpus) / "corpus", columns=COLUMNS)
    write(out, table, corpus.labels)
    return dict(corpus.splits)


def write(path: Path, table: pa.Table, labels: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = table.replace_schema_metadata({LABELS: json.dumps(labels, ensure_ascii=False)})
    pq.write_table(table, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help="a recipe of benchmarks/recipes")
    for name in parser.parse_args().names:
        print(name, export(name), flush=True)


if __name__ == "__main__":
    main()
