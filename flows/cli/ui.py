"""`noisefold ui`: Prefect's server and MLflow's, both on the local state, until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from data_contracts.errors import NoisefoldError
from flows.running.environment import running_server, switches
from tasks.settings import Settings
from tasks.tracking.runs import TRAINING_VIEW


def serve(prefect_port: int, mlflow_port: int) -> None:
    """Start both, write their addresses where a retrain finds them, and stop both at the end.

    Raises:
        NoisefoldError: where a UI already runs on this state, or a server does not come up.
    """
    settings, console = Settings(), Console(highlight=False)
    switches()
    running = running_server(settings)
    if running:
        raise NoisefoldError(
            f"The UIs already run on this state: {running['prefect']} and {running['mlflow']}.",
            "Open them there.",
        )
    for port, option in ((prefect_port, "--prefect-port"), (mlflow_port, "--mlflow-port")):
        if not _free(port):
            raise NoisefoldError(f"Port {port} is in use.", f"Choose another with {option}.")
    os.environ["PREFECT_HOME"] = os.environ.get("PREFECT_HOME", str(settings.root / "prefect"))
    servers = (_prefect(settings, prefect_port), _mlflow(settings, mlflow_port))
    addresses = {server.name: server.address for server in servers}
    # The store in the environment: a database's password in the arguments would be everybody's to
    # read.
    environment = {
        **os.environ,
        "PREFECT_API_URL": addresses["prefect"] + "/api",
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
    }
    # Ten processes that wait for jobs of MLflow's pages for prompts and traces.
    environment.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    (settings.root / "logs").mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    children: dict[Server, subprocess.Popen[bytes]] = {}
    try:
        for server in servers:
            children[server] = _start(server, environment)
        with console.status("Starting both servers …"):
            for server, child in children.items():
                _wait(server, child)
        (settings.root / "ui.json").write_text(json.dumps(addresses))
        mlflow = f"{addresses['mlflow']}/#/experiments?{TRAINING_VIEW}"
        console.print(
            f"MLflow   {mlflow}\nPrefect  {addresses['prefect']}\nCtrl-C stops both.",
            soft_wrap=True,
        )
        while all(child.poll() is None for child in children.values()):
            time.sleep(0.5)
        dead = next(server for server, child in children.items() if child.poll() is not None)
        raise NoisefoldError(f"The {dead.name} server ended.", f"See {dead.log}.")
    except KeyboardInterrupt:
        console.print("Stopped.")
    finally:
        (settings.root / "ui.json").unlink(missing_ok=True)
        _stop(list(children.values()))


@dataclass(frozen=True)
class Server:
    """One of the two, and how it is started.

    An own process rather than `prefect server start --background`: that one's output pipes die with
    its parent.
    """

    name: str
    address: str
    health: str
    arguments: tuple[str, ...]
    log: Path


def _prefect(settings: Settings, port: int) -> Server:
    arguments = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    return _server(settings, port, "/api/health", arguments)


def _mlflow(settings: Settings, port: int) -> Server:
    # What runs of other machines and workers send here; MLflow's own choice is the current folder.
    artifacts = settings.root / "mlartifacts" / "served"
    arguments = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    store = ("--artifacts-destination", str(artifacts))
    return _server(settings, port, "/health", (*arguments, *store))


def _server(settings: Settings, port: int, health: str, arguments: tuple[str, ...]) -> Server:
    name, address = arguments[0], f"http://127.0.0.1:{port}"
    log = settings.root / "logs" / f"{name}-server.log"
    return Server(name, address, address + health, arguments, log)


def _start(server: Server, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # `mlflow server` looks for uvicorn by name: the venv's own bin folder must be on PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    command = [sys.executable, "-P", "-m", *server.arguments]
    with server.log.open("wb") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env={**environment, "PATH": path}
        )


def _wait(server: Server, child: subprocess.Popen[bytes], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with urllib.request.urlopen(server.health, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise NoisefoldError(f"The {server.name} server did not come up.", f"See {server.log}.")


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
