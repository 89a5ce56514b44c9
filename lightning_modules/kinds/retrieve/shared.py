"""Which words the questions of a split share with its answers, for whole batches at once.

The same figures as `Postings.scores`, by sparse matrices. Shapes: N questions and A answers of the
split, B and C of a batch, K kinds of shared words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from lightning_modules.kinds.retrieve.terms import Lexicon, Postings


@dataclass(frozen=True)
class _View:
    """Terms of questions and of texts, whose product is the score."""

    questions: sparse.csr_matrix  # (N, terms), each row divided by the sum of its idf
    texts: sparse.csr_matrix  # (texts, terms)

    @classmethod
    def of(
        cls, view: Callable[[str], list[str]], postings: Postings, questions: Sequence[str],
        texts: int,
    ) -> _View:  # fmt: skip
        looked_up = [postings.looked_up(view(one)) for one in questions]
        places = [known for known, _ in looked_up]
        total = [one for _, one in looked_up]
        sizes = [len(one) for one in places]
        values = np.repeat(1 / np.array(total, np.float64), sizes).astype(np.float32)
        flat = np.concatenate([np.zeros(0, np.int64), *places])
        terms = len(postings.keys)
        asked = sparse.csr_matrix(
            (values, flat, np.concatenate([[0], np.cumsum(sizes)])), (len(questions), terms)
        )
        rows = (postings.weights, postings.texts, postings.offsets)
        return cls(asked, sparse.csr_matrix(sparse.csr_matrix(rows, (terms, texts)).T))

    def between(self, questions: np.ndarray, texts: np.ndarray) -> np.ndarray:
        return (self.questions[questions] @ self.texts[texts].T).toarray()


@dataclass(frozen=True)
class SharedWords:
    """Of one split; answers are called by their numbers in the corpus."""

    numbers: np.ndarray  # (A,) ascending
    pages: np.ndarray  # (A,) the page of each; -1 where it has none
    of_answers: Sequence[_View]
    of_pages: Sequence[_View]

    @classmethod
    def of(
        cls,
        lexicon: Lexicon,
        questions: Sequence[str],
        numbers: np.ndarray,
        texts: Sequence[str],
        page_of: np.ndarray,
        pages: Sequence[str] | None,
    ) -> SharedWords:
        """
        Args:
            numbers, texts, page_of: (A,) of the split's answers.
            pages: texts of the pages by their numbers; None where these are not looked at.
        """

        def views(of: Sequence[str]) -> list[_View]:
            counted = zip(lexicon.views, lexicon.postings(of), strict=True)
            return [_View.of(view, some, questions, len(of)) for view, some in counted]

        return cls(numbers, page_of, views(texts), [] if pages is None else views(pages))

    def between(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(B, C, K) float32 of questions by their rows and answers by their numbers."""
        places = np.searchsorted(self.numbers, numbers)
        found = [view.between(rows, places) for view in self.of_answers]
        page = self.pages[places]
        for view in self.of_pages:
            scores = view.between(rows, np.maximum(page, 0))
            found.append(np.where(page >= 0, scores, 0).astype(np.float32))
        return np.stack(found, axis=-1)
