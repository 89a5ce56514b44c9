"""The nights come: schedules start runs that a worker carries out, each by the clock of its own
zone; doctor sees it when they do not.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.operate.schedules import schedules
from tasks.tracking.bookkeeping import lineage_of, of_run
from tests.pipeline.conftest import REPOSITORY, TINY, environment, mlflow_client, prefect
from tests.servers import Server, prefect_server

# At any hour one of the first two has another date than UTC; the third is half an hour off.
ZONES = {"cron": "Pacific/Kiritimati", "interval": "Pacific/Pago_Pago", "resumed": "Asia/Kolkata"}
SCORES = "minute-scores"
SCHEDULES = {
    "cron": {"cron": "* * * * *", "active": True, "slug": "each-minute"},
    "interval": {"interval": 75, "active": True, "slug": "often"},
    "resumed": {"interval": 75, "active": False, "slug": "later"},
}


def dated_files(folder: Path) -> Path:
    """A file a day, from a week ago to tomorrow, so that whatever a window asks for is there.

    All hold the same rows, so that what one run has trained the others find in the store.
    """
    folder.mkdir(parents=True)
    today = datetime.now(UTC).date()
    for back in range(-1, 8):
        day = today - timedelta(days=back)
        rows = [
            f"a{n},parcel {n} came late,delivery\nb{n},invoice {n} paid twice,billing\n"
            for n in range(90)
        ]
        (folder / f"{day:%Y%m%d}.csv").write_text("id,text,label\n" + "".join(rows))
    return folder


def prefect_yaml(folder: Path, days: Path) -> Path:
    """The repository's prefect.yaml, but with deployments that come due while a test waits."""
    document = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    like = document["deployments"][0]
    contract = {"name": "days", "columns": {"id": "id"}, "splits": {"min_rows": 3}}
    document["deployments"] = [
        {
            **like,
            "name": name,
            "parameters": {
                "recipe": {
                    **TINY,
                    "name": name,
                    "source": {"url": str(days), "window": {"days": 1}},
                    "contract": contract,
                    "training": {"max_epochs": 1},
                    "registry": {"model_name": "nights", "experiment": "nights"},
                }
            },
            "schedules": [{**SCHEDULES[name], "timezone": zone}],
        }
        for name, zone in ZONES.items()
    ]
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    started = prefect_server(tmp_path_factory.mktemp("scheduling-server")).start()
    yield started
    started.stop()


