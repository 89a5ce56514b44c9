"""Who retrains what, now: a lease with an expiry, so that a recipe and a registered model have one
retrain at a time.

A lease is a file in `<home>/leases/`, renewed by a thread and removed at the end of the run,
however it ends. One whose owner died is no lease: the next run of the same work takes its place and
closes what the owner left open (`left`).

# Note [when an owner is dead]
On the same machine (one boot, one set of process numbers) the kernel knows: the process is gone, or
its number belongs to another one, which started at another time. A live process keeps its lease,
however long it is stopped. On another machine that shares the state folder only the clock tells:
dead once the lease has expired. An owner that was only out of reach so long finds its lease taken,
and stops at its next stage (`Held.check`).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.errors import NoisefoldError
from tasks.artifacts.store import digest_of, write_durably
from tasks.tracking.runs import user_name

# From a renewal to the expiry; clocks of machines that share a state folder may differ by a minute.
SECONDS = 120.0
RENEW_SECONDS = 30.0
EVERYTHING = "*"
_TAG = "process:"
CLEANING = "gc"
# A run waits this long for gc, whatever its recipe says: a night must not fail for tidying.
CLEANING_SECONDS = 300.0


class Owner(BaseModel):
    """A process, and the runs that show what it does."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    user: str
    host: str
    machine: str
    pid: int
    started: str
    flow_run_id: str = ""
    flow_run_name: str = ""
    run_id: str = ""

    def __str__(self) -> str:
        name = f", Prefect run {self.flow_run_name}" if self.flow_run_name else ""
        return f"{self.user} on {self.host} (process {self.pid}{name})"

    @property
    def tag(self) -> str:
        """For the tags of a Prefect run, which are there from its first moment on."""
        return f"{_TAG}{self.pid}/{self.started}/{self.machine}"

    @classmethod
    def of_tags(cls, tags: Iterable[str]) -> Owner | None:
        parts = next(
            (tag.removeprefix(_TAG).split("/") for tag in tags if tag.startswith(_TAG)), []
        )
        if len(parts) != 3 or not parts[0].isdecimal():
            return None
        return cls(user="", host="", pid=int(parts[0]), started=parts[1], machine=parts[2])

    @property
    def here(self) -> bool:
        """Whether this process can see it, if it lives."""
        return self.machine == this_machine()

    @property
    def running(self) -> bool:
        """Of an owner that is `here`."""
        return process_started(self.pid) == self.started


