"""The right answer of many, learnt from pairs of a question and its answer.

Each question of a batch is held against the answers of all its questions, and against other answers
of the same pages, which are the hard ones (in-batch negatives; Karpukhin 2020,
https://arxiv.org/abs/2004.04906):

    loss = -log sum_{a right} exp s(q, a) / sum_a exp s(q, a)

A token row is [question tokens, answer tokens], and tells how many are the question's, which answer
it is and which question.

Shapes: B questions, C answers of a batch, W windows, T positions, K kinds of shared words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy import sparse
from tokenizers import Tokenizer
from torch import Tensor

from data_contracts.errors import TrainingError
from data_contracts.kinds.retrieve import Retrieve
from lightning_modules.kinds.base import TOKENS, Batch, Loss, Objective
from lightning_modules.kinds.retrieve.head import RetrieveHead
from lightning_modules.kinds.retrieve.indexing import (
    FILE,
    AnswerList,
    cut_by,
    indexed,
    pages_of,
    question_keys,
    read_answers,
)
from lightning_modules.kinds.retrieve.shared import SharedWords
from lightning_modules.kinds.retrieve.terms import Lexicon
from lightning_modules.kinds.retrieve.towers import towers
from lightning_modules.kinds.retrieve.validation import Validation
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import load_tokenizer
from lightning_modules.network.windows import Windowing, encoded

if TYPE_CHECKING:
    from lightning_modules.training.data import TokenTable


class RetrievalModel(Objective):
    """Negative log-likelihood of the right answers, summed over the questions.

    `facts`: `script`, `pages` and `links`, from the contract.
    """

    kind: ClassVar[str] = "retrieve"
    token_schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("context", pa.int32()),  # tokens of the question
            ("answer", pa.int32()),  # its number in answers.parquet
            ("question_key", pa.int64()),
            ("question", pa.string()),
        ]
    )
    learnt: ClassVar[tuple[str, ...] | None] = ("context", "answer", "question_key")
    task: Retrieve

    def __init__(self, task: Retrieve, facts: Mapping[str, Any]) -> None:
        super().__init__(task, facts)
        self.answers: AnswerList | None = None
        self.train: TokenTable | None = None
        self.of_page: dict[int, np.ndarray] = {}  # train rows
        self.page_of_row = np.zeros(0, np.int64)
        self.first_row = np.zeros(0, np.int64)  # of each answer, in the train split; -1: none
        self.is_right: sparse.csr_matrix | None = None  # (question, answer) of the train split
        self.question_of_row = np.zeros(0, np.int64)
        self.shared: SharedWords | None = None
        self._shared: dict[Path, SharedWords] = {}  # by the file of the split

    # --- rows to tokens

    def texts(self, rows: pa.Table) -> Iterator[str]:
        yield from rows["question"].to_pylist()
        yield from rows["answer"].to_pylist()

    def beside(self, rows: Iterable[pa.Table], out: Path) -> str:
        """Every answer of the corpus, each once, whatever the split of its questions."""
        self.answers = AnswerList()
        for some in rows:
            self.answers.add(some)
        table = self.answers.table()
        pq.write_table(table, out / FILE, compression="zstd")
        return self.answers.digest()

    def encode(self, rows: pa.Table, tokenizer: Tokenizer, windowing: Windowing) -> pa.Table:
        """A row a pair; of rows that `beside` was given."""
        assert self.answers is not None
        questions = rows["question"].to_pylist()
        asked = encoded(tokenizer, questions)
        told = encoded(tokenizer, rows["answer"].to_pylist())
        unknown = [windowing.unknown_id]  # of a text without a token
        pairs = [(one or unknown, other or unknown) for one, other in zip(asked, told, strict=True)]
        return pa.table(
            {
                "id": rows["id"],
                "window": pa.array(np.zeros(len(pairs), np.int32)),
                "input_ids": pa.array([one + other for one, other in pairs], pa.list_(pa.int32())),
                "length": pa.array([len(one) + len(other) for one, other in pairs], pa.int32()),
                "context": pa.array([len(one) for one, _ in pairs], pa.int32()),
                "answer": pa.array(self.answers.of(rows), pa.int32()),
                "question_key": pa.array(question_keys(questions)),
                "question": pa.array(questions, pa.string()),
            },
            schema=pa.schema([*TOKENS, *self.token_schema]),
        )

    # --- tokens to a network

    def prepare(self, train: TokenTable) -> None:
        """What of the train rows is the same in all epochs: whose answers are near, which are
        right, and their words.
        """
        self.train = train
        numbers = train.columns["answer"]
        if len(np.unique(numbers)) < 2:
            raise TrainingError(
                "All train rows have the same answer, so that there is nothing to choose.",
                "Give the source rows of at least two answers.",
            )
        keys, question_of_row = np.unique(train.columns["question_key"], return_inverse=True)
        answers = read_answers(self.tokens)
        count = len(answers)
        self.question_of_row = question_of_row
        self.first_row = np.full(count, -1, np.int64)
        backwards = np.arange(len(train))[::-1]
        self.first_row[numbers[backwards]] = backwards
        ones = np.ones(len(train), np.float32)
        self.is_right = sparse.csr_matrix((ones, (question_of_row, numbers)), (len(keys), count))
        self.page_of_row = answers["page"].to_numpy()[numbers].astype(np.int64)
        order = np.argsort(self.page_of_row, kind="stable")
        pages, starts = np.unique(self.page_of_row[order], return_index=True)
        rows_of = np.split(order, starts[1:])
        self.of_page = dict(zip(pages.tolist(), rows_of, strict=True))
        self.shared = self.shared_words_of(train)

    def shared_words_of(self, table: TokenTable) -> SharedWords | None:
        """Of a split's questions with the answers to them, counted once; other splits' answers are
        not looked at. None where shared words do not count.
        """
        if self.task.lexical is None:
            return None
        if table.path not in self._shared:
            numbers = np.unique(table.columns["answer"])
            own = read_answers(self.tokens).take(pa.array(numbers))
            questions = pq.read_table(table.path, columns=["question"])["question"].to_pylist()
            lexicon = Lexicon.of(self.lexical())
            self._shared[table.path] = SharedWords.of(
                lexicon,
                questions,
                numbers,
                own["text"].to_pylist(),
                own["page"].to_numpy(),
                pages_of(own) if lexicon.pages else None,
            )
        return self._shared[table.path]

    def lexical(self) -> dict[str, Any]:
        """Options of the lexicon; pages are looked at where the contract names them."""
        assert self.task.lexical is not None
        options = self.task.lexical.model_dump()
        return {**options, "pages": options["pages"] and bool(self.facts.get("pages"))}

    def head(self) -> dict[str, Any]:
        return {
            "vector_size": self.task.vector_size,
            "lexical": self.lexical() if self.task.lexical is not None else None,
        }

    # --- batches to a loss

    def batch(self, table: TokenTable, rows: np.ndarray) -> Batch:
        """Windows of the questions and of the answers, and of the train split which of these are
        right and what words they share.

        `question_of` and `answer_of` (W,) say whose a window is, `rows` (B,) and `numbers` (C,)
        which questions and answers they are.
        """
        if table is self.train:
            numbers = self._held_against(rows)
            told = self.first_row[numbers]
        else:
            numbers, first = np.unique(table.columns["answer"][rows], return_index=True)
            told = rows[first]
        contexts = table.columns["context"]
        asked = [self._windows(table.ids[at : at + size]) for at, size in _questions(table, rows)]
        given = [
            self._windows(table.ids[at + contexts[row] : at + table.lengths[row]])
            for row, at in zip(told, table.starts[told], strict=True)
        ]
        found = {
            **_padded(asked, "input_ids", "lengths", "question_of"),
            **_padded(given, "answer_ids", "answer_lengths", "answer_of"),
            "rows": torch.from_numpy(rows),
            "numbers": torch.from_numpy(numbers),
        }
        if table is self.train:
            found |= self._known(rows, numbers)
        return found

    def _known(self, rows: np.ndarray, numbers: np.ndarray) -> Batch:
        """What of a batch of the train split is no network's."""
        assert self.is_right is not None
        right = self.is_right[self.question_of_row[rows]][:, numbers].toarray() > 0
        shared = np.zeros((*right.shape, 0), np.float32)
        if self.shared is not None:
            shared = self.shared.between(rows, numbers)
        return {"right": torch.from_numpy(right), "shared": torch.from_numpy(shared)}

    def _held_against(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the answers of a batch: its own, and some of their pages'."""
        assert self.train is not None
        numbers = self.train.columns["answer"]
        held = [numbers[rows]]
        # By the batch alone, which is another one in each epoch.
        draw = np.random.default_rng(rows)
        for row in rows if self.task.hard_negatives else ():
            page = int(self.page_of_row[row])
            near = self.of_page[page] if page >= 0 else np.zeros(0, np.int64)
            near = near[numbers[near] != numbers[row]]
            if len(near) > self.task.hard_negatives:
                near = draw.choice(near, self.task.hard_negatives, replace=False)
            held.append(numbers[near])
        return np.unique(np.concatenate(held))

    def _windows(self, ids: np.ndarray) -> list[np.ndarray]:
        """The windows of a text that make up its vector."""
        cut = self.windowing.cut(ids.tolist())
        return [np.array(one) for one in cut[: self.task.answer_windows]]

    def loss(self, network: TextNetwork, batch: Mapping[str, Tensor]) -> Loss:
        head = _head(network)
        questions, answers = towers(network, batch)
        scores = head.scores(questions @ answers.t(), batch["shared"])
        proba = scores.log_softmax(dim=-1).masked_fill(~batch["right"], -torch.inf)
        return Loss(-proba.logsumexp(dim=-1).sum(), len(questions))

    def validation(self, table: TokenTable) -> Validation:
        return Validation(self, table)

    # --- what ships

    def served(self) -> dict[str, Any]:
        return {**self.facts, **self.task.served_facts({})}

    def served_files(self, network: TextNetwork) -> dict[str, bytes]:
        tokenizer = load_tokenizer(self.tokenizer_json)
        cut = cut_by(tokenizer, self.windowing, self.task.answer_windows)
        return indexed(network, read_answers(self.tokens), tokenizer, cut).files()


def _questions(table: TokenTable, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where the ids of each question begin, and how many they are."""
    yield from zip(table.starts[rows], table.columns["context"][rows], strict=True)


def _padded(texts: Sequence[Sequence[np.ndarray]], ids: str, lengths: str, of: str) -> Batch:
    """Windows of texts (W, T), their lengths (W,), and the place of the text that each is of."""
    windows = [window for one in texts for window in one]
    sizes = np.array([len(one) for one in windows], np.int64)
    inside = np.arange(sizes.max()) < sizes[:, None]
    padded = np.zeros(inside.shape, np.int64)
    padded[inside] = np.concatenate(windows)
    place = np.repeat(np.arange(len(texts)), [len(one) for one in texts])
    arrays = {ids: padded, lengths: sizes, of: place}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _head(network: TextNetwork) -> RetrieveHead:
    return cast(RetrieveHead, network.head)
