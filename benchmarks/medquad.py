"""What a model of `benchmarks/recipes/medquad.yaml` finds, by the rules of the published floors.

    .venv/bin/python -m benchmarks.medquad BUNDLE [BUNDLE ...] [--minilm FOLDER] [--out FILE]

Beside them BM25 over the words of the answers, that with the words of their pages added, which is
what the pages by themselves are worth, and on A1 MiniLM without any training (`--minilm`: a folder
as `benchmarks.minilm` prepares it; 128 tokens of an answer, mean pooling).

BUNDLE: folders with a bundle.json (below the artifacts of a retrain, one for each seed, say). Every
row of MedQuAD is an answer here, the repeated ones too, so that one of the same words on another
page counts as wrong, and of equal scores the wrong one stands first; the rows that the contract
quarantines are answers as well. The questions are those of the test split:

- A1: among the answers of the test split; A2: among all.
- B: among all, said otherwise by rules and with a slip of the keyboard, as
  `../shared/baselines/medquad.py` makes them (read from its results where they are at hand).
- C: among the answers of the train split alone, where few have one: telling those that have (AUROC,
  by the probability), and at the threshold of a precision of 95 %, fitted on the valid split asked
  in the same way, what precision is had and how many of those that have one are answered.

Prints a table, a row a figure: the mean over the bundles with its range, and what the others have;
milliseconds are CPU time a question, on one core.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer

from benchmarks.prepare_medquad import ROOT, read, with_pages
from data_contracts.contract.text import text_hash
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.retrieve.abstention import Asked, fitted, probabilities
from lightning_modules.kinds.retrieve.answers import Answers
from lightning_modules.kinds.retrieve.figures import figures_of, ranks
from lightning_modules.kinds.retrieve.head import vectors_of
from lightning_modules.kinds.retrieve.indexing import SCHEMA, cut_by, indexed, pages_of
from lightning_modules.kinds.retrieve.terms import Postings, words
from lightning_modules.network.batching import by_length
from lightning_modules.selective import threshold_of

PARAPHRASES = ROOT.parent / "shared" / "baselines" / "results" / "medquad_paraphrases.json"
PRECISION = 0.95


def key(question: str) -> int:
    """Of a question without case, width, white space and the marks at its ends."""
    folded = unicodedata.normalize("NFKC", question).casefold()
    return text_hash(re.sub(r"\s+", " ", folded).strip(" ?.!")) - (1 << 63)


@dataclass(frozen=True)
class Rows:
    """Rows of some splits, one answer each."""

    questions: list[str]
    keys: np.ndarray
    table: pa.Table

    @classmethod
    def of(cls, *splits: str) -> Rows:
        rows = [row for split in splits for row in with_pages(read(split), split)]
        numbers: dict[str, int] = {}
        keys = [key(row["question"]) for row in rows]
        told = [
            {
                "text": row["answer"],
                "link": row["source"],
                "page": numbers.setdefault(row["page"], len(numbers)),
                "questions": [one],
            }
            for row, one in zip(rows, keys, strict=True)
        ]
        questions = [row["question"] for row in rows]
        return cls(questions, np.array(keys), pa.Table.from_pylist(told, schema=SCHEMA))


@dataclass(frozen=True)
class Found:
    """What was found for questions: the rank of the right answer (0: none is there), whether the
    best is right, and the features of its probability.
    """

    rank: np.ndarray
    right: np.ndarray
    features: np.ndarray
    milliseconds: float


def look_for(bundle: Bundle, answers: Answers, questions: list[str], keys: np.ndarray) -> Found:
    head: Any = bundle.network.head
    head.answers = answers
    rank, right, features = [], [], []
    spent = 0.0
    for question, one in zip(questions, keys, strict=True):
        started = time.process_time()
        parts = head.parts(vectors_of(bundle, [question])[0], question)
        best = head.ranked(parts, 5)
        spent += time.process_time() - started
        is_right = answers.of_questions(np.array([one]))
        rank.append(int(ranks(parts.sum(axis=0)[None], is_right[None])[0]))
        right.append(bool(is_right[best.numbers[0]]))
        features.append(best.features)
    return Found(np.array(rank), np.array(right), np.array(features), 1000 * spent / len(rank))


def measured(folder: Path, answer_windows: int) -> dict[str, float]:
    bundle = Bundle.load(folder)
    cut = cut_by(bundle.tokenizer, bundle.windowing, answer_windows)

    def among(*splits: str) -> Answers:
        return indexed(bundle.network, Rows.of(*splits).table, bundle.tokenizer, cut)

    test, valid = Rows.of("test"), Rows.of("valid")
    figures: dict[str, float] = {}

    def tell(task: str, found: Found) -> None:
        figures.update({f"{task} {name}": one for name, one in figures_of(found.rank).items()})
        figures[f"{task} milliseconds a question"] = found.milliseconds

    tell("A1", look_for(bundle, among("test"), test.questions, test.keys))
    every = among("train", "valid", "test")
    tell("A2", look_for(bundle, every, test.questions, test.keys))
    if PARAPHRASES.exists():
        said = json.loads(PARAPHRASES.read_text(encoding="utf-8"))
        tell("B", look_for(bundle, every, said, test.keys))
    figures |= nobody_has_answered(bundle, among("train"), valid, test)
    return figures


def nobody_has_answered(
    bundle: Bundle, answers: Answers, valid: Rows, test: Rows
) -> dict[str, float]:
    """Task C: the probability is fitted on the valid split as it is, among the same answers."""
    seen = look_for(bundle, answers, valid.questions, valid.keys)
    asked = Asked(seen.features, seen.features, seen.right)
    weights = fitted(asked, 0.0, None)["weights"]
    even = np.full(len(seen.right), 1 / len(seen.right))
    sure = probabilities(seen.features, weights)
    threshold = threshold_of(sure, seen.right, PRECISION, weights_N=even, never=1.0)
    found = look_for(bundle, answers, test.questions, test.keys)
    sure, there = probabilities(found.features, weights), found.rank > 0
    given = sure >= threshold
    return {
        "C questions that have an answer": float(there.sum()),
        "C AUROC": float(roc_auc_score(there, sure)),
        "C precision at the threshold": float(found.right[given].mean()) if given.any() else 0.0,
        "C answered of those that have one": float(given[there].mean()),
    }


def by_words(pages: bool) -> dict[str, float]:
    """BM25 over the words of the answers, and of their pages."""
    test = Rows.of("test")
    found: dict[str, float] = {}
    for task, splits in (("A1", ("test",)), ("A2", ("train", "valid", "test"))):
        table = Rows.of(*splits).table
        known = np.array([one[0] for one in table["questions"].to_pylist()])
        postings = Postings.counted(table["text"].to_pylist(), words, 1.2, 0.75)
        page = table["page"].to_numpy()
        of_pages = Postings.counted(pages_of(table), words, 1.2, 0.75) if pages else None
        started, rank = time.process_time(), []
        for question, one in zip(test.questions, test.keys, strict=True):
            scores = postings.scores(words(question))
            if of_pages is not None:
                scores = scores + of_pages.scores(words(question))[page]
            rank.append(int(ranks(scores[None], (known == one)[None])[0]))
        spent = 1000 * (time.process_time() - started) / len(rank)
        found |= {f"{task} {name}": value for name, value in figures_of(np.array(rank)).items()}
        found[f"{task} milliseconds a question"] = spent
    return found


@torch.inference_mode()
def vectors_by_minilm(folder: Path, texts: list[str]) -> np.ndarray:
    """(N, 384): the mean over the first 128 tokens, of length 1."""
    from transformers import AutoModel

    network = AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(128)
    tokenizer.no_padding()
    windows = [one.ids for one in tokenizer.encode_batch(texts)]
    found = np.zeros((len(texts), network.config.hidden_size), np.float32)
    for rows, ids, lengths in by_length(windows, 0, 8192):
        inside = torch.from_numpy(np.arange(ids.shape[1]) < lengths[:, None])
        states = network(input_ids=torch.from_numpy(ids), attention_mask=inside.long())[0]
        mean = (states * inside[..., None]).sum(dim=1) / inside.sum(dim=1, keepdim=True)
        found[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return found


def by_minilm(folder: Path) -> dict[str, float]:
    """Cosines of MiniLM's vectors, without any training, among the test split's answers."""
    test = Rows.of("test")
    answers = vectors_by_minilm(folder, test.table["text"].to_pylist())
    scores = vectors_by_minilm(folder, test.questions) @ answers.T
    right = test.keys[:, None] == test.keys[None, :]
    return {f"A1 {name}": one for name, one in figures_of(ranks(scores, right)).items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--answer-windows", type=int, default=1)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [measured(folder, options.answer_windows) for folder in options.bundles]
    others = {"BM25": by_words(pages=False), "BM25 with pages": by_words(pages=True)}
    if options.minilm is not None:
        others["MiniLM, untrained"] = by_minilm(options.minilm)
    lines = [
        f"| figure | noisefold, {len(runs)} runs | {' | '.join(others)} |",
        f"|---|--:|{'--:|' * len(others)}",
    ]
    for name in runs[0]:
        values = [one[name] for one in runs]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        cells = [f"{one[name]:.3f}" if name in one else "" for one in others.values()]
        lines.append(f"| {name} | {np.mean(values):.3f}{spread} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
