"""Pretrained weights and tokenizers: found on disk or in the Hugging Face cache, checked, loaded; never downloaded.

Only safetensors are read (a `pytorch_model.bin` is a pickle), and a model that brings its own code is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from upath import UPath

from data_contracts.errors import RecipeError
from data_contracts.model_config import ModelConfig
from data_contracts.model_config import PretrainedEncoder as PretrainedConfig
from data_contracts.recipe import FileTokenizer, Tokenizer, is_vector_file

CONFIG, WEIGHTS, TOKENIZER = "config.json", "*.safetensors", "tokenizer.json"
FIELD, VECTORS = "model.encoder.path", "model.embedding_vectors"

# What the tables of input embeddings are called: BERT and its kin, Llama and its kin, GPT-2, ModernBERT, T5.
_EMBEDDINGS = ("word_embeddings", "embed_tokens", "wte", "tok_embeddings", "shared")


def locate(path: str, file: str, field: str = FIELD) -> Path:
    """The file in a local folder, or in the local cache of the hub under that name.

    Raises:
        RecipeError: naming the field, and the command that fetches it.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if (folder / file).is_file():
            return folder / file
        raise RecipeError(f"{field}: the folder {path} has no {file}.", "Give the folder that save_pretrained wrote.")
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(path, file)
    except HFValidationError:
        raise RecipeError(
            f"{field} {path}: no such file or folder.", "Give its path, or a hub name (owner/model)."
        ) from None
    if not isinstance(cached, str):
        raise RecipeError(
            f"{field} {path}: no such file or folder, and no {file} of that name in the local Hugging Face cache.",
            f"Give its path, or fetch the model once with `hf download {path}`.",
        )
    return Path(cached)


def describe(config: PretrainedConfig) -> dict[str, Any]:
    """What `lightning_modules.pretrained.PretrainedEncoder` is built from; pooling auto is decided here.

    Raises:
        RecipeError: it cannot be used: no config.json, no safetensors, code of its own, no text model.
    """
    folder = _folder(config.path)
    if find_spec("transformers") is None:
        raise RecipeError(
            f"{FIELD} {config.path}: a pretrained backbone needs the package transformers.",
            "Install noisefold with its extra: pip install 'noisefold[pretrained]'.",
        )
    import torch
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    from lightning_modules.pretrained import describe_config

    with _quiet(config.path):
        found = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    masked = found.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = found.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not masked
    if found.is_encoder_decoder or not (masked or causal):
        raise RecipeError(
            f"{FIELD} {config.path} is a {found.model_type} model, neither a text encoder nor a causal decoder.",
            "Give a model such as BERT, RoBERTa, MPNet, GPT-2, Llama or Qwen.",
        )
    found.dtype, found.use_cache = torch.float32, False
    pooling = config.pooling if config.pooling != "auto" else "last" if causal else "mean"
    return {"kind": "pretrained", "config": describe_config(found), "pooling": pooling}


