"""A process that imports what its children need and forks each of them from there:
`python fork_server_process.py MODULE…`, started by `tasks.engines.fork_server`.

Standard input is a socket; once it has ended and no child is left, this process ends. A request is
a length, that many bytes of JSON (`Request` there) and four descriptors: the child's standard
input, output and error, and where its process id and, later, its wait status are written, a line
each.

The standard library alone, and nothing of this project: one that runs under `python -I` is to know
no more than what its children bring.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from typing import Any

LENGTH = 8  # bytes of the length before a request
DESCRIPTORS = 4


def main(modules: list[str]) -> dict[str, Any] | None:
    """Fork children until the socket ends. Returns their request in each child, None here."""
    for name in modules:
        # A child that needs it meets the same fault, and says so.
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that a collection in a child does not write to every page they share
    requests = socket.socket(fileno=0)
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    statuses: dict[int, int] = {}  # by process id, where its status is to be written
    with selectors.DefaultSelector() as selector:
        for source in (requests, woken):
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map().get(requests) is not None or statuses:
            for key, _ in selector.select():
                if key.fileobj is woken:
                    woken.recv(4096)
                    _tell_ended(statuses)
                    continue
                received = _receive(requests)
                if received is None:
                    selector.unregister(requests)
                    continue
                request, descriptors = received
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    woken.close()
                    wake.close()
                    requests.detach()  # its number is the child's standard input from now on
                    _become_child(descriptors, list(statuses.values()))
                    return request
                for descriptor in descriptors[:-1]:
                    os.close(descriptor)
                statuses[pid] = descriptors[-1]
                _write(statuses[pid], pid)
    return None


def run(request: dict[str, Any]) -> None:
    """What a fresh interpreter would do: `python -m MODULE ARGUMENTS…`, or `python FILE …`."""
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # which may be what TMPDIR said to an import
    os.chdir(request["folder"])
    with suppress(OSError), open("/proc/self/comm", "w") as name:
        name.write(request["name"])  # as `top` and `ps -o comm` show it
    sys.argv = [request["file"] or "-c", *request["arguments"]]
    if request["module"] is not None:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(request["file"], run_name="__main__")


def _receive(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, descriptors, _, _ = socket.recv_fds(requests, LENGTH, DESCRIPTORS)
    if not head:
        return None
    body = b""
    left = int.from_bytes(head, "big")
    while left > len(body) and (part := requests.recv(left - len(body))):
        body += part
    return (json.loads(body), list(descriptors)) if len(body) == left else None


def _become_child(descriptors: list[int], others: list[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()  # a signal for the terminal's group is its parent's business
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in (*descriptors, *others):
        os.close(descriptor)


def _tell_ended(statuses: dict[int, int]) -> None:
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            descriptor = statuses.pop(pid)
            _write(descriptor, os.waitstatus_to_exitcode(status))
            os.close(descriptor)


def _write(descriptor: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(descriptor, b"%d\n" % number)


if __name__ == "__main__":
    if (asked := main(sys.argv[1:])) is not None:
        run(asked)
