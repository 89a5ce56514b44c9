"""Three libraries of Bayesian layers in one small classifier: word embedding → LSTM → mean over
words → Linear.

- bayesian-torch: LSTM and Linear with Gaussian weights (`LSTMReparameterization`,
    `LinearReparameterization`);
- blitz: LSTM and Linear likewise (`BayesianLSTM`, `BayesianLinear`), `sample_elbo` with 3 samples
    as its readme has it;
- torch-uncertainty: it has no Bayesian LSTM, so torch's, then two `BayesLinear`; `ELBOLoss` with 3
    samples.

Priors and initial values are the libraries' own. loss = mean NLL + weight * KL; learning rate,
weight and epoch are chosen on validation. Predictions average the probabilities of 16 draws. No
further setting is tried once the search has taken 8 CPU minutes, and `chosen` says so.
"""

from __future__ import annotations

import copy
import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers.data import Corpus, Fitted, merit

EMBEDDING, HIDDEN, BATCH, LONGEST, EPOCHS, DRAWS = 64, 64, 64, 64, 15, 16
RATES, KL_WEIGHTS = (5e-3, 2e-3), (1.0, 0.1)  # the latter in units of 1 / N
CPU_SECONDS = 480.0


class Classifier(nn.Module):
    """input_ids (B, T), 0 where padded → logits (B, C)."""

    def __init__(self, words: int, recurrent: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, EMBEDDING, padding_idx=0)
        self.recurrent, self.head = recurrent, head

    def forward(self, input_ids: Tensor) -> Tensor:
        real = (input_ids != 0).unsqueeze(-1).float()
        states = self.recurrent(self.embedding(input_ids))[0]
        return self.head((states * real).sum(dim=1) / real.sum(dim=1))


Loss = Callable[[Any, Tensor, Tensor, float], Tensor]


def fit_bayesian_torch(corpus: Corpus, seed: int) -> Fitted:
    from bayesian_torch.layers import LinearReparameterization, LSTMReparameterization

    class Head(LinearReparameterization):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input, return_kl=False)

    def build(words: int, classes: int) -> nn.Module:
        return Classifier(words, LSTMReparameterization(EMBEDDING, HIDDEN), Head(HIDDEN, classes))

    def loss(model: Any, input_ids: Tensor, y: Tensor, weight: float) -> Tensor:
        # Of each layer once: the sum that its LSTM's forward returns has the KL once per time step.
        kl = model.recurrent.kl_loss() + model.head.kl_loss()
        return F.cross_entropy(model(input_ids), y) + weight * kl

    return _fit(corpus, seed, build, loss)


def fit_blitz(corpus: Corpus, seed: int) -> Fitted:
    from blitz.modules import BayesianLinear, BayesianLSTM
    from blitz.utils import variational_estimator

    bayesian = variational_estimator(type("BayesianClassifier", (Classifier,), {}))

    def build(words: int, classes: int) -> nn.Module:
        return bayesian(words, BayesianLSTM(EMBEDDING, HIDDEN), BayesianLinear(HIDDEN, classes))

    def loss(model: Any, input_ids: Tensor, y: Tensor, weight: float) -> Tensor:
        return model.sample_elbo(
            input_ids, y, F.cross_entropy, sample_nbr=3, complexity_cost_weight=weight
        )

    return _fit(corpus, seed, build, loss)


def fit_torch_uncertainty(corpus: Corpus, seed: int) -> Fitted:
    from torch_uncertainty.layers.bayesian import BayesLinear
    from torch_uncertainty.losses import ELBOLoss

    def build(words: int, classes: int) -> nn.Module:
        head = nn.Sequential(BayesLinear(HIDDEN, HIDDEN), nn.ReLU(), BayesLinear(HIDDEN, classes))
        return Classifier(words, nn.LSTM(EMBEDDING, HIDDEN, batch_first=True), head)

    def loss(model: Any, input_ids: Tensor, y: Tensor, weight: float) -> Tensor:
        return ELBOLoss(model, nn.CrossEntropyLoss(), kl_weight=weight, num_samples=3)(input_ids, y)

    return _fit(corpus, seed, build, loss)


# --- the common part ------------------------------------------------------------------------------


def _fit(corpus: Corpus, seed: int, build: Callable[[int, int], nn.Module], loss: Loss) -> Fitted:
    torch.set_num_threads(1)
    counts = Counter(word for text in corpus.train.texts for word in split(text))
    number = {word: at for at, word in enumerate(counts, start=2)}  # 0 padding, 1 unknown

    def encode(texts: Sequence[str]) -> list[Tensor]:
        return [
            torch.tensor([number.get(word, 1) for word in split(text)[:LONGEST]] or [1])
            for text in texts
        ]

    train, valid = encode(corpus.train.texts), encode(corpus.valid.texts)
    started, tried = time.process_time(), []
    grid = list(itertools.product(RATES, KL_WEIGHTS))
    for rate, weight in grid:
        if time.process_time() - started > CPU_SECONDS:
            break
        torch.manual_seed(seed)
        model = build(len(number) + 2, len(corpus.labels))
        found = _train(model, loss, rate, weight / len(train), train, valid, corpus, seed)
        tried.append((*found, rate, weight))
    _, epoch, seconds, state, rate, weight = max(tried, key=lambda one: one[0])
    model = build(len(number) + 2, len(corpus.labels))
    model.load_state_dict(state)
    torch.manual_seed(seed)

    def log_proba(texts: Sequence[str]) -> NDArray[np.float64]:
        return _predict(model, encode(texts), DRAWS)

    size = {w.data_ptr(): w for w in model.parameters()}  # blitz names each of its tensors twice
    chosen = f"lr {rate:g}, KL weight {weight:g} / N, epoch {epoch} of {EPOCHS}"
    if len(tried) < len(grid):
        chosen += f"; stopped after {len(tried)} of {len(grid)} settings"
    return Fitted(
        log_proba,
        sum(w.numel() for w in size.values()),
        sum(w.nbytes for w in size.values()),
        chosen,
        seconds,
    )


def split(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def pad(rows: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def _train(
    model: nn.Module,
    loss: Loss,
    rate: float,
    weight: float,
    train: list[Tensor],
    valid: list[Tensor],
    corpus: Corpus,
    seed: int,
) -> tuple[tuple[float, float], int, float, dict[str, Tensor]]:
    """(validation merit, epoch, CPU seconds of the training steps, state) of the best epoch."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    shuffle, y, seconds, best = (
        np.random.default_rng(seed),
        torch.from_numpy(corpus.train.y),
        0.0,
        None,
    )
    for epoch in range(1, EPOCHS + 1):
        started = time.process_time()
        for batch in np.array_split(shuffle.permutation(len(train)), -(-len(train) // BATCH)):
            optimizer.zero_grad()
            loss(model, pad([train[row] for row in batch]), y[batch], weight).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        seconds += time.process_time() - started
        score = merit(corpus.valid.y, _predict(model, valid, draws=4))
        if best is None or score > best[0]:
            best = score, epoch, copy.deepcopy(model.state_dict())
    assert best is not None
    return best[0], best[1], seconds, best[2]


def _predict(model: nn.Module, rows: Sequence[Tensor], draws: int) -> NDArray[np.float64]:
    """log of the mean probability over draws, (N, C)."""
    out: list[Tensor] = []
    with torch.no_grad():
        for at in range(0, len(rows), 256):
            input_ids = pad(rows[at : at + 256])
            logits_SBC = torch.stack([model(input_ids) for _ in range(draws)]).double()
            out.append(logits_SBC.log_softmax(-1).logsumexp(0) - np.log(draws))
    return torch.cat(out).numpy()
