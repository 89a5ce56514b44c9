"""How the table of token vectors starts (word vectors from a text file), and its bias while it trains."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

import torch
from torch import Tensor, nn

from data_contracts.errors import NoisefoldError, TrainingError
from data_contracts.tables import decompressed

_LINE = 1 << 20  # bytes of a word and its vector


class BiasedEmbedding(nn.Module):
    """E = W x + b, x one-hot: one bias for all tokens, 0 at the start. A method noises W; b carries no noise.

    `reparameterizations.fold` folds W first and then calls `fold` here: W_i + b is the same addition before and after.
    """

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table: nn.Module = table
        self.bias = nn.Parameter(table.weight.new_zeros(table.embedding_dim))

    @property
    def weight(self) -> Tensor:
        return cast(Tensor, self.table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids) + self.bias

    @torch.no_grad()
    def fold(self) -> nn.Embedding:
        """The plain table that gives the same vectors, bit for bit."""
        rows, size = self.weight.shape
        return nn.Embedding(rows, size, _weight=self.weight + self.bias).train(self.training)


def digest_of(vectors: str) -> str:
    """SHA-256 of the file's bytes, as stored.

    Raises:
        TrainingError: the file cannot be read.
    """
    with _reading(vectors) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@torch.no_grad()
def load_vectors(table: Tensor, vocabulary: dict[str, int], vectors: str) -> Tensor:
    """Copy word vectors into the rows of `table` (V, D); returns which rows were found, bool (V). Others stay.

    The file is read line by line: GloVe (`word v_1 ... v_D`) or word2vec (the same below a line `rows D`), plain or
    .gz. A token takes the first vector under its own spelling, or else under its lower-cased one.

    Raises:
        TrainingError: no such file, vectors of another size, or a line that is no vector, with its number.
    """
    exact, found = (torch.zeros(len(table), dtype=torch.bool) for _ in range(2))
    rows_of: dict[bytes, list[tuple[int, bool]]] = {}
    for token, row in vocabulary.items():
        if row < len(table):
            for spelling in {token, token.lower()}:
                rows_of.setdefault(spelling.encode(), []).append((row, spelling == token))
    for number, word, values in _vectors(vectors, table.shape[1]):
        rows = [(row, own) for row, own in rows_of.get(word, ()) if not (exact[row] if own else found[row])]
        if not rows:
            continue
        try:
            vector = torch.tensor([float(value) for value in values], dtype=table.dtype)
            if not vector.isfinite().all():
                raise ValueError("a value is not finite")
        except ValueError as error:
            raise _malformed(vectors, number, str(error)) from None
        for row, own in rows:
            table[row], found[row] = vector, True
            exact[row] |= own
    return found


def _vectors(vectors: str, size: int) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """(line number, word, its values as written) of each line; the sizes are checked."""
    with _reading(vectors) as stream:
        plain = decompressed(stream, "gzip" if vectors.endswith(".gz") else None, vectors)
        announced, count, number = None, 0, 0
        for number, line in enumerate(iter(lambda: plain.readline(_LINE), b""), 1):
            if len(line) == _LINE:
                raise _malformed(vectors, number, f"longer than {_LINE:,} bytes")
            # From the right, since the words of some files hold spaces; bytes, since some hold broken UTF-8.
            word, *values = line.rstrip().rsplit(b" ", size)
            if number == 1:
                fields = line.split()
                if len(fields) == 2 and all(field.isdigit() and len(field) < 19 for field in fields):
                    announced, found = (int(field) for field in fields)
                else:
                    found = len(fields) - 1
                if found != size:
                    raise TrainingError(
                        f"{vectors} holds vectors of size {found}, and model.embedding_dim is {size}.",
                        f"Set model.embedding_dim: {found}, or give a file of size {size}.",
                    )
                if announced is not None:
                    continue
            if len(values) != size:
                raise _malformed(vectors, number, f"{len(values)} values where {size} belong")
            count += 1
            yield number, word, values
        if not number:
            raise _malformed(vectors, 1, "the file is empty")
        if announced is not None and count < announced:
            raise _malformed(vectors, number, f"the file ends after {count} of {announced} vectors")


@contextmanager
def _reading(vectors: str) -> Iterator[IO[bytes]]:
    try:
        with open(vectors, "rb") as stream:
            yield stream
    except NoisefoldError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        zlib.error,
    ) as error:  # ValueError: a NUL in the path; the last two: a .gz that ends early
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(
            f"The word vectors {vectors} cannot be read: {reason}.", "Check the path in model.embedding_vectors."
        ) from error


def _malformed(vectors: str, number: int, reason: str) -> TrainingError:
    return TrainingError(f"{vectors}, line {number}: {reason}.", "Mend or remove that line, or download the file anew.")
