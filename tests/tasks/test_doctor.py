"""What `noisefold doctor` sees: each fault is named with what to do, and what is well is said to be
well.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.operate.doctor import champions, disks, examine_here, folders, mlflow_store, versions
from tasks.operate.finding import Line
from tasks.settings import Settings
from tasks.tracking.aliases import Aliases
from tests.pipeline.conftest import REPOSITORY, clean_environment
from tests.servers import free_port

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]


def settings(home: Path, artifacts: str | None = None, tracking: str | None = None) -> Settings:
    return Settings.model_construct(home=home, artifacts=artifacts, mlflow_tracking_uri=tracking)


def states(lines) -> list[str]:
    return [line.state for line in lines]


def test_versions_are_those_of_the_lock_files(tmp_path):
    found = list(versions(REPOSITORY / "requirements"))
    assert all(line.state == "ok" or line.remedy == "Run `make setup`." for line in found)
    (tmp_path / "torch-cpu.lock").write_text(
        f"torch=={version('torch').split('+')[0]}+cpu \\\n    --hash=sha256:00\n"
    )
    (tmp_path / "base.lock").write_text(
        "prefect==0.1 \\\n    --hash=sha256:00\n    # via noisefold\nabsent-package==2.0 \\\n    "
        "--hash=sha256:00\n"
        f"PyYAML=={version('pyyaml')} \\\n    --hash=sha256:00\n"
        "only-there==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
    )
    needed, others = versions(tmp_path)
    assert (needed.state, needed.what) == (
        "fail",
        f"prefect is {version('prefect')}, locked is 0.1.",
    )
    assert (
        others.state == "warn"
        and "absent-package missing" in others.what
        and "1 other" in others.what
    )
    assert states(versions(tmp_path / "elsewhere")) == ["warn"]


def test_a_disk_with_too_little_space_fails(tmp_path):
    assert states(disks(settings(tmp_path / "not" / "there" / "yet"), 0.0)) == ["ok"]
    (line,) = disks(settings(tmp_path), 1e9)
    assert line.state == "fail" and "less than 1e+09" in line.what and "gc" in line.remedy


def test_a_folder_that_cannot_be_written_fails_with_the_variable_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    (line,) = folders(settings(tmp_path / "home", artifacts=str(tmp_path / "file" / "artifacts")))
    assert (
        line.state == "fail"
        and "NOISEFOLD_ARTIFACTS" in line.remedy
        and "NotADirectory" in line.what
    )
    home, _ = folders(settings(tmp_path / "file" / "home"))
    assert home.state == "fail" and "NOISEFOLD_HOME" in home.remedy
    assert states(folders(settings(tmp_path / "home"))) == ["ok"]
    assert not list((tmp_path / "home").rglob(".doctor*"))


def test_an_artifact_store_with_a_credential_in_its_address_is_told_without_it(tmp_path):
    found = list(examine_here(settings(tmp_path, artifacts="s3://user:s3cr3t@host/bucket")))
    assert "fail" in states(found) and "s3cr3t" not in str(found)


def test_a_store_of_another_schema_is_named_and_not_migrated(world: World, tmp_path: Path):
    assert (
        states(mlflow_store(settings(tmp_path))) == ["ok"] and not (tmp_path / "mlflow.db").exists()
    )
    assert states(mlflow_store(world.settings)) == ["ok"]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")
    before = (tmp_path / "mlflow.db").read_bytes()
    (line,) = mlflow_store(settings(tmp_path))
    assert (
        line.state == "fail"
        and "schema 0123456789ab" in line.what
        and "mlflow db upgrade" in line.remedy
    )
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_a_champion_that_cannot_be_fetched_fails_and_a_previous_one_warns(world: World):
    name = world.recipe.model_name
    for number, nudge in enumerate((0.0, 0.5), start=1):
        model = world.model(nudge=nudge)
        world.register(model, world.evaluate(model))
        Aliases(world.tracker.client, name, world.settings.ledger).crown(
            str(number), str(number - 1) if number > 1 else None, "a test"
        )

    def mine() -> list[Line]:
        return [
            line for line in champions(world.settings) if name in line.what and line.state != "ok"
        ]

    assert mine() == []
    for number, state in (("1", "warn"), ("2", "fail")):
        folder = Path(
            world.tracker.client.get_model_version_download_uri(name, number).removeprefix(
                "file://"
            )
        )
        weights = folder / "artifacts" / "bundle" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        (line,) = [line for line in mine() if f"version {number}," in line.what]
        assert (
            line.state == state and "has changed" in line.what and f"--model {name}" in line.remedy
        )


def test_the_command_tells_every_finding_at_once_and_fails_where_one_does(tmp_path: Path):
    """Servers that do not answer hide nothing of what can be seen without them."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", "doctor", "--json"],
        env={
            **clean_environment(),
            "NOISEFOLD_HOME": str(tmp_path / "home"),
            "PREFECT_API_URL": f"http://ann:s3cr3t@127.0.0.1:{free_port()}/api",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    state = {line["check"]: line["state"] for line in said["lines"]}
    assert said["well"] is False and (state["Prefect"], state["MLflow"]) == ("fail", "fail")
    assert state["disk"] == state["folders"] == "ok"
    assert all(line["remedy"] for line in said["lines"] if line["state"] != "ok")
    assert "s3cr3t" not in done.stdout + done.stderr
