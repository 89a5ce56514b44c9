"""One bootstrap for every kind, against figures of the drawn rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torchmetrics.functional.text import sacre_bleu_score

from data_contracts.kinds.base import Metric
from lightning_modules import evidence as ev

PERPLEXITY = Metric("perplexity", "perplexity", "lower")


def of_texts(rows: int, seed: int, nats: float = 2.0) -> ev.Evidence:
    """A language model's: nats, tokens and bytes of each text."""
    rng = np.random.default_rng(seed)
    tokens = np.random.default_rng(0).integers(5, 60, rows)  # of the texts, not of the model
    values = np.stack([rng.gamma(20, nats / 20, rows) * tokens, tokens, 4 * tokens], axis=1)
    return ev.Evidence(values, of_sums)


def of_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    nats, tokens, characters = sums.T
    return {
        "perplexity": np.exp(nats / tokens),
        "bits_per_byte": nats / np.log(2) / characters,
    }


def test_intervals_are_quantiles_of_the_figure_of_drawn_rows() -> None:
    evidence = of_texts(70, seed=1)
    found = ev.figures(evidence, samples=80, confidence=0.9, seed=3)
    rows = np.random.default_rng(3).integers(0, 70, (80, 70))
    for name in ("perplexity", "bits_per_byte"):
        values = [of_sums(evidence.values[chosen].sum(axis=0)[None])[name][0] for chosen in rows]
        low, high = np.quantile(values, [0.05, 0.95])
        whole = of_sums(evidence.values.sum(axis=0)[None])[name][0]
        assert (found[name].value, found[name].low, found[name].high) == pytest.approx(
            (whole, low, high)
        )
    assert evidence.point() == {name: each.value for name, each in found.items()}


def test_sparse_evidence_gives_what_dense_evidence_gives() -> None:
    dense = of_texts(200, seed=2)
    thin = ev.Evidence(sparse.csr_matrix(dense.values), of_sums)
    one, other = ev.figures(dense, 100), ev.figures(thin, 100)
    for name in one:
        assert one[name].model_dump() == pytest.approx(other[name].model_dump())


def test_resamples_that_do_not_fit_at_once_are_the_same_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = ev.figures(of_texts(90, seed=4), 50)
    monkeypatch.setattr(ev, "_CHUNK", 200)
    assert ev.figures(of_texts(90, seed=4), 50) == whole


def test_paired_difference_is_narrower_than_that_of_two_and_has_a_sign() -> None:
    one, worse = of_texts(500, seed=5), of_texts(500, seed=5, nats=2.1)
    found = ev.paired(worse, one, PERPLEXITY)
    assert found.low > 0, "the second's perplexity is lower"
    assert found.value == pytest.approx(worse.point()["perplexity"] - one.point()["perplexity"])
    alone = ev.figures(one, 2000)["perplexity"]
    assert found.high - found.low < alone.high - alone.low
    with pytest.raises(ValueError, match="the same rows"):
        ev.paired(one, of_texts(499, seed=5), PERPLEXITY)


@pytest.mark.parametrize("thin", [False, True])
def test_slices_have_the_figures_of_their_rows(thin: bool, monkeypatch) -> None:
    evidence = of_texts(60, seed=6)
    if thin:
        evidence = ev.Evidence(sparse.csr_matrix(evidence.values), of_sums)
        monkeypatch.setattr(ev, "_CHUNK", 3)  # a slice at a time
    slices = [("zh", None, "en")[row % 3] for row in range(60)]
    found = ev.by_slice(evidence, slices, PERPLEXITY)
    assert list(found) == ["en", "zh", None]
    for name, (value, rows) in found.items():
        sums = evidence.values[[each == name for each in slices]].sum(axis=0)
        assert value == pytest.approx(of_sums(np.asarray(sums).reshape(1, -1))["perplexity"][0])
        assert rows == 20
    with pytest.raises(ValueError, match="2 slices for 60 rows"):
        ev.by_slice(evidence, ["a", "b"], PERPLEXITY)


def test_a_part_that_was_not_measured_leaves_its_mean_open() -> None:
    values = np.tile([1.0, 0.6], (50, 1))
    evidence = ev.Evidence(
        values, lambda sums: {"mean": sums[:, 1] / sums[:, 0]}, measured={"mean": 0.75}
    )
    mean = ev.figures(evidence, 50)["mean"]
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.6, 0.75 * 0.6, 0.75 * 0.6 + 0.25))


def test_a_figure_that_no_resample_can_tell_is_anything_from_0_to_1() -> None:
    found = ev.interval(np.array([0.4, np.nan, np.nan]), 0.95)
    assert (found.value, found.low, found.high) == (0.4, 0.0, 1.0)


def test_bleu_is_a_function_of_sums() -> None:
    """Lengths, matches and totals of each sentence add up to the corpus score of sacreBLEU."""
    rng = np.random.default_rng(7)
    words = np.array([f"w{number}" for number in range(40)])
    truth = [rng.choice(words, rng.integers(5, 20)) for _ in range(300)]
    said = [np.where(rng.random(len(t)) < 0.8, t, rng.choice(words, len(t))) for t in truth]

    def row(one: np.ndarray, true: np.ndarray) -> list[float]:
        matches, totals = [], []
        for n in range(1, 5):
            grams = [
                [tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for text in (one, true)
            ]
            matches.append(sum(min(grams[0].count(g), grams[1].count(g)) for g in set(grams[0])))
            totals.append(len(grams[0]))
        return [len(one), len(true), *matches, *totals]

    def bleu(sums: np.ndarray) -> dict[str, np.ndarray]:
        precision = np.log(sums[:, 2:6] / sums[:, 6:10]).mean(axis=1)
        brevity = np.minimum(1, np.exp(1 - sums[:, 1] / sums[:, 0]))
        return {"bleu": brevity * np.exp(precision)}

    values = np.array([row(one, true) for one, true in zip(said, truth, strict=True)], float)
    found = ev.figures(ev.Evidence(values, bleu), 200)["bleu"]
    texts = [" ".join(one) for one in said]
    reference = sacre_bleu_score(texts, [[" ".join(t)] for t in truth], tokenize="none")
    assert isinstance(reference, torch.Tensor)
    assert found.value == pytest.approx(float(reference), abs=1e-6)
    assert found.low < found.value < found.high


def test_groups_are_drawn_whole() -> None:
    """As if each group were one row of its sums; what is told of the rows as they are is the
    same."""
    rows = of_texts(90, seed=4)
    groups = np.random.default_rng(5).integers(0, 12, 90)
    grouped = ev.Evidence(rows.values, of_sums, groups=groups)
    sums = np.stack([rows.values[groups == one].sum(axis=0) for one in range(12)])
    for name, expected in ev.figures(ev.Evidence(sums, of_sums), 200).items():
        found = ev.figures(grouped, 200)[name]
        assert (found.value, found.low, found.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
    assert grouped.point() == rows.point() and grouped.rows == 90
    thin = ev.Evidence(sparse.csr_matrix(rows.values), of_sums, groups=groups)
    one, other = ev.figures(thin, 50), ev.figures(grouped, 50)
    assert [one[name].low for name in one] == pytest.approx([other[name].low for name in one])
    better = ev.Evidence(rows.values * [0.5, 1, 1], of_sums, groups=groups)
    difference = ev.paired(better, grouped, PERPLEXITY, samples=200)
    assert difference.high < 0
