"""hosting/: what can be held without images, a container engine or a cluster."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.tracking.runs import run_page
from tests.pipeline.conftest import REPOSITORY, TINY, clean_environment
from tests.pipeline.test_ui import CHROMIUM, QUIET
from tests.servers import Server, free_port

HOSTING = REPOSITORY / "hosting"
COMPOSE = yaml.safe_load((HOSTING / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
UNITS = ("noisefold-servers.service", "noisefold-worker.service")
BIN = Path(sys.executable).parent
POSTGRES = next(
    (
        folder
        for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if (folder / "initdb").exists()
    ),
    Path(shutil.which("initdb") or "/").parent,
)


def test_nothing_is_open_beyond_loopback_and_no_secret_is_written_down():
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert "healthcheck" in service and service["restart"] == "unless-stopped", name
        assert "privileged" not in service and "network_mode" not in service, name
    text = (HOSTING / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"noisefold:([^@\s]+)@", text)) == {"${POSTGRES_PASSWORD}"}
    assert "POSTGRES_PASSWORD=change-me" in (HOSTING / "env.example").read_text()
    assert "/hosting/.env" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_every_volume_and_dependency_is_there():
    named = {
        one.split(":")[0]
        for service in SERVICES.values()
        for one in service["volumes"]
        if not one.startswith((".", "$"))
    }
    assert named == set(COMPOSE["volumes"])
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert (HOSTING / "databases.sql").is_file()


def test_the_image_copies_what_is_there_and_runs_as_nobody_in_particular():
    text = (HOSTING / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M)
    sources = [name for line in copied for name in line.split()]
    kept = (HOSTING / "Dockerfile.dockerignore").read_text().splitlines()
    for name in sources:
        assert (REPOSITORY / name).exists(), name
        pattern = "requirements/*.lock" if name.startswith("requirements/") else name
        assert f"!{pattern}" in kept, name
    assert {"flows", "tasks", "lightning_modules", "data_contracts", "noisefold.py"} <= set(sources)
    last = text.split("\nFROM ")[-1]
    assert re.search(r"^USER (\d+)$", last, re.M) and "HEALTHCHECK" in last
    assert text.count("--require-hashes") == 2 and "HF_HUB_OFFLINE=1" in last


def commands() -> dict[str, list[str]]:
    """Of compose, the image and the units, as words."""
    found = {name: one["command"] for name, one in SERVICES.items() if "command" in one}
    for unit in UNITS:
        start = re.search(
            r"^ExecStart=/opt/noisefold/bin/(.+)$", (HOSTING / unit).read_text(), re.M
        )
        assert start
        found[unit] = shlex.split(start[1])
    values = yaml.safe_load((HOSTING / "helm-values.yaml").read_text())["worker"]
    found["helm"] = [*values["command"], *values["args"]]
    return found


@pytest.mark.parametrize("name", commands())
def test_every_option_of_a_command_is_one_that_it_has(name: str):
    words = commands()[name]
    cut = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    done = subprocess.run(
        [BIN / words[0], *words[1:cut], "--help"], env=clean_environment() | {"COLUMNS": "200"}, capture_output=True, text=True, timeout=120
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for option in (word for word in words[cut:] if word.startswith("--")):
        assert re.search(rf"{option}\b", done.stdout), f"{option} of {words}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_units(tmp_path: Path):
    for unit in UNITS:
        text = (HOSTING / unit).read_text().replace("/opt/noisefold/bin", str(BIN))
        (tmp_path / unit).write_text(text.replace("User=noisefold\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", *(tmp_path / unit for unit in UNITS)], capture_output=True, text=True, timeout=60
    )  # fmt: skip
    mine = [line for line in done.stderr.splitlines() if "noisefold" in line]
    assert (done.returncode, mine) == (0, []), done.stderr


def as_postgres(*command: str | Path) -> list[str]:
    """PostgreSQL does not run as root."""
    words = [str(word) for word in command]
    return words if os.getuid() else ["su", "postgres", "-c", shlex.join(words)]


@pytest.fixture(scope="module")
def database() -> Iterator[int]:
    """A PostgreSQL with the user and the databases that compose makes; its port."""
    if not (POSTGRES / "initdb").exists():
        pytest.skip("PostgreSQL is not here")
    if not os.getuid() and "postgres" not in {one.pw_name for one in pwd.getpwall()}:
        pytest.skip("there is no user to run PostgreSQL as")
    with tempfile.TemporaryDirectory(prefix="noisefold-postgres-") as folder:
        yield from _postgres(Path(folder))


def _postgres(folder: Path) -> Iterator[int]:
    """
    Args:
        folder: whose parents anybody may enter: pytest's own are closed to PostgreSQL's user.
    """
    port = free_port()
    if not os.getuid():
        shutil.chown(folder, "postgres")
    data, password = folder / "data", folder / "password"
    password.write_text("geheim\n")
    password.chmod(0o644)
    run = {"check": True, "capture_output": True, "timeout": 120, "cwd": "/"}
    initdb = (
        "--username",
        "noisefold",
        "--pwfile",
        password,
        "--auth",
        "scram-sha-256",
        "--no-sync",
    )
    subprocess.run(as_postgres(POSTGRES / "initdb", "-D", data, *initdb), **run)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = as_postgres(
        POSTGRES / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"
    )
    subprocess.run(control, **{**run, "capture_output": False, "stdout": subprocess.DEVNULL})
    try:
        psql = [str(POSTGRES / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "noisefold", "-q"]
        known = {"env": {**os.environ, "PGPASSWORD": "geheim"}}
        subprocess.run([*psql, "-d", "postgres", "-c", "CREATE DATABASE prefect"], **run, **known)
        script = ["-d", "prefect", "-f", str(HOSTING / "databases.sql")]
        subprocess.run([*psql, *script], **run, **known)
        yield port
    finally:
        subprocess.run(
            as_postgres(POSTGRES / "pg_ctl", "-D", data, "-m", "immediate", "stop"), **run
        )


def service(name: str, port: int, swaps: dict[str, str], health: str, folder: Path) -> Server:
    """A service of compose, its command and environment as they stand but for what a container has
    of its own: names of hosts, ports, folders.
    """

    def swapped(text: Any) -> str:
        text = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", str(text))
        for before, after in swaps.items():
            text = text.replace(before, after)
        return text

    declared = SERVICES[name]
    variables = {key: swapped(value) for key, value in declared["environment"].items()}
    url = f"http://127.0.0.1:{port}"
    more = {"PREFECT_HOME": str(folder / name), "NOISEFOLD_HOME": str(folder / "state")}
    server = Server(
        [swapped(word) for word in declared["command"]], url, url + health, folder / f"{name}.log", variables | more
    )  # fmt: skip
    server.environment = {
        key: value
        for key, value in server.environment.items()
        if not key.startswith(("PREFECT_", "MLFLOW_")) or key in variables or key in more
    }
    return server


def look_at_a_retrain(prefect: Server, mlflow: Server, client: Any, folder: Path) -> None:
    """What a browser shows of one on these servers; the registry holds a card that fits."""
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(TINY))
    addresses = {"PREFECT_API_URL": f"{prefect.url}/api", "MLFLOW_TRACKING_URI": mlflow.url}
    state = {"NOISEFOLD_HOME": str(folder / "home")}
    done = subprocess.run(
        [BIN / "python", "-P", "-m", "flows.cli.main", "retrain", recipe, "--json"],
        env=clean_environment() | addresses | state, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    version = client.get_model_version(told["decision"]["name"], told["decision"]["version"])
    assert version.description.startswith("Champion since ") and len(version.description) <= 5000
    if CHROMIUM is None:
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(mlflow.url + run_page(told["experiment_id"], told["run_id"]))
        page.get_by_text("Promoted", exact=True).first.wait_for(timeout=60_000)
        page.goto(mlflow.url + run_page(told["experiment_id"], told["run_id"], "report.html"))
        frame = page.frame_locator("iframe").first
        frame.get_by_text("The gate").first.wait_for(timeout=60_000)
        page.goto(f"{prefect.url}/runs/flow-run/{told['flow_run_id']}")
        page.get_by_text("Completed").first.wait_for(timeout=60_000)
        browser.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_servers_of_compose_run_on_postgresql(database: int, tmp_path: Path):
    """All three commands: the worker polls Prefect's server, and an artifact goes through MLflow's,
    which answers to its name in the network and to no other.
    """
    ports = {name: free_port() for name in ("prefect", "mlflow", "worker")}
    common = {
        "${POSTGRES_PASSWORD}": "geheim",
        "postgres:5432": f"127.0.0.1:{database}",
        "0.0.0.0": "127.0.0.1",
    }
    swaps = {**common, "4200": str(ports["prefect"])}
    prefect = service("prefect", ports["prefect"], swaps, "/api/health", tmp_path)
    known = {**common, "/artifacts": str(tmp_path / "artifacts"), "5000": str(ports["mlflow"])}
    mlflow = service("mlflow", ports["mlflow"], known, "/health", tmp_path)
    swaps = {"http://prefect:4200/api": f"http://127.0.0.1:{ports['prefect']}/api"}
    worker = service("worker", ports["worker"], swaps, "/health", tmp_path)
    worker.environment["PREFECT_WORKER_WEBSERVER_PORT"] = str(ports["worker"])
    worker.environment["PREFECT_WORKER_WEBSERVER_HOST"] = "127.0.0.1"
    try:
        with ThreadPoolExecutor(2) as both:
            list(both.map(Server.start, (prefect, mlflow)))
        worker.start()

        def status(host: str) -> int:
            asked = urllib.request.Request(
                f"{mlflow.url}/api/2.0/mlflow/experiments/search?max_results=1",
                headers={"Host": host},
            )
            try:
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        assert status(f"mlflow:{ports['mlflow']}") == 200
        assert status("evil.example.com") == 403

        from mlflow import MlflowClient

        client = MlflowClient(mlflow.url, mlflow.url)
        run = client.create_run(client.create_experiment("邮件")).info
        assert run.artifact_uri.startswith("mlflow-artifacts:")
        client.log_text(run.run_id, "ja", "邮件.txt")
        assert [one.path for one in client.list_artifacts(run.run_id)] == ["邮件.txt"]
        assert list((tmp_path / "artifacts").rglob("邮件.txt"))

        from prefect.client.orchestration import SyncPrefectClient

        with SyncPrefectClient(f"{prefect.url}/api") as api:
            (one,) = api.read_workers_for_work_pool("noisefold")
            assert one.status == "ONLINE" and api.read_work_pool("noisefold").type == "process"
        look_at_a_retrain(prefect, mlflow, client, tmp_path)
    finally:
        for one in (worker, mlflow, prefect):
            one.stop()