def deploy_scores(server: Server, home: Path, folder: Path) -> None:
    """By `noisefold deploy`, due every minute."""
    (folder / "mails.csv").write_text("text\nlovely\n太差了\n", encoding="utf-8")
    file = folder / "scores.yaml"
    described = {"model": "noisefold-tiny", "source": {"url": "mails.csv"}}
    file.write_text(yaml.safe_dump({"name": SCORES, **described, "output": "{day}.jsonl"}))
    words = ["deploy", str(file), "--flow", "score", "--interval", "1m", "--by-path"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", *words, "--timezone", ZONES["cron"]],
        env=environment(server, home, PYTHONPATH=str(REPOSITORY)),
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def completed(server: Server, wanted: set[str], seconds: float) -> dict[str, Any]:
    """The first finished run of each deployment."""
    deadline = time.monotonic() + seconds
    ended = FlowRunFilter(
        state=FlowRunFilterState(
            name=FlowRunFilterStateName(any_=["Completed", "Failed", "Crashed"])
        )
    )
    with SyncPrefectClient(server.url) as client:
        names = {one.id: one.name for one in client.read_deployments()}
        while True:
            runs = client.read_flow_runs(
                flow_run_filter=ended, sort=FlowRunSort.EXPECTED_START_TIME_DESC
            )
            done = {names[run.deployment_id]: run for run in runs}
            if wanted <= done.keys() or time.monotonic() > deadline:
                return done
            time.sleep(1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schedules_start_runs_that_a_worker_carries_out(server, undisturbed, tmp_path):
    """Cron, interval, and one resumed by hand; none by `deployment run`: each reads the days before
    its zone's. And a score, of whose rows the champion of another recipe answers each.
    """
    home = Path(shutil.copytree(undisturbed[1], tmp_path / "home"))
    file = prefect_yaml(tmp_path, dated_files(tmp_path / "days"))
    prefect(server, home, "work-pool", "create", "noisefold", "--type", "process")
    prefect(server, home, "deploy", "--all", "--prefect-file", str(file))
    listed = prefect(
        server, home, "deployment", "schedule", "ls", "retrain/resumed", "--output", "json"
    )
    prefect(
        server,
        home,
        "deployment",
        "schedule",
        "resume",
        "retrain/resumed",
        json.loads(listed)[0]["id"],
    )
    deploy_scores(server, home, tmp_path)
    pool = ["--pool", "noisefold", "--type", "process"]
    variables = {
        "NOISEFOLD_ROOT": str(REPOSITORY),
        "PREFECT_HOME": str(home / "worker"),
        "OMP_NUM_THREADS": "1",
    }
    Path(variables["PREFECT_HOME"]).mkdir(parents=True)
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", *pool, "--limit", "1"],
            env=environment(server, home, PREFECT_WORKER_QUERY_SECONDS="2", **variables),
            cwd=REPOSITORY,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        runs = completed(server, {*ZONES, SCORES}, 420)
    finally:
        worker.terminate()
        worker.wait(60)
    assert {name: run.state_name for name, run in runs.items()} == dict.fromkeys(
        [*ZONES, SCORES], "Completed"
    ), (tmp_path / "worker.log").read_text()[-5000:]
    scored = runs.pop(SCORES)
    assert scored.auto_scheduled and scored.created_by.type == "SCHEDULE"
    due = scored.expected_start_time.astimezone(ZoneInfo(ZONES["cron"]))
    lines = (tmp_path / f"{due:%Y-%m-%d}.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    assert [one["text"] for one in answers] == ["lovely", "太差了"]
    assert {one["model"] for one in answers} == {"models:/noisefold-tiny/1"}
    client = mlflow_client(home)
    version = client.get_model_version_by_alias("nights", "champion")
    assert lineage_of(version)["flow_run_id"] in {str(run.id) for run in runs.values()}
    experiment = client.get_experiment_by_name("nights").experiment_id
    for name, zone in ZONES.items():
        run = runs[name]
        assert run.auto_scheduled and run.created_by.type == "SCHEDULE"
        due = datetime.fromtimestamp(run.expected_start_time.timestamp(), ZoneInfo(zone))
        yesterday = due.date() - timedelta(days=1)
        tracked = client.search_runs([experiment], f"tags.`noisefold.recipe` = '{name}'")
        tags = next(
            of_run(one)
            for one in tracked
            if of_run(one)["noisefold.window"].endswith(str(yesterday))
        )
        assert tags["noisefold.window"] == f"1 of 1 days, {yesterday} to {yesterday}"
        if tags["noisefold.flow_run_id"] == str(
            run.id
        ):  # a later tick of the same day opens the same MLflow run
            assert (
                tags["noisefold.due"] == f"{due:%Y-%m-%d %H:%M} ({zone}, its schedule's time zone)"
            )
    log = server.log.read_text()
    assert "InvalidRequestError" not in log
    # A record reaches to the next line that begins with a time. On a busy machine SQLite may be
    # locked for a moment, and the server tries again.
    records = re.split(r"(?m)^(?=\d\d:\d\d:\d\d\.\d+ \|)", log)
    errors = [record for record in records if re.search(r"\| (ERROR|CRITICAL)", record)]
    assert [record for record in errors if "database is locked" not in record] == []
    with temporary_settings({PREFECT_API_URL: server.url}):
        found = list(schedules())
    assert not [line for line in found if line.state == "fail"]


@flow(name="retrain")
def a_retrain() -> None: ...


@pytest.fixture(scope="module")
def without_scheduler(tmp_path_factory) -> Iterator[Server]:
    """A server that plans nothing, as one does whose scheduler fails at every round."""
    server = prefect_server(tmp_path_factory.mktemp("idle-server"))
    server.environment["PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED"] = "false"
    yield server.start()
    server.stop()


def deploy(client: SyncPrefectClient, name: str, *rules: Any, **options: Any) -> Any:
    created = [DeploymentScheduleCreate(schedule=rule, active=True) for rule in rules]
    flow_id = client.create_flow(a_retrain)
    return client.create_deployment(
        flow_id=flow_id, name=name, work_pool_name="a-pool", schedules=created, **options
    )


def test_doctor_fails_where_an_active_schedule_has_no_run_ahead(without_scheduler):
    url = without_scheduler.url
    with temporary_settings({PREFECT_API_URL: url}), SyncPrefectClient(url) as client:

        def said(name: str, grace_minutes: float = 0) -> list[tuple[str, str]]:
            return [
                (line.state, line.what)
                for line in schedules(grace_minutes)
                if re.search(rf"\b{name}\b", line.what)
            ]

        client.create_work_pool(WorkPoolCreate(name="a-pool", type="process"))
        client.send_worker_heartbeat("a-pool", "a-worker", 30)
        nightly = CronSchedule(cron="0 3 * * *", timezone="Asia/Shanghai")
        made = deploy(client, "nightly", nightly)
        ((state, text),) = said("nightly")
        assert state == "fail" and "cron 0 3 * * *" in text and "no run is planned" in text
        assert re.search(r"due at \d{4}-\d\d-\d\d 19:00 UTC", text), text
        (remedy,) = [line.remedy for line in schedules(0) if line.state == "fail"]
        assert "schedule_deployments" in remedy and "SQLAlchemy" in remedy
        assert [state for state, _ in said("nightly", grace_minutes=3)] == ["ok"], (
            "it was deployed a moment ago"
        )

        # A run by hand in the future is none that the schedule planned.
        client.create_flow_run_from_deployment(made)
        assert [state for state, _ in said("nightly")] == ["fail"]
        client.pause_deployment(made)
        assert [(state, "paused as a whole" in text) for state, text in said("nightly")] == [
            ("warn", True)
        ]
        client.delete_deployment(made)

        ended = RRuleSchedule(rrule="DTSTART:20200101T030000\nRRULE:FREQ=DAILY;COUNT=3")
        deploy(client, "ended", ended)
        assert [(state, "never comes due again" in text) for state, text in said("ended")] == [
            ("fail", True)
        ]
        deploy(
            client,
            "half-ended",
            ended,
            CronSchedule(cron="0 0 30 2 *"),
            IntervalSchedule(interval=timedelta(days=1)),
        )
        assert sorted(state for state, _ in said("half-ended")) == ["fail", "warn", "warn"]
        deploy(client, "leap", CronSchedule(cron="0 0 29 2 *"))
        assert said("leap") == [], "years ahead: nothing has to be planned yet"


def test_doctor_fails_where_a_pool_or_queue_hands_out_no_run(without_scheduler):
    url = without_scheduler.url
    with temporary_settings({PREFECT_API_URL: url}), SyncPrefectClient(url) as client:
        client.create_work_pool(WorkPoolCreate(name="still", type="process"))
        client.send_worker_heartbeat("still", "a-worker", 30)
        created = [DeploymentScheduleCreate(schedule=CronSchedule(cron="0 0 29 2 *"), active=True)]
        flow_id = client.create_flow(a_retrain)
        client.create_deployment(
            flow_id=flow_id, name="leap-still", work_pool_name="still", schedules=created
        )

        def said() -> list[str]:
            return [
                f"{line.state}: {line.remedy}"
                for line in schedules(0)
                if "still" in line.what and line.remedy
            ]

        assert said() == []
        client.update_work_pool("still", WorkPoolUpdate(is_paused=True))
        queue = client.read_work_queue_by_name("default", work_pool_name="still")
        client.update_work_queue(queue.id, is_paused=True)
        assert said() == [
            "fail: prefect work-pool resume still",
            "fail: prefect work-queue resume default --pool still",
        ]
