"""What an operator relies on: one retrain at a time, and no run that shows as running when nobody
works on it.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, Failed, Running, Scheduled

from tasks.liveness.dead_runs import FLOWS
from tasks.liveness.lease import Leases, Owner, this_process
from tasks.liveness.reconcile import Reconciled, last_heartbeat, reconcile
from tasks.operate.finding import Line
from tasks.operate.schedules import schedules
from tasks.settings import Settings
from tasks.tracking.bookkeeping import OWNER, RUN_KEY
from tests.pipeline.conftest import (
    REPOSITORY,
    TINY,
    environment,
    mlflow_client,
    prefect,
    refused,
    result_of,
    retrain_process,
    told,
)
from tests.pipeline.world import leftovers


def flow_runs(prefect_api, *ids: str) -> list:
    with SyncPrefectClient(prefect_api.url) as client:
        return [client.read_flow_run(flow_run_id) for flow_run_id in ids]


def runs_of(prefect_api, name: str) -> list:
    with SyncPrefectClient(prefect_api.url) as client:
        return client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[name])))


def open_task_runs(prefect_api, flow_run_id: str) -> list[str]:
    with SyncPrefectClient(prefect_api.url) as client:
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        return [
            run.name
            for run in client.read_task_runs(flow_run_filter=mine)
            if not run.state.is_final()
        ]


def start(prefect_api, home: Path, recipe: Path, *options: str) -> subprocess.Popen[str]:
    """`noisefold retrain` that is under way when this returns: it holds its lease."""
    before = set(Leases(home).all())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.cli.main", "retrain", str(recipe), "--json", *options],
        env=environment(prefect_api, home),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not set(Leases(home).all()) - before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return process


def noisefold(prefect_api, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", *arguments],
        env=environment(prefect_api, home),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
    )


def result(process: subprocess.Popen[str]) -> dict:
    stdout, stderr = process.communicate(timeout=300)
    return result_of(subprocess.CompletedProcess([], process.returncode, stdout, stderr))


@pytest.fixture(scope="module")
def killed(prefect_api, tiny_recipe, tmp_path_factory) -> tuple[Path, str, str]:
    """A run that was killed in training: its state folder, its Prefect run and its MLflow run."""
    home = tmp_path_factory.mktemp("killed") / "home"
    done = retrain_process(prefect_api, home, tiny_recipe, fault="train:kill")
    assert done.returncode == -9, done.stderr[-2000:]
    (lease,) = Leases(home).all().values()
    return home, lease.owner.flow_run_id, lease.owner.run_id


@pytest.mark.timeout(600)
def test_after_a_kill_the_next_run_closes_what_the_dead_one_left(
    prefect_api, here, tiny_recipe, killed
):
    home, flow_run_id, run_id = killed
    (run,) = flow_runs(prefect_api, flow_run_id)
    assert (
        run.state_name == "Running" and mlflow_client(home).get_run(run_id).info.status == "RUNNING"
    )
    assert open_task_runs(prefect_api, flow_run_id)
    # Another evaluation is another MLflow run: the dead one is not opened again.
    again = told(here(home, "retrain", tiny_recipe, "--json", "--set", "statistics.samples=50"))
    assert again["run_id"] != run_id
    (run,) = flow_runs(prefect_api, flow_run_id)
    assert run.state_name == "Crashed" and "is gone" in run.state.message
    assert open_task_runs(prefect_api, flow_run_id) == []
    left = mlflow_client(home).get_run(run_id)
    assert left.info.status == "KILLED" and "is gone" in left.data.tags["noisefold.error"]
    assert Leases(home).all() == {}


@pytest.mark.timeout(600)
def test_two_recipes_run_at_once_and_two_of_one_do_not(prefect_api, here, tiny_recipe, tmp_path):
    home, other = tmp_path / "home", tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**TINY, "name": "other"}))
    processes = [start(prefect_api, home, recipe) for recipe in (tiny_recipe, other)]
    refused(
        here(home, "retrain", tiny_recipe),
        "retrain tiny is under way",
        f"process {processes[0].pid}",
    )
    results = [result(process) for process in processes]
    assert {r["decision"]["outcome"] for r in results} == {"promoted"}
    assert [
        run.state_name for run in flow_runs(prefect_api, *(r["flow_run_id"] for r in results))
    ] == ["Completed"] * 2
    client = mlflow_client(home)
    assert {
        run.info.status for r in results for run in client.search_runs([r["experiment_id"]])
    } == {"FINISHED"}
    # From nothing, on one state folder: they share its database, its artifacts and its locks.
    assert {
        m.name: {a: str(v) for a, v in m.aliases.items()} for m in client.search_registered_models()
    } == {
        "noisefold-tiny": {"champion": "1"},
        "noisefold-other": {"champion": "1"},
    }
    assert len(list(home.glob("artifacts/train/*"))) == 1, "the same training was done once"
    assert not leftovers(home)


@flow(name="retrain")
def a_retrain() -> None: ...


@task
def a_task() -> None: ...


def open_flow_run(prefect_api, owner: Owner | None, name: str) -> str:
    """A Prefect run of ours that is under way, by a process that may be anybody."""
    with SyncPrefectClient(prefect_api.url) as client:
        tags = [owner.tag] if owner else []
        return str(client.create_flow_run(a_retrain, name=name, tags=tags, state=Running()).id)


def beat(prefect_api, flow_run_id: str, seconds_ago: float) -> None:
    from prefect.events import Event

    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}"}
    when = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    event = Event(event="prefect.flow-run.heartbeat", occurred=when, resource=resource)
    with SyncPrefectClient(prefect_api.url) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")])


def reconciled(prefect_api, home: Path, **options: bool) -> Reconciled:
    with temporary_settings({PREFECT_API_URL: prefect_api.url}):
        return reconcile(Settings(home=home), **options)


def ids(items: list) -> set[str]:
    return {item.id for item in items}


@pytest.mark.timeout(600)
def test_reconcile_closes_what_a_killed_run_left_and_nothing_that_lives(
    prefect_api, tiny_recipe, tmp_path
):
    home = tmp_path / "home"
    killed = retrain_process(prefect_api, home, tiny_recipe, fault="ingest:kill")
    assert killed.returncode == -9, killed.stderr[-2000:]
    (lease,) = Leases(home).all().values()
    dead, client = lease.owner, mlflow_client(home)
    (folder,) = (home / "work" / "scratch").glob("run-*")
    # Beside it: a run of a process that lives (this one).
    alive = open_flow_run(prefect_api, this_process(), "alive")
    experiment = client.get_run(dead.run_id).info.experiment_id
    tags = {RUN_KEY: "another", OWNER: this_process(flow_run_id=alive).model_dump_json()}
    tracked = client.create_run(experiment, tags=tags).info.run_id
    # And a run that its worker has called crashed, whose task shows as running.
    called = open_flow_run(prefect_api, dead, "called")
    with SyncPrefectClient(prefect_api.url) as server:
        server.create_task_run(a_task, flow_run_id=UUID(called), dynamic_key="0", state=Running())
        server.set_flow_run_state(UUID(called), Crashed(), force=True)

    look = reconciled(prefect_api, home, dry_run=True)
    assert {dead.flow_run_id, dead.run_id, str(folder)} <= ids(look.dead)
    assert any("would be marked Crashed" in line and "is gone" in line for line in look.lines)
    assert flow_runs(prefect_api, dead.flow_run_id)[0].state_name == "Running", "it only looked"
    assert (
        client.get_run(dead.run_id).info.status == "RUNNING"
        and Leases(home).all()
        and folder.exists()
    )

    done = noisefold(prefect_api, home, "reconcile", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {item["id"] for item in said["dead"]} == ids(look.dead)
    crashed, living = flow_runs(prefect_api, dead.flow_run_id, alive)
    assert (crashed.state_name, living.state_name) == ("Crashed", "Running")
    assert (
        open_task_runs(prefect_api, dead.flow_run_id) == open_task_runs(prefect_api, called) == []
    )
    assert [client.get_run(run_id).info.status for run_id in (dead.run_id, tracked)] == [
        "KILLED",
        "RUNNING",
    ]
    assert Leases(home).all() == {} and not folder.exists()

    again = reconciled(prefect_api, home)
    assert again.lines[-1] == "Nothing to do." and not any("alive" in line for line in again.lines)


def test_of_another_machines_run_the_lease_the_heartbeat_or_prefect_tells(prefect_api, tmp_path):
    """Where none of them does, it is named and left."""
    from mlflow import MlflowClient

    home, elsewhere = (
        tmp_path / "home",
        Owner(user="ann", host="n2", machine="another", pid=7, started="1"),
    )
    names = ("silent", "beating", "unheard", "leased", "expired", "ended")
    runs = {name: open_flow_run(prefect_api, elsewhere, name) for name in names}
    beat(prefect_api, runs["silent"], 3600)
    beat(prefect_api, runs["beating"], 60)
    leases = Leases(home)
    for name, seconds in (("leased", 60), ("expired", -1)):
        owner = elsewhere.model_copy(update={"flow_run_id": runs[name]})
        with leases.take(f"retrain {name}", [], owner) as held:
            lease = held.lease.model_copy(
                update={"expires_at": datetime.now(UTC) + timedelta(seconds=seconds)}
            )
        leases.write(leases.folder / f"{name}.json", lease)
    with SyncPrefectClient(prefect_api.url) as server:
        server.set_flow_run_state(runs["ended"], Failed(), force=True)
    home.mkdir(exist_ok=True)
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.create_experiment("x", artifact_location=(home / "x").as_uri())
    tracked = {}
    for name, flow_run_id in runs.items():
        owner = elsewhere.model_copy(update={"flow_run_id": flow_run_id})
        tags = {RUN_KEY: name, OWNER: owner.model_dump_json(), "noisefold.flow_run_id": flow_run_id}
        tracked[name] = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    tracked["nobody's"] = client.create_run(
        experiment, run_name="nobody's", tags={RUN_KEY: "?"}
    ).info.run_id
    deadline = time.monotonic() + 30
    with SyncPrefectClient(prefect_api.url) as server:
        while not all(last_heartbeat(server, runs[name]) for name in ("silent", "beating")):
            assert time.monotonic() < deadline, "the server has not stored the heartbeats"
            time.sleep(0.2)

    found = reconciled(prefect_api, home)
    mine = set(runs.values()) | set(tracked.values())
    dead = {"silent", "expired"}
    assert ids(found.dead) & mine == {runs[name] for name in dead} | {
        tracked[name] for name in (*dead, "ended")
    }
    assert ids(found.unknown) & mine == {runs["unheard"], tracked["unheard"], tracked["nobody's"]}
    assert any(
        "unheard: left as it is. Its process (7) is of another machine" in line
        for line in found.lines
    )
    states = {
        name: run.state_name
        for name, run in zip(runs, flow_runs(prefect_api, *runs.values()), strict=True)
    }
    assert states == {name: "Crashed" if name in dead else "Running" for name in names} | {
        "ended": "Failed"
    }
    assert [path.name for path in leases.all()] == ["leased.json"]
    with SyncPrefectClient(prefect_api.url) as server:  # the server is the session's
        for flow_run_id in runs.values():
            server.set_flow_run_state(flow_run_id, Failed(), force=True)


FLOW = "import time; from prefect import flow; flow(name='zombie')(lambda: (print('up', flush=True), time.sleep(600)))()"


@pytest.fixture
def zombies(prefect_api, tmp_path) -> None:
    """The repository's automation as it stands, and beside it one for a flow of this test alone, in
    ten seconds.
    """
    content = yaml.safe_load((REPOSITORY / "prefect-automations.yaml").read_text())
    quick = copy.deepcopy(content["automations"][0])
    quick["name"] = "quick"
    quick["trigger"]["match_related"]["prefect.resource.name"] = ["zombie"]
    quick["trigger"]["within"] = 10
    file = tmp_path / "automations.yaml"
    file.write_text(yaml.safe_dump({"automations": [*content["automations"], quick]}))
    said = prefect(prefect_api, tmp_path, "automation", "create", "--from-file", str(file))
    assert "noisefold-zombies" in said and "quick" in said
    yield
    with SyncPrefectClient(prefect_api.url) as server:  # the server is the session's
        for automation in server.request("POST", "/automations/filter").json():
            server.request("DELETE", "/automations/{id}", path_params={"id": automation["id"]})


def test_the_automation_closes_a_run_whose_worker_died_with_it(prefect_api, zombies, tmp_path):
    variables = environment(prefect_api, tmp_path, PREFECT_HOME=str(tmp_path / "prefect"))
    with subprocess.Popen(
        [sys.executable, "-c", FLOW], env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "up\n"
        time.sleep(2)  # the first heartbeat is on its way
        process.kill()
    (run,) = runs_of(prefect_api, "zombie")
    assert run.state_name == "Running"
    deadline = time.monotonic() + 60
    while run.state_name == "Running" and time.monotonic() < deadline:
        time.sleep(0.5)
        (run,) = flow_runs(prefect_api, run.id)
    assert run.state_name == "Crashed" and "No heartbeat" in run.state.message


def test_doctor_names_late_runs_and_pools_without_a_worker(prefect_api, zombies, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api.url)
    due = datetime.now(UTC) - timedelta(hours=1)
    with (
        temporary_settings({PREFECT_API_URL: prefect_api.url}),
        SyncPrefectClient(prefect_api.url) as server,
    ):

        def found() -> dict[str, list[Line]]:
            lines = list(schedules())
            return {
                "late": [line for line in lines if "the-nightly was due" in line.what],
                "idle": [line for line in lines if "the-pool" in line.what],
                "zombies": [line for line in lines if "No automation" in line.what],
            }

        server.create_work_pool(WorkPoolCreate(name="the-pool", type="process"))
        deployment = server.create_deployment(
            flow_id=server.create_flow(a_retrain),
            name="the-nightly",
            work_pool_name="the-pool",
            schedules=[
                DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *"), active=True)
            ],
        )
        run = server.create_flow_run_from_deployment(
            deployment, state=Scheduled(scheduled_time=due)
        )
        before = found()
        assert [line.state for lines in before.values() for line in lines] == ["fail", "warn"]
        assert f"{due:%Y-%m-%d %H:%M}" in before["late"][0].what
        assert before["late"][0].remedy == "Start a worker: prefect worker start --pool the-pool"
        server.send_worker_heartbeat("the-pool", "a-worker", 30)
        server.delete_flow_run(run.id)
        assert not any(found().values())
        for automation in server.read_automations():
            server.request("DELETE", "/automations/{id}", path_params={"id": automation.id})
        assert [line.remedy.split()[:3] for line in found()["zombies"]] == [
            ["prefect", "automation", "create"]
        ]
        server.delete_deployment(deployment)


def test_ten_heartbeats_may_be_lost_before_the_automation_closes_a_run():
    """A server that restarts loses some; what lives must not be called crashed."""
    (automation,) = yaml.safe_load((REPOSITORY / "prefect-automations.yaml").read_text())[
        "automations"
    ]
    assert automation["trigger"]["match_related"]["prefect.resource.name"] == FLOWS
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    beats = {
        d["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
        for d in deployments
    }
    assert beats == {"30"} and automation["trigger"]["within"] == 10 * 30
