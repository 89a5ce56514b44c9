"""The answers that a model chooses from, as they lie in its bundle: their texts in `answers.json`,
and what they are found by in `answers.safetensors`.

Shapes: A answers, D size of a vector, Q questions that were asked of them, K kinds of shared words.
This file is shipped inside the registered model: it imports numpy, safetensors and what ships.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from lightning_modules.kinds.retrieve.terms import Lexicon, Postings

TEXTS, FOUND_BY = "answers.json", "answers.safetensors"


@dataclass(frozen=True)
class Answers:
    """Written answers, each once, and what they are found by."""

    texts: Sequence[str]  # (A,)
    links: Sequence[str | None]  # (A,) where each comes from
    pages: np.ndarray  # (A,) int32: the number of its page, -1 where it has none
    # Which questions each is the answer to, by a hash of them: (A + 1,) and (Q,) int64.
    question_offsets: np.ndarray
    question_keys: np.ndarray
    vectors: np.ndarray  # (A, D) float32, each of length 1
    postings: Sequence[Postings]  # of the answers, for each view of the lexicon
    page_postings: Sequence[Postings]  # of the pages; empty where these are not looked at

    def __len__(self) -> int:
        return len(self.texts)

    def of_questions(self, keys: np.ndarray) -> np.ndarray:
        """(A,) whether each is the answer to one of these questions."""
        right = np.zeros(len(self), bool)
        asked = np.flatnonzero(np.isin(self.question_keys, keys))
        right[np.searchsorted(self.question_offsets, asked, side="right") - 1] = True
        return right

    def shared_words(self, question: str, lexicon: Lexicon | None) -> np.ndarray:
        """(K, A) float32: what a question shares with each answer, and with its page."""
        if lexicon is None:
            return np.zeros((0, len(self)), np.float32)
        terms = [view(question) for view in lexicon.views]
        found = [some.scores(seen) for some, seen in zip(self.postings, terms, strict=True)]
        for some, seen in zip(self.page_postings, terms, strict=bool(self.page_postings)):
            # The last one stands for no page.
            of_pages = np.append(some.scores(seen), np.float32(0))
            found.append(of_pages[self.pages])
        return np.stack(found)

    # --- on disk

    def files(self) -> dict[str, bytes]:
        """By name, for a bundle; the same answers give the same bytes."""
        texts = json.dumps(
            {"texts": list(self.texts), "links": list(self.links)}, ensure_ascii=False
        )
        arrays = {
            "pages": self.pages,
            "question_offsets": self.question_offsets,
            "question_keys": self.question_keys,
            "vectors": self.vectors,
        }
        for name, several in (("answers", self.postings), ("of_pages", self.page_postings)):
            for number, one in enumerate(several):
                arrays |= {f"{name}.{number}.{part}": a for part, a in one._asdict().items()}
        return {TEXTS: texts.encode("utf-8", "surrogatepass"), FOUND_BY: save_safetensors(arrays)}

    @classmethod
    def read(cls, files: Mapping[str, bytes], size: int, views: int, page_views: int) -> Answers:
        """Of a bundle's files.

        Args:
            size: D.
            views: of the lexicon, of answers and of pages.
        Raises:
            ValueError: what does not fit together.
            KeyError: what is missing.
        """
        told = json.loads(files[TEXTS])
        arrays = load_safetensors(files[FOUND_BY])
        texts, links = told["texts"], told["links"]
        found = cls(
            texts,
            links,
            arrays["pages"],
            arrays["question_offsets"],
            arrays["question_keys"],
            arrays["vectors"],
            [_postings(arrays, "answers", number) for number in range(views)],
            [_postings(arrays, "of_pages", number) for number in range(page_views)],
        )
        if (fault := found._fault(size)) is not None:
            raise ValueError(fault)
        return found

    def _fault(self, size: int) -> str | None:
        """What does not fit together."""
        count = len(self.texts)
        if not count or not all(isinstance(one, str) for one in self.texts):
            return "its answers are no texts"
        if len(self.links) != count or not all(
            one is None or isinstance(one, str) for one in self.links
        ):
            return "its links are not those of its answers"
        if self.vectors.shape != (count, size) or self.vectors.dtype != np.float32:
            return f"its vectors are {self.vectors.shape}, and have to be ({count}, {size})"
        whole = (self.pages.dtype, self.question_offsets.dtype, self.question_keys.dtype)
        if whole != (np.int32, np.int64, np.int64) or not np.isfinite(self.vectors).all():
            return "its numbers are none"
        ends = self.question_offsets
        if self.pages.shape != (count,) or ends.shape != (count + 1,) or self.pages.min() < -1:
            return "its pages or questions are not those of its answers"
        if ends[0] != 0 or ends[-1] != len(self.question_keys) or np.any(np.diff(ends) < 0):
            return "its questions end elsewhere"
        # A page has an answer, so that a number from outside asks for no more memory than these.
        pages = int(self.pages.max()) + 1
        if pages > count:
            return "it has more pages than answers"
        faults = [one.faults(count) for one in self.postings]
        faults += [one.faults(pages) for one in self.page_postings]
        return next((fault for fault in faults if fault is not None), None)


def _postings(arrays: Mapping[str, Any], name: str, number: int) -> Postings:
    return Postings(*(arrays[f"{name}.{number}.{part}"] for part in Postings._fields))
