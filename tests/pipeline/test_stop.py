"""SIGTERM and Ctrl-C: a clean stop, nothing left running, both UIs told; the same command goes on
from there.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.tracking.bookkeeping import of_run
from tests.pipeline.conftest import TINY, mlflow_client
from tests.pipeline.world import Retrain, World, family_of, survivors

# So long that no machine trains to the end before the signal arrives; an epoch so long that few
# signals meet its end.
CHANGES = {
    "training.max_epochs": 200,
    "training.patience": 199,
    "training.batch_size": 2,
    "execution.checkpoint_every_steps": 100_000,
}
LONGER = [part for name, value in CHANGES.items() for part in ("--set", f"{name}={value}")]


def in_training(state: Path, _: Retrain) -> Callable[[], bool]:
    """There are more metric points than when this was called: the training process makes steps."""

    def size() -> int:
        return sum(file.stat().st_size for file in state.glob("work/train-*/metrics.jsonl"))

    before = size()
    return lambda: size() > before


def in_validate(_: Path, run: Retrain) -> Callable[[], bool]:
    return run.ended["ingest"].is_set


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stop_is_clean_and_the_same_command_goes_on(prefect_api, tmp_path):
    world, state = World(tmp_path / "world", prefect_api), tmp_path / "state"
    stops = [
        (signal.SIGTERM, in_validate, 143),
        (signal.SIGTERM, in_training, 143),
        (signal.SIGINT, in_training, 130),
    ]
    saved: list[int] = []

    def within_an_epoch() -> bool:
        return any(step % -(-rows_of(state) // CHANGES["training.batch_size"]) for step in saved)

    while stops:
        number, where, status = stops.pop(0)
        run = Retrain(world, tmp_path, TINY["name"], *LONGER)
        ready = where(state, run)
        while not ready():
            assert run.process.poll() is None, run.errors
            time.sleep(0.05)
        family = family_of(run.process.pid)
        run.process.send_signal(number)
        assert run.wait(120) == status, run.errors
        assert not survivors(family, seconds=0), (
            "the training process is ended before the command is"
        )
        assert run.errors.splitlines()[-1].startswith("Stopped. What is finished is kept")
        assert "Traceback" not in run.errors
        client = mlflow_client(state)
        (mlflow_run,) = client.search_runs(
            [client.get_experiment_by_name("noisefold-tiny").experiment_id]
        )
        assert mlflow_run.info.status == "KILLED"
        assert (
            state_in_prefect(prefect_api, of_run(mlflow_run)["noisefold.flow_run_id"]) == "Crashed"
        )
        assert not list(state.glob("leases/*.json")) + list(state.glob("work/scratch/*"))
        if where is in_training:
            went_on = re.findall(r"Training goes on from step (\d+)", run.errors)
            assert [int(step) for step in went_on] == saved[-1:]
            saved.append(
                max(
                    int(f.name.split("-")[1])
                    for f in state.glob("work/train-*/checkpoints/step-*.ckpt")
                )
            )
        # A signal that arrives during an epoch's validation rightly finds that epoch's own
        # checkpoint: one more then.
        if not stops and not within_an_epoch() and len(saved) < 5:
            stops.append((signal.SIGTERM, in_training, 143))
    assert saved == sorted(set(saved)), "each went on from where the one before it was stopped"
    assert within_an_epoch(), (
        "with checkpoints at the ends of epochs only, a step in between was saved for the signal"
    )


def rows_of(state: Path) -> int:
    import pyarrow.parquet as pq

    (file,) = state.glob("artifacts/tokenize/*/train.parquet")
    return pq.read_metadata(file).num_rows


def state_in_prefect(server, flow_run_id: str) -> str:
    from prefect.client.orchestration import PrefectClient

    async def read() -> str:
        async with PrefectClient(server.url) as client:
            return (await client.read_flow_run(flow_run_id)).state_name or ""

    return asyncio.run(read())
