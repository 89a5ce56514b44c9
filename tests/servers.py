"""Real servers for tests: MLflow and Prefect as child processes on free ports of the loopback
interface.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A child process that answers at `health`; may be killed and started again on the same port
    and state.
    """

    def __init__(
        self, arguments: list[str], url: str, health: str, log: Path, environment: dict[str, str]
    ) -> None:
        self.arguments, self.url, self.health, self.log = arguments, url, health, log
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 120) -> Server:
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                with urllib.request.urlopen(self.health, timeout=2):
                    return self
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(self.log.read_text()[-2000:])

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def mlflow_server(folder: Path) -> Server:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = [
        *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *(
            "--backend-store-uri",
            f"sqlite:///{folder / 'server.db'}",
            "--artifacts-destination",
            str(folder / "served"),
        ),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # as `noisefold ui` has it
    return Server(arguments, url, f"{url}/health", folder / "mlflow.log", quiet)


def prefect_server(folder: Path) -> Server:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    arguments = [
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    environment = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": url}
    return Server(arguments, url, f"{url}/health", folder / "prefect.log", environment)
