"""Two machines promote at once: whoever comes last is champion, and both stand in the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tasks.operate.releases import history
from tasks.settings import Settings
from tasks.tracking.aliases import CHAMPION
from tasks.tracking.runs import connect
from tests.pipeline.conftest import REPOSITORY, clean_environment
from tests.servers import mlflow_server

ROUNDS = 6
# A state folder of its own stands for a machine of its own: no lock is shared.
PROMOTE = """
import json, sys
from pathlib import Path
from tasks.operate.releases import promote_version
from tasks.settings import Settings
who, home, *uris = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
moved = {}
for uri in uris:
    settings = Settings.model_construct(home=Path(home), artifacts=None, mlflow_tracking_uri=uri)
    whys = [f"{who} {n}" for n in range(ROUNDS)]
    moved[uri] = [
        why for n, why in enumerate(whys) if promote_version(settings, "m", str(1 + n % 2), why, checked=False).moved
    ]
print(json.dumps(moved), flush=True)
"""


def settings(home: Path, uri: str) -> Settings:
    return Settings.model_construct(home=home, artifacts=None, mlflow_tracking_uri=uri)


def test_no_promotion_loses_the_line_of_another(tmp_path: Path) -> None:
    """Against an MLflow server, and against one SQLite file."""
    server = mlflow_server(tmp_path)
    uris = [server.url, f"sqlite:///{tmp_path / 'shared.db'}"]
    try:
        server.start()
        for uri in uris:
            client, _ = connect(settings(tmp_path / "reader", uri))
            client.create_registered_model("m")
            for _ in range(2):
                logged = client.create_logged_model("0")
                client.create_model_version(
                    "m", f"models:/{logged.model_id}", model_id=logged.model_id
                )
        machines = {
            who: subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    PROMOTE.replace("ROUNDS", str(ROUNDS)),
                    who,
                    str(tmp_path / who),
                    *uris,
                ],
                env=clean_environment(),
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for who in ("ann", "bob")
        }
        assert [machine.stdout.readline() for machine in machines.values()] == ["ready\n"] * 2
        for machine in machines.values():
            machine.stdin.write("go\n")
            machine.stdin.flush()
        said = {
            who: json.loads(machine.communicate(timeout=200)[0])
            for who, machine in machines.items()
        }
        for uri in uris:
            found = history(settings(tmp_path / "reader", uri), "m")
            moves = [move for move in found.moves if move.alias == CHAMPION]
            told = sorted(why for who in said for why in said[who][uri])
            assert sorted(move.why.removesuffix(" (unchecked)") for move in moves) == told
            assert {why.split()[0] for why in told} == {"ann", "bob"}
            assert found.aliases[CHAMPION] in ("1", "2")
        for who in said:
            lines = [
                json.loads(line)
                for line in (tmp_path / who / "ledger.jsonl").read_text().splitlines()
            ]
            assert all(line["why"].startswith((who, "Version")) for line in lines)
    finally:
        server.stop()
