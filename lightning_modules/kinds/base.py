"""How a kind of task is learnt. A training asks its objective, and knows no more.

An objective enters by being defined, as its `TaskConfig` and its head do: a subclass of `Objective`
with a `kind` of its own. Where none is defined yet, it is looked for in the kind's room
(`TaskConfig.room`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer
from torch import Tensor

from data_contracts.errors import TrainingError
from data_contracts.kinds.base import Metric, TaskConfig
from lightning_modules.kinds.answering import ROOMS
from lightning_modules.kinds.heads import Head
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.windows import Windowing

if TYPE_CHECKING:  # both stand above the kinds
    from lightning_modules.bundle import Bundle
    from lightning_modules.training.data import TokenTable

Batch = dict[str, Tensor]
Encode = Callable[[Sequence[str]], tuple[list[list[int]], np.ndarray]]

TOKENS = pa.schema(
    [
        ("id", pa.string()),
        ("window", pa.int32()),
        ("input_ids", pa.list_(pa.int32())),
        ("length", pa.int32()),
    ]
)
"""What every token table has: a row is a window, and the windows of a document stand together and
count from 0.
"""


ASKED = pa.schema([("id", pa.string()), ("variant", pa.int32()), ("text", pa.string())])
"""What a teacher is asked: texts of the train rows (variant 0) and those made up from them."""


class Loss(NamedTuple):
    """A batch's loss as a sum and its count, so that accumulation, devices and KL / N are right by
    construction.

    nats: what is minimized, summed over `terms`.
    nll: the same sum of the model's own negative log-likelihood, where that is another; not
        differentiated.
    """

    nats: Tensor
    terms: int
    nll: Tensor | None = None


class Validation(Protocol):
    """Gathers the batches of a split, which come in any order; its figures count documents, as the
    evaluation does.
    """

    def add(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> None: ...

    def metrics(self) -> dict[str, float]:
        """By name. Beside the kind's own metrics, `loss`: what is minimized, per term."""
        ...


class SharedTokens(NamedTuple):
    """The tokens that two vocabularies share."""

    same: bool  # every id means the same token in both
    pairs: list[tuple[int, int]]  # ids, new and old, of a token that both have


