"""The store: built once, found again, never trusted when damaged, never half there."""

from __future__ import annotations

import errno
import multiprocessing
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.artifacts import RawCorpus
from data_contracts.errors import NoisefoldError
from tasks.artifacts.store import MANIFEST, ArtifactStore, RowDigest, Workspace, hash_files

FACTS = {
    "digest": "d",
    "rows_in": 1,
    "rows_out": 1,
    "fingerprint": "f",
    "splits": {"train": 1},
    "source_files": 1,
}


def build(workspace: Workspace) -> dict:
    (workspace.out / "parts").mkdir()
    (workspace.out / "parts" / "a.txt").write_text("rows")
    return dict(FACTS)


def once(store: ArtifactStore, builder=build, inputs=("x",), version=1, config=None):
    return store.once(RawCorpus, inputs=inputs, config=config, version=version, build=builder)


def must_not_build(_: Workspace) -> dict:
    raise AssertionError("built a second time")


def test_second_time_is_cached_with_the_same_manifest(store):
    first, second = once(store), once(store, must_not_build)
    assert (first.cached, second.cached) == (False, True)
    assert first.manifest == second.manifest
    assert (store.open(first.manifest) / "parts" / "a.txt").read_text() == "rows"


@pytest.mark.parametrize("change", [{"inputs": ("y",)}, {"version": 2}, {"config": {"a": 1}}])
def test_key_changes_with_input_version_and_config(store, change):
    assert once(store).manifest.key != once(store, **change).manifest.key


@pytest.mark.parametrize("harm", ["truncate", "flip", "delete", "manifest", "manifest_cut"])
def test_damage_is_noticed_and_built_again(store, harm):
    folder = store.open(once(store).manifest)
    file = folder / "parts" / "a.txt"
    match harm:
        case "truncate":
            file.write_text("ro")
        case "flip":
            file.write_text("rowz")
        case "delete":
            file.unlink()
        case "manifest":
            (folder / MANIFEST).unlink()
        case "manifest_cut":
            (folder / MANIFEST).write_text('{"key": ')
    assert once(store).cached is False
    assert file.read_text() == "rows"
    assert once(store).cached is True


def test_failed_build_leaves_no_artifact_and_keeps_its_work(store, tmp_path):
    def fails(workspace: Workspace) -> dict:
        (workspace.out / "half").write_text("…")
        (workspace.keep / "checkpoint").write_text("step 10")
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError):
        once(store, fails)
    assert not list(tmp_path.joinpath("artifacts").rglob("*"))

    def resumes(workspace: Workspace) -> dict:
        assert (workspace.keep / "checkpoint").read_text() == "step 10"
        assert not list(workspace.out.iterdir())
        return build(workspace)

    assert once(store, resumes).cached is False
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["locks"]


def test_full_disk_names_the_remedy(store):
    def full(_: Workspace) -> dict:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/part")

    with pytest.raises(NoisefoldError, match="No space is left on the disk of /data/part"):
        once(store, full)


def test_moved_store_is_still_found(tmp_path):
    once(ArtifactStore(str(tmp_path / "a"), tmp_path / "work"))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = once(ArtifactStore(str(tmp_path / "b"), tmp_path / "work"), must_not_build)
    assert moved.manifest.uri == str(tmp_path / "b" / "ingest" / moved.manifest.key)


def test_object_store_commits_by_manifest_and_fetches_checked_copies(tmp_path):
    store = ArtifactStore("memory://noisefold-test/artifacts", tmp_path / "work")
    manifest = once(store).manifest
    assert once(store, must_not_build).cached
    folder = store.open(manifest)
    assert (folder / "parts" / "a.txt").read_text() == "rows"
    (folder / "parts" / "a.txt").write_text("harm")
    assert (store.open(manifest) / "parts" / "a.txt").read_text() == "rows"
    (store.root / "ingest" / manifest.key / MANIFEST).unlink()
    assert store.find(RawCorpus, manifest.key) is None


def _build_slowly(root: Path, queue) -> None:
    def slow(workspace: Workspace) -> dict:
        import time

        time.sleep(0.3)
        return build(workspace)

    queue.put(once(ArtifactStore(str(root / "artifacts"), root / "work"), slow).cached)


def test_two_processes_build_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_build_slowly, args=(tmp_path, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(queue.get() for _ in workers) == [False, True]


ROWS = st.lists(
    st.tuples(
        st.text(max_size=5) | st.none(), st.integers(-5, 5), st.lists(st.integers(0, 9), max_size=4)
    )
)


@given(rows=ROWS, cut=st.integers(0, 20), seed=st.randoms())
@settings(max_examples=60, deadline=None)
def test_row_digest_does_not_depend_on_cuts_or_order(rows, cut, seed):
    def digest(*chunks):
        total = RowDigest(["text", "n", "ids"])
        for chunk in chunks:
            schema = pa.schema(
                [("text", pa.string()), ("n", pa.int32()), ("ids", pa.list_(pa.int32()))]
            )
            columns = list(map(list, zip(*chunk, strict=True))) or [[], [], []]
            total.update(pa.table(columns, schema=schema))
        return total.hexdigest()

    shuffled = list(rows)
    seed.shuffle(shuffled)
    assert digest(rows) == digest(rows[:cut], rows[cut:]) == digest(shuffled)
    assert digest(rows) != digest([*rows, ("one more", 1, [1])])


def test_row_digest_tells_null_from_empty_and_moves_from_one_column_to_the_next():
    def digest(**columns):
        total = RowDigest(list(columns))
        total.update(pa.table(columns))
        return total.hexdigest()

    assert digest(a=[""], b=["x"]) != digest(a=pa.array([None], pa.string()), b=["x"])
    assert digest(a=["xy"], b=["z"]) != digest(a=["x"], b=["yz"])
    told = [digest(a=pa.array([value], pa.bool_())) for value in (None, True, False)]
    assert len(set(told)) == 3


def test_row_digest_is_what_it_always_was():
    """Frozen: the digests of manifests in stores that there are."""
    table = pa.table(
        {
            "text": pa.array(["é", None, ""]),
            "n": pa.array([1, -2, None], pa.int32()),
            "x": [0.5, None, -0.0],
            "b": [True, None, False],
            "ids": pa.array([[1, 2], [], [3]], pa.list_(pa.int32())),
        }
    )
    total = RowDigest(table.column_names)
    total.update(table)
    assert total.hexdigest() == "6e2f904be13e88c18346"


def test_sliced_list_columns_digest_like_whole_ones():
    table = pa.table({"ids": pa.array([[1, 2], [3], [], [4, 5, 6]], pa.list_(pa.int32()))})
    whole, parts = RowDigest(["ids"]), RowDigest(["ids"])
    whole.update(table)
    parts.update(table.slice(2))
    parts.update(table.slice(0, 2))
    assert whole.hexdigest() == parts.hexdigest()


def test_hash_files_names_files_by_relative_path(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"abc")
    assert list(hash_files(tmp_path)) == ["b/x"]
    assert hash_files(tmp_path)["b/x"].sha256.startswith("ba7816bf")
