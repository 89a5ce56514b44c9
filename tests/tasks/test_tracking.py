"""One MLflow run per retrain, found again; a dead server told within seconds; metric points once,
in order.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from data_contracts.errors import ServiceUnavailable, told_of
from data_contracts.recipe.recipe import Recipe
from data_contracts.urls import shown_url
from lightning_modules.training.metrics_log import MetricsLog
from tasks.settings import Settings
from tasks.tracking import runs as tracking
from tasks.tracking.bookkeeping import OUTCOME, OWNER, STATE, of_run
from tasks.tracking.runs import Tracker, flatten, open_tracker
from tasks.train import Forwarder
from tests.servers import free_port, mlflow_server


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), artifacts=None)


def opened(settings: Settings, fingerprint: str = "f1", **recipe) -> Tracker:
    return open_tracker(
        settings,
        Recipe.model_validate({"source": {"kind": "sample"}, **recipe}),
        fingerprint,
        {"noisefold.flow_run_id": "flow-1"},
    )


def test_rerun_reopens_the_same_run_and_another_source_gets_its_own(settings):
    first = opened(settings)
    first.end("FAILED")
    again = opened(settings)
    assert again.run_id == first.run_id
    assert again.client.get_run(again.run_id).info.status == "RUNNING"
    assert opened(settings, "f2").run_id != first.run_id
    assert opened(settings, training={"seed": 1}).run_id != first.run_id
    assert opened(settings, execution={"retries": 0}).run_id == first.run_id


def test_a_finished_run_stays_closed_and_says_who_has_found_it_done(settings):
    first = opened(settings, "finished")
    first.end("FINISHED")
    before = first.client.get_run(first.run_id)
    night = {"noisefold.flow_run_id": "flow-2", "noisefold.flow_run_name": "quiet-owl", OWNER: "{}"}
    again = open_tracker(settings, Recipe(), "finished", night)
    again.end("FINISHED")
    after = again.client.get_run(first.run_id)
    assert (again.run_id, again.closed) == (first.run_id, True)
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    known = of_run(before)
    new = {name: text for name, text in of_run(after).items() if known.get(name) != text}
    assert new.pop(STATE), "in which the others stand, out of people's sight"
    assert sorted(new) == [
        "noisefold.last_seen",
        "noisefold.last_seen_flow_run_id",
        "noisefold.last_seen_flow_run_name",
    ]
    assert new["noisefold.last_seen_flow_run_id"] == "flow-2"
    assert of_run(after)["noisefold.flow_run_id"] == "flow-1", "the night that trained it"
    # One that fails on it says so beside the run's own story, until another night is well.
    open_tracker(settings, Recipe(), "finished", night).end("FAILED", "the registry broke")
    failed = again.client.get_run(first.run_id)
    assert (failed.info.status, failed.info.end_time) == ("FINISHED", before.info.end_time)
    assert of_run(failed)["noisefold.last_seen_error"] == "the registry broke"
    assert "noisefold.error" not in failed.data.tags
    open_tracker(settings, Recipe(), "finished", night)
    assert "noisefold.last_seen_error" not in of_run(again.client.get_run(first.run_id))


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_an_error_is_gone_once_the_run_goes_on(settings, status):
    first = opened(settings, f"error {status}")
    first.end(status, "the disk was full")
    assert first.tag("noisefold.error") == "the disk was full"
    first.set_tags({OUTCOME: "failed in train"})
    again = opened(settings, f"error {status}")
    assert again.tag("noisefold.error") is None
    assert again.tag(OUTCOME) is None
    again.set_tags({OUTCOME: "promoted"})
    again.end(status, "the server went away")
    again = opened(settings, f"error {status}")
    assert again.tag(OUTCOME) == "promoted", "what was decided stands"
    again.set_tags(
        {"noisefold.error": "Its process is gone."}
    )  # as another machine may have thought meanwhile
    again.end("FINISHED")
    assert again.tag("noisefold.error") is None


def test_stages_of_another_version_are_another_run(settings):
    one, same, other = (
        open_tracker(settings, Recipe(), "versions", {}, {"train": version}).run_id
        for version in (1, 1, 2)
    )
    assert one == same != other


class TerminationSignal(BaseException):
    """As Prefect's, by its name."""


