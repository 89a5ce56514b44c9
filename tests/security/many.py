"""`python -m tests.security.many FOLDER < cases.json`: `noisefold` commands one after another in
one process.

Imports cost most of a command's time, so cases that differ by a URL share them. Each case is
{"arguments": […], "variables": {…}}; what the n-th writes to the terminal goes to FOLDER/n.out and
n.err, its status to FOLDER/n.status.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from data_contracts import urls
from flows.cli.main import main


def run(case: dict[str, Any], place: Path) -> None:
    before = dict(os.environ)
    os.environ.update(case["variables"])
    urls._values.clear()  # what an earlier case has shown to be secret must not protect this one
    for descriptor, ending in ((1, ".out"), (2, ".err")):
        file = os.open(place.with_suffix(ending), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)
    status: Any = 0
    try:
        main.main(args=case["arguments"], prog_name="noisefold")
    except SystemExit as error:
        status = error.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for name in os.environ.keys() - before.keys() & case["variables"].keys():
            del os.environ[name]
        os.environ.update(before)
    place.with_suffix(".status").write_text(str(status or 0))


if __name__ == "__main__":
    for number, case in enumerate(json.load(sys.stdin)):
        run(case, Path(sys.argv[1]) / str(number))
