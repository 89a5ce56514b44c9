"""A wheel in site-packages, run from a folder with modules of the user's own: sample, recipes and
Python names work.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.pipeline.conftest import REPOSITORY, TINY, clean_environment, environment

PACKAGED = ("flows", "tasks", "lightning_modules", "data_contracts")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built without network from a copy, so that the checkout stays free of build folders."""
    source, out = tmp_path_factory.mktemp("source") / "noisefold", tmp_path_factory.mktemp("wheel")
    source.mkdir()
    for name in PACKAGED:
        shutil.copytree(
            REPOSITORY / name,
            source / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in (
        "noisefold.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "prefect.yaml",
        "prefect-automations.yaml",
    ):
        shutil.copy2(REPOSITORY / name, source / name)
    pip("wheel", str(source), "--no-build-isolation", "--wheel-dir", str(out))
    (built,) = out.glob("noisefold-*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pip("install", str(wheel), "--target", str(folder))
    return folder


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A user's folder, with modules whose names are those of the packages."""
    (tmp_path / "flows" / "cli").mkdir(parents=True)
    for name in ("tasks.py", "lightning_modules.py", "flows/__init__.py", "flows/cli/main.py"):
        (tmp_path / name).write_text('raise RuntimeError("this is the module of the user")\n')
    return tmp_path


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def run(
    desk: Path, site: Path, *command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command in the user's folder, which stands before the installed packages on the path of
    modules.
    """
    path = {"PYTHONPATH": os.pathsep.join([".", str(site)]), "NOISEFOLD_HOME": str(desk / "home")}
    return subprocess.run(
        [sys.executable, *command],
        env={**clean_environment(), **variables, **path}, cwd=desk, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_wheel_holds_what_a_user_needs_and_says_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        said = archive.read(metadata).decode()
        held = archive.read("flows/prefect.yaml").decode()
    assert held == (REPOSITORY / "prefect.yaml").read_text(encoding="utf-8"), (
        "the link became what it points at"
    )
    assert {f"{name}/py.typed" for name in PACKAGED} <= names
    assert (
        any(name.endswith("licenses/LICENSE") for name in names)
        and "License-Expression: Apache-2.0" in said
    )
    assert "Provides-Extra: postgres" in said and "Requires-Python: <3.14,>=3.11" in said


@pytest.mark.parametrize("command", [["-m", "noisefold"], ["{site}/bin/noisefold"]])
def test_the_sample_is_found_beside_the_users_own_modules(
    desk: Path, site: Path, command: list[str]
) -> None:
    command = [word.format(site=site) for word in command]
    checked = run(desk, site, *command, "recipe", "check")
    assert (checked.returncode, checked.stderr) == (0, "") and checked.stdout.startswith(
        "sample: valid."
    )
    weekly = run(desk, site, *command, "recipe", "show", "weekly")
    assert f"url: {desk.resolve()}/data/incoming" in weekly.stdout, (
        "a bundled recipe's data is the user's, not pip's"
    )


def test_the_public_names_are_imported_when_they_are_asked_for(desk: Path, site: Path) -> None:
    (
        desk / "lightning_modules.py"
    ).unlink()  # on the path of a script of the user's, that name would be theirs
    code = (
        "import sys, noisefold\n"
        "assert not {'torch', 'prefect', 'mlflow', 'data_contracts'} & set(sys.modules)\n"
        "from noisefold import *\n"
        "assert set(noisefold.__all__) <= set(dir(noisefold)) & set(globals())\n"
        "import torch\n"
        "model = reparameterize(torch.nn.Linear(2, 2), MultiplicativeNoise())\n"
        "assert type(fold(model)) is torch.nn.Linear and float(kl(model)) > 0\n"
        "assert not {'prefect', 'mlflow', 'tasks', 'flows'} & set(sys.modules)\n"
        "print(noisefold.__file__, noisefold.__version__)\n"
    )
    done = run(desk, site, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(site / "noisefold.py"), "0.1.0"]


@pytest.mark.slow
def test_a_worker_carries_out_what_was_deployed_from_it(
    desk: Path, site: Path, prefect_api
) -> None:
    """Without a checkout, and beside the user's own modules."""
    sections = ("source", "tokenizer", "window", "model", "training", "statistics", "promotion")
    changes = [f"--set={name}={json.dumps(TINY[name])}" for name in sections]
    variables = environment(prefect_api, desk / "home", PREFECT_HOME=str(desk / "worker"))
    done = run(
        desk, site, "-m", "noisefold", "deploy", "sample", "--set=name=by-wheel", *changes, **variables
    )  # fmt: skip
    assert done.returncode == 0 and "has no schedule" in done.stdout, done.stdout + done.stderr
    for words in (
        ["deployment", "run", "retrain/by-wheel"],
        ["worker", "start", "--pool", "noisefold", "--type", "process", "--run-once"],
    ):
        done = run(desk, site, "-P", "-m", "prefect", "--no-prompt", *words, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    with SyncPrefectClient(prefect_api.url) as client:
        mine = client.read_deployment_by_name("retrain/by-wheel").id
        (ended,) = [one for one in client.read_flow_runs() if one.deployment_id == mine]
    assert ended.state_name == "Completed", done.stdout[-5000:] + done.stderr[-5000:]
    assert (desk / "home" / "mlflow.db").is_file(), "its state is that of the command"
