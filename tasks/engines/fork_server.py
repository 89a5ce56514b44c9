"""Children that need not import: a process has imported for them, and forks.

A training's child imports PyTorch Lightning for some six CPU seconds, the process that a version is
served in for the check MLflow and torch for three. A search pays that with every trial, a retrain
while its data stages leave a core idle. `ForkServer.start` begins the imports; `spawn` gives a
child that is forked from there, with its own environment, folder, session and descriptors, as a
fresh `python -m` or `python FILE` would have them.

What a fork may not inherit is not there: the server runs no tensor operation, starts no thread and
does not touch CUDA. Where there is no such fork (macOS, Windows) a child is a fresh process.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Protocol

from tasks.engines import fork_server_process

# Variables by which runs differ and that no library reads while it is imported. With any other one
# changed, a child is forked from a server that was started with it.
_NOT_READ_BY_IMPORTS = (
    "NOISEFOLD_",
    "PREFECT_",
    "MLFLOW_TRACKING_",
    "PYTEST_",
    "TMPDIR",  # of each run its own; the child forgets what `tempfile` has made of it
)
IMPORT_SECONDS = 300.0  # on a machine with far too much to do


@dataclass(frozen=True)
class Request:
    """What a child carries out: `module` or `file` with `arguments`, in `folder`.

    Attributes:
        name: up to 15 characters, as `top` shows the process.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    module: str | None = None
    file: str | None = None


class Child(Protocol):
    """What is used of a `subprocess.Popen`."""

    pid: int
    stdin: IO[str] | None
    stdout: IO[str] | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@dataclass
class ForkServer:
    """One process that has imported `modules`, and is started when first needed.

    Args:
        modules: what its children import; a server that cannot import one forks nevertheless.
        options: of the interpreter.
    """

    modules: tuple[str, ...]
    options: tuple[str, ...]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _requests: socket.socket | None = field(default=None, init=False)
    _imported_with: dict[str, str] = field(default_factory=dict, init=False)
    _retired: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False)

    def start(self, environment: Mapping[str, str]) -> None:
        """Begin the imports, if they have not begun; returns at once."""
        if sys.platform != "linux":
            return
        with self._lock:
            wanted = _read_by_imports(environment)
            alive = self._process is not None and self._process.poll() is None
            if alive and wanted == self._imported_with:
                return
            self._retire()
            ours, theirs = socket.socketpair()
            file = str(Path(fork_server_process.__file__))
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, *self.options, file, *self.modules],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=dict(environment),
                    start_new_session=True,
                )
            self._requests, self._imported_with = ours, wanted
            atexit.register(self.stop)

    def stop(self) -> None:
        """End the server, at its imports too, and with it what children are still at work."""
        with self._lock:
            atexit.unregister(self.stop)
            self._retire()
            for process in self._retired:
                process.kill()
                process.wait()
            self._retired.clear()

    def _retire(self) -> None:
        """Ask no more of the server. It ends when the last of its children has."""
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            self._retired.append(self._process)
        self._process = self._requests = None
        self._retired = [one for one in self._retired if one.poll() is None]

    def spawn(
        self, request: Request, *, errors: IO[bytes], output: IO[bytes] | None = None
    ) -> Child:
        """Start a child; its standard input is a pipe, and its output too where no file is given.

        Raises:
            OSError: twice no child could be started.
        """
        if sys.platform != "linux":
            return _fresh(self.options, request, errors, output)
        with self._lock:
            self.start(request.environment)
            try:
                return self._fork(request, errors, output)
            except OSError:  # it has died since: of a kill that was meant for all, or of memory
                self._retire()
                self.start(request.environment)
                return self._fork(request, errors, output)

    def _fork(self, request: Request, errors: IO[bytes], output: IO[bytes] | None) -> Forked:
        assert self._requests is not None
        body = json.dumps(asdict(request)).encode()
        head = len(body).to_bytes(fork_server_process.LENGTH, "big")
        with ExitStack() as theirs, ExitStack() as ours:
            stdin = _pipe(theirs, ours, to_child=True)
            stdout = _pipe(theirs, ours) if output is None else (output.fileno(), None)
            status = _pipe(theirs, ours)
            sent = [stdin[0], stdout[0], errors.fileno(), status[0]]
            socket.send_fds(self._requests, [head], sent)
            self._requests.sendall(body)
            theirs.close()
            assert status[1] is not None
            child = Forked(stdin[1], stdout[1], status[1])
            ours.pop_all()
            return child


class Forked:
    """A child of the fork server, with the surface of a `subprocess.Popen`."""

    def __init__(self, stdin: IO[str] | None, stdout: IO[str] | None, status: IO[str]) -> None:
        self.stdin, self.stdout = stdin, stdout
        self.pid = 0
        self.returncode: int | None = None
        self._forked, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._follow, args=(status,), daemon=True).start()
        if not self._forked.wait(IMPORT_SECONDS) or not self.pid:
            raise OSError("the process that forks a stage's children has ended, or hangs")

    def _follow(self, status: IO[str]) -> None:
        with status:
            self.pid = int(status.readline() or 0)  # it comes when the imports are done
            self._forked.set()
            line = status.readline()
        if not line and self.pid:  # the server has gone, and nobody else can end this child for it
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.returncode = int(line) if line else -signal.SIGKILL
        self._ended.set()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; that of a kill where the server has gone and nobody can know it.

        Raises:
            subprocess.TimeoutExpired: it has not ended within so many seconds.
        """
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _pipe(theirs: ExitStack, ours: ExitStack, *, to_child: bool = False) -> tuple[int, IO[str]]:
    """The child's end of a new pipe, and this process's."""
    read, write = os.pipe()
    child, parent = (read, write) if to_child else (write, read)
    theirs.callback(os.close, child)
    return child, ours.enter_context(os.fdopen(parent, "w" if to_child else "r"))


def _fresh(
    options: Sequence[str], request: Request, errors: IO[bytes], output: IO[bytes] | None
) -> Child:
    what = ["-m", request.module] if request.module else [request.file or ""]
    return subprocess.Popen(
        [sys.executable, *options, *what, *request.arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if output is None else output,
        stderr=errors,
        text=True,
        env=dict(request.environment),
        cwd=request.folder,
        start_new_session=True,
    )


def _read_by_imports(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_NOT_READ_BY_IMPORTS)
    }
