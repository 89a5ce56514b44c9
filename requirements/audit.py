#!/usr/bin/env python3
"""`make audit`: are known faults listed for what the lock files pin?

Uses pip-audit where it is at hand: in the virtual environment or on PATH. Every pinned release is
looked up in its database, by name and version; nothing is installed or resolved. Ends with 1 where
a fault is found, and with 0 where none is, or where there is no tool or no database, which is said:
a release that could not be looked up is not clean.

    python requirements/audit.py [options of pip-audit, such as --vulnerability-service osv]
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
# One file for everything, one for each of torch's builds; the CPU build's version says so, and
# databases do not.
LOCKS = ("base.lock", "torch-cpu.lock", "torch-cuda.lock")
_PIN = re.compile(r"^([A-Za-z0-9][\w.\-]*)==([^\s;\\+]+)", re.M)
NO_TOOL = """pip-audit is not at hand, so nothing was looked up.
Install it outside the project's environment (pipx install pip-audit), so that it is on PATH, and run this again."""
NO_DATABASE = """No release could be looked up: pip-audit did not reach a database of known faults{said}.
Run make audit where one can be reached, or name one: make audit AUDIT="--vulnerability-service osv --osv-url URL"."""


def pins(folder: Path = FOLDER) -> list[str]:
    """name==version of everything that any lock file holds, without local parts such as +cpu."""
    texts = [(folder / name).read_text(encoding="utf-8") for name in LOCKS]
    return sorted({f"{name}=={version}" for text in texts for name, version in _PIN.findall(text)})


def tool() -> list[str] | None:
    beside = Path(sys.executable).with_name("pip-audit")
    found = str(beside) if beside.is_file() else shutil.which("pip-audit")
    return [found] if found else None


def look_up(
    command: list[str], wanted: list[str], options: list[str]
) -> tuple[list[dict[str, Any]], str]:
    """What pip-audit says of each release, and the last line that it said beside that."""
    with tempfile.TemporaryDirectory(prefix="noisefold-audit-") as folder:
        file = Path(folder) / "pins.txt"
        file.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        # The pins name every package, so there is nothing to resolve, and pip is not asked.
        fixed = [
            "--requirement",
            str(file),
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner=off",
        ]
        done = subprocess.run(
            [*command, *fixed, *options], capture_output=True, text=True, cwd=folder
        )
    said = (done.stderr.strip().splitlines() or [""])[-1]
    try:
        return list(json.loads(done.stdout)["dependencies"]), said
    except (ValueError, KeyError, TypeError):
        return [], said


def report(found: list[dict[str, Any]], wanted: int, said: str) -> tuple[str, int]:
    """What a person reads, and the exit status."""
    looked_up = [one for one in found if "skip_reason" not in one]
    if not looked_up:
        return NO_DATABASE.format(said=f" ({said[:200]})" if said and not found else ""), 0
    lines, faults = [], 0
    for one in looked_up:
        for fault in one.get("vulns") or []:
            faults += 1
            fixed = ", ".join(fault.get("fix_versions") or []) or "no release yet"
            names = " ".join([fault["id"], *(fault.get("aliases") or [])])
            lines.append(f"{one['name']} {one['version']}: {names}; mended in {fixed}")
    left = wanted - len(looked_up)
    lines.append(
        f"{len(looked_up)} of {wanted} pinned releases were looked up, {faults} known faults."
    )
    if left:
        skipped = sorted(one["name"] for one in found if "skip_reason" in one)
        shown = ", ".join(skipped[:10]) + (", …" if len(skipped) > 10 else "")
        lines.append(
            f"{left} could not be looked up, so nothing is known of them: "
            f"{shown or 'not answered'}."
        )
    if faults:
        lines.append(
            "Raise the pin in pyproject.toml where there is one, then make lock; CONTRIBUTING.md "
            "says how."
        )
    return "\n".join(lines), 1 if faults else 0


def main(options: list[str]) -> int:
    command, wanted = tool(), pins()
    if command is None:
        print(NO_TOOL)
        return 0
    found, said = look_up(command, wanted, options)
    text, status = report(found, len(wanted), said)
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