class Objective:
    """What is learnt, for one training.

    Args:
        task: the kind's options, from the recipe.
        facts: what the data say of the kind (the labels, say), from the manifest of the tokens.
    """

    KINDS: ClassVar[dict[str, type[Objective]]] = {}
    kind: ClassVar[str]
    token_schema: ClassVar[pa.Schema]  # of the columns beyond TOKENS
    # Those of `token_schema` that a training reads, each of numbers; None: all.
    learnt: ClassVar[tuple[str, ...] | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            Objective.KINDS[cls.kind] = cls

    def __init__(self, task: TaskConfig, facts: Mapping[str, Any]) -> None:
        self.task = task
        self.facts = dict(facts)
        # Of the tokens that are learnt from; known before `prepare`.
        self.tokenizer_json = b""
        self.tokens = Path()  # their folder
        self.windowing = Windowing(1, 0)

    # --- rows to tokens

    def texts(self, rows: pa.Table) -> Iterator[str]:
        """What the tokenizer is trained on."""
        raise NotImplementedError

    def encode(self, rows: pa.Table, tokenizer: Tokenizer, windowing: Windowing) -> pa.Table:
        """Token rows of TOKENS and `token_schema`, in the order of the rows (see `token_rows`)."""
        raise NotImplementedError

    def beside(self, rows: Iterable[pa.Table], out: Path) -> str | None:
        """Write what of all rows is needed beside their tokens into the folder of these, before any
        row is encoded; returns its digest, None where there is nothing.

        Args:
            rows: id, the roles of the contract and split, in parts.
        """
        return None

    # --- tokens to a network

    def head(self) -> dict[str, Any]:
        """The head's part of the network's description: the sizes that the kind's `Head` reads."""
        raise NotImplementedError

    def check(self) -> None:
        """Refuse facts that nothing can be learnt from, before any process starts.

        Raises:
            TrainingError: why not.
        """

    def prepare(self, train: TokenTable) -> None:
        """Count what the training needs to know of its rows, and refuse rows that nothing can be
        learnt from.

        Raises:
            TrainingError: why not.
        """

    def start_from(self, network: TextNetwork, backbone: str) -> None:
        """Set what of the head a pretrained backbone brings with it, where it does.

        Args:
            backbone: as the recipe names it.
        Raises:
            RecipeError: it has not what the head needs.
        """

    def weigh(self, network: TextNetwork, batches: Callable[[], Iterator[Batch]]) -> None:
        """Set what the head counts from the train rows, before weights of another model are taken
        over.

        Args:
            batches: goes once through the rows that the source gave, in any order.
        """

    def wrap(self, network: TextNetwork, batches: Callable[[], Iterator[Batch]]) -> None:
        """Give the head the form in which it is trained; each layer's `fold` undoes it."""

    def carry_over(self, network: TextNetwork, source: Bundle, tokens: SharedTokens) -> set[str]:
        """Copy the head's weights from another model; returns the names, in the head, of what was
        taken.

        Here: all that has the same name and shape, if the other is of the same kind.
        """
        if source.kind != self.kind:
            return set()
        taken: set[str] = set()
        old = source.network.head.state_dict()
        for name, tensor in network.head.state_dict().items():
            if name in old and old[name].shape == tensor.shape:
                tensor.copy_(old[name])
                taken.add(name)
        return taken

    # --- batches to a loss

    def batch(self, table: TokenTable, rows: np.ndarray) -> Batch:
        """Rows of a token table as tensors; the columns of `token_schema` under their own names."""
        return table.batch(rows)

    def loss(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> Loss:
        """What a batch costs."""
        raise NotImplementedError

    def terms(self, table: TokenTable) -> int:
        """N of KL / N: how many terms the losses of all batches of a table have together."""
        return len(table)

    def validation(self, table: TokenTable) -> Validation:
        """What gathers the batches of a split."""
        raise NotImplementedError

    def monitored(self, name: str | None) -> Metric:
        """The metric that tells the best epoch, by its name in MLflow (`val/nll`); None: the kind's
        first.
        """
        if name is None:
            return self.task.metrics[0]
        if name == "val/loss":
            return Metric("loss", "loss", "lower")
        return self.task.metric(name.removeprefix("val/"))

    # --- what ships

    def served(self) -> dict[str, Any]:
        """The facts that the kind's head needs to answer, as they stand in the bundle."""
        return self.facts

    def served_files(self, network: TextNetwork) -> dict[str, bytes]:
        """What the head needs beside the weights, by name, made with the folded network
        (`Head.take_files`).
        """
        return {}

    # --- a teacher

    def cannot_teach(self, bundle: Bundle) -> str | None:
        """Why a model cannot teach this task, as the rest of a sentence; None where it can."""
        return f"has no lessons for a task of kind {self.kind}"

    def answered(self, bundle: Bundle, asked: pa.Table) -> pa.Table:
        """The rows of ASKED with what a teacher says of each, in columns of the kind's own."""
        raise NotImplementedError

    def teaching(self, train: pa.Table, answered: Iterable[pa.Table]) -> dict[str, float]:
        """How well a teacher's answers fit the train rows, which come in the same order."""
        return {}

    def soften(self, train: Path, lessons: Path, weight: float, encode: Encode, out: Path) -> None:
        """Write the train rows anew, with what a teacher says of them and of texts made up from
        them.

        Raises:
            TrainingError: this kind does not learn from a teacher.
        """
        raise TrainingError(
            f"A task of kind {self.kind} does not learn from a teacher.",
            "Leave the section teacher out.",
        )


def copy_rows(tensor: Tensor, old: Tensor, pairs: Sequence[tuple[int, int]]) -> bool:
    """Copy rows, given as (new, old) numbers, where their sizes are the same; whether there were
    any.
    """
    pairs = [(new, before) for new, before in pairs if new < len(tensor) and before < len(old)]
    if not pairs or old.shape[1:] != tensor.shape[1:]:
        return False
    to, of = torch.tensor(pairs).T
    tensor[to] = old[of]
    return True


def import_room(task: TaskConfig) -> None:
    """Have the head and the objective of a task's kind defined, so that its bundles load in this
    process.
    """
    room = task.room or f"{ROOMS}.{task.kind}"
    if task.kind not in Head.KINDS:
        import_module(f"{room}.head")
    if task.kind not in Objective.KINDS:
        import_module(f"{room}.objective")


def objective_of(task: TaskConfig, facts: Mapping[str, Any]) -> Objective:
    """The objective of a task's kind.

    Raises:
        LookupError: none is defined, and its room has none.
    """
    import_room(task)
    if task.kind not in Objective.KINDS:
        raise LookupError(f"no objective of the kind {task.kind!r} is defined")
    return Objective.KINDS[task.kind](task, facts)


def token_rows(
    ids: pa.ChunkedArray, texts: Sequence[str], tokenizer: Tokenizer, windowing: Windowing
) -> tuple[pa.Table, np.ndarray]:
    """The columns of TOKENS, a row per window, and for each the index of its document (the same,
    for a text each).

    Raises:
        BundleError: the tokenizer fails at one of the texts.
    """
    windows, document = windowing.encode(tokenizer, texts)
    lengths = np.fromiter(map(len, windows), np.int32, len(windows))
    # Every document has a window, and its windows stand together.
    starts = np.flatnonzero(np.diff(document, prepend=-1))
    number = np.arange(len(document)) - np.repeat(starts, np.bincount(document))
    columns = {
        "id": ids.take(pa.array(document)),
        "window": pa.array(number, pa.int32()),
        "input_ids": pa.array(windows, pa.list_(pa.int32())),
        "length": pa.array(lengths),
    }
    return pa.table(columns, schema=TOKENS), document
