"""`noisefold ui` shows the local state in both UIs, in a real browser; a retrain beside it uses its
server.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tasks.tracking.runs import TRAINING_VIEW
from tasks.tracking.runs import run_page as path_of_run
from tests.pipeline.conftest import clean_environment, result_of
from tests.servers import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory, tiny_recipe):
    """Both UIs on a state folder, and the result of a retrain started beside them."""
    home = tmp_path_factory.mktemp("shown") / "home"
    variables = {**clean_environment(), "NOISEFOLD_HOME": str(home)}
    command = [sys.executable, "-P", "-m", "flows.cli.main"]
    ports = ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    ui = subprocess.Popen(
        [*command, "ui", *ports], env=variables, stdout=subprocess.PIPE, text=True
    )
    try:
        assert ui.stdout is not None
        addresses = dict(ui.stdout.readline().split() for _ in range(2))
        assert addresses["MLflow"].endswith("/#/experiments?workflowType=machine_learning")
        addresses["MLflow"] = addresses["MLflow"].partition("/#")[0]
        done = subprocess.run(
            [*command, "retrain", str(tiny_recipe), "--json"],
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
        )
        yield addresses, result_of(done), home, [*command, "ui"], variables
    finally:
        ui.send_signal(signal.SIGTERM)
        assert ui.wait(30) == 143
        ui.stdout.close()  # type: ignore[union-attr]
    for url in addresses.values():
        with pytest.raises(OSError):
            urllib.request.urlopen(url, timeout=2)
    assert not (home / "ui.json").exists()


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory) -> Path:
    """What the pages looked like, for a person to look at after the tests."""
    return tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def page():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


def test_second_ui_on_the_same_state_is_refused(shown):
    _, _, _, command, variables = shown
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "already run on this state" in done.stderr


def test_what_is_sent_to_mlflow_by_its_address_lies_in_the_state_folder(shown):
    """A worker with MLFLOW_TRACKING_URI at the UI's server; not wherever the command was started."""
    from mlflow import MlflowClient

    addresses, _, home, *_ = shown
    client = MlflowClient(addresses["MLflow"])
    run = client.create_run(client.create_experiment("by its address"))
    client.log_text(run.info.run_id, "a report", "there.txt")
    client.set_terminated(run.info.run_id)
    assert [file.read_text() for file in (home / "mlartifacts").rglob("there.txt")] == ["a report"]


