"""The folded model on disk: `model.safetensors`, `bundle.json`, `tokenizer.json`. No pickle.

    log p(class | document) = logsumexp_w log p(class | window w) - log W,   the mean of the windows' probabilities.

This file is shipped inside the registered model: it imports torch, numpy, safetensors, tokenizers, `network` and
`batching`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from tokenizers import Tokenizer
from torch.overrides import TorchFunctionMode

from lightning_modules.network.batching import cut
from lightning_modules.network.network import TextNetwork, build_network

FORMAT = 1
WEIGHTS, DESCRIPTION, TOKENIZER = "model.safetensors", "bundle.json", "tokenizer.json"
PAD_NAMES = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<PAD>", "<|endoftext|>")
# Far above what is in use (Gemma's tokenizer has 34 MB), far below what would fill a machine.
MAX_DESCRIPTION, MAX_TOKENIZER, MAX_ADDED_TOKENS, MAX_WINDOW = 1 << 24, 1 << 27, 200_000, 1 << 17
# A token and what the tokenizer notes about it take some 200 bytes, a token id in a list 36.
TEXTS_CHARACTERS, ENCODE_CHARACTERS = 1 << 21, 1 << 19
UNKNOWN_NAMES = ("[UNK]", "<unk>", "<|unk|>", "<UNK>", "<|endoftext|>")


class BundleError(ValueError):
    """The folder is no bundle that this version can read, or its bytes have changed."""


def save_bundle(
    folder: Path,
    network: TextNetwork,
    *,
    tokenizer_json: bytes,
    labels: Sequence[str],
    max_length: int,
    overlap: int,
    prefix_ids: Sequence[int] = (),
    suffix_ids: Sequence[int] = (),
    temperature: float = 1.0,
    meta: dict[str, Any] | None = None,
) -> str:
    """Write a folded network (plain torch layers) and return its content digest; `meta` has no part in it.

    `prefix_ids` and `suffix_ids` are the special tokens round each window, which count towards `max_length`.
    Effects: three files in `folder`; `bundle.json`, which vouches for the others, last.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    weights = save_safetensors(
        state
    )  # without metadata, whose order would change the bytes from run to run
    pad_id, unknown_id = special_ids(load_tokenizer(tokenizer_json))
    special = {"prefix_ids": list(prefix_ids), "suffix_ids": list(suffix_ids)}
    facts = {
        "format": FORMAT,
        "network": network.describe(),
        "labels": list(labels),
        "max_length": max_length,
        "overlap": overlap,
        **{
            name: ids for name, ids in special.items() if ids
        },  # none: the facts of before there were any
        "temperature": float(temperature),
        "pad_id": pad_id,
        "unknown_id": unknown_id,
        "tokenizer_sha256": hashlib.sha256(tokenizer_json).hexdigest(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    digest = _digest(facts)
    text = json.dumps(
        {**facts, "digest": digest, "meta": meta or {}},
        indent=2,
        ensure_ascii=False,
        sort_keys=True,
    )
    for name, data in (
        (WEIGHTS, weights),
        (TOKENIZER, tokenizer_json),
        (DESCRIPTION, text.encode()),
    ):
        temporary = folder / f"{name}.tmp"
        temporary.write_bytes(data)
        os.replace(temporary, folder / name)
    return digest


class Bundle:
    """A loaded bundle: text in, probabilities per class out. Nothing is unpickled and every byte is checked."""

    def __init__(self, network: TextNetwork, facts: dict[str, Any], tokenizer_json: bytes) -> None:
        self.network, self.facts, self.tokenizer_json = network.eval(), facts, tokenizer_json
        self.tokenizer = load_tokenizer(tokenizer_json)
        self.labels: tuple[str, ...] = tuple(facts["labels"])
        self.digest: str = facts["digest"]
        self.temperature: float = facts["temperature"]
        self.max_length: int = facts["max_length"]
        self.overlap: int = facts["overlap"]
        self.prefix_ids: list[int] = facts.get("prefix_ids", [])
        self.suffix_ids: list[int] = facts.get("suffix_ids", [])
        self.meta: dict[str, Any] = facts["meta"]

    @classmethod
    def load(cls, folder: Path | str, digest: str | None = None) -> Bundle:
        """Read a bundle, checked against its digests.

        Args:
            digest: what whoever vouches for it (a manifest, a version's tag) says that it is.
        Raises:
            BundleError: a file is missing, the format is unknown, bytes have changed, it is another bundle, or what
                stands in it cannot be.
        """
        folder = Path(folder)
        read = {name: _read(folder, name) for name in (DESCRIPTION, WEIGHTS, TOKENIZER)}
        try:
            facts = json.loads(read[DESCRIPTION])
        except ValueError as error:
            raise BundleError(f"{folder / DESCRIPTION} is no JSON: {error}") from error
        except RecursionError:
            raise BundleError(f"{folder / DESCRIPTION} is nested too deep.") from None
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
            raise BundleError(
                f"{folder} has bundle format {found!r}; this version reads format {FORMAT}."
            )
        stated = {key: value for key, value in facts.items() if key not in ("digest", "meta")}
        for name, changed in (
            (DESCRIPTION, facts.get("digest") != _digest(stated)),
            (WEIGHTS, facts.get("weights_sha256") != hashlib.sha256(read[WEIGHTS]).hexdigest()),
            (
                TOKENIZER,
                facts.get("tokenizer_sha256") != hashlib.sha256(read[TOKENIZER]).hexdigest(),
            ),
        ):
            if changed:
                raise BundleError(
                    f"{folder / name} has changed since the bundle was written (its digest differs)."
                )
        if digest is not None and facts["digest"] != digest:
            raise BundleError(
                f"{folder} is not the bundle of digest {digest}: its own is {facts['digest']}."
            )
        if (fault := _fault(facts)) is not None:
            raise BundleError(f"{folder / DESCRIPTION}: {fault}.")
        try:
            weights = load_safetensors(read[WEIGHTS])
        except (
            Exception
        ) as error:  # SafetensorError, and what torch says of a dtype that it does not know
            raise BundleError(f"{folder / WEIGHTS} is no safetensors file: {error}") from error
        network = _build(folder, facts["network"], weights)
        network.load_state_dict(weights)
        bundle = cls(network, facts, read[TOKENIZER])
        bundle._check_ids(folder)
        return bundle

    def _check_ids(self, folder: Path) -> None:
        """No id that the tokenizer or the description can give lies outside the table, and a text goes through.

        Raises:
            BundleError: naming what does not fit.
        """
        self.encode(
            ["a 1 。"]
        )  # unknown words, for which a tokenizer may lack the token that it names
        description = self.facts["network"]
        rows = description.get("vocab_size")
        if rows is None:
            rows = self.network.encoder.backbone.get_input_embeddings().weight.shape[0]  # pyright: ignore
        highest = max(self.tokenizer.get_vocab().values(), default=0)
        special = [
            *self.prefix_ids,
            *self.suffix_ids,
            self.facts["pad_id"],
            self.facts["unknown_id"],
        ]
        if max(highest, *special) >= rows:
            raise BundleError(
                f"{folder / TOKENIZER} has ids up to {max(highest, *special)}, the network {rows} rows."
            )
        try:
            log_proba = self.log_proba_of_windows(
                [[self.facts["unknown_id"]] * 2], np.zeros(1, np.int64)
            )
        except (
            Exception
        ) as error:  # sizes that fit one by one and not together: heads, rows of a compact table
            raise BundleError(
                f"{folder}: the network cannot be run ({type(error).__name__}: {error})."
            ) from error
        if log_proba.shape != (1, len(self.labels)):
            raise BundleError(
                f"{folder}: {len(self.labels)} labels, and the network tells {log_proba.shape[1]} apart."
            )

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        """Windows of token ids, and for each window the index of its text.

        Raises:
            BundleError: the tokenizer fails at one of them.
        """
        settings = {
            "prefix": self.prefix_ids,
            "suffix": self.suffix_ids,
            "unknown_id": self.facts["unknown_id"],
        }
        return encode_windows(self.tokenizer, texts, self.max_length, self.overlap, **settings)

    @torch.inference_mode()
    def log_proba_of_windows(
        self, windows: Sequence[Sequence[int]], document: np.ndarray, batch_tokens: int = 16384
    ) -> np.ndarray:
        """log p(class | document) as float64 (documents, C), at temperature 1; every document needs a window.

        Windows of like length share a batch of at most `batch_tokens` padded positions.
        """
        document = np.asarray(document, dtype=np.int64)
        counts = np.bincount(document)
        if not counts.all():
            raise ValueError(f"document {int(np.argmin(counts))} has no window")
        lengths = np.fromiter(
            (len(window) for window in windows), dtype=np.int64, count=len(windows)
        )
        flat = np.fromiter(chain.from_iterable(windows), dtype=np.int64, count=int(lengths.sum()))
        starts = np.cumsum(lengths) - lengths
        device = next(self.network.parameters()).device
        order, first = np.argsort(lengths, kind="stable"), 0
        log_proba = np.empty((len(windows), len(self.labels)))
        while first < len(order):
            # Sorted upwards, so a batch is as wide as its last row: the longest prefix with rows * width in bounds.
            # A batch of some size also ends before windows a quarter longer than its first: padding is computed, too.
            left = lengths[order[first:]]
            padded = np.arange(1, len(left) + 1) * left
            most, some = np.searchsorted(padded, (batch_tokens, batch_tokens // 8), side="right")
            alike = np.searchsorted(left, left[0] + left[0] // 4, side="right")
            rows = order[first : first + max(1, min(int(most), max(int(some), int(alike))))]
            position = np.arange(lengths[rows].max())
            inside = position < lengths[rows, None]
            at = np.where(inside, starts[rows, None] + position, 0)
            ids = torch.from_numpy(np.where(inside, flat[at], self.facts["pad_id"])).to(device)
            logits = self.network(ids, torch.from_numpy(lengths[rows]).to(device))
            log_proba[rows] = logits.double().log_softmax(dim=-1).cpu().numpy()
            first += len(rows)
        total = np.full((len(counts), len(self.labels)), -np.inf)
        np.logaddexp.at(total, document, log_proba)
        return total - np.log(counts)[:, None]

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """p(class | text), float64 (texts, C): softmax of the document's log-probabilities over the temperature."""
        scaled = self.log_proba(texts) / self.temperature
        proba = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return proba / proba.sum(axis=1, keepdims=True)

    def log_proba(self, texts: Sequence[str]) -> np.ndarray:
        """log p(class | text) as float64 (texts, C), at temperature 1.

        Memory is bounded, whatever their number and length: `TEXTS_CHARACTERS` of text are worked on at a time.
        """
        found = [np.empty((0, len(self.labels)))]
        for some in cut([len(text) for text in texts], TEXTS_CHARACTERS):
            found.append(self.log_proba_of_windows(*self.encode(texts[some])))
        return np.concatenate(found)


def encode_windows(
    tokenizer: Tokenizer, texts: Sequence[str], max_length: int, overlap: int, **settings: Any
) -> tuple[list[list[int]], np.ndarray]:
    """Windows of token ids, and for each window the index of its text; `settings` are those of `split_windows`.

    Raises:
        BundleError: the tokenizer fails at one of the texts.
    """
    windows: list[list[int]] = []
    document: list[int] = []
    for some in cut([len(text) for text in texts], ENCODE_CHARACTERS):
        with _readable("The tokenizer cannot encode a text"):
            encodings = tokenizer.encode_batch(list(texts[some]), add_special_tokens=False)
        for index, encoding in enumerate(encodings, some.start):
            parts = split_windows(encoding.ids, max_length, overlap, **settings)
            windows += parts
            document += [index] * len(parts)
    return windows, np.asarray(document, dtype=np.int64)


def split_windows(
    ids: Sequence[int],
    max_length: int,
    overlap: int,
    *,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
    unknown_id: int = 1,
) -> list[list[int]]:
    """Cut a document into windows [prefix ids suffix]: no token is lost, and neighbours share at least `overlap` ids.

    The last window ends where the document ends and is as long as the others, so it may share more. An empty document
    is one window of prefix and suffix, or, where there are none, of the unknown token.
    """
    if not len(ids):
        return [[*prefix, *suffix] or [unknown_id]]
    size = max_length - len(prefix) - len(suffix)
    last = max(len(ids) - size, 0)
    starts = [*range(0, last, size - overlap), last]
    return [[*prefix, *ids[start : start + size], *suffix] for start in starts]


class _Undrawn(TorchFunctionMode):
    """Parameters get no first values: to draw them on the meta device, torch imports its compiler for seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _build(
    folder: Path, description: dict[str, Any], weights: dict[str, torch.Tensor]
) -> TextNetwork:
    """The network of a description, once it is clear that it is no larger than the weights that are there.

    Raises:
        BundleError: they do not fit, or nothing can be built from it.
    """
    try:
        if _modules(description) > len(weights):
            raise ValueError("it has more layers than weights")
        with torch.device("meta"), _Undrawn():  # shapes alone: a size of 10^12 costs nothing
            expected = {
                name: (t.shape, t.dtype)
                for name, t in build_network(description).state_dict().items()
            }
        found = {name: (t.shape, t.dtype) for name, t in weights.items()}
        if expected != found:
            name = min(
                name
                for name in expected.keys() | found.keys()
                if expected.get(name) != found.get(name)
            )
            raise ValueError(
                f"{name} is {found.get(name, 'missing')}, described as {expected.get(name, 'absent')}"
            )
        return build_network(description)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"{folder} holds a pretrained backbone, which needs the package {error.name}."
        ) from error
    except Exception as error:  # a description from outside may be wrong in any way
        raise BundleError(
            f"{folder / WEIGHTS} does not fit the network that {DESCRIPTION} describes "
            f"({type(error).__name__}: {str(error)[:300]})."
        ) from error


def _modules(description: dict[str, Any]) -> int:
    """At least how many layers a description asks for: a loop over 10^9 of them would never end."""
    encoder = description["encoder"]
    sizes = [
        len(encoder[key])
        for key in ("hidden_sizes", "feedforward_sizes")
        if isinstance(encoder.get(key), list)
    ]
    config = encoder.get("config")
    if isinstance(config, dict):
        sizes += [
            value
            for key, value in config.items()
            if type(value) is int and re.search("layer|expert", key)
        ]
    return max(sizes, default=0)


def _fault(facts: dict[str, Any]) -> str | None:
    """What is wrong with the description's own fields; None where all are what they have to be."""

    def whole(value: Any, least: int, most: int = 2**31 - 1) -> bool:
        return type(value) is int and least <= value <= most

    labels, temperature = facts.get("labels"), facts.get("temperature")
    special = [*_list(facts.get("prefix_ids", [])), *_list(facts.get("suffix_ids", []))]
    network = facts.get("network")
    checks = {
        "labels": isinstance(labels, list)
        and len(labels) > 0
        and all(isinstance(label, str) for label in labels)
        and len(set(labels)) == len(labels),
        "temperature": isinstance(temperature, int | float)
        and not isinstance(temperature, bool)
        and 0 < temperature < float("inf"),
        "max_length": whole(facts.get("max_length"), 1, MAX_WINDOW),
        "overlap": whole(facts.get("overlap"), 0),
        "prefix_ids or suffix_ids": all(whole(one, 0) for one in special),
        "pad_id": whole(facts.get("pad_id"), 0),
        "unknown_id": whole(facts.get("unknown_id"), 0),
        "meta": isinstance(facts.get("meta"), dict),
        "network": isinstance(network, dict) and isinstance(network.get("encoder"), dict),
    }
    for name, holds in checks.items():
        if not holds:
            return f"{name} is missing, or not what it has to be"
    if facts["max_length"] - len(special) - facts["overlap"] < 1:
        return f"a window of {facts['max_length']} tokens leaves no room beside overlap and special tokens"
    encoder, positions = facts["network"]["encoder"], facts["network"]["encoder"].get("max_length")
    if encoder.get("kind") == "transformer" and not (
        whole(positions, 1) and positions >= facts["max_length"]
    ):
        return f"max_length is {facts['max_length']}, and the network has {positions} positions"
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Whatever tokenizers raises as a BundleError: bare Exceptions, and panics of its Rust code, which are none."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BundleError(f"{what}: {str(error) or type(error).__name__}") from None


def load_tokenizer(tokenizer_json: bytes) -> Tokenizer:
    """A tokenizer that neither cuts nor pads, whatever its file says: windows are ours.

    Raises:
        BundleError: it is none, or too large to be one.
    """
    if (
        len(tokenizer_json) > MAX_TOKENIZER
        or tokenizer_json.count(b'"single_word"') > MAX_ADDED_TOKENS
    ):
        raise BundleError(
            f"The tokenizer.json has more than {MAX_TOKENIZER:,} bytes or {MAX_ADDED_TOKENS:,} added tokens."
        )
    with _readable("The tokenizer.json cannot be read"):
        tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """Ids of the padding and the unknown token, by the names in common use; 0 where there is none.

    Padding is never read, and a tokenizer without an unknown token (byte-level BPE) knows every text.
    """
    return _id_of(tokenizer, PAD_NAMES) or 0, unknown_id(tokenizer) or 0


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Id of the unknown token: the model's own, or by the names in common use."""
    own = getattr(tokenizer.model, "unk_token", None)
    return _id_of(tokenizer, (own, *UNKNOWN_NAMES) if own else UNKNOWN_NAMES)


def _id_of(tokenizer: Tokenizer, names: Sequence[str]) -> int | None:
    ids = (tokenizer.token_to_id(name) for name in names)
    return next((value for value in ids if value is not None), None)


def surrounding_ids(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer's own post-processor puts before and after a text ([CLS] ... [SEP]).

    Raises:
        BundleError: it cannot encode a text with unknown words.
    """
    with _readable("The tokenizer cannot encode a text"):
        encoding = tokenizer.encode("a 1 。", add_special_tokens=True)
    added = encoding.special_tokens_mask
    content = [index for index, special in enumerate(added) if not special]
    if not content:
        raise BundleError("The tokenizer finds no token in a plain text.")
    return encoding.ids[: content[0]], encoding.ids[content[-1] + 1 :]


def _digest(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read(folder: Path, name: str) -> bytes:
    try:
        most, facts = (
            {DESCRIPTION: MAX_DESCRIPTION, TOKENIZER: MAX_TOKENIZER}.get(name),
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
