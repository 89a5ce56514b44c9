"""The files of a bundle as they are read: every byte is checked before anything is built from it.
What is known of a bundle without answering with it takes no network.

This file is shipped inside the registered model: it imports tokenizers and what ships with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_modules.network.tokenizer import MAX_TOKENIZER, BundleError

FORMAT = 1
WEIGHTS, DESCRIPTION, TOKENIZER = "model.safetensors", "bundle.json", "tokenizer.json"
ONNX = "model.onnx"  # in the place of the weights, in a bundle that is served without torch
_OWN = (WEIGHTS, ONNX, DESCRIPTION, TOKENIZER)
# Far above what is in use, far below what would fill a machine.
MAX_DESCRIPTION = 1 << 24
MAX_WINDOW = 1 << 17
MAX_FILE = 1 << 32  # of a file that a head has beside the weights
# Weights are as large as their network is.
_MOST = {DESCRIPTION: MAX_DESCRIPTION, TOKENIZER: MAX_TOKENIZER, WEIGHTS: None, ONNX: None}
_FILE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\.(json|safetensors)")
# The fields of bundle.json that every kind of task has; all others are its head's.
COMMON = (
    "format",
    "network",
    "max_length",
    "overlap",
    "prefix_ids",
    "suffix_ids",
    "pad_id",
    "unknown_id",
    "tokenizer_sha256",
    "weights_sha256",
    "files",
    "exported",
    "digest",
    "meta",
)


def read_files(
    folder: Path, weights: str, digest: str | None
) -> tuple[dict[str, Any], bytes, dict[str, bytes]]:
    """The fields of a bundle's bundle.json, its weights, and the bytes of its other files:
    tokenizer.json, and what the head has beside the weights.

    Args:
        weights: the file that holds them.
        digest: what the bundle has to be; None: any.
    Raises:
        BundleError: a file is missing, the format is unknown, bytes have changed, it is another
            bundle than that of the digest, or a field is not what it has to be.
    """
    read = {name: _read(folder, name) for name in (DESCRIPTION, weights, TOKENIZER)}
    stated = _stated(folder, weights, read)
    if digest is not None and stated["digest"] != digest:
        raise BundleError(
            f"{folder} is not the bundle of digest {digest}: its own is {stated['digest']}."
        )
    if (fault := _fault(stated)) is not None:
        raise BundleError(f"{folder / DESCRIPTION}: {fault}.")
    return stated, read[weights], {TOKENIZER: read[TOKENIZER], **_beside(folder, stated)}


def write_files(
    folder: Path, stated: Mapping[str, Any], files: Mapping[str, bytes], meta: Mapping[str, Any]
) -> str:
    """Write a bundle and return its content digest; `meta` has no part in it.

    Args:
        stated: the fields of bundle.json but `digest` and `meta`, those of the files' digests too.
    Effects: files in `folder`; `bundle.json`, which vouches for the others, last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = digest_of(stated)
    written = {**stated, "digest": digest, "meta": meta}
    text = json.dumps(written, indent=2, ensure_ascii=False, sort_keys=True)
    for name, data in {**files, DESCRIPTION: text.encode()}.items():
        temporary = folder / f"{name}.tmp"
        temporary.write_bytes(data)
        os.replace(temporary, folder / name)
    return digest


def with_facts(bundle: Path, digest: str, facts: Mapping[str, Any], folder: Path) -> str:
    """The same bundle with other facts of its head, written to `folder`; returns its digest.

    Raises:
        BundleError: as `read_files` does.
    """
    stated, weights, files = read_files(bundle, WEIGHTS, digest)
    vouched = {name: value for name, value in stated.items() if name not in ("digest", "meta")}
    refuse_common(facts)
    return write_files(folder, {**vouched, **facts}, {**files, WEIGHTS: weights}, stated["meta"])


def refuse_common(facts: Mapping[str, Any]) -> None:
    """Raises:
    ValueError: a fact bears the name of a field that every bundle has.
    """
    if clash := sorted(facts.keys() & {*COMMON}):
        raise ValueError(f"a fact of the head may not be called {clash[0]!r}")


