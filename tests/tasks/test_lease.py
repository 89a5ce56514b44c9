"""One retrain of a recipe at a time; a lease lives and dies with its owner."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.liveness import lease as module
from tasks.liveness.lease import (
    CLEANING,
    EVERYTHING,
    Busy,
    Lease,
    Leases,
    Owner,
    process_started,
    this_process,
)

REPOSITORY = Path(__file__).resolve().parents[2]
HOLDS = ["recipe mails", "model noisefold-mails"]
TAKE = """
import sys
from pathlib import Path
from tasks.liveness.lease import Leases, this_process
owner = this_process(flow_run_id="f1", flow_run_name="brave-fox")
held = Leases(Path(sys.argv[1])).take("retrain mails", ["recipe mails"], owner)
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lease of the recipe mails until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE, str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "taken\n"
    with process:
        yield process
        process.kill()


def take(home: Path, work: str = "retrain mails", holds: list[str] = HOLDS, **options):
    return Leases(home).take(work, holds, this_process(flow_run_id="f2"), **options)


def test_the_second_is_refused_and_told_who_holds_it(tmp_path, other):
    with pytest.raises(Busy) as refused:
        take(tmp_path)
    for part in (
        "retrain mails is under way",
        f"process {other.pid}",
        "brave-fox",
        module.user_name(),
        "since 20",
    ):
        assert part in refused.value.cause
    assert "execution.wait_seconds" in refused.value.remedy


def test_another_recipe_of_the_same_model_is_refused_and_one_of_another_model_is_not(tmp_path):
    with take(tmp_path):
        with pytest.raises(Busy):
            take(tmp_path, "retrain other", ["recipe other", "model noisefold-mails"])
        with take(tmp_path, "retrain third", ["recipe third", "model noisefold-third"]):
            assert len(Leases(tmp_path).all()) == 2


def test_the_second_waits_as_long_as_it_may(tmp_path, other):
    told = []

    def end_it(text: str) -> None:
        told.append(text)
        other.kill()

    with take(tmp_path, wait_seconds=60, on_wait=end_it):
        assert len(told) == 1 and "brave-fox" in told[0]


def test_the_place_of_a_killed_owner_is_taken_at_once_and_its_runs_are_named(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    os.waitid(
        os.P_PID, other.pid, os.WEXITED | os.WNOWAIT
    )  # dead, and not yet asked after: a zombie
    with take(tmp_path) as held:
        assert [owner.flow_run_id for owner in held.left] == ["f1"]
        assert len(Leases(tmp_path).all()) == 1
        held.update(left=())
        assert next(iter(Leases(tmp_path).all().values())).left == ()
    assert Leases(tmp_path).all() == {}


def test_what_the_dead_left_passes_on_to_whoever_comes_next(tmp_path):
    """A heir that dies before it has closed its predecessor's runs leaves them, and its own, to the
    next.
    """
    for number in (1, 2):
        write(tmp_path, dead(f"f{number}"), left=(dead("f0"),) if number == 1 else ())
    with take(tmp_path) as held:
        assert {owner.flow_run_id for owner in held.left} == {"f0", "f1", "f2"}


def test_a_process_number_that_went_to_another_process_keeps_no_lease(tmp_path):
    write(tmp_path, this_process(flow_run_id="f1").model_copy(update={"started": "1"}))
    with take(tmp_path) as held:
        assert [owner.flow_run_id for owner in held.left] == ["f1"]


def test_of_another_machine_only_the_clock_tells(tmp_path):
    elsewhere = Owner(
        user="ann", host="n2", machine="another", pid=os.getpid(), started="1", flow_run_id="f1"
    )
    path = write(tmp_path, elsewhere, expires=60)
    with pytest.raises(Busy, match="ann on n2"):
        take(tmp_path)
    path.unlink()
    write(tmp_path, elsewhere, expires=-1)
    with take(tmp_path) as held:
        assert [owner.host for owner in held.left] == ["n2"]


def test_a_live_process_keeps_its_lease_though_it_could_not_renew_it(tmp_path):
    write(tmp_path, this_process(), expires=-3600)
    with pytest.raises(Busy):
        take(tmp_path)


def test_a_lease_is_renewed_while_it_is_held_and_not_after(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    leases = Leases(tmp_path)
    with take(tmp_path) as held:
        first = leases.all()[held.path].expires_at
        while leases.all()[held.path].expires_at <= first:
            pass
    assert leases.all() == {}


def test_an_owner_whose_lease_was_taken_stops(tmp_path):
    with take(tmp_path) as held:
        held.check()
        held.path.unlink()  # as another machine does once it has expired
        with pytest.raises(Busy, match="lost its lease"):
            held.check()
        with pytest.raises(Busy, match="lost its lease"):
            held.update(run_id="r1")


def test_a_run_waits_for_gc_and_gc_for_nobody(tmp_path):
    cleaning = take(tmp_path, CLEANING, [EVERYTHING])
    with take(tmp_path, on_wait=lambda _: cleaning.release()), pytest.raises(Busy):
        take(tmp_path, CLEANING, [EVERYTHING])


def test_the_tag_of_a_flow_run_names_its_process():
    owner = this_process()
    again = Owner.of_tags(["nightly", owner.tag])
    assert again is not None and again.here and again.running
    assert Owner.of_tags(["nightly", "process:x"]) is None


def test_a_process_that_does_not_exist_has_not_started():
    assert process_started(2**22 + 1) is None
    assert re.fullmatch(r"\d+", process_started(os.getpid()) or "")


def dead(flow_run_id: str) -> Owner:
    return this_process(flow_run_id=flow_run_id).model_copy(
        update={"pid": 2**22 + len(flow_run_id) + 1}
    )


def write(home: Path, owner: Owner, *, expires: float = 60, left: tuple[Owner, ...] = ()) -> Path:
    now = datetime.now(UTC)
    leases, path = Leases(home), home / "leases" / f"retrain-mails.{owner.flow_run_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lease = Lease(
        work="retrain mails",
        holds=tuple(HOLDS),
        owner=owner,
        taken_at=now,
        expires_at=now + timedelta(seconds=expires),
        left=left,
    )
    leases.write(path, lease)
    return path
