"""What people see of a search in both UIs: its MLflow run as it opens; tables, page and winner as
it ends.
"""

from __future__ import annotations

import json
import time

import yaml
from prefect import task
from prefect.artifacts import create_markdown_artifact

from data_contracts.recipe.search import Search
from data_contracts.recipe.searched import Searched
from tasks.reports import blocks
from tasks.reports.readable import markdown
from tasks.reports.story import Links
from tasks.retries import STAGE
from tasks.searching.table import (
    as_json,
    as_markdown,
    as_page,
    finalists_table,
    sentences,
    trials_table,
)
from tasks.searching.winner import winner_recipe
from tasks.settings import Settings
from tasks.tracking.runs import Tracker, log_params, open_run

PAGE = "report.html"
# Params of the run; what may be another one when the search goes on is none.
_PARAMS = ("recipe", "metric", "sampler", "pruner", "startup", "seed", "space", "candidates")


def log_search(tracker: Tracker, found: Searched) -> None:
    tracker.log_text(as_markdown(found), "search.md")
    tracker.log_text(as_json(found), "search.json")
    tracker.log_text(as_page(found), PAGE)
    for table in (trials_table(found), finalists_table(found)):
        if table is not None:
            tracker.log_table(*blocks.flat(table), f"{table.name}.json")


@task(name="publish", **STAGE)
def publish(tracker: Tracker, found: Searched, search: Search, links: Links) -> None:
    log_search(tracker, found)
    if found.winner is not None:
        won = found.trial(found.winner)
        recipe = search.recipe_of(won.overrides, search.seeds[0])
        written = yaml.safe_dump(winner_recipe(recipe), allow_unicode=True, sort_keys=False)
        tracker.log_text(written, "winner.yaml")
    if not tracker.closed:
        first, *rest = (markdown(line, 2000) for line in sentences(found))
        told = [f"**{first}**", links.as_markdown(), *rest, as_markdown(found)]
        tracker.describe("\n\n".join(told))
        tracker.log_metrics({"tune/cpu_seconds": found.cpu_seconds})
    create_markdown_artifact(as_markdown(found), key="search", description=f"Search {found.name}")


@task(name="open-search", **STAGE)
def open_search(
    settings: Settings, search: Search, run_key: str, lineage: dict[str, str]
) -> Tracker:
    name = f"{search.name} {time.strftime('%Y-%m-%d %H:%M')}"
    tags = {"mlflow.source.name": "flows/tune.py", "noisefold.search": search.name}
    tracker = open_run(settings, f"noisefold-tune-{search.name}", run_key, name, tags, lineage)
    with tracker.once("recipe", run_key) as fresh:
        if fresh:
            shared = search.model_dump(mode="json", exclude={"recipe": {"execution"}})
            told = {name: shared[name] for name in _PARAMS}
            # Named by what MLflow may allow in no param's name.
            named = {
                name: json.dumps(told[name], ensure_ascii=False) for name in ("space", "candidates")
            }
            log_params(tracker, {**told, **named})
    return tracker
