"""A bundle whose network is an ONNX model: `model.onnx`, `bundle.json`, `tokenizer.json`."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from lightning_modules.bundle import Bundle
from lightning_modules.bundle_files import (
    FORMAT,
    ONNX,
    TOKENIZER,
    write_files,
)
from lightning_modules.exporting.graph import OPSET, graph_of, with_int8
from lightning_modules.kinds.answering import answers_of

Precision = Literal["fp32", "int8"]


def save_exported(folder: Path, bundle: Bundle, precision: Precision) -> str:
    """Write what `lightning_modules.exported` loads, and return its content digest.

    Effects: files in `folder`, which is made; `bundle.json`, which vouches for the others, last.
    Raises:
        LookupError: models of this kind need torch to answer.
    """
    answers_of(bundle.kind)
    model = graph_of(bundle.network)
    if precision == "int8":
        model = with_int8(model)
    windowing = bundle.windowing
    stated: dict[str, Any] = {
        "format": FORMAT,
        "network": bundle.network.describe(),
        "max_length": windowing.max_length,
        "overlap": windowing.overlap,
        "prefix_ids": list(windowing.prefix_ids),
        "suffix_ids": list(windowing.suffix_ids),
        "pad_id": bundle.pad_id,
        "unknown_id": windowing.unknown_id,
        "tokenizer_sha256": hashlib.sha256(bundle.tokenizer_json).hexdigest(),
        "weights_sha256": hashlib.sha256(model).hexdigest(),
        "exported": {
            "from": bundle.digest,
            "precision": precision,
            "ids": bundle.network.ids,
            "opset": OPSET,
            "torch": version("torch").partition("+")[0],
            "onnxruntime": version("onnxruntime"),
        },
        **bundle.facts,
    }
    return write_files(folder, stated, {ONNX: model, TOKENIZER: bundle.tokenizer_json}, bundle.meta)
