"""`noisefold monitor`: silent on rows like those that the champion knows, loud on others."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from data_contracts.recipe.source import SampleSource
from data_contracts.sample import bundled
from tests.pipeline.conftest import TINY, Command, mlflow_client, refused, told

MODEL = "noisefold-tiny"


@pytest.fixture(scope="module")
def trained(undisturbed, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("monitor") / "home"
    return Path(shutil.copytree(undisturbed[1], home))


def described(folder: Path, source: dict[str, Any], **fields: Any) -> Path:
    file = folder / "watch.yaml"
    content = {"name": folder.name.replace("_", "-"), "model": MODEL, "source": source, **fields}
    file.write_text(yaml.safe_dump({**content, "execution": {"retries": 0}}))
    return file


def write_invoices(file: Path, rows: int = 150) -> None:
    """Texts that no review is."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text"])
        writer.writerows(
            [
                f"INVOICE {n:06d}; IBAN XX{n * 7919:014d}; due 2026-03-{n % 28 + 1:02d}; total {n}.00 EUR"
            ]
            for n in range(rows)
        )


def test_rows_from_the_same_hand_raise_no_alarm(
    here: Command, trained: Path, tmp_path: Path
) -> None:
    file = described(tmp_path, {"kind": "sample", "rows": 1000, "seed": 77})
    result = told(here(trained, "monitor", file, "--json"))
    assert not result["drifted"] and result["looked_at"] > 900
    watched = {one["signal"] for one in result["signals"]}
    assert watched == {"characters", "tokens", "unknown_share", "surprisal", "entropy", "label"}
    run = mlflow_client(trained).get_run(result["run_id"])
    assert run.data.metrics["drifted"] == 0 and "psi/surprisal" in run.data.metrics
    [rows] = run.inputs.dataset_inputs
    assert json.loads(rows.dataset.profile)["num_rows"] == result["rows"]
    assert "No drift" in run.data.tags["mlflow.note.content"]


def test_other_rows_are_an_alarm_that_starts_a_retrain(
    here: Command, prefect_api, trained: Path, tmp_path: Path
) -> None:
    """The whole way of a night: an automation is set up once; the alarm's event starts the run."""
    from tasks.liveness.dead_runs import prefect_client
    from tasks.operate.deployments import named

    write_invoices(tmp_path / "new.csv")
    file = described(tmp_path, {"url": "new.csv"})
    recipe = tmp_path / "again.yaml"
    recipe.write_text(yaml.safe_dump({**TINY, "name": "again"}))
    deployed = here(trained, "deploy", recipe)
    assert deployed.exit_code == 0, deployed.output
    refused(here(trained, "monitor", file, "--retrain", "nobody"), "nobody")
    done = here(trained, "monitor", file, "--retrain", "again")
    assert done.exit_code == 0 and "again" in done.output

    result = here(trained, "monitor", file, "--json", "--exit-code")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    moved = {one["signal"] for one in found["signals"] if one["drifted"]}
    assert found["drifted"] and {"surprisal", "unknown_share"} <= moved
    with prefect_client() as client:
        again = named(client, "again").id
        end, runs = time.monotonic() + 60, []
        while not runs and time.monotonic() < end:
            time.sleep(0.5)
            runs = [one for one in client.read_flow_runs(limit=200) if one.deployment_id == again]
    assert runs, "no retrain was started"


def test_what_says_nothing_is_refused(here: Command, trained: Path, tmp_path: Path) -> None:
    write_invoices(tmp_path / "few.csv", 40)
    refused(
        here(trained, "monitor", described(tmp_path, {"url": "few.csv"})), "40 rows", "min_rows"
    )
    bundled.write(SampleSource(rows=300), tmp_path / "sample.parquet")
    table = pq.read_table(tmp_path / "sample.parquet").rename_columns(
        ["id", "body", "label", "split", "language"]
    )
    pq.write_table(table, tmp_path / "other.parquet")
    file = described(tmp_path, {"url": "other.parquet"})
    refused(here(trained, "monitor", file), "which column", "body")
    assert told(here(trained, "monitor", file, "--set", "column=body", "--json"))["rows"] > 250

    # A version from before there were profiles, and one of another format.
    client = mlflow_client(trained)
    version = client.get_model_version_by_alias(MODEL, "champion")
    home = Path(trained)
    copies = list(home.glob(f"work/fetched/{MODEL}-{version.version}/files/**/profile.json"))
    assert len(copies) == 1
    kept = copies[0].read_text()
    copies[0].write_text('{"format": 9}')
    again = described(tmp_path, {"url": "other.parquet"}, column="body", seed=1)
    refused(here(trained, "monitor", again), "another format")
    copies[0].unlink()
    refused(here(trained, "monitor", again), "carries no profile", "Retrain")
    copies[0].write_text(kept)
