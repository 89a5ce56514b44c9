"""Answers made ready to be found: each once, with its vector and its words.

Shapes: A answers, D size of a vector, W windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer

from data_contracts.contract.text import text_hash
from lightning_modules.kinds.retrieve.answers import Answers
from lightning_modules.kinds.retrieve.terms import Lexicon
from lightning_modules.network.batching import by_length
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import special_ids
from lightning_modules.network.windows import Windowing

FILE = "answers.parquet"
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("link", pa.string()),
        ("page", pa.int32()),  # -1: none
        ("questions", pa.list_(pa.int64())),  # by `question_keys`
    ]
)

Identity = tuple[str, str | None, str | None]  # of an answer: its text, page and link


def question_keys(questions: Iterable[str]) -> np.ndarray:
    """(N,) int64 of what tells questions apart: two that differ in their writing alone are one."""
    return np.fromiter(map(text_hash, questions), np.uint64).view(np.int64)


class AnswerList:
    """Gathers the answers of rows that come part by part; the first one has number 0."""

    def __init__(self) -> None:
        self.numbers: dict[Identity, int] = {}
        self._questions: list[dict[int, None]] = []

    def add(self, rows: pa.Table) -> None:
        """
        Args:
            rows: question and answer; page and link where there are any.
        """
        keys = question_keys(rows["question"].to_pylist()).tolist()
        for identity, key in zip(identities(rows), keys, strict=True):
            number = self.numbers.setdefault(identity, len(self.numbers))
            if number == len(self._questions):
                self._questions.append({})
            self._questions[number].setdefault(key)

    def of(self, rows: pa.Table) -> np.ndarray:
        """(N,) the number of each row's answer."""
        return np.array([self.numbers[one] for one in identities(rows)], np.int64)

    def digest(self) -> str:
        """Of all that `table` holds."""
        whole = blake2b(digest_size=16)
        for identity, questions in zip(self.numbers, self._questions, strict=True):
            whole.update(json.dumps([*identity, list(questions)]).encode())
        return whole.hexdigest()

    def table(self) -> pa.Table:
        """All of them, in the order of their numbers."""
        pages: dict[str, int] = {}
        for _, page, _ in self.numbers:
            if page is not None:
                pages.setdefault(page, len(pages))
        told = [
            {
                "text": text,
                "link": link,
                "page": -1 if page is None else pages[page],
                "questions": list(questions),
            }
            for (text, page, link), questions in zip(self.numbers, self._questions, strict=True)
        ]
        return pa.Table.from_pylist(told, schema=SCHEMA)


def identities(rows: pa.Table) -> list[Identity]:
    """What tells answers apart."""
    count = rows.num_rows
    texts = rows["answer"].to_pylist()
    more = [
        rows[name].to_pylist() if name in rows.column_names else [None] * count
        for name in ("page", "link")
    ]
    return list(zip(texts, *more, strict=True))


def read_answers(tokens: Path) -> pa.Table:
    """The answers of a folder of token tables."""
    return pq.read_table(tokens / FILE)


def pages_of(answers: pa.Table) -> list[str]:
    """The text of each page: that of all its answers."""
    numbers = answers["page"].to_numpy()
    texts: list[list[str]] = [[] for _ in range(int(numbers.max(initial=-1)) + 1)]
    for text, number in zip(answers["text"].to_pylist(), numbers.tolist(), strict=True):
        if number >= 0:
            texts[number].append(text)
    return ["\n".join(one) for one in texts]


@torch.inference_mode()
def vectors_of_answers(
    network: TextNetwork, windows: Sequence[Sequence[int]], of_W: np.ndarray, pad_id: int
) -> np.ndarray:
    """(A, D) from windows of token ids, each of the answer at its place `of_W`."""
    head: Any = network.head
    device = next(network.parameters()).device
    features, places = [], []
    for rows, ids, lengths in by_length(windows, pad_id):
        read = (torch.from_numpy(one).to(device) for one in (ids, lengths))
        features.append(network.features(*read))
        places.append(rows)
    of = torch.from_numpy(of_W[np.concatenate(places)]).to(device)
    found = head.of_windows(torch.cat(features), of, int(of_W[-1]) + 1)
    return found.cpu().numpy()


def first_windows(
    windows: Sequence[Sequence[int]], of_W: np.ndarray, most: int
) -> tuple[list[Sequence[int]], np.ndarray]:
    """Of each text's windows, which stand together, the first ones; and whose they are."""
    starts = np.flatnonzero(np.diff(of_W, prepend=-1))
    number = np.arange(len(of_W)) - np.repeat(starts, np.bincount(of_W))
    kept = np.flatnonzero(number < most)
    return [windows[place] for place in kept.tolist()], of_W[kept]


Cut = Callable[[Sequence[str]], tuple[list[Sequence[int]], np.ndarray]]


def cut_by(tokenizer: Tokenizer, windowing: Windowing, most: int) -> Cut:
    """How answers become the windows that make up their vectors."""

    def cut(texts: Sequence[str]) -> tuple[list[Sequence[int]], np.ndarray]:
        return first_windows(*windowing.encode(tokenizer, texts), most)

    return cut


def indexed(network: TextNetwork, answers: pa.Table, tokenizer: Tokenizer, cut: Cut) -> Answers:
    """Answers (of SCHEMA) as a folded network finds them."""
    head: Any = network.head
    lexicon: Lexicon | None = head.lexicon
    texts = answers["text"].to_pylist()
    pad_id = special_ids(tokenizer)[0]
    questions = [one or [] for one in answers["questions"].to_pylist()]
    ends = np.cumsum([0, *map(len, questions)], dtype=np.int64)
    pages = pages_of(answers) if lexicon is not None and lexicon.pages else []
    return Answers(
        texts,
        answers["link"].to_pylist(),
        answers["page"].to_numpy().astype(np.int32),
        ends,
        np.array([key for one in questions for key in one], np.int64),
        vectors_of_answers(network, *cut(texts), pad_id),
        lexicon.postings(texts) if lexicon is not None else [],
        lexicon.postings(pages) if lexicon is not None and lexicon.pages else [],
    )
