"""Files that a training is given, on disk or in the Hugging Face cache: found, checked, known by
their bytes.

Nothing is downloaded, only safetensors are read (a `pytorch_model.bin` is a pickle), and a model
that brings its own code is refused.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any

from data_contracts.errors import NoisefoldError, RecipeError, TrainingError

CONFIG, WEIGHTS, TOKENIZER = "config.json", "*.safetensors", "tokenizer.json"
FIELD, VECTORS = "model.encoder.path", "model.embedding.vectors"


def locate(path: str, file: str, field: str = FIELD) -> Path:
    """The file in a local folder, or in the local cache of the hub under that name.

    Raises:
        RecipeError: naming the field, and the command that fetches it.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if (folder / file).is_file():
            return folder / file
        raise RecipeError(
            f"{field}: the folder {path} has no {file}.",
            "Give the folder that save_pretrained wrote.",
        )
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(path, file)
    except HFValidationError:
        raise RecipeError(
            f"{field} {path}: no such file or folder.",
            "Give its path, or a hub name (owner/model).",
        ) from None
    if not isinstance(cached, str):
        raise RecipeError(
            f"{field} {path}: no such file or folder, and no {file} of that name in the local "
            "Hugging Face cache.",
            f"Give its path, or fetch the model once with `hf download {path}`.",
        )
    return Path(cached)


def is_vector_file(value: Any) -> bool:
    """Whether `model.embedding.vectors` is spelled as a file, so that no hub's cache is asked
    for it."""
    return isinstance(value, str) and value.endswith((".txt", ".vec", ".gz"))


def is_backbone(vectors: str) -> bool:
    """Whether `model.embedding.vectors` names a Hugging Face model rather than a text file."""
    path = Path(vectors).expanduser()
    return path.is_dir() or (
        not path.is_file() and not path.is_absolute() and not is_vector_file(vectors)
    )


def read_tokenizer(path: str) -> bytes:
    """The bytes of a file, of `tokenizer.json` in a folder, or of a model in the local Hugging Face
    cache.

    Raises:
        RecipeError: there is none.
    """
    from upath import UPath  # fsspec is not needed to read a recipe

    given = UPath(path)
    if not given.protocol:
        file = given if given.is_file() else locate(path, TOKENIZER, "tokenizer.path")
        return file.read_bytes()
    for file in (given, given / TOKENIZER):
        with suppress(FileNotFoundError, IsADirectoryError):
            return file.read_bytes()
    raise RecipeError(f"tokenizer.path {path}: no such file.", "Give the URL of a tokenizer.json.")


def tokenizer_digest(path: str) -> str:
    """SHA-256 of the bytes of a given tokenizer.json.

    Raises:
        RecipeError: there is none.
    """
    return hashlib.sha256(read_tokenizer(path)).hexdigest()


def vectors_digest(vectors: str) -> str:
    """SHA-256 of what the embedding starts from: a model's files, or a text file's bytes as stored.

    Raises:
        RecipeError: there is no such model.
        TrainingError: the file cannot be read.
    """
    if is_backbone(vectors):
        return digest(vectors, VECTORS, TOKENIZER)
    with reading_vectors(vectors) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(path: str, field: str = FIELD, *more: str) -> str:
    """SHA-256 over config.json, the safetensors and `more` files.

    Raises:
        RecipeError: as for `describe`.
    """
    folder = model_folder(path, field)
    files = [
        folder / CONFIG,
        *sorted(folder.glob(WEIGHTS)),
        *(locate(path, name, field) for name in more),
    ]
    facts = [
        (file.name, _sha256(file, (stat := file.stat()).st_size, stat.st_mtime_ns))
        for file in files
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@lru_cache(maxsize=256)
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    """Once per process and state of the file: a large backbone takes seconds."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def model_folder(path: str, field: str = FIELD) -> Path:
    """The backbone's folder, once it is clear that it can be read without running anything of
    its own."""
    config = locate(path, CONFIG, field)
    try:
        facts = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(
            f"{field} {path}: {CONFIG} is no JSON ({error}).", "Fetch the model again."
        ) from None
    if not isinstance(facts, dict) or "auto_map" in facts:
        raise RecipeError(
            f"{field} {path} brings its own code (auto_map in {CONFIG}), which is not run.",
            "Choose a model that transformers knows by itself.",
        )
    if not any(config.parent.glob(WEIGHTS)):
        pickles = sorted(file.name for file in config.parent.glob("*.bin"))
        there = f" ({', '.join(pickles[:3])} may hold a pickle and is not read)" if pickles else ""
        raise RecipeError(
            f"{field} {path} has no {WEIGHTS}{there}.",
            f"Fetch it whole with `hf download`, or, where you trust it, convert it once: "
            f"AutoModel.from_pretrained({path!r}).save_pretrained(...).",
        )
    return config.parent


@contextmanager
def reading_vectors(vectors: str) -> Iterator[BufferedReader]:
    try:
        with open(vectors, "rb") as stream:
            yield stream
    except NoisefoldError:
        raise
    # ValueError: a NUL in the path; the last two: a .gz that ends early.
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(
            f"The word vectors {vectors} cannot be read: {reason}.",
            "Check the path in model.embedding.vectors.",
        ) from error
