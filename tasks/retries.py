"""Which faults are worth another attempt, and how every step is a Prefect task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State, TaskRun

from data_contracts.errors import NoisefoldError

# Prefect's result cache never looks at the artifact behind a result; the store does, so it is the
# only cache.
STAGE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


# MLflow's, SQLAlchemy's, and what Prefect's client raises while its server is away.
_HEALING = {"MlflowException", "OperationalError", "ClientError", "TransportError"}


class Interrupted(RuntimeError):
    """A worker process was killed or ran out of time; another attempt goes on from what it had
    saved.
    """


class Stopped(Exception):
    """A training was ended after an epoch, as it was told: it leaves no artifact, and is no
    fault.
    """

    def __init__(self, epochs: int, cpu_seconds: float) -> None:
        self.epochs, self.cpu_seconds = epochs, cpu_seconds
        super().__init__(f"Ended after epoch {epochs}.")


class Abandoned(BaseException):
    """This process is about to end, and what a thread of it was waiting for was ended: no fault to
    try again.
    """


def can_heal(error: BaseException) -> bool:
    """Whether another attempt may end otherwise: networks, disks, servers and lost processes heal;
    data does not.
    """
    if isinstance(error, NoisefoldError):
        return False
    if isinstance(error, OSError | TimeoutError | Interrupted):
        return True
    # By name: importing MLflow or SQLAlchemy to ask would cost seconds in stages that never use
    # them.
    return any(kind.__name__ in _HEALING for kind in type(error).__mro__)


RetryCondition = Callable[[Task[..., Any], TaskRun, State], bool]


def healing(failed_attempts: Counter[str]) -> RetryCondition:
    """`retry_condition_fn` of one flow run; counts, by task name, the failed attempts that another
    one follows.

    A plain function on purpose: Prefect takes any other callable, a bound method too, as "never
    retry".
    """

    def condition(task: Task[..., Any], _: TaskRun, state: State) -> bool:
        error = state.result(raise_on_failure=False)
        heals = isinstance(error, BaseException) and can_heal(error)
        failed_attempts[task.name] += heals
        return heals

    return condition
