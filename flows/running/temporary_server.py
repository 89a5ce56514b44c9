"""Prefect's temporary server, as a process that ends with the run however that ends.

Prefect's own outlives a parent that is killed: it keeps its port, and the SQLite database that the
next run needs. `python -m flows.running.temporary_server …` is uvicorn with these arguments, for as
long as its standard input is open.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tasks.engines.training_process import end_with_parent, own_packages_first


def start() -> None:
    """Start it, where none runs for this process; Prefect's flows find it there.

    Raises:
        RuntimeError: it does not answer in time.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    class TemporaryServer(SubprocessASGIServer):
        def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
            arguments = ["--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
            arguments += ["--port", str(self.port), "--log-level", "error", "--lifespan", "on"]
            switches = {
                "PREFECT_UI_ENABLED": "0",
                "PREFECT__SERVER_EPHEMERAL": "1",
                "PREFECT__SERVER_FINAL": "1",
            }
            settings = get_current_settings().to_environment_variables(exclude_unset=True)
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.running.temporary_server", *arguments],
                stdin=subprocess.PIPE,
                env={**os.environ, **switches, **settings, "PYTHONPATH": own_packages_first()},
                # Ctrl-C is for the run: it still has to tell the server how it ended.
                start_new_session=True,
            )

    TemporaryServer().start()


if __name__ == "__main__":
    end_with_parent()
    from uvicorn import main

    main()
