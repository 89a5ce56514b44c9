"""`noisefold ui` shows the local state in both UIs, in a real browser; a retrain beside it uses its
server.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

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


@needs_browser
def test_mlflow_ui_opens_on_the_run(shown, page):
    addresses, result, *_ = shown
    page.goto(
        f"{addresses['MLflow']}/#/experiments/{result['experiment_id']}/runs/{result['run_id']}"
    )
    page.get_by_text("noisefold-tiny").first.wait_for(timeout=30_000)
    page.get_by_text("Registered models").first.wait_for(timeout=30_000)


@needs_browser
def test_validation_report_opens_from_the_mlflow_run(shown, page):
    addresses, result, *_ = shown
    run = f"{addresses['MLflow']}/#/experiments/{result['experiment_id']}/runs/{result['run_id']}"
    page.goto(f"{run}/artifacts/validation/report.html")
    page.frame_locator("iframe").first.get_by_text("contract kept").wait_for(timeout=30_000)


@needs_browser
def test_prefect_ui_shows_the_stages_of_the_run(shown, page):
    addresses, result, *_ = shown
    page.goto(f"{addresses['Prefect']}/runs/flow-run/{result['flow_run_id']}")
    page.get_by_text("Completed").first.wait_for(timeout=30_000)
    page.get_by_text("Task Runs").first.wait_for(timeout=30_000)


@needs_browser
def test_report_page_asks_the_network_for_nothing(shown, page):
    _, result, *_ = shown
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    file = Path(result["artifacts"]["validate"]) / "report.html"
    page.goto(file.as_uri())
    page.get_by_text("Expectations").first.wait_for(timeout=10_000)
    time.sleep(0.5)
    assert all(url.startswith("file:") for url in asked if "127.0.0.1" not in url)