def load_weights(network: Any, config: PretrainedConfig, *, vocab_size: int, max_length: int) -> None:
    """Put the pretrained weights, float32, into a network that was built from `describe(config)`.

    Raises:
        RecipeError: weights are missing, or tokenizer and backbone do not belong together.
    """
    import torch
    from transformers import AutoModel

    from lightning_modules.pretrained import without_pooler

    encoder = network.encoder
    _check_sizes(encoder.backbone, config.path, vocab_size, max_length)
    with _quiet(config.path):
        model, info = AutoModel.from_pretrained(
            _folder(config.path),
            config=encoder.backbone.config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise RecipeError(
            f"{FIELD} {config.path}: the safetensors lack {len(missing)} of its weights ({', '.join(missing[:3])}, …).",
            "Save the whole model with save_pretrained; an adapter alone is not enough.",
        )
    # from_pretrained puts it into eval(); its dropout is for training.
    encoder.backbone = without_pooler(model).train()


def is_backbone(vectors: str) -> bool:
    """Whether `model.embedding_vectors` names a Hugging Face model rather than a text file."""
    path = Path(vectors).expanduser()
    return path.is_dir() or (not path.is_file() and not path.is_absolute() and not is_vector_file(vectors))


def input_embeddings(path: str) -> tuple[Any, Any]:
    """A backbone's tokenizer, which neither cuts nor pads, and its table of input embeddings, float32 (rows, size).

    Only that table is read, so a large decoder takes no more than its vocabulary, and `transformers` is not needed.

    Raises:
        RecipeError: no such model, no table under a known name, or a tokenizer with more tokens than it has rows.
    """
    from safetensors import SafetensorError

    from lightning_modules.bundle import BundleError, load_tokenizer

    folder, file = _folder(path, VECTORS), locate(path, TOKENIZER, VECTORS)
    try:
        tokenizer, table = load_tokenizer(file.read_bytes()), _embedding_table(folder)
    except (OSError, BundleError, SafetensorError) as error:
        raise RecipeError(f"{VECTORS} {path} cannot be read: {error}", "Fetch the model again.") from error
    if table is None:
        raise RecipeError(
            f"{VECTORS} {path}: none of its weights is a table of input embeddings ({', '.join(_EMBEDDINGS)}).",
            "Give a text encoder or a decoder such as BERT, RoBERTa, ModernBERT, Llama, Qwen or GPT-2.",
        )
    if tokenizer.get_vocab_size() > len(table):
        raise RecipeError(
            f"{VECTORS} {path}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the table {len(table)} rows.",
            "Fetch the model again: tokenizer and weights do not belong together.",
        )
    return tokenizer, table.float()


def _embedding_table(folder: Path) -> Any:
    from safetensors import safe_open

    for file in sorted(folder.glob(WEIGHTS)):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
                if name.endswith(tuple(f"{known}.weight" for known in _EMBEDDINGS)):
                    return tensors.get_tensor(name)
    return None


def by_content(model: ModelConfig) -> dict[str, Any]:
    """The model section for a cache key: its files count by what is in them, wherever they lie."""
    section = model.keyed()
    if isinstance(model.encoder, PretrainedConfig):
        section["encoder"]["path"] = digest(model.encoder.path)
    if model.embedding_vectors:
        from lightning_modules.embeddings import digest_of

        given = model.embedding_vectors
        section["embedding_vectors"] = digest(given, VECTORS, TOKENIZER) if is_backbone(given) else digest_of(given)
    return section


def tokenizer_by_content(config: Tokenizer) -> dict[str, Any]:
    """The tokenizer section for an identity: a given file counts by its bytes, wherever it lies."""
    section = config.model_dump(mode="json")
    if isinstance(config, FileTokenizer):
        section["path"] = hashlib.sha256(read_tokenizer(config.path)).hexdigest()
    return section


def read_tokenizer(path: str) -> bytes:
    """The bytes of a file, of `tokenizer.json` in a folder, or of a model in the local Hugging Face cache.

    Raises:
        RecipeError: there is none.
    """
    given = UPath(path)
    if not given.protocol:
        file = given if given.is_file() else locate(path, TOKENIZER, "tokenizer.path")
        return file.read_bytes()
    for file in (given, given / TOKENIZER):
        with suppress(FileNotFoundError, IsADirectoryError):
            return file.read_bytes()
    raise RecipeError(f"tokenizer.path {path}: no such file.", "Give the URL of a tokenizer.json.")


def digest(path: str, field: str = FIELD, *more: str) -> str:
    """SHA-256 over config.json, the safetensors and `more` files.

    Raises:
        RecipeError: as for `describe`.
    """
    folder = _folder(path, field)
    files = [folder / CONFIG, *sorted(folder.glob(WEIGHTS)), *(locate(path, name, field) for name in more)]
    facts = [(file.name, _sha256(file, (stat := file.stat()).st_size, stat.st_mtime_ns)) for file in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@lru_cache(maxsize=256)
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    """Once per process and state of the file: a large backbone takes seconds."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folder(path: str, field: str = FIELD) -> Path:
    """The backbone's folder, once it is clear that it can be read without running anything of its own."""
    config = locate(path, CONFIG, field)
    try:
        facts = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(f"{field} {path}: {CONFIG} is no JSON ({error}).", "Fetch the model again.") from None
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


def _check_sizes(backbone: Any, path: str, vocab_size: int, max_length: int) -> None:
    positions = _positions(backbone)
    if positions is not None and max_length > positions:
        raise RecipeError(
            f"tokenizer.max_length is {max_length}, and {path} has {positions} positions.",
            f"Set tokenizer.max_length to {positions} or less: longer documents are read in windows.",
        )
    rows = backbone.get_input_embeddings().weight.shape[0]
    if vocab_size > rows:
        raise RecipeError(
            f"The tokenizer has {vocab_size} tokens, and {path} knows {rows}.",
            "Leave tokenizer.path out, so that the backbone's own tokenizer is used.",
        )


def _positions(backbone: Any) -> int | None:
    """Tokens that fit into one window; None where the model has no limit."""
    for name, module in backbone.named_modules():
        # RoBERTa and its kin count positions from padding_idx + 1.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return module.weight.shape[0] - module.padding_idx - 1
    return cast("int | None", getattr(backbone.config, "max_position_embeddings", None))


@contextmanager
def _quiet(path: str) -> Iterator[None]:
    """Without progress bars and advice of transformers; its faults as ours."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError(
            f"{FIELD} {path} cannot be read by transformers: {first}", "Check the folder, or fetch the model again."
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
