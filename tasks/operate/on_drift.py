"""What an alarm of a monitor starts: an automation of the Prefect server runs a deployment."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore

from tasks.operate.deployments import RETRAIN, named
from tasks.operate.notify import DRIFTED, of_model, put


def retrain_on_drift(client: SyncPrefectClient, model: str, deployment: str) -> str:
    """Have the server run a deployment at each alarm about a model. Safe to repeat.

    Returns:
        What there is now, in a sentence.
    Raises:
        NoisefoldError: the server has no such deployment.
    """
    found = named(client, deployment, [RETRAIN])
    name = f"noisefold-drift-{model}"
    content = {
        "name": name,
        "description": f"Runs {found.name} when rows for {model} have drifted.",
        "trigger": of_model(DRIFTED, model),
        "actions": [
            {"type": "run-deployment", "source": "selected", "deployment_id": str(found.id)}
        ],
    }
    put(client, AutomationCore.model_validate(content))
    return f"The server runs {found.name} at each drift that is found for {model} ({name})."