class Pause(BaseException):
    """As Prefect's, by its name."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TerminationSignal(15), "SIGTERM"),
        (KeyboardInterrupt(), "Ctrl-C (SIGINT)"),
        (Pause(), "suspended in Prefect"),
        (SystemExit(1), "told to exit (status 1)"),
        (OSError(), "OSError"),
        (ValueError("no such label"), "no such label"),
    ],
)
def test_what_ended_a_run_is_told_in_words(error, words):
    assert words in told_of(error)


def test_run_carries_what_a_reader_looks_for(settings):
    tracker = opened(settings)
    run = tracker.client.get_run(tracker.run_id)
    assert run.data.params["training.max_epochs"] == str(Recipe().training.max_epochs)
    assert (
        run.data.params["contract.labels.values"]
        == '["negative", "mixed", "positive", "no_opinion"]'
    )
    assert of_run(run)["noisefold.flow_run_id"] == "flow-1"
    shown = {name for name in run.data.tags if not name.startswith("mlflow.")}
    assert shown == {"noisefold.run_key", "noisefold.recipe"}, "what people filter by"
    assert "recipe.yaml" in {file.path for file in tracker.client.list_artifacts(tracker.run_id)}


def test_metrics_are_logged_once(settings):
    tracker = opened(settings)
    for _ in range(2):
        tracker.log_metrics({"test/accuracy": 0.5})
    assert len(tracker.client.get_metric_history(tracker.run_id, "test/accuracy")) == 1


def test_once_marks_what_the_run_has_been_told(settings):
    tracker = opened(settings)
    with pytest.raises(OSError), tracker.once("evaluate", "key-1") as fresh:  # noqa: PT012
        assert fresh
        raise OSError("the upload broke")
    for expected in (True, False):
        with tracker.once("evaluate", "key-1") as fresh:
            assert fresh is expected


def write_points(path: Path, steps: range) -> None:
    with path.open("a") as stream:
        for step in steps:
            for key in ("train/loss", "val/macro_f1"):
                stream.write(
                    json.dumps(
                        {"key": key, "value": step / 10, "step": step, "timestamp": 1000 + step}
                    )
                    + "\n"
                )


def test_forwarder_delivers_each_point_once_even_after_a_cut_back_file(settings, tmp_path):
    tracker, path = opened(settings, "forward"), tmp_path / "metrics.jsonl"
    write_points(path, range(1, 6))
    Forwarder(path, tracker).deliver()
    # A resumed child cuts the file back to its checkpoint and computes some steps again.
    path.write_text("")
    write_points(path, range(1, 9))
    forwarder = Forwarder(path, tracker)
    forwarder.deliver()
    forwarder.deliver()
    history = tracker.client.get_metric_history(tracker.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(s, s / 10) for s in range(1, 9)]


def test_forwarder_that_has_read_along_starts_anew_with_a_resumed_training(settings, tmp_path):
    """The new lines need not be as long as those that were dropped: its place may be within a line,
    or after some.
    """
    tracker, path = opened(settings, "resumed"), tmp_path / "metrics.jsonl"
    forwarder, log = Forwarder(path, tracker), MetricsLog(path)
    for attempt, value in enumerate((0.123456789, 0.5, 0.123456789)):
        log.rewind(3 * attempt)
        for step in range(3 * attempt + 1, 3 * attempt + 8):
            log.write(step, {"train/tokens_per_second": value, "train/loss": step / 10})
        with path.open("a") as stream:
            stream.write('{"key": "train/lo')  # killed
        forwarder.deliver()
    history = tracker.client.get_metric_history(tracker.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(s, s / 10) for s in range(1, 14)]


def test_half_a_line_waits_for_its_end(settings, tmp_path):
    tracker, path = opened(settings, "half"), tmp_path / "metrics.jsonl"
    line = json.dumps({"key": "train/loss", "value": 1.0, "step": 1, "timestamp": 1})
    path.write_text(line[:20])
    forwarder = Forwarder(path, tracker)
    forwarder.deliver()
    path.write_text(line + "\n")
    forwarder.deliver()
    assert len(tracker.client.get_metric_history(tracker.run_id, "train/loss")) == 1


def test_dead_server_is_told_within_five_seconds_and_without_its_password(tmp_path):
    settings = Settings(
        home=tmp_path,
        artifacts=None,
        MLFLOW_TRACKING_URI=f"http://u:hunter2@127.0.0.1:{free_port()}",
    )
    started = time.monotonic()
    with pytest.raises(ServiceUnavailable, match="MLflow tracking server at http://127") as caught:
        opened(settings)
    assert time.monotonic() - started < 5
    assert "hunter2" not in str(caught.value)


def test_server_that_dies_in_mid_run_gets_every_point_afterwards(tmp_path):
    server = mlflow_server(tmp_path).start()
    try:
        settings = Settings(home=tmp_path / "home", artifacts=None, MLFLOW_TRACKING_URI=server.url)
        tracker, path = opened(settings), tmp_path / "metrics.jsonl"
        with Forwarder(path, tracker, seconds=0.1) as forwarder:
            write_points(path, range(1, 4))
            time.sleep(1.0)
            server.stop()
            write_points(path, range(4, 8))
            time.sleep(1.0)
            server.start()
        forwarder.deliver()
        history = tracker.client.get_metric_history(tracker.run_id, "val/macro_f1")
        assert [m.step for m in history] == list(range(1, 8))
    finally:
        server.stop()


def test_the_environment_stays_as_the_user_set_it(settings, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    opened(settings)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert Settings().mlflow_tracking_uri is None


def test_flatten_and_credentials():
    assert flatten({"a": {"b": [1, "x"], "c": None}, "d": "t"}) == {
        "a.b": '[1, "x"]',
        "a.c": "null",
        "d": "t",
    }
    assert shown_url("https://u:p@host:1/x?token=s") == "https://host:1/x"


def test_a_users_own_repository_round_the_environment_is_not_taken_for_ours(tmp_path, monkeypatch):
    """An installed package lies within it, and its commit says nothing of the code that runs."""
    site = tmp_path / ".venv" / "site-packages"
    (site / "tasks" / "tracking").mkdir(parents=True)
    (site / "tasks" / "tracking" / "runs.py").write_text("")
    (tmp_path / ".gitignore").write_text(".venv\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=mine"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(tracking, "__file__", str(site / "tasks" / "tracking" / "runs.py"))
    assert tracking.git_commit() == "unknown"
    (tmp_path / "tasks" / "tracking").mkdir(parents=True)
    (tmp_path / "tasks" / "tracking" / "runs.py").write_text("")
    subprocess.run([*git, "add", "tasks"], check=True)
    monkeypatch.setattr(tracking, "__file__", str(tmp_path / "tasks" / "tracking" / "runs.py"))
    assert tracking.git_commit().endswith("-dirty")
