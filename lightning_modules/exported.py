"""A bundle whose network is an ONNX model, run by ONNX Runtime: no torch, no pickle.

This file is shipped inside the exported model: it imports numpy, onnxruntime and what ships with
it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightning_modules.bundle_files import DESCRIPTION, ONNX, missing, read_files
from lightning_modules.kinds.answering import DEFAULT_KIND, answers_of
from lightning_modules.loaded import Loaded
from lightning_modules.network.tokenizer import BundleError


class Exported(Loaded):
    """A loaded bundle whose network ONNX Runtime runs, on one thread or OMP_NUM_THREADS of them."""

    def __init__(
        self, session: Any, kind: str, stated: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> None:
        super().__init__(answers_of(kind)(), stated, files)
        self.session = session
        # What it was exported from, by which versions, and its precision.
        self.exported: dict[str, Any] = stated["exported"]

    @classmethod
    def load(cls, folder: Path | str, digest: str | None = None) -> Exported:
        """Read an exported bundle, checked against its digests.

        Args:
            digest: what whoever vouches for it (a version's tag) says that it is.
        Raises:
            BundleError: a file is missing, the format is unknown, bytes have changed, it is another
                bundle, what stands in it cannot be, or onnxruntime is not installed.
        """
        folder = Path(folder)
        stated, model, files = read_files(folder, ONNX, digest)
        exported = stated.get("exported")
        if not isinstance(exported, dict) or type(exported.get("ids")) is not int:
            raise BundleError(f"{folder / DESCRIPTION}: {missing('exported')}.")
        try:
            bundle = cls(_session(model), _kind(stated), stated, files)
        except LookupError as error:
            raise BundleError(f"{folder}: {error}.") from error
        except ModuleNotFoundError as error:
            raise BundleError(
                f"{folder} is run by the package {error.name}: pip install 'noisefold[onnx]'."
            ) from error
        except Exception as error:  # ONNX Runtime has its own, and a file may be wrong in any way
            raise BundleError(
                f"{folder / ONNX} cannot be run ({type(error).__name__}: {str(error)[:300]})."
            ) from error
        bundle.check_facts(folder)
        bundle.check_ids(folder, exported["ids"])
        return bundle

    def outputs(self, ids_BT: np.ndarray, lengths_B: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"input_ids": ids_BT, "lengths": lengths_B})[0]


def _kind(stated: Mapping[str, Any]) -> str:
    return str(stated["network"].get("kind", DEFAULT_KIND))


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    given = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(given) if given.isdecimal() and int(given) else 1
    # Waiting threads sleep: beside other work, spinning takes its CPU time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
