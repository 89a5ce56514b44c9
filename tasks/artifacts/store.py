"""Content-addressed artifacts: the only cache of the pipeline.

A stage's key is the digest of (digests of its inputs, its section of the recipe, the stage's
version). The manifest, written last in one write, is the only commit: on a local disk a rename
makes the finished folder appear; an object store has no rename and needs none, since nothing reads
a folder without a manifest. Half-done work stays in `<home>/work/<stage>-<key>/` and is taken up by
the next attempt.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock
from pydantic import BaseModel, ValidationError
from upath import UPath

from data_contracts.artifacts import Artifact, File
from data_contracts.errors import NoisefoldError
from data_contracts.urls import credential_in

MANIFEST = "manifest.json"
M = TypeVar("M", bound=Artifact)


@dataclass(frozen=True)
class Outcome(Generic[M]):
    """A stage's manifest, and whether it was there already."""

    manifest: M
    cached: bool


@dataclass(frozen=True)
class Workspace:
    """Folders of one attempt: `out` starts empty and becomes the artifact; `keep` outlives a failed
    attempt.
    """

    out: Path
    keep: Path
    key: str


class ArtifactStore:
    """Finished artifacts below `url` (any fsspec scheme), work in progress below `work` (always a
    local disk).
    """

    def __init__(self, url: str, work: Path) -> None:
        if (what := credential_in(url)) is not None:
            raise NoisefoldError(
                f"NOISEFOLD_ARTIFACTS holds {what}; the address of the store is written into every "
                f"manifest.",
                "Give the address alone, and the credential to fsspec (AWS_ACCESS_KEY_ID, "
                "FSSPEC_S3_KEY, "
                "~/.config/fsspec, …).",
            )
        self.root, self.work = UPath(url), Path(work)
        # Copies of what lies elsewhere: artifacts, models of the registry.
        self.fetched = self.work / "fetched"
        self.local = self.root.protocol in ("", "file", "local")

    def once(
        self,
        kind: type[M],
        *,
        inputs: Sequence[str],
        config: BaseModel | dict[str, Any] | None,
        version: int,
        build: Callable[[Workspace], dict[str, Any]],
    ) -> Outcome[M]:
        """Return the artifact of this key, building it only where it is missing or damaged.

        Args:
            inputs: content digests of everything the stage reads.
            config: the section of the recipe that shapes the result.
            version: of the stage's code; raised when its output changes meaning.
            build: writes files into `workspace.out` and returns the manifest's own fields (`digest`
                among them).
        Raises:
            NoisefoldError: where the disk is full or the store cannot be written.
        """
        key = stage_key(kind, inputs, config, version)
        keep = self.work / f"{kind.stage}-{key}"
        manifest = self.find(kind, key)
        if manifest is not None and not keep.exists():
            return Outcome(manifest, cached=True)
        with _clear_disk_errors(self.work), self.lock(keep.name):
            # Another process may have finished it while this one waited, or have died between
            # commit and tidying.
            manifest = self.find(kind, key)
            cached = manifest is not None
            if manifest is None:
                out = keep / "out"
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir(parents=True)
                facts = build(Workspace(out, keep, key))
                manifest = kind(
                    key=key, uri=str(self.root / kind.stage / key), files=hash_files(out), **facts
                )
                self._commit(manifest, out)
            shutil.rmtree(keep, ignore_errors=True)
        return Outcome(manifest, cached)

    def find(self, kind: type[M], key: str) -> M | None:
        """The committed artifact of this key, or None where it is absent, damaged or unreadable."""
        folder = self.root / kind.stage / key
        try:
            manifest = kind.model_validate_json((folder / MANIFEST).read_bytes())
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValidationError):
            return None
        # The folder may have been moved as a whole; where it is now is what counts.
        manifest = manifest.model_copy(update={"uri": str(folder)})
        return manifest if not self.damage(manifest) else None

    def damage(self, manifest: Artifact) -> list[str]:
        """Names of files that are missing, links, or whose bytes differ from the manifest."""
        return [
            name
            for name, file in manifest.files.items()
            if not self._intact(manifest.uri, name, file)
        ]

    def _intact(self, uri: str, name: str, file: File) -> bool:
        try:
            return not (self.local and _through_a_link(Path(uri), name)) and _same_bytes(
                UPath(uri) / name, file
            )
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # no file has that name
                return False
            raise

    def open(self, manifest: Artifact) -> Path:
        """Local folder with the artifact's files; those of an object store are fetched once and
        checked.
        """
        if self.local:
            return Path(manifest.uri)
        folder = self.fetched / f"{manifest.stage}-{manifest.key}"
        for name, file in manifest.files.items():
            target = folder / name
            if not _same_bytes(UPath(target), file):
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(target.name + ".part")
                part.write_bytes((UPath(manifest.uri) / name).read_bytes())
                os.replace(part, target)
        return folder

    def _commit(self, manifest: Artifact, out: Path) -> None:
        text = manifest.model_dump_json(indent=2).encode()
        target = self.root / manifest.stage / manifest.key
        if self.local:
            write_durably(out / MANIFEST, text)
            final = Path(str(target))
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_symlink():
                final.unlink()
            shutil.rmtree(final, ignore_errors=True)  # a damaged one: `find` has refused it
            _appear(out, final)
            _sync_folder(final.parent)
            return
        for name in manifest.files:
            destination = target / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_bytes((out / name).read_bytes())
        (target / MANIFEST).write_bytes(text)  # manifest last

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One holder per name and machine. The kernel drops the lock with the process, so none is
        ever stale.
        """
        locks = self.work / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{name}.lock"):
            yield


def stage_key(
    kind: type[Artifact],
    inputs: Sequence[str],
    config: BaseModel | dict[str, Any] | None,
    version: int,
) -> str:
    return digest_of(kind.stage, version, list(inputs), _plain(config))


def digest_of(*parts: Any) -> str:
    """Short SHA-256 of canonical JSON: 20 hex digits, 80 bits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def hash_files(folder: Path) -> dict[str, File]:
    """Byte hash of every file below a folder, by relative POSIX path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): hash_file(UPath(path)) for path in files}


def hash_file(path: UPath) -> File:
    sha, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            sha.update(chunk)
            size += len(chunk)
    return File(sha256=sha.hexdigest(), size=size)


class RowDigest:
    """Digest of a multiset of rows: the same however they are cut into files and row groups, and in
    whatever order.

    Each row's columns are joined with their lengths and hashed (BLAKE2b, 128 bits); the hashes are
    added modulo 2^128 (an incremental multiset hash, Clarke 2003), so that workers may each digest
    a part and add the parts.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns, self.total, self.rows = tuple(columns), 0, 0

    def update(self, table: pa.Table | pa.RecordBatch) -> None:
        parts = [part for name in self.columns for part in _cells(table.column(name))]
        rows = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
        for some in rows.chunks if isinstance(rows, pa.ChunkedArray) else [rows]:
            self.total = (self.total + _sum_of_hashes(some)) % (1 << 128)
        self.rows += table.num_rows

    def hexdigest(self, *extra: Any) -> str:
        return digest_of(list(self.columns), self.rows, f"{self.total:032x}", *extra)


