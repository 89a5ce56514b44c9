"""A real Prefect server for the session, and a debug-sized recipe that runs whole in seconds."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.servers import Server, prefect_server

REPOSITORY = Path(__file__).resolve().parents[2]

TINY = {
    "name": "tiny",
    "source": {"kind": "sample", "rows": 600, "seed": 1},
    "tokenizer": {"kind": "word", "vocab_size": 500},
    "window": {"max_length": 64, "overlap": 8},
    "model": {"embedding": {"size": 8}, "encoder": {"kind": "bilstm_attention", "hidden_size": 8}},
    "training": {"max_epochs": 2, "batch_size": 32},
    "statistics": {"samples": 100},
    "promotion": {"beat_constant": False},  # two epochs of eight units need not be good
    "execution": {"retries": 0, "retry_delay_seconds": 0, "checkpoint_every_steps": 5},
}


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory) -> Server:
    server = prefect_server(tmp_path_factory.mktemp("prefect-server")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    return file


def clean_environment() -> dict[str, str]:
    """What a user's shell has. `mlflow.set_tracking_uri` in a test of this process leaves its
    address in os.environ.
    """
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PREFECT_", "MLFLOW_"))
    }


def mlflow_client(home: Path):
    """A client of the embedded store, for runs and registry alike, whatever address this process
    used before.
    """
    from mlflow import MlflowClient

    uri = f"sqlite:///{home / 'mlflow.db'}"
    return MlflowClient(uri, registry_uri=uri)


def environment(prefect_api: Server, home: Path, **more: str) -> dict[str, str]:
    return {
        **clean_environment(),
        "PREFECT_API_URL": prefect_api.url,
        "NOISEFOLD_HOME": str(home),
        **more,
    }


def retrain_process(
    prefect_api: Server, home: Path, recipe: Path, *options: str, fault: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`noisefold retrain RECIPE --json` as a process of its own, with a fault planted where one is
    named.
    """
    command = (
        [sys.executable, "-m", "tests.pipeline.faulty"]
        if fault
        else [sys.executable, "-P", "-m", "flows.cli.main"]
    )
    return subprocess.run(
        [*command, "retrain", str(recipe), "--json", *options],
        env=environment(prefect_api, home, **({"FAULT": fault} if fault else {})),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )


def result_of(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout)


def prefect(server: Server, home: Path, *arguments: str, timeout: int = 180) -> str:
    """The command `prefect`, which must succeed; returns what it printed."""
    variables = environment(
        server, home, NOISEFOLD_ROOT=str(REPOSITORY), PREFECT_HOME=str(home / "prefect-client")
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        env={**variables, "PATH": path}, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


Command = Callable[..., Result]


@pytest.fixture
def here(prefect_api, monkeypatch) -> Iterator[Command]:
    """`noisefold …` in this process, to save an import of everything: on the session's server,
    Prefect's log silent.

    Called with the state folder, the command's words, and environment variables by name. It is the
    same command, but for what only a process of its own can show: signals, exit, what is printed by
    C code.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.cli.main import main

    def command(home: Path, *words: str | Path, **variables: str) -> Result:
        with monkeypatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            given = {"NOISEFOLD_HOME": str(home), "PREFECT_API_URL": prefect_api.url, **variables}
            for name, value in given.items():
                patch.setenv(name, value)
            return CliRunner().invoke(main, [str(word) for word in words])

    logging.disable(logging.CRITICAL)
    with temporary_settings({PREFECT_API_URL: prefect_api.url}):
        yield command
    logging.disable(logging.NOTSET)


def told(done: Result) -> dict:
    """The JSON of a command that ended well: its whole standard output."""
    assert done.exit_code == 0, (done.output[-3000:], done.exception)
    return json.loads(done.stdout)


def refused(done: Result, *words: str) -> None:
    """It ended by itself, with one clear message: cause and remedy."""
    assert done.exit_code == 1, (done.output[-3000:], done.exception)
    assert "Traceback" not in done.output
    message = done.stderr[done.stderr.index("error: ") :]
    assert len(message.splitlines()) >= 2, "no remedy is given"
    for word in words:
        assert word in message, message


def with_artifacts_of(other: Path, home: Path, *stages: str) -> Path:
    """A state folder to which another one's finished stages came (a store may be copied), so that
    they are cached.
    """
    for stage in stages or [folder.name for folder in (other / "artifacts").iterdir()]:
        shutil.copytree(other / "artifacts" / stage, home / "artifacts" / stage)
    return home


@pytest.fixture(scope="session")
def undisturbed(prefect_api, tiny_recipe, tmp_path_factory) -> tuple[dict, Path]:
    """The result of one whole run that nothing disturbs, and its state folder.

    All tests share it: one may run the same recipe on it again, which changes nothing, and no
    other.
    """
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    return result_of(retrain_process(prefect_api, home, tiny_recipe)), home
