"""A run that failed says so by an event of its own, which `noisefold notify` listens to.

# Note [an event of our own]
Prefect's server holds an event back until it has seen the one that it follows, a quarter of an hour
at most. For a run that a schedule made, Prefect 3.8.8 sends no event of its first state, so that
all later ones of its states wait that long. An event that follows none is heard at once.
"""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from tasks.operate.notify import FAILED


def tell_failed(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """A hook of the flows. A temporary server tells nobody."""
    if not PREFECT_API_URL.value():
        return
    related = {
        "prefect.resource.id": f"prefect.flow.{flow_run.flow_id}",
        "prefect.resource.role": "flow",
        "prefect.resource.name": flow.name,
    }
    resource = {
        "prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
        "prefect.resource.name": flow_run.name,
    }
    emit_event(FAILED, resource, related=[related], payload={"state": state.name})
