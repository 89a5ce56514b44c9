"""From a recipe to every night, as its user goes: deployed from a folder of their own, carried out
by a worker, told of when it breaks; and old nights made up for.
"""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.utilities.schema_tools.validation import validate

from data_contracts.recipe.reading import load_recipe, parse_recipe
from tasks.tracking.bookkeeping import of_run
from tests.pipeline.conftest import (
    REPOSITORY,
    TINY,
    clean_environment,
    environment,
    mlflow_client,
    refused,
    told,
)
from tests.servers import Server

SHANGHAI = ["--timezone", "Asia/Shanghai"]
NIGHTLY = ["--cron", "0 3 * * *", *SHANGHAI]
ROWS = "".join(
    f"a{n},parcel {n} came late,delivery\nb{n},invoice {n} paid twice,billing\n" for n in range(90)
)


def recipe_in(folder: Path, name: str, file: str, **sections: Any) -> Path:
    """A recipe of the user's, with relative paths, in a folder that has modules of theirs too."""
    (folder / "flows").mkdir(parents=True, exist_ok=True)
    (folder / "flows" / "__init__.py").write_text('raise RuntimeError("a module of the user")\n')
    (folder / "tasks.py").write_text('raise RuntimeError("a module of the user")\n')
    (folder / "邮件.csv").write_text("id,text,label\n" + ROWS, encoding="utf-8")
    contract = {"name": "mails", "columns": {"id": "id"}, "splits": {"min_rows": 3}}
    (folder / "合同.yaml").write_text(yaml.safe_dump(contract), encoding="utf-8")
    whole = {
        **TINY,
        "name": name,
        "source": {"url": "邮件.csv"},
        "contract": "合同.yaml",
        "training": {"max_epochs": 1},
        **sections,
    }
    path = folder / file
    path.write_text(yaml.safe_dump(whole, allow_unicode=True), encoding="utf-8")
    return path


def deployment(server: Server, name: str) -> Any:
    with SyncPrefectClient(server.url) as client:
        wanted = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
        return next(iter(client.read_deployments(deployment_filter=wanted)), None)


# --- the deployment -------------------------------------------------------------------------------


def test_a_recipe_becomes_a_deployment_like_those_of_prefect_yaml(here, prefect_api, tmp_path):
    home, recipe = tmp_path / "home", recipe_in(tmp_path / "邮件", "mails-a", "邮件.yaml")
    first = told(here(home, "deploy", recipe, *NIGHTLY, "--json"))
    assert first["new"] and len(first["next"]) == 3
    assert all(re.fullmatch(r"[\d-]{10} 03:00 Asia/Shanghai", due) for due in first["next"])
    assert first["page"].endswith(f"/deployments/deployment/{first['id']}")
    assert any(
        "no worker online" in one["what"] and "worker start --pool noisefold" in one["remedy"]
        for one in first["missing"]
    )
    made = deployment(prefect_api, "mails-a")
    like = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"][0]
    assert made.enforce_parameter_schema and made.tags == like["tags"]
    assert made.global_concurrency_limit.limit == like["concurrency_limit"]["limit"] == 1
    assert made.concurrency_options.collision_strategy == "CANCEL_NEW"
    assert made.work_pool_name == like["work_pool"]["name"]
    asked = like["work_pool"]["job_variables"]["env"]
    assert made.job_variables["env"].items() >= {**asked, "NOISEFOLD_HOME": str(home)}.items()
    assert made.version and str(recipe) in made.description

    # What it will retrain is what `noisefold retrain FILE` would, wherever that is called.
    inline = made.parameters["recipe"]
    assert parse_recipe(inline, origin="here") == load_recipe(recipe)
    assert inline["source"]["url"] == str(recipe.with_name("邮件.csv")) and "promotion" in inline
    assert "distillation" not in inline, "what the file leaves out has the default of its night"
    # The form has a field for each of the recipe's, and takes what it was given.
    schema = made.parameter_openapi_schema
    assert validate({"recipe": inline, "recipe_file": None}, schema, ignore_required=True) == []
    assert validate({"recipe": {**inline, "tokenzier": {}}}, schema, ignore_required=True) != []

    # After a change of the file: the schedule stays, what is asleep stays asleep.
    assert here(home, "deploy", "--pause", "mails-a").exit_code == 0
    recipe.write_text(recipe.read_text("utf-8").replace("max_epochs: 1", "max_epochs: 2"), "utf-8")
    second = told(here(home, "deploy", recipe, "--json"))
    changed = deployment(prefect_api, "mails-a")
    assert (second["new"], second["id"], second["paused"]) == (False, first["id"], True)
    assert changed.parameters["recipe"]["training"] == {"max_epochs": 2}
    assert changed.version != made.version and changed.schedules[0].schedule.cron == "0 3 * * *"
    assert "--resume mails-a" in here(home, "deploy", recipe).stdout
    assert "03:00 Asia/Shanghai" in here(home, "deploy", "--resume", "mails-a").stdout
    rows = here(home, "deploy", "--list", "--json").stdout.splitlines()
    (listed,) = [one for one in map(json.loads, rows) if one["name"] == "mails-a"]
    assert (listed["recipe"], listed["paused"]) == (str(recipe), False)

    here(home, "deploy", "--remove", "mails-a")
    assert deployment(prefect_api, "mails-a") is None
    refused(here(home, "deploy", "--remove", "mails-a"), "no deployment named mails-a")


