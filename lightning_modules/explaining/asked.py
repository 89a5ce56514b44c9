"""What a kind of task says of one answer for it to be explained, and what of that is the same for
every kind whose score is one of a text's windows.

A kind that can be explained has a file `explained.py` beside its head, which puts a function into
`EXPLAINED`. None of this ships.

Shapes: W windows, T positions, N tokens, G n-grams.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from data_contracts.errors import NoisefoldError
from lightning_modules import kinds
from lightning_modules.explaining.gradients import Lookup
from lightning_modules.explaining.pieces import Token
from lightning_modules.kinds.heads import Head
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import readable

if TYPE_CHECKING:
    from lightning_modules.bundle import Bundle

MOST_TOKENS = 8_192  # of a text: the memory and the time of its gradients grow with them


@dataclass(frozen=True)
class Asked:
    """An answer to one question, as a score.

    texts: what was asked, by column.
    scores: the network's part of the score, of so many copies of the windows (copies,).
    again: the whole score of the same answer to other texts.
    exact: (N,) what each token adds beside the network; None: nothing.
    fixed: numbers of tokens that the deletion check leaves where they are.
    """

    texts: Mapping[str, str]
    target: str
    words: str  # what the score is
    tokens: Sequence[Token]
    positions_WT: np.ndarray  # the number of each position's token; -1 of one that is no text's
    lookups: Sequence[Lookup]
    scores: Callable[[int], Tensor]
    again: Callable[[Sequence[Mapping[str, str]]], np.ndarray]
    exact: np.ndarray | None = None
    fixed: frozenset[int] = frozenset()


Explained = Callable[["Bundle", Mapping[str, str], str | None], Asked]
EXPLAINED: dict[str, Explained] = {}


def asked_of(bundle: Bundle, question: Mapping[str, str], target: str | None) -> Asked:
    """
    Raises:
        NoisefoldError: models of this kind cannot be explained, or not with this question.
    """
    refuse_unexplained(bundle)
    return EXPLAINED[bundle.kind](bundle, question, target)


def refuse_unexplained(bundle: Bundle) -> None:
    """
    Raises:
        NoisefoldError: models of this kind cannot be explained.
    """
    if not can_explain(type(bundle.head)):
        raise NoisefoldError(
            f"What carried an answer of a model of kind {bundle.kind} cannot be told.",
            f"Those of other kinds can: {', '.join(explained_kinds())}.",
        )


def can_explain(head: type[Head]) -> bool:
    """Whether answers of this kind can be explained; what does it is imported from its room."""
    if head.kind not in EXPLAINED:
        room = f"{head.__module__.rpartition('.')[0]}.explained"
        if find_spec(room) is not None:
            import_module(room)
    return head.kind in EXPLAINED


def explained_kinds() -> list[str]:
    """The kinds of the house that can be explained, and such as have entered."""
    own = [
        one.name
        for one in pkgutil.iter_modules(kinds.__path__)
        if one.ispkg and find_spec(f"{kinds.__name__}.{one.name}.explained") is not None
    ]
    return sorted({*own, *EXPLAINED})


# --- texts as windows


@dataclass(frozen=True)
class Read:
    """A text's tokens, and its windows, all of one length."""

    tokens: list[Token]
    ids_WT: Tensor
    positions_WT: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.ids_WT.shape[0], self.ids_WT.shape[1]

    @property
    def lengths_W(self) -> Tensor:
        return torch.full((self.shape[0],), self.shape[1])

    def run(self, network: TextNetwork, copies: int) -> Tensor:
        """(copies, W, ...) the network's outputs."""
        output = network(self.ids_WT.repeat(copies, 1), self.lengths_W.repeat(copies))
        return output.view(copies, self.shape[0], *output.shape[1:])


def read_text(bundle: Bundle, column: str, text: str) -> Read:
    """
    Raises:
        NoisefoldError: the text is blank, has no token, or too many.
    """
    tokens = tokens_of(bundle.tokenizer, column, text)
    ids, places = [token_id for token_id, _ in tokens], np.arange(len(tokens))
    around = bundle.windowing
    # The same cut of the tokens' numbers, with -1 for what is put round them.
    numbered = replace(
        around,
        prefix_ids=(-1,) * len(around.prefix_ids),
        suffix_ids=(-1,) * len(around.suffix_ids),
    )
    positions = np.array(numbered.cut(places.tolist()), np.int64)
    return Read([token for _, token in tokens], torch.tensor(around.cut(ids)), positions)


def tokens_of(tokenizer: Tokenizer, column: str, text: str) -> list[tuple[int, Token]]:
    """The id of each token of a text, and where it stands.

    Raises:
        NoisefoldError: the text is blank, has no token, or too many.
    """
    if not text.strip():
        raise NoisefoldError(f"The {column} is empty.", "Give one that has words in it.")
    with readable("The tokenizer cannot encode a text"):
        encoding = tokenizer.encode(text, add_special_tokens=False)
    if not encoding.ids:
        raise NoisefoldError(
            f"The model's tokenizer finds no token in the {column}.", "Give one with words in it."
        )
    if len(encoding.ids) > MOST_TOKENS:
        raise NoisefoldError(
            f"The {column} has {len(encoding.ids):,} tokens, and can have {MOST_TOKENS:,} to be "
            f"explained.",
            "Give the part of it that the question is about.",
        )
    pairs = zip(encoding.ids, encoding.offsets, strict=True)
    return [(number, Token(column, start, end)) for number, (start, end) in pairs]


def body_lookups(bundle: Bundle, read: Read) -> list[Lookup]:
    """The token vectors, and the rows of n-grams that join the document's vector.

    The baseline of the former is the unknown token's vector: of the size that the network is used
    to, which the zero vector is not, and no word's own. N-grams have none.
    """
    network = bundle.network
    table: Any = network.embedding
    if isinstance(table, nn.Identity):
        table = network.encoder.backbone.get_input_embeddings()
    with torch.no_grad():
        unknown_D = table(torch.tensor([bundle.windowing.unknown_id]))[0]
    special = torch.from_numpy(read.positions_WT < 0)
    lookups = [Lookup(table, lambda values_WT: values_WT, unknown_D, special)]
    if network.ngrams is not None:
        longest = network.ngrams.max_n
        lookups.append(
            Lookup(network.ngrams.table, lambda rows: spread_ngrams(rows, read.shape[1], longest))
        )
    return lookups


def spread_ngrams(rows_WG: np.ndarray, positions: int, longest: int) -> np.ndarray:
    """(W, T) from what each n-gram adds, in the order of `hashed_ngrams`: an equal share to each of
    its positions.
    """
    found = np.zeros((len(rows_WG), positions))
    first = 0
    for n in range(1, min(longest, positions) + 1):
        count = positions - n + 1
        for step in range(n):
            found[:, step : step + count] += rows_WG[:, first : first + count] / n
        first += count
    return found
