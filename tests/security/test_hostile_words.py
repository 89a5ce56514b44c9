"""Labels, texts, columns, file names and reasons from outside, followed to every page, table and
terminal.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from data_contracts.artifacts import EvaluationReport
from data_contracts.contract.contract import DataContract, parse_contract
from data_contracts.errors import ContractViolation, RecipeError
from data_contracts.recipe.reading import parse_recipe
from data_contracts.recipe.source import FileSource
from data_contracts.recipe.tokenizer import WindowConfig, WordTokenizer
from data_contracts.results import PromotionDecision
from tasks.artifacts.store import ArtifactStore
from tasks.reports.run_page import run_page
from tasks.reports.story import Fault, Links, Story
from tasks.stage import looking
from tests.stages import fingerprint, ingest_source, promote_model, validate_corpus

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    pass

pytest_plugins = ["tests.tasks.mlflow_fixtures"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
SCRIPT = '<img src="x" onerror="window.owned=1"><script>window.owned=1</script>'
LABELS = (
    SCRIPT,
    '=HYPERLINK("http://x.example/"&A1,"a")|`b`|\n# Heading',
    "[a](javascript:alert(1)) \x1b]0;owned\x07\x1b[2J ![i](http://x.example/i.png)",
)
ENDING = " [x](javascript:alert(2)) <iframe src=//x.example> \x1b[31m \u202e"
COLUMN = "=cmd|' /C calc'!A0<b>"
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
HARMLESS = {
    *(
        "text",
        "text_special",
        "softbreak",
        "hardbreak",
        "code_inline",
        "strong_open",
        "strong_close",
        "image",
    ),
    *("link_open", "link_close"),
}


def rows(count: int = 360) -> pa.Table:
    """Learnable, so that there are models to compare; every cell that a person writes is hostile."""
    words = ("good lovely", "bad broken", "parcel box")
    kinds = [number % 3 for number in range(count)]
    return pa.table(
        {
            "id": [f"=row-{number}<b>|{number}" for number in range(count)],
            "text": [f"{words[kind]} item {number}{ENDING}" for number, kind in enumerate(kinds)],
            "label": [LABELS[(kind + (number % 9 == 0)) % 3] for number, kind in enumerate(kinds)],
            "split": [
                "train" if n < count // 2 else ("valid" if n % 4 == 0 else "test")
                for n in range(count)
            ],
            COLUMN: [("@en", SCRIPT)[number % 2] for number in range(count)],
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, mlflow_settings) -> tuple[Any, Path]:
    """Evaluated, registered, not promoted for every reason there is; what that wrote, gathered in a
    folder.
    """
    from tasks import promote
    from tasks.serving.check import Served
    from tasks.tracking.runs import open_tracker
    from tests.stages import tokenize_corpus
    from tests.tasks.mlflow_fixtures import World, make_corpus, make_recipe

    folder = tmp_path_factory.mktemp("hostile")
    store = ArtifactStore(mlflow_settings.artifacts_url, mlflow_settings.work)
    corpus = make_corpus(store, rows(), "hostile")
    config = WordTokenizer(vocab_size=200, min_frequency=1)
    window = WindowConfig(max_length=16, overlap=4)
    tokens = tokenize_corpus(corpus, config, store, window).manifest
    recipe = make_recipe(
        "hostile",
        contract={"name": "hostile", "description": ENDING, "columns": {"slices": [COLUMN]}},
        promotion={
            "bounds": {"f1/*": {"min": 0.999}, "nll": {"max": 0.001}},
            "slices": {"by": ["label", "length", COLUMN], "min": 0.999, "min_rows": 1},
        },
        statistics={"samples": 100},
    )  # fmt: skip
    world = World(
        store,
        mlflow_settings,
        corpus,
        tokens,
        recipe,
        open_tracker(mlflow_settings, recipe, "f", {}),
    )
    model = world.model()
    report = world.evaluate(model)
    registered = world.register(model, report, git_commit=ENDING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promote, "check_served", lambda *_: Served(200, 1.5, 0.5))
        decision = promote_model(
            registered, model, report, tokens, corpus, recipe=recipe, store=store, tracker=world.tracker,
            ledger=folder / "ledger.jsonl",
        )  # fmt: skip
    assert decision.outcome == "not_promoted" and len(decision.reasons) >= 6
    shutil.copytree(store.open(report), folder / "evaluation")
    (folder / "manifest.json").write_text(report.model_dump_json(), encoding="utf-8")
    (folder / "promotion.md").write_text(promote.decision_page(decision), encoding="utf-8")
    version = world.tracker.client.get_model_version(registered.name, registered.version)
    (folder / "card.md").write_text(version.description, encoding="utf-8")
    return (world, decision), folder


def inline(text: str) -> Iterator[Any]:
    for token in MARKDOWN.parse(text):
        assert token.type != "html_block", token.content
        yield from token.children or []


def test_no_page_of_markdown_means_more_than_it_says(made) -> None:
    """Model card and promotion, which both UIs render."""
    pages = sorted(made[1].rglob("*.md"))
    assert {page.name for page in pages} >= {"card.md", "promotion.md"}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "owned" in text, f"{page.name} does not show the labels at all"
        assert all(c.isprintable() or c == "\n" for c in text), page.name
        for token in inline(text):
            assert token.type in HARMLESS, (page.name, token.type, token.content)
            where = token.attrGet("href") or token.attrGet("src") or ""
            assert not where, where
        headings = [token for token in MARKDOWN.parse(text) if token.type == "heading_open"]
        assert len(headings) == sum(line.startswith("#") for line in text.splitlines()), (
            "a label made a heading"
        )


def test_no_table_holds_a_formula(made) -> None:
    tables = sorted(made[1].rglob("*.csv"))
    assert {table.name for table in tables} >= {
        "per_class.csv",
        "confusion_matrix.csv",
        "errors.csv",
    }
    seen = 0
    for table in tables:
        for row in csv.reader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline="")):
            for cell in row:
                seen += "HYPERLINK" in cell
                number = cell.replace(".", "", 1).replace("e-", "", 1).removeprefix("-").isdigit()
                assert number or not cell.lstrip().startswith(("=", "+", "-", "@", "\x1b", "\0")), (
                    table.name,
                    cell,
                )
    assert seen


def retrained(decision: PromotionDecision) -> Any:
    from flows.running.summary import Retrained
    from tasks.reports.story import StageRecord

    return Retrained(
        recipe="hostile", stages=(StageRecord(name="ingest", state="ran", rows_in=1, rows_out=1, seconds=1.0),),
        metrics={}, confidence=0.95, model_uri="models:/x/1", parameters=1, decision=decision, experiment_id="1",
        run_id="2", tracking_uri="sqlite:///x", flow_run_id="3", seconds=1.0, artifacts={}, due="2026-11-28 03:00",
    )  # fmt: skip


def test_the_summaries_that_prefect_shows_mean_no_more_than_they_say(made) -> None:
    from data_contracts.recipe.compared import CellResult, Compared, Facts, Row
    from tasks.comparing.table import as_markdown as table_of
    from tasks.reports.summary import description, summary

    _, decision = made[0]
    story = Story(
        subject=ENDING, due=SCRIPT, days=(LABELS[2],), warnings=(LABELS[1],),
        links=Links(mlflow="http://127.0.0.1:5000/run"), decision=decision,
    )  # fmt: skip
    failed = replace(story, decision=None, fault=Fault("train", LABELS[2], SCRIPT), again="Again.")
    told = [write(one) for one in (story, failed) for write in (summary, description)]
    facts = Facts(chosen=LABELS[1])
    names = [
        label[:40].replace("|", "").replace("`", "").replace("\n", "").strip()
        for label in LABELS[:2]
    ]
    rows = [
        Row(variant=n, finished=0, failed=1, planned=1, figures={}, differences={}, facts=facts)
        for n in names
    ]
    cells = tuple(CellResult(variant=n, seed=0, state="failed", cause=LABELS[2]) for n in names)
    table = table_of(
        Compared(
            name="x", command=f"noisefold compare {SCRIPT}`", corpus=None, test_rows=0, baseline=names[0],
            confidence=0.95, bootstrap_samples=100, settings={"ece_bins": 15}, rows=tuple(rows), cells=cells,
        )
    )  # fmt: skip
    for text in (*told, table):
        assert all(c.isprintable() or c == "\n" for c in text)
        for token in inline(text):
            assert token.type in HARMLESS - {"image"}, (token.type, token.content)
            assert (
                token.attrGet("href") or "http://127.0.0.1:5000/run"
            ) == "http://127.0.0.1:5000/run"
        assert "owned" in text


def test_the_terminal_shows_reasons_without_control_characters(made, monkeypatch, capsys) -> None:
    from rich.console import Console

    from flows.cli.terminal import history_in_terminal, print_summary, release_in_terminal

    (world, decision), _ = made
    result = retrained(decision)
    stream = io.StringIO()
    print_summary(
        Console(file=stream, width=200, highlight=False, color_system=None),
        result,
        world.settings,
        1.0,
    )
    assert "owned" in stream.getvalue()
    monkeypatch.setenv("NOISEFOLD_HOME", str(world.settings.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    release_in_terminal(
        "promote", decision.name, f"why? {LABELS[2]} [bold]{SCRIPT}", unchecked=True, version="1"
    )
    history_in_terminal(decision.name, 20, False)
    history_in_terminal(decision.name, 20, True)
    told = stream.getvalue() + capsys.readouterr().out
    assert r"\x1b]0;owned\x07" in told and "[bold]" in told, "shown as text"
    assert not [c for c in told if not c.isprintable() and c != "\n"]


# --- the validation report, in a browser ----------------------------------------------------------


@pytest.fixture(scope="module")
def reports(made: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The page of a run, of its evaluation, of a corpus that keeps its contract and of one that breaks it, in which every name and
    cell is hostile.
    """
    folder = tmp_path_factory.mktemp("report")
    store = ArtifactStore(str(folder / "artifacts"), folder / "work")
    source = folder / "<img src=x onerror=owned()>"
    source.mkdir()
    table = rows(120)
    with (source / f"'{COLUMN.replace('/', '')}.csv").open(
        "w", encoding="utf-8", newline=""
    ) as stream:
        writer = csv.writer(stream)
        writer.writerow(table.column_names)
        writer.writerows(zip(*table.to_pydict().values(), strict=True))
    pages = []
    for labels, limits in (
        (LABELS, {}),
        ((*LABELS[:2], "another"), {"allow_control_characters": False}),
    ):
        contract = hostile_contract(labels, limits)
        files = FileSource(url=str(source))
        raw = ingest_source(files, contract, fingerprint(files), store, batch_rows=1000).manifest
        try:
            pages.append(
                store.open(validate_corpus(raw, contract, store, batch_rows=100).manifest)
                / "report.html"
            )
        except ContractViolation as broken:
            pages.append(Path(str(broken.report)) / "report.html")
    verdicts = [
        page.read_text(encoding="utf-8").partition("</title>")[0].rpartition(": ")[2]
        for page in pages
    ]
    assert verdicts == ["contract kept", "contract broken"]
    (world, decision), evaluated = made
    whole = folder / "run.html"
    story = Story(
        subject=ENDING, due=SCRIPT, links=Links(), decision=decision,
        warnings=LABELS, fault=Fault("train", LABELS[2], SCRIPT), again="Again.",
    )  # fmt: skip
    run = looking(world.recipe, world.settings, world.store)
    run.made.add(world.tokens)
    run.made.add(EvaluationReport.model_validate_json((evaluated / "manifest.json").read_bytes()))
    text = run_page(story, run, {SCRIPT: SCRIPT}, refused=pages[1].parent)
    whole.write_text(text, encoding="utf-8")
    return [*pages, evaluated / "evaluation" / "report.html", whole]