class Lease(BaseModel):
    """What is being done, what nobody else may do meanwhile, and by whom."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    work: str
    holds: tuple[str, ...]
    owner: Owner
    taken_at: datetime
    expires_at: datetime
    left: tuple[Owner, ...] = ()

    @property
    def alive(self) -> bool:
        """See Note [when an owner is dead]."""
        return self.owner.running if self.owner.here else datetime.now(UTC) < self.expires_at

    def excludes(self, holds: Sequence[str]) -> bool:
        return bool(set(self.holds) & set(holds)) or EVERYTHING in self.holds or EVERYTHING in holds


class Busy(NoisefoldError):
    """Somebody else holds it; the text names them."""


class Leases:
    """The leases of one state folder."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "leases"

    def all(self) -> dict[Path, Lease]:
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            with suppress(FileNotFoundError, ValidationError):
                found[path] = Lease.model_validate_json(path.read_bytes())
        return found

    def take(
        self,
        work: str,
        holds: Sequence[str],
        owner: Owner,
        wait_seconds: float = 0,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> Held:
        """Take a lease, in the place of every dead owner of the same work or holds.

        Args:
            wait_seconds: how long to wait for one that lives.
            on_wait: told once whom it waits for.
        Raises:
            Busy: another one holds it still.
        """
        started, told = time.monotonic(), False
        while True:
            with self.alone():
                there = self.all()
                rival = next(
                    (lease for lease in there.values() if lease.alive and lease.excludes(holds)),
                    None,
                )
                if rival is None:
                    dead = {
                        path: lease
                        for path, lease in there.items()
                        if not lease.alive and (lease.work == work or lease.excludes(holds))
                    }
                    return Held(self, self._write_first(work, holds, owner, dead))
            wait = max(wait_seconds, CLEANING_SECONDS) if rival.work == CLEANING else wait_seconds
            since = f"{rival.taken_at:%Y-%m-%d %H:%M:%S} UTC"
            if time.monotonic() - started >= wait:
                raise Busy(
                    f"{rival.work} is under way: {rival.owner}, since {since}.",
                    "Wait until it has ended, or set execution.wait_seconds, and this run waits "
                    "for it.",
                )
            if not told:
                on_wait(
                    f"Waiting up to {wait:,.0f} s for {rival.work} of {rival.owner}, since {since}."
                )
                told = True
            time.sleep(min(1.0, wait))

    def _write_first(
        self, work: str, holds: Sequence[str], owner: Owner, dead: dict[Path, Lease]
    ) -> tuple[Path, Lease]:
        """The new lease names the dead before theirs are removed: a crash in between forgets
        nobody.
        """
        left = dict.fromkeys(
            owner for lease in dead.values() for owner in (*lease.left, lease.owner)
        )
        now = datetime.now(UTC)
        lease = Lease(
            work=work,
            holds=tuple(holds),
            owner=owner,
            taken_at=now,
            expires_at=now + timedelta(seconds=SECONDS),
            left=tuple(left),
        )
        # Of a process that died in the middle: all writing is done `alone`.
        for torn in self.folder.glob("*.tmp"):
            torn.unlink()
        path = self.folder / f"{work.replace(' ', '-')}.{uuid.uuid4().hex[:8]}.json"
        self.write(path, lease)
        for old in dead:
            old.unlink(missing_ok=True)
        return path, lease

    def write(self, path: Path, lease: Lease) -> None:
        write_durably(
            path, json.dumps(lease.model_dump(mode="json"), indent=2, ensure_ascii=False).encode()
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No lease is taken, renewed or given back meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            yield


class Held:
    """A lease of this process: renewed until it is released."""

    def __init__(self, leases: Leases, taken: tuple[Path, Lease]) -> None:
        self.leases, (self.path, self.lease) = leases, taken
        self._ended = threading.Event()
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.release()

    @property
    def left(self) -> tuple[Owner, ...]:
        """Dead owners whose runs are not closed yet."""
        return self.lease.left

    def update(self, *, run_id: str | None = None, left: tuple[Owner, ...] | None = None) -> None:
        """Write down which MLflow run this is, or that the dead owners' runs are closed."""
        changed: dict[str, Any] = {}
        if run_id is not None:
            changed["owner"] = self.lease.owner.model_copy(update={"run_id": run_id})
        if left is not None:
            changed["left"] = left
        if not self._write(changed):
            self.check()

    def check(self) -> None:
        """Raises Busy where the lease went to another run, because this one could not renew it in
        time.
        """
        if self._ended.is_set() or self.path.exists():
            return
        raise Busy(
            f"This run lost its lease of {self.lease.work}: it was out of reach for more than "
            f"{SECONDS:.0f} s.",
            "Another run may have taken its place. Finished stages are kept; start it again when "
            "that one has ended.",
        )

    def release(self) -> None:
        """Give it back; safe to repeat."""
        self._ended.set()
        with suppress(OSError), self.leases.alone():
            self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            # A disk that is full or away for a moment; the next round tries again.
            with suppress(OSError):
                self._write({})

    def _write(self, changed: dict[str, Any]) -> bool:
        with self.leases.alone():
            if self._ended.is_set() or not self.path.exists():
                return False
            expires = datetime.now(UTC) + timedelta(seconds=SECONDS)
            self.lease = self.lease.model_copy(update={**changed, "expires_at": expires})
            self.leases.write(self.path, self.lease)
        return True


def this_process(*, flow_run_id: str = "", flow_run_name: str = "") -> Owner:
    return Owner(
        user=user_name(),
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        started=process_started(os.getpid()) or "",
        flow_run_id=flow_run_id,
        flow_run_name=flow_run_name,
    )


@cache
def this_machine() -> str:
    """One boot and one set of process numbers: containers of one host do not see each other's
    processes.
    """
    try:
        return digest_of(
            Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")
        )
    except OSError:
        return digest_of(socket.gethostname())


def process_started(pid: int) -> str | None:
    """When the process of this number started, as the system counts it; None where no such process
    runs.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        listed = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True
        )
        return listed.stdout.strip() or None
    # The name, in parentheses, may hold anything; after it stand the state and, as field 22 of all,
    # the start.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]  # Z: dead, and its parent has not asked after it