def test_a_window_waits_for_its_turn_and_a_path_is_read_each_night(here, prefect_api, tmp_path):
    """Runs that read other days must not be left out for the sake of the one before."""
    home, days = tmp_path / "home", tmp_path / "days"
    days.mkdir()
    (days / f"{datetime.now(UTC):%Y-%m-%d}.csv").write_text("id,text,label\n" + ROWS)
    source = {"url": "days", "window": {"days": 7}}
    recipe = recipe_in(tmp_path, "mails-b", "days.yaml", source=source)
    told(here(home, "deploy", recipe, "--interval", "6h", "--by-path", "--unchecked", "--json"))
    made = deployment(prefect_api, "mails-b")
    assert made.parameters == {"recipe_file": str(recipe)}
    assert made.concurrency_options.collision_strategy == "ENQUEUE"
    assert made.schedules[0].schedule.interval == timedelta(hours=6)
    here(home, "deploy", "--remove", "mails-b")


def test_what_cannot_be_is_refused_with_the_way_out(here, prefect_api, tmp_path):
    home = tmp_path / "home"
    recipe = recipe_in(tmp_path / "one", "mails-c", "mails.yaml")
    for words, told_of in {
        ("--cron", "0 25 * * *"): ("no cron expression", "0 3 * * *"),
        ("--cron", "0 3 30 2 *"): ("never comes due",),
        ("--cron", "0 3 * * *", "--timezone", "Shanghai"): ("did you mean Asia/Shanghai?",),
        ("--interval", "soon"): ("a number and its unit", "6h"),
        ("--interval", "6h", "--cron", "0 3 * * *"): ("one schedule",),
        ("--timezone", "UTC"): ("--cron or --interval",),
        ("--by-path", "--set", "training.max_epochs=2"): ("--by-path",),
        ("--name", "a/b", "--cron", "0 3 * * *"): ("--name a/b",),
        ("--list",): ("RECIPE and --list",),
    }.items():
        refused(here(home, "deploy", recipe, *words), *told_of)
    refused(here(home, "deploy"), "Give a recipe")
    broken = recipe_in(tmp_path / "two", "mails-d", "mails.yaml", source={"url": "nowhere.csv"})
    refused(here(home, "deploy", broken, *NIGHTLY), "nowhere.csv")
    assert deployment(prefect_api, "mails-d") is None

    told(here(home, "deploy", recipe, *NIGHTLY, "--json"))
    refused(here(home, "deploy", recipe, "--name", "again"), "--name mails-c", "mails-c already")
    other = recipe_in(tmp_path / "three", "mails-c", "mails.yaml")
    refused(here(home, "deploy", other, *NIGHTLY), str(recipe), "--replace")
    assert not told(here(home, "deploy", other, "--replace", "--json"))["new"]
    refused(here(home, "deploy", "--pause", "mails-cc"), "did you mean mails-c?")
    here(home, "deploy", "--remove", "mails-c")


