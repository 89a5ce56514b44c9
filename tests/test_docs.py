"""What the documentation tells a reader to write, is valid; commands are in `tests/docs/`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from data_contracts.contract.contract import parse_contract
from data_contracts.recipe.comparison import Comparison
from data_contracts.recipe.explain import ExplainRecipe
from data_contracts.recipe.monitor import MonitorRecipe
from data_contracts.recipe.other_flows import parse_section
from data_contracts.recipe.queue import QueueRecipe
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.recipe import Recipe
from data_contracts.recipe.score import ScoreRecipe
from data_contracts.recipe.search_file import parse_search
from lightning_modules.reparameterizations import METHODS

REPOSITORY = Path(__file__).resolve().parent.parent
METHOD = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8")
RELIABILITY = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
EXAMPLES = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_the_method_works_without_the_pipeline() -> None:
    """The example of docs/method.md on a small network, which it leaves as plain layers of the
    mean's outputs.
    """
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), torch.randn(16, 4)
    batches = [(x, (x[:, 0] > 0).long())] * 5
    names: dict[str, Any] = {"model": model, "batches": batches, "beta": 0.01, "examples": 16}
    (code,) = re.findall(r"```python\n(.*?)```", METHOD, re.S)
    exec(compile(code, "docs/method.md", "exec"), names)
    assert len(names["logits"]) == 16
    assert {type(layer) for layer in names["plain"]} == {nn.Linear, nn.Tanh}
    names["set_mode"](names["model"], "mean")
    assert torch.equal(names["plain"](x), names["model"](x))


def test_every_method_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)`", METHOD, re.M)
    assert sorted(rows) == sorted(METHODS)


def test_every_test_that_vouches_for_a_promise_is_there() -> None:
    """`path::name` in docs/reliability.md; `…::name` is of the path before it."""
    file, missing, seen = "", [], 0
    for path, name in re.findall(r"`(…|tests/[\w/.]+)(?:::(\w+))?`", RELIABILITY):
        file, seen = file if path == "…" else path, seen + 1
        there = (REPOSITORY / file).is_file() and (
            not name or f"def {name}(" in (REPOSITORY / file).read_text("utf-8")
        )
        missing += [] if there else [f"{file}::{name}"]
    assert seen > 10 and missing == []


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", EXAMPLES, re.S))
def test_the_examples_of_the_readme_are_valid(block: str) -> None:
    content = yaml.safe_load(block)
    if "columns" in content:
        parse_contract({"name": "mails", **content}, origin="README")
    elif "output" in content and "rows" in content:
        parse_section(QueueRecipe, content, "README", REPOSITORY)
    elif "output" in content and "target" in content:
        parse_section(ExplainRecipe, content, "README", REPOSITORY)
    elif "output" in content:
        parse_section(ScoreRecipe, content, "README", REPOSITORY)
    elif "model" in content and isinstance(content["model"], str):
        parse_section(MonitorRecipe, content, "README", REPOSITORY)
    elif "space" in content:
        shared = {"name": "mails", "source": {"kind": "sample"}}
        parse_search({**content, "recipe": shared}, "README", Path(), {}, lambda *_: Recipe())
    elif "variants" in content:
        Comparison.model_validate(
            {
                **content,
                "recipe": parse_recipe(
                    {"name": "mails", "source": {"kind": "sample"}}, origin="README"
                ),
            }
        )
    else:
        kind = content.get("task", {}).get("kind", "classify")
        contract = {
            "classify": "sample",
            "generate": "stories",
            "translate": "phrases",
            "span": "passages",
            "retrieve": "helpdesk",
        }[kind]
        shown = {"source": {"kind": "sample"}, **content}  # a page may show one section alone
        parse_recipe({**shown, "contract": contract}, origin="README")
