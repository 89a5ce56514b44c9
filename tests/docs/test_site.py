"""The documentation as a site: it builds without a warning, has everything there is, asks the network
for nothing, and its examples run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.main import main
from tests.docs.pages import REPOSITORY, blocks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PACKAGES = ("flows", "tasks", "lightning_modules", "data_contracts", "noisefold.py")
# What makes a browser fetch something; a link to follow is none of these.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\ssrc\s*=\s*["']?([^"'\s>]+)"""
    r"""|<link\b(?![^>]*rel=["']?(?:canonical|prev|next|edit))[^>]*?\shref\s*=\s*["']?([^"'\s>]+)"""
    r"""|url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)"""
)
OUTSIDE = re.compile(r"^(https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


def shown(site: Path, page: str) -> str:
    """The words of a page."""
    text = re.sub(r"<(script|style)\b.*?</\1>", "", (site / page).read_text("utf-8"), flags=re.S)
    return re.sub(r"<[^>]+>", "", text).replace("&lt;", "<").replace("&gt;", ">")


def test_nothing_in_the_site_comes_from_elsewhere(site) -> None:
    found = set()
    for file in [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]:
        for groups in FETCHED.findall(file.read_text("utf-8")):
            address = "".join(groups)
            if OUTSIDE.match(address):
                found.add((file.relative_to(site).as_posix(), address))
    assert found == set()
    # The theme's script knows one address: of Mermaid, where a page has a diagram to draw.
    assert not any('class="mermaid"' in file.read_text("utf-8") for file in site.rglob("*.html"))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_asks_the_network_for_nothing_and_search_works(site) -> None:
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for name in ("method.html", "reference/recipe.html", "index.html"):
            page.goto((site / name).as_uri())
        page.locator("[data-md-component=search-query]").fill("quarantine")
        page.locator(".md-search-result__link").first.wait_for(timeout=60_000)
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert any(url.endswith("method.html") for url in asked)


def test_every_command_and_option_has_its_place(site) -> None:
    for name in main.commands:
        assert f"noisefold {name}" in shown(site, f"reference/commands/{name}.html")
        assert f"noisefold {name}" in shown(site, "reference/commands.html")
    predict = shown(site, "reference/commands/predict.html")
    assert "--column" in predict and "probability_<label>" in predict and "UNSET" not in predict
    assert "--temperature" in shown(site, "reference/commands/write.html")
    assert "--label" in shown(site, "reference/commands/contract.html")


def test_every_field_and_kind_of_a_recipe_has_its_row(site) -> None:
    """Found in the schema by another way than the tables': every property of every section."""
    # In a process of its own: other tests define kinds here that no page is to have.
    code = (
        "import json; from data_contracts.recipe.recipe import Recipe; "
        "print(json.dumps(Recipe.model_json_schema()))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    words = shown(site, "reference/recipe.html") + shown(site, "reference/contract.html")
    fields: set[str] = set()

    def look(node: object) -> None:
        if isinstance(node, dict):
            fields.update(node.get("properties") or {})
            kind = ((node.get("properties") or {}).get("kind") or {}).get("const")
            fields.update([kind] if kind else [])
        for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():  # fmt: skip
            look(one)

    look(json.loads(told.stdout))
    assert len(fields) > 100
    assert [name for name in sorted(fields) if not re.search(rf"\b{name}\b", words)] == []


def test_every_variable_that_is_read_stands_in_the_table(site) -> None:
    words = shown(site, "reference/environment.html")
    read = re.compile(
        r"""environ(?:\.get|\.setdefault|\.pop)?[(\[]\s*["']([A-Z][A-Z0-9_]+)["']"""
        r"""|["']([A-Z][A-Z0-9_]+)["'] in os\.environ"""
        r"""|["'$]\{?((?:NOISEFOLD|MLFLOW|PREFECT|HF|OMP|GX|TRANSFORMERS)_[A-Z0-9_]+)\b"""
    )
    files = [
        file
        for package in PACKAGES
        for file in ([REPOSITORY / package] if package.endswith(".py") else (REPOSITORY / package).rglob("*.py"))
    ]  # fmt: skip
    files += [REPOSITORY / name for name in ("prefect.yaml", "prefect-automations.yaml")]
    found = {"".join(groups) for file in files for groups in read.findall(file.read_text("utf-8"))}
    assert {"NOISEFOLD_ROOT", "PREFECT_API_URL", "TZ", "HF_HUB_OFFLINE"} <= found
    # Of completion by click: no variable of ours.
    assert sorted(name for name in found if name not in words) == []


def test_the_examples_of_the_python_page_run() -> None:
    page = REPOSITORY / "docs" / "reference" / "python.md"
    examples = [text for _, text in blocks(page, "python") if "Bundle.load" not in text]
    names: dict = {}
    for code in examples:
        exec(compile(code, str(page), "exec"), names)
    assert names["accuracy"] > 0.9 and names["spread"].max() > 0
    assert names["recipe"].training.max_epochs == 3


def test_every_public_name_stands_on_the_python_page(site) -> None:
    import noisefold

    words = shown(site, "reference/python.html")
    assert [name for name in noisefold.__all__ if name not in words] == []


def test_formulas_are_read_whole_and_an_unknown_one_is_named(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs" / "hooks"))
    import mathml

    half = mathml.mathml(r"\tfrac12 + x_i^2", display=False)
    assert "<mfrac><mn>1</mn><mn>2</mn></mfrac>" in half and "<msubsup><mi>x</mi>" in half
    assert mathml.with_formulas("`$x$` costs $5 and $x$").startswith(
        "`$x$` costs $5 and <span><math>"
    )
    with pytest.raises(mathml.UnknownMath, match="oint"):
        mathml.mathml(r"\oint x", display=True)
