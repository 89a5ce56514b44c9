"""Pretrained weights: a backbone that transformers can run, and its table of input embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from data_contracts.errors import RecipeError
from data_contracts.recipe.files import FIELD, TOKENIZER, VECTORS, WEIGHTS, locate, model_folder
from data_contracts.recipe.model import PretrainedConfig

# What the tables of input embeddings are called: BERT and its kin, Llama and its kin, GPT-2,
# ModernBERT, T5.
_EMBEDDINGS = ("word_embeddings", "embed_tokens", "wte", "tok_embeddings", "shared")
_OUTPUTS = ("lm_head", "embed_out")  # the same of outputs: nearly all, GPT-NeoX


def describe(config: PretrainedConfig) -> dict[str, Any]:
    """What `lightning_modules.network.encoders.pretrained.PretrainedEncoder` is built from; pooling
    auto is decided here.

    Raises:
        RecipeError: it cannot be used: no config.json, no safetensors, code of its own, no text
            model.
    """
    folder = model_folder(config.path)
    if find_spec("transformers") is None:
        raise RecipeError(
            f"{FIELD} {config.path}: a pretrained backbone needs the package transformers.",
            "Install noisefold with its extra: pip install 'noisefold[pretrained]'.",
        )
    import torch
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto

    from lightning_modules.network.encoders.pretrained import describe_config

    with _quiet(config.path):
        found = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    masked = found.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = found.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not masked
    if found.is_encoder_decoder or not (masked or causal):
        raise RecipeError(
            f"{FIELD} {config.path} is a {found.model_type} model, neither a text encoder nor a "
            f"causal decoder.",
            "Give a model such as BERT, RoBERTa, MPNet, GPT-2, Llama or Qwen.",
        )
    found.dtype, found.use_cache = torch.float32, False
    pooling = config.pooling if config.pooling != "auto" else "last" if causal else "mean"
    return {"kind": "pretrained", "config": describe_config(found), "pooling": pooling}


def load_weights(
    network: Any, config: PretrainedConfig, *, vocab_size: int, max_length: int
) -> None:
    """Put the pretrained weights, float32, into a network that was built from `describe(config)`.

    Raises:
        RecipeError: weights are missing, or tokenizer and backbone do not belong together.
    """
    import torch
    from transformers import AutoModel

    from lightning_modules.network.encoders.pretrained import without_pooler

    encoder = network.encoder
    _check_sizes(encoder.backbone, config.path, vocab_size, max_length)
    with _quiet(config.path):
        model, info = AutoModel.from_pretrained(
            model_folder(config.path),
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
            f"{FIELD} {config.path}: the safetensors lack {len(missing)} of its weights "
            f"({', '.join(missing[:3])}, …).",
            "Save the whole model with save_pretrained; an adapter alone is not enough.",
        )
    # from_pretrained puts it into eval(); its dropout is for training.
    encoder.backbone = without_pooler(model).train()


def output_embeddings(path: str, rows: int) -> Any:
    """What a causal backbone multiplies its last state with, float32 (rows, H): its own table, or
    that of its input embeddings where it has none.

    Raises:
        RecipeError: there is neither, or it has fewer rows than there are tokens.
    """
    folder = model_folder(path)
    table = _table_called(folder, _OUTPUTS)
    if table is None:
        table = _table_called(folder, _EMBEDDINGS)
    if table is None or len(table) < rows:
        known = "no table" if table is None else f"a table of {len(table)} rows"
        raise RecipeError(
            f"{FIELD} {path}: there is {known} to tell {rows} tokens by.",
            "Give a causal decoder such as GPT-2, Llama or Qwen, with its own tokenizer.",
        )
    return table[:rows].float()


def input_embeddings(path: str) -> tuple[Any, Any]:
    """A backbone's tokenizer, which neither cuts nor pads, and its table of input embeddings,
    float32 (rows, size).

    Only that table is read, so a large decoder takes no more than its vocabulary, and
    `transformers` is not needed.

    Raises:
        RecipeError: no such model, no table under a known name, or a tokenizer with more tokens
            than it has rows.
    """
    from safetensors import SafetensorError

    from lightning_modules.network.tokenizer import BundleError, load_tokenizer

    folder, file = model_folder(path, VECTORS), locate(path, TOKENIZER, VECTORS)
    try:
        tokenizer, table = load_tokenizer(file.read_bytes()), _table_called(folder, _EMBEDDINGS)
    except (OSError, BundleError, SafetensorError) as error:
        raise RecipeError(
            f"{VECTORS} {path} cannot be read: {error}", "Fetch the model again."
        ) from error
    if table is None:
        raise RecipeError(
            f"{VECTORS} {path}: none of its weights is a table of input embeddings "
            f"({', '.join(_EMBEDDINGS)}).",
            "Give a text encoder or a decoder such as BERT, RoBERTa, ModernBERT, Llama, Qwen or "
            "GPT-2.",
        )
    if tokenizer.get_vocab_size() > len(table):
        raise RecipeError(
            f"{VECTORS} {path}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the table "
            f"{len(table)} rows.",
            "Fetch the model again: tokenizer and weights do not belong together.",
        )
    return tokenizer, table.float()


def _table_called(folder: Path, names: Sequence[str]) -> Any:
    """The first table of weights that bears one of the names; None where none does."""
    from safetensors import safe_open

    for file in sorted(folder.glob(WEIGHTS)):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no mapping)
                if name.endswith(tuple(f"{known}.weight" for known in names)):
                    return tensors.get_tensor(name)
    return None


def _check_sizes(backbone: Any, path: str, vocab_size: int, max_length: int) -> None:
    positions = _positions(backbone)
    if positions is not None and max_length > positions:
        raise RecipeError(
            f"window.max_length is {max_length}, and {path} has {positions} positions.",
            f"Set window.max_length to {positions} or less: longer documents are read in windows.",
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
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
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
            f"{FIELD} {path} cannot be read by transformers: {first}",
            "Check the folder, or fetch the model again.",
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