def _beside(folder: Path, stated: dict[str, Any]) -> dict[str, bytes]:
    """The files that the head has beside the weights, each as bundle.json states its digest.

    Raises:
        BundleError: one is missing, or has changed.
    """
    found: dict[str, bytes] = {}
    for name, digest in stated.get("files", {}).items():
        found[name] = _read(folder, name)
        if hashlib.sha256(found[name]).hexdigest() != digest:
            raise BundleError(_changed(folder / name))
    return found


def files_fault(files: Any) -> str | None:
    """What is wrong with the names and digests of such files; None where nothing is."""
    if not isinstance(files, dict) or not all(type(digest) is str for digest in files.values()):
        return missing("files")
    strange = [name for name in files if not _FILE_NAME.fullmatch(name) or name in _OWN]
    return f"a file may not be called {strange[0][:80]!r}" if strange else None


def _stated(folder: Path, weights: str, read: dict[str, bytes]) -> dict[str, Any]:
    """The fields of bundle.json, once the digests that it states are those of what was read.

    Raises:
        BundleError: it is no JSON, of another format, or bytes have changed.
    """
    try:
        stated = json.loads(read[DESCRIPTION])
    except ValueError as error:
        raise BundleError(f"{folder / DESCRIPTION} is no JSON: {error}") from error
    except RecursionError:
        raise BundleError(f"{folder / DESCRIPTION} is nested too deep.") from None
    if not isinstance(stated, dict) or stated.get("format") != FORMAT:
        given = stated.get("format") if isinstance(stated, dict) else type(stated).__name__
        raise BundleError(
            f"{folder} has bundle format {given!r}; this version reads format {FORMAT}."
        )
    vouched = {key: value for key, value in stated.items() if key not in ("digest", "meta")}
    digests = {
        DESCRIPTION: ("digest", digest_of(vouched)),
        weights: ("weights_sha256", hashlib.sha256(read[weights]).hexdigest()),
        TOKENIZER: ("tokenizer_sha256", hashlib.sha256(read[TOKENIZER]).hexdigest()),
    }
    for name, (field, digest) in digests.items():
        if stated.get(field) != digest:
            raise BundleError(_changed(folder / name))
    return stated


def _changed(file: Path) -> str:
    return f"{file} has changed since the bundle was written (its digest differs)."


def _fault(stated: dict[str, Any]) -> str | None:
    """What is wrong with the fields that every bundle has; None where all are what they have to
    be.
    """

    def whole(value: Any, least: int, most: int = 2**31 - 1) -> bool:
        return type(value) is int and least <= value <= most

    special = [*_list(stated.get("prefix_ids", [])), *_list(stated.get("suffix_ids", []))]
    network = stated.get("network")
    checks = {
        "max_length": whole(stated.get("max_length"), 1, MAX_WINDOW),
        "overlap": whole(stated.get("overlap"), 0),
        "prefix_ids or suffix_ids": all(whole(one, 0) for one in special),
        "pad_id": whole(stated.get("pad_id"), 0),
        "unknown_id": whole(stated.get("unknown_id"), 0),
        "meta": isinstance(stated.get("meta"), dict),
        "network": isinstance(network, dict) and isinstance(network.get("encoder"), dict),
    }
    for name, holds in checks.items():
        if not holds:
            return missing(name)
    if (fault := files_fault(stated.get("files", {}))) is not None:
        return fault
    length = stated["max_length"]
    if length - len(special) - stated["overlap"] < 1:
        return f"a window of {length} tokens leaves no room beside overlap and special tokens"
    encoder = stated["network"]["encoder"]
    positions = encoder.get("max_length")
    if encoder.get("kind") == "transformer" and not whole(positions, length):
        return f"max_length is {length}, and the network has {positions} positions"
    return None


def missing(field: str) -> str:
    return f"{field} is missing, or not what it has to be"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


def digest_of(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read(folder: Path, name: str) -> bytes:
    try:
        most, facts = (
            _MOST.get(name, MAX_FILE),
            (folder / name).stat(),
        )
        if not stat.S_ISREG(facts.st_mode):  # a pipe or a device would be read for ever
            raise BundleError(f"{folder / name} is no file.")
        if most is not None and facts.st_size > most:
            raise BundleError(
                f"{folder / name} has {facts.st_size:,} bytes, and at most {most:,} are read."
            )
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder / name} cannot be read ({error.strerror}); the bundle is incomplete."
        ) from error