def _sum_of_hashes(rows: pa.LargeBinaryArray) -> int:
    _, starts, data = rows.buffers()
    if not len(rows) or data is None:
        return 0
    ends = np.frombuffer(starts, np.int64)[rows.offset : rows.offset + len(rows) + 1].tolist()
    bytes_of, blake2b = memoryview(data), hashlib.blake2b
    hashes = b"".join([blake2b(bytes_of[a:b], digest_size=16).digest() for a, b in pairwise(ends)])
    # In four parts of 32 bits, which add up to less than 2^64.
    sums = np.frombuffer(hashes, "<u4").reshape(-1, 4).sum(axis=0, dtype=np.uint64)
    return sum(int(one) << (32 * place) for place, one in enumerate(sums))


def _cells(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, pa.Array]:
    """Of each cell its length in 8 bytes and a byte for its kind, and the cell itself. A null has
    length 0 and no such byte; a value always has one, and a null list is an empty one.
    """
    cells = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind, body = _bytes_of(cells)
    heads = np.empty(len(cells), np.dtype([("length", "<i8"), ("kind", "S1")]))
    heads["length"] = pc.fill_null(pc.binary_length(body), 0).to_numpy(zero_copy_only=False) + 1
    heads["kind"] = kind
    head = _large_binary(np.arange(len(cells) + 1) * 9, pa.py_buffer(heads.view(np.uint8)))
    if cells.null_count and kind != b"l":
        head = pc.if_else(cells.is_valid(), head, pa.scalar(bytes(8), pa.large_binary()))
        body = pc.if_else(cells.is_valid(), body, pa.scalar(b"", pa.large_binary()))
    return head, body