def test_what_comes_after_a_retrain_is_deployed_as_well(here, prefect_api, tmp_path):
    """A score, a queue, explanations, a monitor and a search, each as a deployment of its flow."""
    home = tmp_path / "home"
    (tmp_path / "new.csv").write_text("text\nwhere is my parcel?\n")
    described = {"name": "after-a", "model": "noisefold-nobody", "source": {"url": "new.csv"}}
    file = tmp_path / "after.yaml"
    file.write_text(yaml.safe_dump({**described, "output": "out/{day}.jsonl"}))
    refused(here(home, "deploy", file), "model: noisefold-nobody", "--flow score, queue")
    refused(here(home, "deploy", file, "--flow", "score"), "no model named noisefold-nobody")
    for flow in ("score", "queue", "explain"):
        words = ("--flow", flow, *NIGHTLY, "--unchecked", "--json")
        done = told(here(home, "deploy", file, *words))
        assert (done["name"], done["flow"], done["new"]) == ("after-a", flow, True)
        assert done["next"][0].endswith("03:00 Asia/Shanghai")
    refused(here(home, "deploy", "--pause", "after-a"), "3 deployments", "queue/after-a")
    assert here(home, "deploy", "--pause", "queue/after-a").exit_code == 0
    rows = map(json.loads, here(home, "deploy", "--list", "--json").stdout.splitlines())
    states = {one["flow"]: one["paused"] for one in rows if one["name"] == "after-a"}
    assert states == {"score": False, "queue": True, "explain": False}
    with SyncPrefectClient(prefect_api.url) as client:
        made = client.read_deployment_by_name("score/after-a")
    assert made.entrypoint == "flows.score.score" and made.concurrency_options is not None
    assert made.parameters["recipe"]["output"] == str(tmp_path / "out" / "{day}.jsonl")
    schema = made.parameter_openapi_schema
    assert validate(made.parameters, schema, ignore_required=True) == []

    file.write_text(yaml.safe_dump(described))
    told(here(home, "deploy", file, "--flow", "monitor", "--by-path", "--unchecked", "--json"))
    assert deployment(prefect_api, "after-a") is not None
    refused(here(home, "deploy", "search", "--flow", "score"), "is one of the flow tune")
    told(here(home, "deploy", "search", "--name", "after-search", "--json"))
    search = deployment(prefect_api, "after-search").parameters["search"]
    assert search["budget"] == "2m" and "training.learning_rate" in search["space"]
    refused(here(home, "deploy", "sample", "--replace", "--flow", "tune"), "of the flow retrain")
    for name in ("score/after-a", "queue/after-a", "explain/after-a", "monitor/after-a"):
        assert here(home, "deploy", "--remove", name).exit_code == 0
    assert here(home, "deploy", "--remove", "after-search").exit_code == 0


