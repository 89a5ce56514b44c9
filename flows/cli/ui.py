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
from pathlib import Path

from rich.console import Console

from data_contracts.errors import NoisefoldError
from flows.running.environment import running_server, switches
from tasks.settings import Settings


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
    logs = settings.root / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = os.environ.get("PREFECT_HOME", str(settings.root / "prefect"))
    addresses = {
        "prefect": f"http://127.0.0.1:{prefect_port}",
        "mlflow": f"http://127.0.0.1:{mlflow_port}",
    }
    # The store in the environment: a database's password in the arguments would be everybody's to
    # read.
    environment = {
        **os.environ,
        "PREFECT_API_URL": addresses["prefect"] + "/api",
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
    }
    python = [sys.executable, "-P", "-m"]
    # Own processes rather than `prefect server start --background`: that one's output pipes die
    # with its parent.
    commands = {
        "prefect": [*python, "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)],
        "mlflow": [*python, "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1",
                   # What runs of other machines and workers send here; MLflow's own choice is the
                   # current folder.
                   "--artifacts-destination", str(settings.root / "mlartifacts" / "served")],
    }  # fmt: skip
    health = {"prefect": "/api/health", "mlflow": "/health"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            children[name] = _start(command, logs / f"{name}-server.log", environment)
        with console.status("Starting both servers …"):
            for name, child in children.items():
                _wait(addresses[name] + health[name], child, name, logs / f"{name}-server.log")
        (settings.root / "ui.json").write_text(json.dumps(addresses))
        console.print(
            f"MLflow   {addresses['mlflow']}\nPrefect  {addresses['prefect']}\nCtrl-C stops both."
        )
        while all(child.poll() is None for child in children.values()):
            time.sleep(0.5)
        dead = next(name for name, child in children.items() if child.poll() is not None)
        raise NoisefoldError(f"The {dead} server ended.", f"See {logs / f'{dead}-server.log'}.")
    except KeyboardInterrupt:
        console.print("Stopped.")
    finally:
        (settings.root / "ui.json").unlink(missing_ok=True)
        for child in children.values():
            child.terminate()
        for child in children.values():
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def _start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # `mlflow server` looks for uvicorn by name: the venv's own bin folder must be on PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    with log.open("wb") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env={**environment, "PATH": path}
        )


def _wait(
    url: str, child: subprocess.Popen[bytes], name: str, log: Path, seconds: float = 120
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise NoisefoldError(f"The {name} server did not come up.", f"See {log}.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