def _bytes_of(cells: pa.Array) -> tuple[bytes, pa.Array]:
    """The byte that stands for a type, and each cell's value in bytes; of a null anything."""
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        return b"s", cells.cast(pa.large_binary())
    if pa.types.is_boolean(cells.type):
        return b"b", _fixed(pc.fill_null(cells, False).cast(pa.uint8()), "<u1")
    if pa.types.is_integer(cells.type):
        return b"i", _fixed(pc.fill_null(cells, 0).cast(pa.int64()), "<i8")
    if pa.types.is_floating(cells.type):
        return b"f", _fixed(pc.fill_null(cells.cast(pa.float64()), 0.0), "<f8")
    if pa.types.is_list(cells.type) and pa.types.is_struct(cells.type.value_type):
        written = [None if one is None else json.dumps(one).encode() for one in cells.to_pylist()]
        return b"j", pa.array(written, pa.large_binary())
    if pa.types.is_list(cells.type):
        values = cells.flatten().to_numpy(zero_copy_only=False)
        lengths = pc.fill_null(pc.list_value_length(cells), 0).to_numpy(zero_copy_only=False)
        ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return b"l", _large_binary(ends * values.itemsize, pa.py_buffer(values))
    raise TypeError(f"no row digest for columns of type {cells.type}")


def _fixed(cells: pa.Array, kind: str) -> pa.Array:
    values = np.ascontiguousarray(cells.to_numpy(zero_copy_only=False), kind)
    return _large_binary(np.arange(len(values) + 1) * values.itemsize, pa.py_buffer(values))


def _large_binary(ends: np.ndarray, data: pa.Buffer) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(ends, np.int64)), data]
    return pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all, and is on disk when this returns."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def _appear(folder: Path, final: Path) -> None:
    """Rename, so that the folder is there whole or not at all; from another disk it is copied
    beside its place.
    """
    try:
        os.rename(folder, final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = final.with_name(f".{final.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            # Not copytree: it hides which error a file met.
            for name in [*hash_files(folder), MANIFEST]:
                (beside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, beside / name)
            os.rename(beside, final)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _through_a_link(folder: Path, name: str) -> bool:
    """What a link leads to belongs to somebody else, and may change after it was checked."""
    places = [
        folder,
        *(folder / part for part in reversed(Path(name).parents) if part.parts),
        folder / name,
    ]
    return any(place.is_symlink() for place in places)


def _same_bytes(path: UPath, file: File) -> bool:
    try:
        return path.stat().st_size == file.size and hash_file(path) == file
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(config: BaseModel | dict[str, Any] | None) -> Any:
    return config.model_dump(mode="json") if isinstance(config, BaseModel) else config


@contextmanager
def _clear_disk_errors(work: Path) -> Iterator[None]:
    """A full or read-only disk is for the user to mend: say which one, and keep what is there."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoisefoldError(
                f"No space is left on the disk of {error.filename or work}.",
                "Free space, or set NOISEFOLD_HOME to another disk; finished stages are kept and "
                "the rerun goes on.",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise NoisefoldError(
                f"{error.filename or work} cannot be written ({error.strerror}).",
                "Set NOISEFOLD_HOME to a folder that this user may write.",
            ) from error
        raise
