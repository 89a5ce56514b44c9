"""TF-IDF + logistic regression. C from 0.3 to 100 and the features are chosen on validation.
Nothing here is random.

- `fit`: word 1- to 2-grams, for Chinese character 1- to 3-grams: what people mean by the name;
- `fit_both`: word 1- to 2-grams beside character 2- to 5-grams inside words, which is stronger on
    short English texts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from benchmarks.peers.data import CHINESE, LONG, Corpus, Fitted, merit

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
WORDS = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
PUNCTUATION = WORDS | {"token_pattern": r"(?u)\w+|[^\w\s]"}
INSIDE_WORDS = {"analyzer": "char_wb", "ngram_range": (2, 5)}
CHARACTERS = {"analyzer": "char", "ngram_range": (1, 3)}
Choices = dict[str, list[dict[str, Any]]]


def fit(corpus: Corpus, seed: int) -> Fitted:
    if corpus.name in CHINESE:
        return _fit(corpus, {"characters 1-3": [CHARACTERS]})
    if (
        corpus.name in LONG
    ):  # an n-gram of one document is left out: a third of the memory and the time
        return _fit(corpus, {"words 1-2 of two documents or more": [WORDS | {"min_df": 2}]})
    return _fit(corpus, {"words 1-2": [WORDS], "words and punctuation 1-2": [PUNCTUATION]})


def fit_both(corpus: Corpus, seed: int) -> Fitted:
    return _fit(corpus, {"words 1-2, characters 2-5": [WORDS, INSIDE_WORDS]})


def vectorizer(parts: list[dict[str, Any]]) -> FeatureUnion:
    return FeatureUnion(
        [(str(at), TfidfVectorizer(sublinear_tf=True, **part)) for at, part in enumerate(parts)]
    )


def _fit(corpus: Corpus, choices: Choices) -> Fitted:
    train, valid = corpus.train, corpus.valid
    tried: list[tuple[tuple[float, float], str, float]] = []
    for name, parts in choices.items():
        union = vectorizer(parts)
        x, x_valid = union.fit_transform(train.texts), union.transform(valid.texts)
        model = LogisticRegression(max_iter=1000, warm_start=True)
        scores: list[tuple[float, float]] = []
        for strength in STRENGTHS:
            model.set_params(C=strength).fit(x, train.y)
            scores.append(merit(valid.y, model.predict_log_proba(x_valid)))
            tried.append((scores[-1], name, strength))
            if len(scores) > 2 and max(scores[-2:]) < max(scores[:-2]):
                break  # less and less regularisation has been worse twice
    _, name, strength = max(tried)

    started = time.process_time()
    union = vectorizer(choices[name])
    model = LogisticRegression(C=strength, max_iter=1000).fit(
        union.fit_transform(train.texts), train.y
    )
    seconds = time.process_time() - started
    assert list(model.classes_) == list(range(len(corpus.labels))), "a label has no train row"

    def log_proba(texts: Sequence[str]) -> NDArray[np.float64]:
        return np.asarray(model.predict_log_proba(union.transform(texts)))

    weights = [model.coef_, model.intercept_, *(part.idf_ for _, part in union.transformer_list)]
    vocabulary = sum(
        len(term.encode()) for _, part in union.transformer_list for term in part.vocabulary_
    )
    size = sum(w.nbytes for w in weights) + vocabulary
    return Fitted(
        log_proba, sum(w.size for w in weights), size, f"{name}, C = {strength:g}", seconds
    )