def test_without_a_server_a_sentence_says_how_to_start_one(tmp_path):
    recipe = recipe_in(tmp_path, "mails", "mails.yaml")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli.main", "deploy", str(recipe), *NIGHTLY],
        env={**clean_environment(), "NOISEFOLD_HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "No Prefect server runs" in done.stderr and "noisefold ui" in done.stderr


# --- a schedule, a worker, and who is told --------------------------------------------------------


class Receiver:
    """A web address and a mail server on loopback, and what came to them."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.mails: list[str] = []
        receiver = self

        class Web(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.posts.append((self.path, json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        class Smtp(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 sink\r\n")
                mail: list[bytes] | None = None
                for line in self.rfile:
                    answer = b"250 ok\r\n"
                    if mail is not None:
                        if line != b".\r\n":
                            mail.append(line)
                            continue
                        receiver.mails.append(b"".join(mail).decode())
                        mail = None
                    elif line[:4].upper() == b"DATA":
                        mail, answer = [], b"354 go on\r\n"
                    self.wfile.write(answer)
                    if line[:4].upper() == b"QUIT":
                        return

        self.web = ThreadingHTTPServer(("127.0.0.1", 0), Web)
        self.smtp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp)
        for server in (self.web, self.smtp):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        for server in (self.web, self.smtp):
            server.shutdown()
            server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.stop()


SECRET = "T0KEN-that-nobody-may-see"


def wait_for(found: Any, seconds: float, log: Path) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, log.read_text()[-5000:]
        time.sleep(0.5)
    return value


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_carries_out_its_nights_and_a_broken_one_is_told(
    here, prefect_api, receiver, tmp_path
):
    """By its schedule, from a folder with modules of the user's own; then with the recipe's file
    gone, which the webhook and the mail say with recipe, state, cause and link.
    """
    desk, home = tmp_path / "邮件", tmp_path / "home"
    recipe = recipe_in(desk, "mails-e", "邮件.yaml")
    web = f"http://127.0.0.1:{receiver.web.server_port}/{SECRET}"
    mail = [
        "--email",
        "you@example.com",
        "--smtp",
        f"smtp://127.0.0.1:{receiver.smtp.server_address[1]}",
    ]
    said = here(home, "notify", "--webhook", web, *mail, "--promotions", "--test")
    assert said.exit_code == 0 and SECRET not in said.output
    assert receiver.posts[0][0] == f"/{SECRET}" and "a test" in receiver.posts[0][1]["text"]
    assert "a test" in receiver.mails[0]
    again = here(home, "notify", "--webhook", web, *mail, "--promotions")
    assert again.exit_code == 0
    names = ["noisefold-late", "noisefold-promotions", "noisefold-trouble"]
    with SyncPrefectClient(prefect_api.url) as client:
        made = [one.name for one in client.read_automations() if one.name in names]
    assert sorted(made) == names, "a second call makes no second one"

    told(here(home, "deploy", recipe, "--interval", "1m", *SHANGHAI, "--by-path", "--json"))
    variables = environment(
        prefect_api, home, PREFECT_WORKER_QUERY_SECONDS="2", PREFECT_HOME=str(tmp_path / "worker"),
        OMP_NUM_THREADS="1", PYTHONPATH=str(REPOSITORY),
    )  # fmt: skip
    del variables["NOISEFOLD_HOME"]  # the deployment has it
    log = tmp_path / "worker.log"
    with log.open("wb") as stream:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "prefect", "worker", "start", "--pool", "noisefold", "--limit", "1"],
            env=variables, cwd=desk, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def ended(state: str) -> Any:
        names = FlowRunFilterStateName(any_=["Completed", "Failed", "Crashed"])
        over = FlowRunFilter(state=FlowRunFilterState(name=names))
        with SyncPrefectClient(prefect_api.url) as client:
            runs = client.read_flow_runs(flow_run_filter=over)
        made = deployment(prefect_api, "mails-e").id
        mine = [one for one in runs if one.deployment_id == made]
        broken = [one for one in mine if one.state_name in ("Failed", "Crashed")]
        assert state == "Failed" or not broken, log.read_text()[-5000:]
        return next((one for one in mine if one.state_name == state), None)

    try:
        run = wait_for(lambda: ended("Completed"), 420, log)
        assert run.created_by.type == "SCHEDULE"
        recipe.rename(recipe.with_suffix(".gone"))
        failed = wait_for(lambda: ended("Failed"), 240, log)
        here(home, "deploy", "--pause", "mails-e")
        cause = f"{recipe}: no such file."
        assert cause in failed.state.message, "the sentence of the command"
        text = wait_for(
            lambda: next((one["text"] for _, one in receiver.posts if str(failed.id) in one["text"]), None), 240, log
        )  # fmt: skip
        letter = wait_for(
            lambda: next((one for one in receiver.mails if str(failed.id) in one.replace("=\r\n", "")), None), 240, log
        )  # fmt: skip
    finally:
        worker.terminate()
        worker.wait(60)
        here(home, "deploy", "--remove", "mails-e")
    assert text.startswith(f"noisefold: {recipe} Failed\n") and cause in text
    assert f"/runs/flow-run/{failed.id}" in text
    mailed = email.message_from_string(letter, policy=email.policy.default)
    assert mailed["subject"].startswith("noisefold: ") and cause in mailed.get_content()
    champions = [one["text"] for _, one in receiver.posts if "is champion" in one["text"]]
    assert champions and champions[0].startswith(
        "noisefold: noisefold-mails-e version 1 is champion"
    )
    assert mlflow_client(home).get_model_version_by_alias("noisefold-mails-e", "champion").version
    assert SECRET not in prefect_api.log.read_text() + log.read_text()
    gone = here(home, "notify", "--remove")
    assert gone.exit_code == 0 and "noisefold-trouble" in gone.stdout
    assert "Nobody is told" in here(home, "notify").stdout


def test_what_cannot_be_told_is_refused(here, tmp_path, monkeypatch):
    home = tmp_path / "home"
    mail = ["--email", "you@example.com", "--smtp"]
    refused(here(home, "notify", "--email", "you@example.com"), "--smtp")
    refused(here(home, "notify", *mail, "smtp://u:geheim@host"), "NOISEFOLD_SMTP_PASSWORD")
    refused(here(home, "notify", *mail, "starttls://u@host"), "NOISEFOLD_SMTP_PASSWORD")
    refused(here(home, "notify", *mail, "imap://host"), "starttls://USER@HOST:587")
    refused(here(home, "notify", "--email", "值班@example.com", "--smtp", "host"), "ASCII")
    refused(here(home, "notify", "--webhook", "hooks"), "https://")
    done = here(home, "notify", "--webhook", f"http://127.0.0.1:9/{SECRET}", "--test")
    refused(done, "webhook was not taken")
    assert SECRET not in done.output
    here(home, "notify", "--remove")
    assert os.environ.get("NOISEFOLD_WEBHOOK") is None


# --- old nights -----------------------------------------------------------------------------------


def nights(done: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_old_nights_are_made_up_for_in_order_and_take_nobodys_place(here, tmp_path):
    """One day has no file: it fails, the others go on; a second call finds what is finished; and
    only --promote moves an alias, also of a version that was judged before.
    """
    home, days = tmp_path / "home", tmp_path / "days"
    days.mkdir()
    for day in (1, 3):
        (days / f"2026-11-0{day}.csv").write_text("id,text,label\n" + ROWS)
    source = {"url": "days", "window": {"days": 1}}
    recipe = recipe_in(tmp_path, "夜晚".encode().hex()[:12], "夜.yaml", source=source)
    span = ["backfill", recipe, "--from", "2026-11-02", "--to", "2026-11-04", "--json"]
    first = here(home, *span)
    told_of = nights(first)
    assert first.exit_code == 1, first.output
    assert [(one["day"], one["state"]) for one in told_of] == [
        ("2026-11-02", "done"), ("2026-11-03", "failed"), ("2026-11-04", "done"),
    ]  # fmt: skip
    assert told_of[0]["rows"] == 180 and told_of[0]["metric"] == "test/macro_f1"
    assert told_of[0]["outcome"] == "would_pass" and told_of[0]["run"].startswith("http")
    assert "2026-11-02" in told_of[1]["cause"]
    client, name = mlflow_client(home), f"noisefold-{load_recipe(recipe).name}"
    assert client.get_registered_model(name).aliases == {}
    run_id = told_of[0]["run"].rpartition("/")[2].partition("?")[0]
    tags = of_run(client.get_run(run_id))
    assert tags["noisefold.window"] == "1 of 1 days, 2026-11-01 to 2026-11-01"
    assert tags["noisefold.due"].startswith("2026-11-02 00:00")

    stopped = here(home, *span, "--stop", "--cron", "30 4 * * *", *SHANGHAI)
    assert [one["state"] for one in nights(stopped)] == ["done", "failed"], stopped.output
    assert nights(stopped)[0]["due"] == "2026-11-02T04:30+08:00"
    assert nights(stopped)[0]["run"] == told_of[0]["run"], "it was found done"
    assert client.get_registered_model(name).aliases == {}

    asked = here(
        home, "backfill", recipe, "--from", "2026-11-02", "--to", "2026-11-02", "--promote"
    )
    assert asked.exit_code == 0, asked.output
    assert "promoted" in asked.stdout and "180" in asked.stdout
    assert str(client.get_registered_model(name).aliases["champion"]) == "1"


def test_what_has_no_nights_is_refused(here, tmp_path):
    home, recipe = tmp_path / "home", recipe_in(tmp_path, "mails-f", "mails.yaml")
    span = ["--from", "2026-11-02", "--to", "2026-11-03"]
    refused(here(home, "backfill", recipe, *span), "no rolling window", "window: {days: 28}")
    refused(here(home, "backfill", recipe, *span[2:], "--from", "2026-11-09"), "lies after")
    ahead = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"
    refused(here(home, "backfill", recipe, *span[:2], "--to", ahead), "lies ahead")
    refused(here(home, "backfill", recipe, *span, "--cron", "0 3 9 * *"), "Nothing was due")


def test_a_deployments_name_has_its_recipe_and_its_schedule(
    here, prefect_api, tmp_path, monkeypatch
):
    """Weekly: of three weeks the Mondays, by the clock of its own zone."""
    from flows.cli.backfill import Nights, deployed, instants
    from tasks.settings import Settings

    home, source = tmp_path / "home", {"url": "days", "window": {"days": 7}}
    recipe = recipe_in(tmp_path, "mails-g", "mails.yaml", source=source)
    told(here(home, "deploy", recipe, "--cron", "0 1 * * 1", *SHANGHAI, "--unchecked", "--json"))
    monkeypatch.setenv("PREFECT_API_URL", prefect_api.url)
    found = deployed("mails-g", Settings(home=home))
    here(home, "deploy", "--remove", "mails-g")
    assert found is not None and found[0]["recipe"]["name"] == "mails-g"
    span = Nights(datetime(2026, 11, 2).date(), datetime(2026, 11, 22).date())
    due = [at.isoformat() for at in instants(span, found[1])]
    assert due == [f"2026-11-{day:02}T01:00:00+08:00" for day in (2, 9, 16)]
