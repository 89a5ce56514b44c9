"""`--json`: standard output is the command's document, whatever a library, C code or a child
process prints there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NOISE = """
import os, subprocess, sys
from flows.cli.document import document

with document({only}) as out:
    print("a library")
    os.write(1, b"C code\\n")
    subprocess.run([sys.executable, "-c", "print('a child')"])
    print('{{"answer": "42 · 四十二"}}', file=out)
print("afterwards")
"""


def printed(only: bool) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", NOISE.format(only=only)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_nothing_but_the_document_reaches_standard_output() -> None:
    done = printed(only=True)
    document, _, after = done.stdout.partition("\n")
    assert json.loads(document) == {"answer": "42 · 四十二"}
    assert after == "afterwards\n"
    for noise in ("a library", "C code", "a child"):
        assert noise in done.stderr


def test_without_json_everything_is_printed_as_ever() -> None:
    done = printed(only=False)
    assert {"a library", "C code", "a child", "afterwards"} <= set(done.stdout.splitlines())
    assert done.stderr == ""


def test_a_reader_that_goes_away_ends_the_command_in_silence() -> None:
    code = (
        "import click\nfrom flows.cli.main import Friendly\nfrom flows.cli.document import "
        "document\n"
        "@click.group(cls=Friendly)\ndef main(): pass\n"
        "@main.command()\ndef lines():\n    with document(True) as out:\n"
        "        for number in range(100_000):\n            print(number, file=out)\n"
        "main(['lines'])"
    )
    done = subprocess.run(
        f'"{sys.executable}" -c "$CODE" | head -n 1; echo "${{PIPESTATUS[0]}}"',
        env={"CODE": code, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, shell=True, executable="/bin/bash", timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n0\n", "")
