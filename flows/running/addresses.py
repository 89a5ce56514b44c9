"""Where a browser finds the two UIs of this run."""

from __future__ import annotations

import os
from dataclasses import dataclass

from data_contracts.urls import shown_url
from flows.running.environment import running_server
from tasks.settings import Settings
from tasks.tracking.runs import run_page, ui_address

DEFAULT_PREFECT = "http://127.0.0.1:4200"  # of `noisefold ui`


@dataclass(frozen=True)
class Addresses:
    prefect: str
    mlflow: str
    running: bool  # `noisefold ui` serves them right now

    def flow_run(self, flow_run_id: str) -> str:
        return f"{self.prefect}/runs/flow-run/{flow_run_id}" if flow_run_id else ""

    def tracked_run(self, experiment_id: str, run_id: str) -> str:
        return f"{self.mlflow}{run_page(experiment_id, run_id)}"


def addresses(settings: Settings) -> Addresses:
    """`noisefold ui`'s, where it serves this state; else those that the environment names, else
    those at which it would serve.
    """
    running = running_server(settings)
    if running is not None:
        return Addresses(running["prefect"], running["mlflow"], True)
    named = os.environ.get("PREFECT_UI_URL") or os.environ.get("PREFECT_API_URL", "")
    prefect = shown_url(named).rstrip("/").removesuffix("/api") or DEFAULT_PREFECT
    return Addresses(prefect, ui_address(settings.tracking_uri), False)
