"""The pictures of the documentation, from the real pages.

    python docs/pictures.py screens                         both UIs on a retrain of the sample
    python docs/pictures.py screens --home FOLDER           on the state of a retrain that there is
    python docs/pictures.py diagrams mermaid.min.js         the diagrams of docs/*.md as SVG

`mermaid.min.js` is in the npm package mermaid (`npm pack mermaid@11`, folder dist); it is needed
here alone, so that the site shows diagrams without a script. Needs chromium and the extra `dev`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tasks.tracking.runs import TRAINING_VIEW

DOCS = Path(__file__).resolve().parent
REPOSITORY = DOCS.parent
VIEW = {"width": 1200, "height": 800}
SCREENS = ("mlflow-run", "prefect-run", "report", "model-page")
MOST_BYTES = 150_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
QUIET = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--no-first-run",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
NOISEFOLD = [sys.executable, "-P", "-m", "noisefold"]
# What a first visitor is offered, and no reader of the pictures wants to see.
CLOSED = "[data-testid='assistant-close'], [aria-label='Close assistant'], [aria-label='Close']"


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        try:
            yield browser
        finally:
            browser.close()


# --- both UIs -------------------------------------------------------------------------------------


def screens(home: Path | None, only: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = home or Path(folder) / "home"
        with served(state) as addresses:
            if home is None:
                for seed in (0, 1):
                    options = ["--set", "source.rows=8000", "--set", f"training.seed={seed}"]
                    run(state, "retrain", "sample", *options)
                run(state, "promote", "2", "--why", "Trying it on the new shop.")
                run(state, "rollback", "--why", "Complaints from the new shop.")
            with chromium() as browser:
                context = browser.new_context(viewport=VIEW)
                pictures = {
                    "mlflow-run": mlflow_run, "prefect-run": prefect_run,
                    "report": report, "model-page": model_page,
                }  # fmt: skip
                for name, shown in pictures.items():
                    if only and name not in only:
                        continue
                    page = context.new_page()
                    shown(page, addresses, newest(state))
                    keep(page.screenshot(), DOCS / f"{name}.png")
                    page.close()


def run(home: Path, *words: str) -> None:
    subprocess.run([*NOISEFOLD, *words], env=variables(home), check=True)


def variables(home: Path) -> dict[str, str]:
    given = {
        key: one for key, one in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))
    }
    return {**given, "NOISEFOLD_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}


@contextmanager
def served(home: Path) -> Iterator[dict[str, str]]:
    if (home / "ui.json").exists():
        told = json.loads((home / "ui.json").read_text())
        yield {"MLflow": told["mlflow"], "Prefect": told["prefect"]}
        return
    ports = ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    ui = subprocess.Popen(
        [*NOISEFOLD, "ui", *ports], env=variables(home), stdout=subprocess.PIPE, text=True
    )
    try:
        assert ui.stdout is not None
        said = [ui.stdout.readline().split() for _ in range(2)]
        yield {name: address.partition("/#")[0] for name, address in said}
    finally:
        ui.send_signal(signal.SIGTERM)
        ui.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def newest(home: Path) -> dict[str, str]:
    """The MLflow run of the newest version, and its flow run."""
    from mlflow import MlflowClient

    from tasks.tracking.bookkeeping import of_run

    client = MlflowClient(f"sqlite:///{home.resolve() / 'mlflow.db'}")
    versions = client.search_model_versions("name='noisefold-sample'")
    run = client.get_run(max(versions, key=lambda one: int(one.version)).run_id)
    flow = of_run(run)["noisefold.flow_run_id"]
    return {"experiment": run.info.experiment_id, "run": run.info.run_id, "flow": flow}


def mlflow_page(page: Any, address: str, words: str) -> None:
    page.goto(address, wait_until="commit", timeout=90_000)
    page.get_by_text(words).first.wait_for(timeout=90_000)
    # The assistant opens late, and beside everything.
    with suppress(Exception):
        page.get_by_text("Ask questions about your").first.wait_for(timeout=20_000)
        page.locator(CLOSED).last.click()
    time.sleep(4)


def mlflow_run(page: Any, addresses: dict[str, str], ids: dict[str, str]) -> None:
    run = f"{addresses['MLflow']}/#/experiments/{ids['experiment']}/runs/{ids['run']}"
    mlflow_page(page, f"{run}?{TRAINING_VIEW}", "Description")
    page.mouse.move(700, 400)
    page.mouse.wheel(0, 380)
    time.sleep(2)


def report(page: Any, addresses: dict[str, str], ids: dict[str, str]) -> None:
    run = f"{addresses['MLflow']}/#/experiments/{ids['experiment']}/runs/{ids['run']}"
    mlflow_page(page, f"{run}/artifacts/report.html?{TRAINING_VIEW}", "report.html")


def model_page(page: Any, addresses: dict[str, str], ids: dict[str, str]) -> None:
    address = f"{addresses['MLflow']}/#/models/noisefold-sample?{TRAINING_VIEW}"
    mlflow_page(page, address, "Champion: version")


def prefect_run(page: Any, addresses: dict[str, str], ids: dict[str, str]) -> None:
    address = f"{addresses['Prefect']}/runs/flow-run/{ids['flow']}"
    page.goto(address, wait_until="commit", timeout=90_000)
    page.get_by_text("Completed").first.wait_for(timeout=90_000)
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("learning-curves").first.wait_for(timeout=90_000)
    time.sleep(8)


def keep(picture: bytes, file: Path) -> None:
    """A picture of few colours and few bytes."""
    image = Image.open(BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64, 32):
        image.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
        if file.stat().st_size <= MOST_BYTES:
            break
    print(f"{file.relative_to(REPOSITORY)}: {file.stat().st_size:,} bytes")


# --- diagrams -------------------------------------------------------------------------------------


def diagrams(script: Path) -> None:
    sys.path.insert(0, str(DOCS / "hooks"))
    from pages import DIAGRAMS, diagram_name

    DIAGRAMS.mkdir(exist_ok=True)
    found = {}
    for file in sorted(DOCS.glob("*.md")):
        for source in re.findall(r"```mermaid\n(.*?)```", file.read_text("utf-8"), re.S):
            found[diagram_name(source)] = source
    with chromium() as browser:
        page = browser.new_page(viewport=VIEW)
        page.set_content("<html><body></body></html>")
        page.add_script_tag(path=str(script))
        for name, source in found.items():
            (DIAGRAMS / name).write_text(drawn(page, source), encoding="utf-8")
            print(f"docs/diagrams/{name}")
    for file in DIAGRAMS.glob("*.svg"):
        if file.name not in found:
            file.unlink()


def drawn(page: Any, source: str) -> str:
    settings = {
        "startOnLoad": False, "theme": "neutral", "htmlLabels": False, "fontFamily": "sans-serif",
        "flowchart": {"htmlLabels": False, "useMaxWidth": False},
    }  # fmt: skip
    svg = page.evaluate(
        """async ([settings, source]) => {
             mermaid.initialize(settings);
             return (await mermaid.render('diagram', source)).svg;
           }""",
        [settings, source],
    )
    return svg + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["screens", "diagrams"])
    parser.add_argument("script", nargs="?", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument(
        "--only", action="append", default=[], choices=SCREENS, help="of the screens"
    )
    asked = parser.parse_args()
    if asked.what == "screens":
        screens(asked.home, asked.only)
    elif asked.script is None:
        parser.error("diagrams needs the path of mermaid.min.js")
    else:
        diagrams(asked.script)


if __name__ == "__main__":
    main()
