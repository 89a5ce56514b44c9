"""What the house promises: imports point one way, light commands stay light, nothing is unpinned."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
ORDER = ["flows", "tasks", "lightning_modules", "data_contracts"]


def imports(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    return names | {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_one_way(package):
    above = ORDER[: ORDER.index(package)]
    for file in (REPOSITORY / package).rglob("*.py"):
        for name in imports(file):
            assert name.split(".")[0] not in above, f"{file.relative_to(REPOSITORY)} imports {name}"


def test_the_mathematics_knows_no_orchestrator_and_no_tracking_server():
    for file in (REPOSITORY / "lightning_modules").rglob("*.py"):
        heavy = {name.split(".")[0] for name in imports(file)} & {
            "prefect",
            "mlflow",
            "great_expectations",
        }
        assert not heavy, f"{file.name} imports {heavy}"


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["recipe", "show"],
        ["recipe", "check"],
        ["recipe", "schema"],
        ["retrain", "--help"],
        ["compare", "--help"],
    ],
)
def test_light_commands_import_nothing_heavy(command):
    code = (
        "import sys\nfrom flows.cli.main import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit as end:\n    assert not end.code, "
        f"end.code\n"
        "heavy = {'torch', 'prefect', 'mlflow', 'great_expectations', 'pandas', 'pyarrow'} & "
        "set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr


HEAVY = (
    "torch",
    "prefect",
    "pytorch_lightning",
    "matplotlib",
    "great_expectations",
    "sklearn",
    "mlflow.pyfunc",
)


def test_history_loads_no_more_than_it_is_asked_for(tmp_path):
    code = (
        "import sys\nfrom flows.cli.main import main\n"
        "try:\n    main(['history', '--model', 'noisefold-nobody'])\n"
        "except SystemExit as end:\n    assert end.code == 1\n"
        f"heavy = set({HEAVY!r}) & set(sys.modules)\n"
        "assert not heavy, heavy\nassert 'mlflow' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=300,
        env={**os.environ, "NOISEFOLD_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "There is no model named noisefold-nobody" in " ".join(done.stderr.split())


def test_prefect_reads_its_settings_after_they_are_made():
    """Prefect reads the environment when it is imported: before `embed` it would take no notice of
    what that sets.
    """
    code = "import sys, flows.cli.terminal\nassert not {'prefect', 'mlflow', 'torch'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr


def test_every_locked_requirement_has_a_hash():
    for lock in ("base", "torch-cpu", "torch-cuda"):
        text = (REPOSITORY / "requirements" / f"{lock}.lock").read_text()
        pins = re.findall(r"^[A-Za-z0-9].*?(?=^[A-Za-z0-9]|\Z)", text, re.M | re.S)
        assert pins and all("==" in pin and "--hash=sha256:" in pin for pin in pins), lock


def test_locks_hold_what_the_project_asks_for():
    base = (REPOSITORY / "requirements" / "base.lock").read_text()
    asked = re.findall(
        r'^    "([a-z-]+)==([\d.]+)",$', (REPOSITORY / "pyproject.toml").read_text(), re.M
    )
    assert len(asked) >= 8
    for name, version in asked:
        lock = (
            base
            if name != "torch"
            else (REPOSITORY / "requirements" / "torch-cuda.lock").read_text()
        )
        assert f"{name}=={version}" in lock
    assert "\ntorch==" not in base and "\nnvidia-" not in base


SYSTEMS = [
    ("linux", "Linux", "x86_64"),
    ("linux", "Linux", "aarch64"),
    ("darwin", "Darwin", "arm64"),
]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", SYSTEMS, ids="-".join)
def test_the_locks_hold_everything_on_each_python_and_system(python, system):
    """What each locked package asks for there, by its own metadata, is locked there, and once."""
    platform, name, machine = system
    there = {
        **default_environment(), "python_version": python, "python_full_version": f"{python}.4",
        "sys_platform": platform, "platform_system": name, "platform_machine": machine, "extra": "",
    }  # fmt: skip

    def applies(requirement: Requirement) -> bool:
        return requirement.marker is None or requirement.marker.evaluate(there)

    lines = [line for lock in ("base", "torch-cpu") for line in pins(lock) if applies(line)]
    names = [canonicalize_name(line.name) for line in lines]
    assert sorted(names) == sorted(set(names))
    (torch,) = (line for line in lines if line.name == "torch")
    wanted = re.search(r'"torch(==[\d.]+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert wanted and str(torch.specifier) == wanted[1] + ("+cpu" if platform == "linux" else "")
    for one in names:
        try:
            asked = [Requirement(text) for text in requires(one) or []]
        except PackageNotFoundError:  # what another system has
            continue
        missing = {canonicalize_name(each.name) for each in asked if applies(each)} - set(names)
        assert not missing or one == "torch", f"{one} asks for {missing}"


def pins(lock: str) -> list[Requirement]:
    lines = (REPOSITORY / "requirements" / f"{lock}.lock").read_text().splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalnum()]


def test_the_cpu_build_of_torch_is_known_for_each_python_and_processor():
    block = (REPOSITORY / "requirements" / "torch-cpu.lock").read_text().split("torch==")[1]
    assert len(set(re.findall(r"--hash=sha256:[0-9a-f]{64}", block))) >= 6, (
        "3.11 to 3.13 on x86-64 and aarch64"
    )
