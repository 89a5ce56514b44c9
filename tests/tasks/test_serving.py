"""The registered model away from home: another environment, another folder, nothing of this
repository on the path.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest

from lightning_modules.bundle import Bundle
from lightning_modules.kinds.classify.answering import predict_proba
from tests.stages import promote_model

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

pytest_plugins = ["tests.tasks.mlflow_fixtures"]
pytestmark = pytest.mark.slow

TEXTS = ["great lovely fast", "太差了，不推荐", "parcel arrived monday", "非常好" * 40]

# Runs in the clean environment. Nothing may be unpickled while the model loads.
PREDICT = """
import json, pickle, sys
import mlflow.pyfunc, pandas, torch

def refuse(*args, **kwargs):
    raise AssertionError("something was unpickled")

for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
    setattr(module, name, refuse)
folder, texts = sys.argv[1], json.loads(sys.argv[2])
answer = mlflow.pyfunc.load_model(folder).predict(pandas.DataFrame({"text": texts}))
homes = {name: sys.modules[name].__file__ for name in ("lightning_modules.bundle", "mlflow")}
print(json.dumps({"answer": answer.to_dict("list"), "homes": homes}))
"""


@pytest.fixture
def champion(world: World, tmp_path: Path) -> tuple[World, str, np.ndarray]:
    """A promoted model, its URI by alias, and the probabilities that it owes for `TEXTS`."""
    model = world.model()
    report = world.evaluate(model, calibrate=True)
    registered = world.register(model, report)
    decision = promote_model(
        registered,
        model,
        report,
        world.tokens,
        world.corpus,
        recipe=world.recipe,
        store=world.store,
        tracker=world.tracker,
        ledger=tmp_path / "ledger.jsonl",
    )
    assert decision.promoted
    bundle = Bundle.load(world.store.open(model) / "bundle")
    bundle.facts["temperature"] = report.facts["temperature"]
    return world, f"models:/{world.recipe.model_name}@champion", predict_proba(bundle, TEXTS)


def bare_environment(**more: str) -> dict[str, str]:
    """No PYTHONPATH, and nothing that says where this repository or its state is."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "NOISEFOLD", "MLFLOW"))
    }
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", **more}


def probabilities(world: World, answer: dict[str, Any]) -> np.ndarray:
    return np.column_stack(
        [answer[f"probability_{label}"] for label in world.tokens.facts["labels"]]
    )


def test_champion_predicts_the_same_in_an_environment_of_its_own_requirements(
    champion: tuple[World, str, np.ndarray], tmp_path: Path
) -> None:
    world, uri, expected = champion
    folder = Path(
        mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(tmp_path / "model"))
    )
    home = tmp_path / "clean"
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    requirements = ["-r", str(folder / "requirements.txt")]
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *requirements,
    ]
    subprocess.run(install, check=True, env=bare_environment(), cwd=tmp_path, timeout=500)
    result = subprocess.run(
        [python, "-c", PREDICT, str(folder), json.dumps(TEXTS)],
        cwd=tmp_path,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "mismatch" not in result.stderr, result.stderr
    told = json.loads(result.stdout)
    assert told["homes"]["lightning_modules.bundle"].startswith(str(folder))
    assert told["homes"]["mlflow"].startswith(str(home))
    assert np.abs(probabilities(world, told["answer"]) - expected).max() < 1e-6
    assert told["answer"]["label"] == [
        world.tokens.facts["labels"][i] for i in expected.argmax(axis=1)
    ]


@pytest.fixture
def server(champion: tuple[World, str, np.ndarray], tmp_path: Path) -> Iterator[str]:
    world, uri, _ = champion
    with model_server(uri, world.tracker.tracking_uri, tmp_path) as address:
        yield address


@contextmanager
def model_server(uri: str, tracking_uri: str, folder: Path) -> Iterator[str]:
    """`mlflow models serve` from this environment, started in a folder that is not the repository."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scripts = str(Path(sys.executable).parent)  # MLflow starts uvicorn by name
    environment = bare_environment(
        PATH=scripts + os.pathsep + os.environ["PATH"],
        MLFLOW_TRACKING_URI=tracking_uri,
    )
    command = [
        "mlflow",
        "models",
        "serve",
        "-m",
        uri,
        "--env-manager",
        "local",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(scripts) / command[0]), *command[1:]],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not answers(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


def no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def post(address: str, body: dict[str, Any]) -> tuple[int, Any]:
    data = json.dumps(body).encode()
    request = urllib.request.Request(
        f"{address}/invocations", data, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response, parse_constant=no_json)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_served_champion_answers_and_refuses_clearly(
    champion: tuple[World, str, np.ndarray], server: str
) -> None:
    world, _, expected = champion
    status, answer = post(server, {"dataframe_records": [{"text": text} for text in TEXTS]})
    assert status == 200, answer
    rows = answer["predictions"]
    table = {name: [row[name] for row in rows] for name in rows[0]}
    assert np.abs(probabilities(world, table) - expected).max() < 1e-6
    assert [row["label"] for row in rows] == ["positive", "negative", "没有意见", "positive"]
    for nothing in ("", None, " \n"):
        records = [{"text": TEXTS[0]}, {"text": nothing}, {"text": TEXTS[1]}]
        status, answer = post(server, {"dataframe_records": records})
        assert status == 200, answer
        assert [row["label"] for row in answer["predictions"]] == ["positive", None, "negative"]
        assert set(answer["predictions"][1].values()) == {None}, "null, not NaN"
        assert answer["predictions"][2] == pytest.approx(rows[1], abs=1e-6)
    status, answer = post(server, {"dataframe_records": [{"text": None}]})
    assert (status, set(answer["predictions"][0].values())) == (200, {None})
    for body, message in (
        ({"dataframe_records": [{"txt": "a"}]}, "text"),
        ({"nonsense": 1}, "inputs"),
    ):
        status, answer = post(server, body)
        assert 400 <= status < 500, (body, status, answer)
        assert message in answer, (body, answer)
