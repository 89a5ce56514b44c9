"""What must be set before Prefect, MLflow and Great Expectations are imported: telemetry off, state
in one folder.
"""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

from tasks.settings import Settings

_OFF = {
    "DO_NOT_TRACK": "true",  # "true", not "1": MLflow reads no other value
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    # Nobody can act on a progress bar of MLflow's uploads or on git advice inside a stage.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Our own lines and artifacts name the run's address; MLflow's two stand on stdout, in the
    # middle of a document.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def switches() -> None:
    """Turn off what libraries would send or print; a value that the user has set stays."""
    for name, value in _OFF.items():
        os.environ.setdefault(name, value)


def embed(settings: Settings, *, verbose: bool = False) -> str:
    """Point Prefect at a running server, or else at its own temporary one on `<home>/prefect`.

    Order: PREFECT_API_URL, then a server that `noisefold ui` runs on the same state, then the
    temporary one. Two servers on one SQLite file lock each other out, so the running one is always
    looked for first.

    Returns:
        "given", "ui" or "temporary".
    """
    switches()
    root = settings.root
    (root / "logs").mkdir(parents=True, exist_ok=True)
    given = os.environ.get("PREFECT_API_URL")
    if given:
        mode = "given"
    else:
        os.environ.setdefault("PREFECT_HOME", str(root / "prefect"))
        running = running_server(settings)
        if running:
            os.environ["PREFECT_API_URL"] = running["prefect"] + "/api"
        mode = "ui" if running else "temporary"
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_ENABLED", "true")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    # As the deployments have it: prefect-automations.yaml takes a run that was silent for ten of
    # them to be dead.
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(root / "prefect" / "results"))
    if not verbose:
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("PREFECT_LOGGING_CONFIG_PATH", str(_logging_config(root / "logs")))
    return mode


def running_server(settings: Settings) -> dict[str, Any] | None:
    """The addresses that `noisefold ui` wrote, where its Prefect server still answers."""
    try:
        addresses = json.loads((settings.root / "ui.json").read_text())
        with urllib.request.urlopen(addresses["prefect"] + "/api/health", timeout=1) as answer:
            return addresses if answer.read().strip() == b"true" else None
    except (OSError, ValueError, KeyError):
        return None


def _logging_config(folder: Path) -> Path:
    """Prefect's log goes to a file and to its server; the terminal keeps the summary alone."""
    template = Path(__file__).with_name("logging.yml").read_text()
    target = folder / "logging.yml"
    target.write_text(template.replace("ABSOLUTE_LOG", str(folder / "noisefold.log")))
    return target