def hostile_contract(labels: tuple[str, ...], limits: dict[str, Any]) -> DataContract:
    return parse_contract(
        {
            "name": "hostile",
            "description": SCRIPT,
            "columns": {"id": "id", "split": "split", "slices": [COLUMN]},
            "labels": {"values": list(labels), "max_share": 1},
            "splits": {"min_rows": 1},
            "text": limits,
        },
        origin="test",
    )


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_report_runs_no_script_and_asks_for_nothing(
    reports: list[Path], tmp_path: Path
) -> None:
    """Twice safe: hostile words are escaped, and were one not, the page's own policy would not let
    it run.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        try:
            for report in reports:
                page, asked, _ = opened(browser, report)
                assert "window.owned=1" in page.locator("body").inner_text(), "the words are shown"
                assert page.evaluate("window.owned") is None
                assert page.locator("img, script, iframe, a").count() == 0
                assert asked == [report.as_uri()]
                page.close()
            markup = reports[0].read_text(encoding="utf-8")
            unescaped = tmp_path / "unescaped.html"
            unescaped.write_text(markup.replace("</main>", SCRIPT + "</main>"), encoding="utf-8")
            page, _, failed = opened(browser, unescaped)
            assert page.locator("main img").count() == 1 and page.evaluate("window.owned") is None
            assert failed == ["csp"], "not even its image is asked for"
            page.close()
            start, end = markup.index("<meta http-equiv"), markup.index('<meta name="viewport"')
            unescaped.write_text(
                unescaped.read_text(encoding="utf-8").replace(markup[start:end], ""),
                encoding="utf-8",
            )
            page, *_ = opened(browser, unescaped)
            assert page.evaluate("window.owned") == 1, "without the policy it would have run"
        finally:
            browser.close()


def opened(browser: Any, file: Path) -> tuple[Any, list[str], list[str]]:
    """The page, the addresses that it asked for, and why those that were not had were not."""
    page, asked, failed = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.failure))
    page.goto(file.as_uri())
    page.wait_for_load_state("load")
    return page, asked, failed


# --- names that become paths ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "a/b",
        "a\\b",
        "..",
        "a\nb",
        "a\x1b[2J",
        "<b>",
        "=1",
        "A",
        "a" * 81,
        "con\0",
    ],
)
@pytest.mark.parametrize(
    "field", ["name", "contract", "registry.model_name", "registry.experiment"]
)
def test_a_name_that_is_used_in_paths_is_one_word(field: str, name: str) -> None:
    if field.startswith("registry") and name in ("..", "A", "a" * 81):
        return  # MLflow's names are no paths: two dots are a name like another
    if field == "contract":
        data: dict[str, Any] = {"contract": {"name": name}}
    else:
        section, _, key = field.partition(".")
        data = {section: {key: name}} if key else {section: name}
    with pytest.raises(RecipeError) as fault:
        parse_recipe({"source": {"kind": "sample"}, **data}, origin="test")
    assert field.split(".")[-1] in str(fault.value) or "name" in str(fault.value)
