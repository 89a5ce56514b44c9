"""gc: what is needed stays, the rest goes, and a kill half-way leaves nothing that anybody trusts."""

from __future__ import annotations

import itertools
import pkgutil
import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.exceptions import MlflowException

from data_contracts.artifacts import EvaluationReport, RawCorpus, TokenDataset
from data_contracts.recipe.tokenizer import WindowConfig
from tasks.artifacts.store import ArtifactStore, Workspace
from tasks.liveness.lease import Busy, Leases, this_process
from tasks.operate import retention
from tasks.operate.retention import GONE, Needs, Thing, ThingJudge, _artifacts, collect, plan
from tasks.register import DIGEST
from tasks.serving.check import fetch_version
from tasks.settings import Settings
from tasks.tracking.aliases import CHAMPION, WITHDRAWN, Aliases
from tasks.tracking.bookkeeping import ARTIFACT
from tasks.tracking.runs import open_tracker

if TYPE_CHECKING:  # pytest imports it as a plugin, which must come first
    from tests.tasks.mlflow_fixtures import World

_numbers = itertools.count()
AT_ONE = {"temperature": 1.0, "temperature_why_not": None, "temperature_applied": False}
pytest_plugins = ["tests.tasks.mlflow_fixtures"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A state folder of its own: gc looks at everything in it."""
    from data_contracts.recipe.tokenizer import WordTokenizer
    from tests.stages import tokenize_corpus
    from tests.tasks.mlflow_fixtures import World, make_corpus, make_recipe

    home = Settings.model_construct(
        home=tmp_path_factory.mktemp("gc"), artifacts=None, mlflow_tracking_uri=None
    )
    store, recipe = ArtifactStore(home.artifacts_url, home.work), make_recipe("gc-first")
    corpus = make_corpus(store)
    config = WordTokenizer(vocab_size=200, min_frequency=1)
    window = WindowConfig(max_length=16, overlap=4)
    tokens = tokenize_corpus(corpus, config, store, window).manifest
    world = World(
        store, home, corpus, tokens, recipe, open_tracker(home, recipe, "fingerprint", {})
    )
    night = Night(world, 0)  # what all of them share is what the newest of this recipe needs
    night.tracker.set_tags(
        {f"{ARTIFACT}{one.stage}": one.key for one in (corpus, tokens, world.model())}
    )
    return world


@pytest.fixture
def world(first: World) -> World:
    from tests.tasks.mlflow_fixtures import make_recipe

    recipe = make_recipe(f"gc-{next(_numbers)}")
    return replace(
        first, recipe=recipe, tracker=open_tracker(first.settings, recipe, "fingerprint", {})
    )


class Night:
    """What a retrain leaves: an MLflow run of its own, artifacts, a version.

    `real` registers the trained model, each night with another temperature; otherwise the files are
    one line.
    """

    def __init__(
        self, world: World, number: int, status: str = "FINISHED", *, real: bool = False
    ) -> None:
        changed = world.recipe.promotion.model_copy(update={"margin": number / 1000})
        recipe = world.recipe.model_copy(update={"promotion": changed})
        self.store, self.name, self.recipe = world.store, recipe.model_name, recipe
        self.tracker = open_tracker(world.settings, recipe, "fingerprint", {})
        self.report = world.store.once(
            EvaluationReport,
            inputs=[recipe.name, str(number)],
            config={},
            version=1,
            build=self._report,
        ).manifest
        self.tracker.set_tags({f"{ARTIFACT}evaluate": self.report.key})
        if real:
            report = self.report.model_copy(
                update={
                    "facts": AT_ONE | {"temperature": 1 + number / 10, "temperature_applied": True}
                }
            )
            registered = replace(world, recipe=recipe, tracker=self.tracker).register(
                world.model(), report
            )
            self.version, self.created = registered.version, registered.created
        else:
            self._register(number)
        if status != "RUNNING":
            self.tracker.end(status)

    @property
    def there(self) -> bool:
        return self.store.find(EvaluationReport, self.report.key) is not None

    def _report(self, workspace: Workspace) -> dict[str, Any]:
        (workspace.out / "report.json").write_text("{}")
        rows = {
            "rows_in": 1,
            "rows_out": 1,
            "metrics": {},
            "facts": AT_ONE,
            "row_figure": "Accuracy",
            "slices": (),
        }
        return {"digest": workspace.key, **rows}

    def _register(self, number: int) -> None:
        client, tags = self.tracker.client, {DIGEST: f"{self.name} {number}"}
        logged = client.create_logged_model(
            self.tracker.experiment_id, name="m", source_run_id=self.tracker.run_id, tags=tags
        )
        file = self.store.work / "line"
        file.write_text("a line")
        client.log_model_artifact(logged.model_id, str(file))
        client.finalize_logged_model(logged.model_id, "READY")
        with suppress(MlflowException):
            client.create_registered_model(self.name)
        source = f"models:/{logged.model_id}"
        version = client.create_model_version(
            self.name, source, self.tracker.run_id, tags=tags, model_id=logged.model_id
        )
        self.version, self.created = str(version.version), True
        self.tracker.set_tags(
            {"noisefold.model_name": self.name, "noisefold.model_version": self.version}
        )


def by_name(things: list[Thing]) -> dict[str, Thing]:
    return {thing.name: thing for thing in things}


def clean(world: World) -> list[Thing]:
    return collect(world.settings, keep=1, older_than_days=0, prefect=False)


def files_of(world: World, number: str) -> Path:
    uri = world.tracker.client.get_model_version_download_uri(world.recipe.model_name, number)
    return Path(uri.removeprefix("file://"))


def test_what_is_needed_stays_and_the_rest_goes(world: World, tmp_path: Path) -> None:
    name, client = world.recipe.model_name, world.tracker.client
    status = {5: "RUNNING"}
    nights = {n: Night(world, n, status.get(n, "FINISHED"), real=n == 7) for n in range(1, 9)}
    aliases = Aliases(client, name, world.settings.ledger)
    aliases.crown("1", None, "first")
    aliases.crown("2", "1", "second")
    aliases.move(CHAMPION, "3", "a slip")
    aliases.move(CHAMPION, "2", "back")
    client.set_model_version_tag(name, "4", WITHDRAWN, "rolled back")
    # A later night finds the sixth's run done: the newest of use, though its run is older than
    # others.
    assert open_tracker(world.settings, nights[6].recipe, "fingerprint", {}).closed

    assert not any(thing.goes for thing in plan(world.settings, keep=1)), (
        "nothing is thirty days old"
    )
    found = by_name(plan(world.settings, keep=1, older_than_days=0))
    why = {number: found[f"{name} {number}"] for number in nights}
    assert [number for number, thing in why.items() if thing.goes] == [7]
    for number, reason in {
        1: "alias previous",
        2: "alias champion",
        3: "named by one of the last 1 moves of the ledger",
        4: "rolled back",
        5: "is under way",
        6: "the newest of recipe",
        8: "newest versions",
    }.items():
        assert reason in why[number].why, number
    assert all(night.there for night in nights.values()), "it only looked"
    assert not any(thing.goes for thing in plan(world.settings, keep=9, older_than_days=0))

    files = {number: files_of(world, str(number)) for number in nights}
    gone = clean(world)
    assert {thing.kind for thing in gone if thing.goes} == {
        "model version",
        "logged model",
        "artifact",
    }
    assert sum(thing.bytes for thing in gone if thing.goes) > 20_000
    versions = {int(v.version) for v in client.search_model_versions(f"name = '{name}'")}
    assert versions == {1, 2, 3, 4, 5, 6, 8}
    assert {number for number, folder in files.items() if folder.exists()} == versions
    # The eighth version stays by its number alone, the fourth by its mark; what they were made from
    # may go.
    assert [number for number, night in nights.items() if night.there] == [1, 2, 3, 5, 6]
    assert world.store.find(TokenDataset, world.tokens.key), (
        "another recipe's newest run needs them"
    )
    assert not any(thing.goes for thing in clean(world)), "safe to repeat"

    healed = Night(world, 7, real=True)
    assert healed.created and healed.version == "9", "one that went is made anew"
    fetch_version(client, name, "9", tmp_path / "9")
    nights[5].tracker.end("FINISHED")


STEPS = {
    "the mark": ("mlflow.MlflowClient", "set_logged_model_tags"),
    "the version": ("mlflow.MlflowClient", "delete_model_version"),
    "the files": (
        "mlflow.store.artifact.local_artifact_repo.LocalArtifactRepository",
        "delete_artifacts",
    ),
    "the entry": ("mlflow.MlflowClient", "delete_logged_model"),
    "the artifact's files": ("shutil", "rmtree"),
}


def test_a_kill_half_way_leaves_nothing_that_a_rerun_trusts(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each step of the removal in turn, the same model is registered whole again."""
    name, client = world.recipe.model_name, world.tracker.client

    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    for number, (step, (owner, attribute)) in enumerate(STEPS.items(), start=1):
        night = Night(world, number, real=True)
        newest = Night(world, number + 100)  # nothing needs the one before
        with monkeypatch.context() as patch:
            patch.setattr(pkgutil.resolve_name(owner), attribute, killed)
            with pytest.raises(Killed):
                clean(world)
        assert newest.there, step
        again = Night(world, number, real=True)
        assert again.there and again.report == night.report, step
        fetch_version(client, name, again.version, tmp_path / f"{number}")
    Night(world, 999)
    clean(world)
    assert not any(
        GONE in v.tags for v in client.search_logged_models([world.tracker.experiment_id])
    )
    assert not any(thing.goes for thing in clean(world)), "what the dead had begun is ended"


def test_no_run_is_disturbed(world: World) -> None:
    Night(world, 1), Night(world, 2)
    with (
        Leases(world.settings.root).take("retrain mails", ["recipe mails"], this_process()),
        pytest.raises(Busy) as no,
    ):
        clean(world)
    assert "retrain mails is under way" in no.value.cause
    assert world.tracker.client.get_model_version(world.recipe.model_name, "1")
    assert any(thing.goes for thing in clean(world))


def test_an_alias_that_was_moved_since_the_plan_keeps_its_version(
    world: World, monkeypatch: Any
) -> None:
    name, client = world.recipe.model_name, world.tracker.client
    Night(world, 1), Night(world, 2)
    real = retention.plan

    def moved(*arguments: Any, **options: Any) -> list[Thing]:
        things = real(*arguments, **options)
        client.set_registered_model_alias(name, CHAMPION, "1")
        return things

    monkeypatch.setattr(retention, "plan", moved)
    assert by_name(clean(world))[f"{name} 1"].goes
    found = client.get_model_version_by_alias(name, CHAMPION)
    assert str(found.version) == "1" and (files_of(world, "1") / "line").exists()


def test_half_done_work_waits_for_the_newest_run_to_finish(world: World) -> None:
    half = world.settings.work / f"train-{'0' * 20}"
    other = world.settings.work / "scratch-of-somebody"
    for folder in (half, other):
        (folder / "out").mkdir(parents=True)
        (folder / "out" / "checkpoint").write_bytes(b"x" * 1000)
    Night(world, 1, "FAILED")
    clean(world)
    assert half.exists(), "its rerun may go on from there"
    for (
        experiment
    ) in world.tracker.client.search_experiments():  # whatever other tests have left open
        for run in world.tracker.client.search_runs([experiment.experiment_id]):
            world.tracker.client.set_terminated(run.info.run_id)
    Night(world, 2)
    clean(world)
    assert not half.exists() and other.exists()
    shutil.rmtree(other)


def test_files_outside_of_mlflows_own_layout_are_not_removed(
    world: World, tmp_path: Path, monkeypatch: Any
) -> None:
    """A store may say anything about where a model lies."""
    from mlflow.entities import LoggedModel

    precious = tmp_path / "precious"
    precious.mkdir()
    Night(world, 1), Night(world, 2)
    monkeypatch.setattr(LoggedModel, "artifact_location", property(lambda _: str(precious)))
    assert any(thing.goes and thing.kind == "logged model" for thing in clean(world))
    assert precious.is_dir()


def test_an_artifact_of_an_object_store_goes_whole(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://bucket/{tmp_path.name}", tmp_path / "work")
    needed, other = (
        store.once(RawCorpus, inputs=[name], config={}, version=1, build=one_file).manifest
        for name in ("a", "b")
    )
    later = datetime.now(UTC) + timedelta(minutes=1)
    needs = Needs(artifacts={needed.key: "the newest of recipe x"})
    for before, going in ((later - timedelta(minutes=2), set()), (later, {f"ingest {other.key}"})):
        things = list(_artifacts(store, ThingJudge(needs, before, "young")))
        assert {thing.name for thing in things if thing.goes} == going
    for thing in things:
        if thing.goes:
            thing.remove()
    assert store.find(RawCorpus, needed.key) and not store.find(RawCorpus, other.key)
    assert not (store.root / "ingest" / other.key).exists()


def one_file(workspace: Workspace) -> dict[str, Any]:
    (workspace.out / "part").mkdir()
    (workspace.out / "part" / "rows").write_text("rows")
    facts = {"fingerprint": "f", "splits": {}, "source_files": 1}
    return {"digest": workspace.key, "rows_in": 1, "rows_out": 1, **facts}
