"""A folded network as an ONNX graph: padded ids (B, T) and lengths (B) in, its output out, for any
B and T; in float32, or with weights of 8 bits.

The graph is traced (torch's exporter with `dynamo=False`): an LSTM becomes ONNX's own operator,
where the newer exporter writes a loop over positions and needs two packages more.
"""

from __future__ import annotations

import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lightning_modules.exporting.in_graph import adapt
from lightning_modules.network.network import TextNetwork

OPSET = 18  # the first with a bitwise XOR, which hashed n-grams need
INPUTS, OUTPUT = ("input_ids", "lengths"), "output"


def graph_of(network: TextNetwork) -> bytes:
    """The network as an ONNX model in float32."""
    traced = copy.deepcopy(network).cpu().eval()
    adapt(traced)
    file: Any = io.BytesIO()  # which it takes, whatever its hints say
    # Two rows of which one has padding: nothing of their sizes may stay in the graph.
    ids, lengths = torch.zeros(2, 5, dtype=torch.long), torch.tensor([5, 3])
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            traced,
            (ids, lengths),
            file,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={INPUTS[0]: {0: "B", 1: "T"}, INPUTS[1]: {0: "B"}, OUTPUT: {0: "B"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()


def with_int8(model: bytes) -> bytes:
    """The model with weights of 8 bits, and products of 8 bits whose other factor is scaled as it
    comes (dynamic quantization).

    Unsigned weights: products of signed and unsigned bytes saturate on processors without VNNI, so
    a model would answer otherwise on another machine.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="noisefold-") as scratch, _quiet():
        plain, small = Path(scratch) / "plain.onnx", Path(scratch) / "small.onnx"
        plain.write_bytes(model)
        quantize_dynamic(plain, small, weight_type=QuantType.QUInt8)
        return small.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns of every size that Python reads, and of itself; what it means for a graph is
    measured.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
