"""prefect.yaml: what is deployed is pinned, its recipes are valid, and Prefect takes them all."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from data_contracts.errors import RecipeError
from data_contracts.recipe.explain import ExplainRecipe
from data_contracts.recipe.monitor import MonitorRecipe
from data_contracts.recipe.other_flows import parse_section
from data_contracts.recipe.queue import QueueRecipe
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.score import ScoreRecipe
from data_contracts.recipe.source import FileSource, RollingWindow
from flows.cli.main import find_recipe
from flows.cli.tune import find_search
from tests.pipeline.conftest import (
    REPOSITORY,
    mlflow_client,
    prefect,
    result_of,
    retrain_process,
)

DEPLOYMENTS = {
    d["name"]: d for d in yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
}


def test_deployments_cannot_change_by_accident():
    pinned = {
        name: (
            d["entrypoint"],
            [(s["cron"], s["active"]) for s in d["schedules"]],
            d["concurrency_limit"]["limit"],
        )
        for name, d in DEPLOYMENTS.items()
    }
    assert pinned == {
        "sample": ("flows/retrain.py:retrain", [("0 3 * * *", True)], 1),
        "textbook": ("flows/retrain.py:retrain", [], 1),
        "stories": ("flows/retrain.py:retrain", [], 1),
        "phrases": ("flows/retrain.py:retrain", [], 1),
        "helpdesk": ("flows/retrain.py:retrain", [], 1),
        "passages": ("flows/retrain.py:retrain", [], 1),
        "sample-scores": ("flows/score.py:score", [("0 5 * * *", False)], 1),
        "sample-queue": ("flows/queue_rows.py:queue", [("0 6 * * 1", False)], 1),
        "sample-explanations": ("flows/explain.py:explain", [], 1),
        "sample-monitor": ("flows/monitor.py:monitor", [("0 6 * * *", False)], 1),
        "search": ("flows/tune.py:tune", [], 1),
        "weekly": ("flows/retrain.py:retrain", [("0 4 * * 1", False)], 1),
    }


RECIPES = [name for name, one in DEPLOYMENTS.items() if "recipe" in one["parameters"]]


@pytest.mark.parametrize("name", RECIPES)
def test_every_deployed_recipe_is_valid(name):
    described = DEPLOYMENTS[name]["parameters"]["recipe"]
    flow = DEPLOYMENTS[name]["entrypoint"].rpartition(":")[2]
    kind = {
        "score": ScoreRecipe,
        "queue": QueueRecipe,
        "explain": ExplainRecipe,
        "monitor": MonitorRecipe,
    }.get(flow)
    recipe = (
        parse_recipe(described, origin=name)
        if kind is None
        else parse_section(kind, described, name, REPOSITORY)
    )
    assert recipe.name == name


def test_the_deployed_search_is_valid_and_is_no_recipe():
    assert find_search("search", (), {"trials": 3}).trials == 3
    with pytest.raises(RecipeError, match="search is one of the flow tune"):
        find_recipe("search", ())


def test_weekly_reads_a_folder_of_dated_files_by_its_window():
    source = parse_recipe(DEPLOYMENTS["weekly"]["parameters"]["recipe"], origin="weekly").source
    assert isinstance(source, FileSource)
    assert source.window == RollingWindow(days=28)


def test_the_textbooks_softmax_is_its_sigmoid_head():
    """p(positive) = sigmoid(z_1 - z_0), and cross-entropy is the sigmoid's binary one: the same
    model.
    """
    import torch
    from torch.nn import functional as F

    from lightning_modules.network.network import build_network
    from lightning_modules.training.begin import body_description

    recipe = parse_recipe(DEPLOYMENTS["textbook"]["parameters"]["recipe"], origin="textbook")
    torch.manual_seed(0)
    body = body_description(recipe.model, 1000, 50)
    network = build_network({**body, "num_classes": len(recipe.contract.labels.values)})
    labels, ids = torch.tensor([0, 1, 1]), torch.randint(0, 1000, (3, 50))
    logits = network(ids, torch.tensor([50, 3, 17]))
    z = logits[:, 1] - logits[:, 0]
    torch.testing.assert_close(logits.softmax(dim=1)[:, 1], z.sigmoid())
    softmax, sigmoid = (
        F.cross_entropy(logits, labels),
        F.binary_cross_entropy_with_logits(z, labels.float()),
    )
    torch.testing.assert_close(softmax, sigmoid)
    weights = list(network.parameters())
    for one, other in zip(
        torch.autograd.grad(softmax, weights, retain_graph=True),
        torch.autograd.grad(sigmoid, weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_the_textbook_reaches_ninety_per_cent(prefect_api, tmp_path):
    """Within its 10 epochs; 3 are enough. Labels are noisy, so the best possible is .95."""
    home = tmp_path / "home"
    result = result_of(
        retrain_process(prefect_api, home, Path("textbook"), "--set", "training.max_epochs=3")
    )
    metrics = mlflow_client(home).get_run(result["run_id"]).data.metrics
    assert metrics["val/accuracy"] >= 0.90
    assert metrics["test/accuracy"] >= 0.90


def test_prefect_deploys_them_all_with_their_schedules(prefect_api, tmp_path):
    home = tmp_path / "home"
    prefect(
        prefect_api, home, "work-pool", "create", "noisefold", "--type", "process", "--overwrite"
    )
    prefect(prefect_api, home, "deploy", "--all")
    with SyncPrefectClient(prefect_api.url) as client:
        deployed = {one.name: one for one in client.read_deployments()}
    assert set(DEPLOYMENTS) <= set(deployed)
    assert deployed["sample"].schedules[0].schedule.cron == "0 3 * * *"


@pytest.mark.parametrize(
    "sections",
    [
        {"contract": {"name": "mails", "columns": {"id": "id"}}},
        {"contract": "sample", "tokenizer": {"vocab_size": 500}},
        {"contract": "sample", "model": {"encoder": {"hidden_size": 8}}},
        {"contract": "stories", "task": {"kind": "generate"}, "tokenizer": {"vocab_size": 500}},
    ],
)
def test_a_server_takes_a_section_that_names_no_kind_as_the_command_does(sections):
    """It fits several, and is of the usual one: what `noisefold retrain` reads, `prefect deploy`
    takes.
    """
    from prefect.utilities.callables import parameter_schema
    from prefect.utilities.schema_tools.validation import validate

    from flows.retrain import retrain

    recipe = {"name": "mails", "source": {"url": "mails.csv"}, **sections}
    parse_recipe(recipe, origin="here")
    schema = parameter_schema(retrain).model_dump_for_openapi()
    assert validate({"recipe": recipe}, schema, ignore_required=True) == []
    wrong = {**recipe, "tokenizer": {"vocab": 500}}
    assert validate({"recipe": wrong}, schema, ignore_required=True) != []
