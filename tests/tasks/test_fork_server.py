"""A stage's child is forked from a process that has imported for it, and is otherwise as one that
was started anew.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.engines.fork_server import Forked, ForkServer, Request

# `decimal` stands for what takes long to import.
TELL = """
import json, os, sys
print(json.dumps({
    "arguments": sys.argv[1:], "folder": os.getcwd(), "said": sys.stdin.readline(),
    "imported": "decimal" in sys.modules, "session": os.getsid(0) == os.getpid(),
    "environment": dict(os.environ), "open": len(os.listdir("/proc/self/fd")),
    "name": open("/proc/self/comm").read().strip(),
}))
"""
WAIT = "import sys; print('begun', flush=True); sys.stdin.read()"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


@pytest.fixture
def server():
    server = ForkServer(("decimal", "no_such_module"), options=("-P",))
    yield server
    server.stop()


def start(server: ForkServer, folder: Path, code: str, *arguments: str, **variables: str) -> Forked:
    environment = {"PATH": os.environ["PATH"], **variables}
    file = folder / f"{len(list(folder.iterdir()))}.py"
    file.write_text(code)
    request = Request("a-child", arguments, environment, str(folder), file=str(file))
    with (folder / "errors").open("ab") as errors:
        child = server.spawn(request, errors=errors)
    assert isinstance(child, Forked)
    return child


def ended(child: Forked, said: str = "") -> tuple[int, str]:
    assert child.stdin is not None and child.stdout is not None
    with child.stdin as stdin, child.stdout as stdout:
        stdin.write(said)
        stdin.close()
        return child.wait(20), stdout.read()


def test_a_child_has_what_it_was_given_and_nothing_of_another(server, tmp_path):
    first = start(server, tmp_path, WAIT)
    status, told = ended(start(server, tmp_path, TELL, "a b", "中", FIRST="1"), said="hello\n")
    found = json.loads(told)
    assert status == 0
    assert found["arguments"] == ["a b", "中"]
    assert (found["folder"], found["said"]) == (str(tmp_path), "hello\n")
    assert found["imported"] and found["session"]
    assert found["name"] == "a-child"
    assert found["environment"].keys() <= {"PATH", "FIRST", "LC_CTYPE"}
    assert found["open"] == 4, "three of its own, and the folder that is listed"
    assert first.poll() is None
    assert ended(first) == (0, "begun\n")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("raise ValueError('by itself')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import atexit, os; atexit.register(os._exit, 9)", 9),
    ],
)
def test_its_exit_status_is_that_of_a_process(server, tmp_path, code, status):
    assert ended(start(server, tmp_path, code))[0] == status
    if status == 1:
        assert "ValueError: by itself" in (tmp_path / "errors").read_text()


def test_it_can_be_ended_and_waited_for(server, tmp_path):
    child = start(server, tmp_path, WAIT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    child.terminate()
    assert ended(child)[0] == -signal.SIGTERM


def test_children_of_one_server_share_its_imports_and_what_is_read_by_them_does_not(
    server, tmp_path
):
    parent = "import os; print(os.getppid())"
    told = "import os, tempfile; print(os.getppid(), tempfile.gettempdir())"
    own = tmp_path / "own"
    own.mkdir()
    _, one = ended(start(server, tmp_path, told, NOISEFOLD_HOME="/a", TMPDIR=str(tmp_path)))
    _, another = ended(start(server, tmp_path, told, NOISEFOLD_HOME="/b", TMPDIR=str(own)))
    (one, folder), (another, own_folder) = one.split(), another.split()
    assert (folder, own_folder) == (str(tmp_path), str(own))
    _, other_threads = ended(start(server, tmp_path, parent, OMP_NUM_THREADS="2"))
    assert one == another != other_threads.strip()


def test_a_server_that_was_killed_takes_its_child_along_and_another_one_is_started(
    server, tmp_path
):
    child = start(server, tmp_path, WAIT)
    os.kill(server._process.pid, signal.SIGKILL)
    assert child.wait(20) == -signal.SIGKILL
    assert ended(child)[0] == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while Path("/proc", str(child.pid)).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path("/proc", str(child.pid)).exists()
    assert ended(start(server, tmp_path, "print('again')")) == (0, "again\n")


def test_stopped_it_is_gone_with_its_child_or_in_the_midst_of_its_imports(tmp_path):
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    at_imports, at_work = ForkServer(("slow",), options=()), ForkServer((), options=("-P",))
    at_imports.start({"PYTHONPATH": str(tmp_path)})
    child = start(at_work, tmp_path, WAIT)
    family = [at_imports._process.pid, at_work._process.pid]
    for server in (at_imports, at_work):
        server.stop()
    assert not [pid for pid in family if Path("/proc", str(pid)).exists()]
    assert ended(child)[0] == -signal.SIGKILL


def test_a_parent_that_was_killed_leaves_neither_server_nor_child(tmp_path):
    code = f"""
import time
from pathlib import Path
from tests.tasks.test_fork_server import WAIT, ForkServer, start
server = ForkServer((), options=())
child = start(server, Path({str(tmp_path)!r}), WAIT)
print(server._process.pid, child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as told:
        family = [int(pid) for pid in told.readline().split()]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while (
        left := [pid for pid in family if Path("/proc", str(pid), "exe").exists()]
    ) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(family) == 2 and not left
