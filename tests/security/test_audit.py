"""`make audit`: faults are told and fail it; without a tool or a database it says so, and does not
call that clean.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# As pip-audit 2.10 writes it.
FAULT = {
    "id": "PYSEC-2026-1",
    "fix_versions": ["99.0"],
    "aliases": ["CVE-2026-1"],
    "description": "…",
}


def audit(folder: Path, answer: str | None, *options: str) -> tuple[int, str]:
    """Status and words, with a `pip-audit` on PATH that gives this answer to the pins that it is
    asked about.
    """
    if answer is not None:
        tool = folder / "pip-audit"
        tool.write_text(
            f"#!{sys.executable}\nimport json, sys\narguments = sys.argv[1:]\n" + answer
        )
        tool.chmod(0o755)
    # Another interpreter's name: the environment of the tests may hold a pip-audit of its own
    # beside it.
    run = f"import runpy, sys; sys.executable = '{folder}/bin/python'; sys.argv = ['audit', *{list(options)}]"
    done = subprocess.run(
        [sys.executable, "-c", f"{run}; runpy.run_path('requirements/audit.py', "
                               f"run_name='__main__')"],
        cwd=REPOSITORY, env={**os.environ, "PATH": str(folder)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


ASKED = """
assert "--no-deps" in arguments and "--disable-pip" in arguments
pins = open(arguments[arguments.index("--requirement") + 1]).read().split()
asked = [dict(zip(("name", "version"), pin.split("=="))) for pin in pins]
"""


def test_every_pin_of_every_lock_is_looked_up(tmp_path: Path) -> None:
    answer = (
        ASKED
        + "print(json.dumps({'dependencies': [{**one, 'vulns': []} for one in asked], 'fixes': "
        "[]}))"
    )
    status, told = audit(tmp_path, answer, "--vulnerability-service", "osv")
    locks = [
        (REPOSITORY / "requirements" / f"{name}.lock").read_text()
        for name in ("base", "torch-cpu", "torch-cuda")
    ]
    lines = [
        line for lock in locks for line in lock.splitlines() if "==" in line and line[0].isalnum()
    ]
    pins = {line.split()[0].split("+")[0] for line in lines}
    assert (status, told) == (
        0,
        f"{len(pins)} of {len(pins)} pinned releases were looked up, 0 known faults.\n",
    )
    assert len(pins) > 150


def test_a_known_fault_fails_it_and_is_told(tmp_path: Path) -> None:
    answer = (
        ASKED
        + f"""
for one in asked:
    one["vulns"] = [{FAULT!r}] if one["name"] == "jinja2" else []
print(json.dumps({{"dependencies": asked, "fixes": []}}))
sys.exit(1)
"""
    )
    status, told = audit(tmp_path, answer)
    assert status == 1
    assert (
        "jinja2" in told
        and "PYSEC-2026-1 CVE-2026-1; mended in 99.0" in told
        and "1 known faults" in told
    )


@pytest.mark.parametrize(
    "answer",
    [
        "print('ERROR: no route to host', file=sys.stderr); sys.exit(1)",
        # A package index without a database: every release is skipped, and the tool calls that
        # clean.
        ASKED + "found = [{'name': one['name'], 'skip_reason': 'not found'} for one in asked]\n"
        "print(json.dumps({'dependencies': found}))",
    ],
)
def test_without_a_database_it_says_so(tmp_path: Path, answer: str) -> None:
    status, told = audit(tmp_path, answer)
    assert status == 0
    assert "No release could be looked up" in told and "--vulnerability-service" in told
    assert "were looked up" not in told


def test_what_could_not_be_looked_up_is_not_called_clean(tmp_path: Path) -> None:
    found = "[{**asked[0], 'vulns': []}, {'name': 'b', 'skip_reason': 'x'}]"
    answer = ASKED + f"print(json.dumps({{'dependencies': {found}}}))"
    status, told = audit(tmp_path, answer)
    assert (
        status == 0
        and "1 of " in told
        and "could not be looked up, so nothing is known of them: b." in told
    )


def test_without_a_tool_it_says_what_to_do(tmp_path: Path) -> None:
    status, told = audit(tmp_path, None)
    assert status == 0 and "not at hand" in told and "pipx install pip-audit" in told