@pytest.fixture(scope="module")
def refused(shown, tmp_path_factory):
    """A retrain of rows that break their contract, beside the same servers: its output, and what
    Prefect has of its flow run.
    """
    addresses, _, _, (*command, _), variables = shown
    folder = tmp_path_factory.mktemp("refused")
    texts = [f"good thing {i} 好,{'ab'[i % 2]}" for i in range(60)] + [",a"] * 40
    (folder / "mails.csv").write_text("\n".join(["text,label", *texts]), encoding="utf-8")
    (folder / "mails.yaml").write_text(
        "name: mails\nsource: {url: mails.csv}\ncontract: {name: mails, splits: {min_rows: 5}}\n"
    )
    done = subprocess.run(
        [*command, "retrain", str(folder / "mails.yaml")],
        env=variables, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    (run,) = asked(addresses, "flow_runs", {"flow_runs": {"name": {"like_": "mails "}}})
    return done, run


def asked(addresses: dict[str, str], what: str, filters: dict[str, Any]) -> list[dict[str, Any]]:
    """What Prefect's server answers to a filter."""
    request = urllib.request.Request(
        f"{addresses['Prefect']}/api/{what}/filter",
        json.dumps(filters).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def artifacts(addresses: dict[str, str], flow_run_id: str) -> dict[str, dict[str, Any]]:
    mine = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
    return {one["key"]: one for one in asked(addresses, "artifacts", mine)}


@needs_browser
def test_mlflow_run_says_what_became_of_it_and_leads_to_prefect(shown, page, screenshots):
    addresses, result, *_ = shown
    page.goto(run_page(addresses, result))
    page.get_by_text("noisefold-tiny").first.wait_for(timeout=60_000)
    page.get_by_text("Registered models").first.wait_for(timeout=60_000)
    page.get_by_text("Promoted", exact=True).first.wait_for(timeout=30_000)
    page.screenshot(path=screenshots / "mlflow-run.png")
    link = page.get_by_role("link", name="Prefect run").first.get_attribute("href")
    page.goto(link)
    page.get_by_text("Completed").first.wait_for(timeout=60_000)


@needs_browser
def test_report_opens_from_the_mlflow_run(shown, page, screenshots):
    addresses, result, *_ = shown
    page.goto(run_page(addresses, result))
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Report").first.click(timeout=60_000)
    report = opened.value
    frame = report.frame_locator("iframe").first
    frame.get_by_text("Confusion matrix").first.wait_for(timeout=60_000)
    frame.get_by_role("heading", name="Lineage").wait_for(timeout=10_000)
    report.screenshot(path=screenshots / "mlflow-report.png")
    report.close()


@needs_browser
def test_validation_report_opens_from_the_mlflow_run(shown, page):
    addresses, result, *_ = shown
    page.goto(run_page(addresses, result, "validation/report.html"))
    page.frame_locator("iframe").first.get_by_text("contract kept").wait_for(timeout=60_000)


@needs_browser
def test_model_page_has_its_moves_as_a_table(shown, page, screenshots):
    addresses, result, *_ = shown
    page.goto(f"{addresses['MLflow']}/#/models/{result['decision']['name']}?{TRAINING_VIEW}")
    page.get_by_text("Champion: version 1.").first.wait_for(timeout=60_000)
    row = page.get_by_role("row").filter(has_text="retrain").first
    assert "champion" in row.inner_text()
    page.screenshot(path=screenshots / "model.png")


@needs_browser
def test_prefect_page_is_named_and_has_stages_link_progress_and_curves(shown, page, screenshots):
    addresses, result, *_ = shown
    page.goto(f"{addresses['Prefect']}/runs/flow-run/{result['flow_run_id']}")
    page.get_by_text("Completed").first.wait_for(timeout=60_000)
    page.get_by_text(f"tiny {result['due'][:16]}").first.wait_for(timeout=30_000)
    page.screenshot(path=screenshots / "prefect-run.png")
    found = artifacts(addresses, result["flow_run_id"])
    assert {"mlflow-run", "progress", "learning-curves", "retrain-summary"} <= found.keys()
    assert result["run_id"] in found["mlflow-run"]["data"]
    assert found["progress"]["data"] == 100
    page.goto(f"{addresses['Prefect']}/artifacts/artifact/{found['learning-curves']['id']}")
    image = page.locator("img[alt='learning curves']").first
    image.wait_for(timeout=60_000)
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    page.screenshot(path=screenshots / "learning-curves.png")


@needs_browser
def test_summary_in_prefect_leads_to_the_report(shown, page):
    addresses, result, *_ = shown
    summary = artifacts(addresses, result["flow_run_id"])["retrain-summary"]
    page.goto(f"{addresses['Prefect']}/artifacts/artifact/{summary['id']}")
    page.get_by_text("Promoted: noisefold-tiny version 1").first.wait_for(timeout=60_000)
    page.goto(page.get_by_role("link", name="Report").first.get_attribute("href"))
    page.frame_locator("iframe").first.get_by_text("The gate").wait_for(timeout=60_000)


@needs_browser
def test_refused_rows_leave_a_summary_of_what_broke_and_what_to_do(
    shown, refused, page, screenshots
):
    addresses, *_ = shown
    _, run = refused
    assert run["state_name"] == "Failed"
    summary = artifacts(addresses, run["id"])["retrain-summary"]
    for wanted in ("Failed in validate: mails", "empty texts, 40 %", "What to do",
                   "| validate | **failed** |", "[MLflow run](http"):  # fmt: skip
        assert wanted in summary["data"], summary["data"]
    page.goto(f"{addresses['Prefect']}/artifacts/artifact/{summary['id']}")
    page.get_by_text("Failed in validate").first.wait_for(timeout=60_000)
    page.screenshot(path=screenshots / "refused-prefect.png")
    page.goto(page.get_by_role("link", name="Report").first.get_attribute("href"))
    frame = page.frame_locator("iframe").first
    frame.get_by_text("What to do:").wait_for(timeout=60_000)
    frame.get_by_text("Why rows were refused").wait_for(timeout=10_000)
    page.screenshot(path=screenshots / "refused-mlflow.png")


def test_refused_rows_show_no_traceback_and_are_told_once(shown, refused):
    addresses, *_ = shown
    done, run = refused
    mine = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200}
    messages = [one["message"] for one in asked(addresses, "logs", mine)]
    assert not [one for one in messages if "Traceback" in one]
    told = [one for one in messages if one.startswith("The data break contract mails")]
    assert len(told) == 1, messages
    assert "Traceback" not in done.stdout + done.stderr


@needs_browser
def test_pages_of_a_run_ask_the_network_for_nothing(shown, page, screenshots):
    _, result, *_ = shown
    files = [
        Path(result["report"]),
        Path(result["artifacts"]["validate"]) / "report.html",
        Path(result["artifacts"]["evaluate"]) / "report.html",
    ]
    for file in files:
        sent: list[str] = []
        page.on("request", lambda request, sent=sent: sent.append(request.url))
        page.goto(file.as_uri())
        page.get_by_text("test").first.wait_for(timeout=10_000)
        time.sleep(0.3)
        assert all(url.startswith("file:") for url in sent if "127.0.0.1" not in url)
        page.screenshot(path=screenshots / f"{file.parent.name}-{file.stem}.png", full_page=True)


def run_page(addresses: dict[str, str], result: dict[str, Any], artifact: str = "") -> str:
    """As the terminal prints it."""
    return addresses["MLflow"] + path_of_run(result["experiment_id"], result["run_id"], artifact)
