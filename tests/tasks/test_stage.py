"""Which faults another attempt may heal."""

from __future__ import annotations

import httpx
import pytest
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import OperationalError

from data_contracts.errors import SourceError
from tasks.retries import Interrupted, can_heal

HEAL = [
    OSError(28, "No space left on device"),
    TimeoutError(),
    Interrupted("killed"),
    httpx.ConnectError("Prefect's server is away"),
    httpx.ReadTimeout("and slow"),
    MlflowException("no answer"),
    RestException({"error_code": "INTERNAL_ERROR"}),
    OperationalError("INSERT", {}, Exception("database is locked")),
]


@pytest.mark.parametrize("error", HEAL, ids=lambda error: type(error).__name__)
def test_networks_disks_servers_and_lost_processes_heal(error):
    assert can_heal(error)


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), SourceError("x", "y"), KeyboardInterrupt()]
)
def test_data_recipes_and_a_persons_stop_do_not(error):
    assert not can_heal(error)
