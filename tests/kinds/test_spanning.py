"""What holds for every network that finds spans: alone or among others, stopped or not, folded or
not, in one window or in several."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from data_contracts.artifacts import WindowingFacts
from data_contracts.errors import NoisefoldError, RecipeError, TrainingError
from data_contracts.kinds.span import Span
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import ExecutionConfig, StatisticsConfig, TrainingConfig
from data_contracts.recipe.tokenizer import WordTokenizer
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.explaining.explain import explain
from lightning_modules.kinds.base import objective_of
from lightning_modules.kinds.judging import judge_of
from lightning_modules.kinds.span.choosing import Decision, answer_of
from lightning_modules.kinds.span.matching import FEATURES, match_features, parts_of
from lightning_modules.kinds.span.objective import SpanModel
from lightning_modules.kinds.span.recurring import cloze, with_recurring
from lightning_modules.kinds.span.windows import windows_of
from lightning_modules.network.network import TextNetwork
from lightning_modules.network.tokenizer import BundleError, load_lossless
from lightning_modules.network.windows import Windowing
from lightning_modules.reparameterizations import fold, set_mode
from lightning_modules.shipping import PACKAGES, shipped_files
from lightning_modules.training.begin import starting_network
from lightning_modules.training.data import TokenData
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
from tasks.vocabulary import train_tokenizer

FACTS = {"script": "Latin", "unanswerable": True}
WINDOWING = Windowing(max_length=40, overlap=8)
ENCODERS: dict[str, dict[str, Any]] = {
    "lstm": {"kind": "lstm", "hidden_size": 16},
    "bilstm": {"kind": "bilstm_attention", "hidden_size": 16},
    "transformer": {
        "kind": "transformer", "num_layers": 1, "num_heads": 2, "feedforward_size": 32,
    },
    "pretrained": {"kind": "pretrained"},
}  # fmt: skip
METHODS = (
    "none", "multiplicative_noise", "gaussian_posterior", "weight_norm", "sigma_reparam", "sparse",
)  # fmt: skip
READER = {"attention_size": 12, "mixed_size": 24, "hidden_size": 12, "rank": 4}
NEAR = {"rtol": 1e-4, "atol": 1e-5}  # of float32 sums in another order
WHO = ["cat", "dog", "bird", "horse", "mouse", "whale", "snake", "tiger"]
WHERE = ["Rome", "New York", "the old barn", "Paris", "a deep cave", "Oslo", "Peru"]


def questions(count: int, seed: int) -> pa.Table:
    """Who lives where, among others; every seventh is about somebody who is not in the text."""
    draw = random.Random(seed)
    rows: list[tuple[str, str, str, int]] = []
    for number in range(count):
        who = draw.sample(WHO, draw.choice([2, 3, 5]))
        where = [draw.choice(WHERE) for _ in who]
        sentences = [f"The {one} lives in {place}." for one, place in zip(who, where, strict=True)]
        context = " ".join(sentences)
        if number % 7 == 6:
            absent = draw.choice([one for one in WHO if one not in who])
            rows.append((f"Where does the {absent} live?", context, "", -1))
            continue
        asked = draw.randrange(len(who))
        start = sum(len(one) + 1 for one in sentences[:asked]) + len(f"The {who[asked]} lives in ")
        rows.append((f"Where does the {who[asked]} live?", context, where[asked], start))
    asked, contexts, answers, starts = zip(*rows, strict=True)
    return pa.table(
        {
            "id": [f"{seed}-{number}" for number in range(count)],
            "question": asked,
            "context": contexts,
            "answer": answers,
            "answer_start": pa.array(starts, pa.float64()),
        }
    )


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of tensors as small as these, further ones are waited for and nothing else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    objective = objective_of(Span(), FACTS)
    train = questions(240, 0)
    made = train_tokenizer(
        WordTokenizer(min_frequency=1), lambda: iter([list(objective.texts(train))])
    )
    (folder / "tokenizer.json").write_text(made.to_str())
    for seed, (split, count) in enumerate({"train": 240, "valid": 42, "test": 42}.items()):
        rows = questions(count, seed)
        given = rows.append_column("split", pa.array([split] * count))
        pq.write_table(objective.encode(given, made, WINDOWING), folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="module")
def backbone(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of a few thousand weights, with the tokenizer of the rows."""
    import transformers

    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(load_lossless((tokens / "tokenizer.json").read_bytes()).get_vocab()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def job(tokens: Path, folder: Path, **changes: Any) -> TrainingJob:
    tokenizer = load_lossless((tokens / "tokenizer.json").read_bytes())
    settings: dict[str, Any] = {
        "tokens": tokens,
        "facts": FACTS,
        "vocab_size": tokenizer.get_vocab_size(),
        "windowing": WindowingFacts.model_validate(WINDOWING),
        "task": task(),
        "model": model("bilstm", "multiplicative_noise"),
        "training": TrainingConfig(max_epochs=2, batch_size=8, learning_rate=0.01),
        "execution": ExecutionConfig(accelerator="cpu"),
        "work": folder / "work",
        "out": folder / "out",
    }
    return TrainingJob(**{**settings, **changes})


def task(**options: Any) -> Span:
    return Span.model_validate({"reader": READER, **options})


def model(encoder: str, method: str, backbone: Path | None = None) -> ModelConfig:
    given: dict[str, Any] = {
        "encoder": dict(ENCODERS[encoder]),
        "reparameterization": {"kind": method},
    }
    if encoder == "pretrained":
        given["encoder"]["path"] = str(backbone)
    else:
        given["embedding"] = {"size": 16, "init_std": 0.3}
    return ModelConfig.model_validate(given)


def start(work: TrainingJob) -> tuple[TextNetwork, SpanModel, TokenData]:
    objective = objective_of(work.task, work.facts)
    assert isinstance(objective, SpanModel)
    objective.tokenizer_json = work.tokenizer_json
    data = TokenData(work.tokens, objective, batch_size=8, seed=0)
    objective.prepare(data.table("train"))
    torch.manual_seed(0)
    network, _ = starting_network(work, objective, data, lambda event: None)
    return network, objective, data


@pytest.fixture(scope="module")
def bundle(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One that has learnt where animals live, folded."""
    folder = tmp_path_factory.mktemp("trained")
    training = TrainingConfig(max_epochs=14, patience=14, batch_size=8, learning_rate=0.01)
    fit(job(tokens, folder, training=training, model=model("bilstm", "none")), lambda event: None)
    return Bundle.load(folder / "out" / "bundle")


def asked(rows: pa.Table) -> dict[str, list[str]]:
    return {name: rows[name].to_pylist() for name in ("question", "context")}


# --- what it answers ---


def test_a_small_model_learns_who_lives_where(bundle: Bundle) -> None:
    rows = questions(60, 11)
    answers = bundle.predict(asked(rows))
    right = [
        (said or "") == answer
        for said, answer in zip(answers["answer"], rows["answer"].to_pylist(), strict=True)
    ]
    assert np.mean(right) > 0.8
    for row in range(60):
        said, start = answers["answer"][row], answers["answer_start"][row]
        if said is None:
            assert start is None and answers["outcome"][row] == "unanswerable"
        else:
            context = rows["context"][row].as_py()
            assert context[start : start + len(said)] == said
            assert answers["outcome"][row] == "answered"
    assert all(0 <= one <= 1 for one in answers["probability"])


def test_an_answer_is_the_same_alone_and_in_any_batch_order_and_split(bundle: Bundle) -> None:
    """To the bit: probabilities, too."""
    rows = questions(24, 12)
    together = bundle.predict(asked(rows))
    for row in range(0, 24, 5):
        alone = bundle.predict(asked(rows.slice(row, 1)))
        assert {name: values[0] for name, values in alone.items()} == {
            name: values[row] for name, values in together.items()
        }
    backwards = bundle.predict(asked(rows.take(list(range(24))[::-1])))
    assert {name: values[::-1] for name, values in backwards.items()} == together


def test_an_evaluation_finds_what_is_served(bundle: Bundle, tokens: Path) -> None:
    """The same spans and probabilities, from token tables and from texts."""
    judge = judge_of(task(), FACTS, StatisticsConfig())
    rows = questions(42, 2)
    scored = judge.score(bundle, pq.read_table(tokens / "test.parquet"))
    fitted = judge.fitted(rows, scored)
    answers = fitted.answers(rows, scored)
    served = Bundle.load(_saved(bundle, tokens.parent / "served", **fitted.facts()))
    answered = served.predict(asked(rows))
    assert served.network.head.differences(served.facts, answers.to_pydict(), answered) == [
        0.0
    ] * len(rows)
    assert answers["predicted"].to_pylist() == answered["answer"]


def _saved(bundle: Bundle, folder: Path, **measured: Any) -> Path:
    facts = {**bundle.facts, **task().served_facts(measured)}
    save_bundle(
        folder,
        bundle.network,
        tokenizer_json=bundle.tokenizer_json,
        windowing=bundle.windowing,
        facts=facts,
    )
    return folder


def test_a_promise_of_precision_keeps_answers_back(bundle: Bundle, tokens: Path) -> None:
    rows = questions(42, 1)
    scored = judge_of(task(), FACTS, StatisticsConfig()).score(
        bundle, pq.read_table(tokens / "valid.parquet")
    )
    promising = judge_of(task(precision=0.9), FACTS, StatisticsConfig()).fitted(rows, scored)
    kept = promising.evidence(rows, scored).point()
    assert kept["answered"] == 0 or kept["right_of_answered"] >= 0.9
    never = judge_of(task(precision=0.999), FACTS, StatisticsConfig()).fitted(rows, scored)
    assert never.evidence(rows, scored).point()["answered"] == 0
    assert "task.precision 0.999" in never.warnings({})[0]
    answers = never.answers(rows, scored)
    assert {*answers["outcome"].to_pylist()} <= {"abstained", "unanswerable"}
    assert not answers["probability"].null_count
    blocks = never.tried(bundle, rows, tokens).report(rows, scored, {})
    assert any("none is given" in getattr(block, "text", "") for block in blocks)


def test_a_context_of_several_windows_has_one_answer(bundle: Bundle) -> None:
    """The answer is found wherever it stands, and the offset is of the whole text."""
    filler = "The sea is blue and wide and the sky is high above. " * 6
    for before, behind in ((filler, ""), ("", filler), (filler, filler)):
        context = f"{before}The cat lives in Rome. {behind}"
        answers = bundle.predict({"question": ["Where does the cat live?"], "context": [context]})
        (said,), (start,) = answers["answer"], answers["answer_start"]
        assert context[start : start + len(said)] == said
        assert said == "Rome"


def test_a_context_of_white_space_has_no_answer(bundle: Bundle) -> None:
    answers = bundle.predict({"question": ["Where?"], "context": [" \r\n "]})
    assert answers["answer"] == [None] and answers["probability"] == [0.0]


def test_the_span_of_the_highest_expected_f1_overlaps_what_is_likely(bundle: Bundle) -> None:
    rows = questions(30, 13)
    head = bundle.network.head
    every = windows_of(
        bundle.lossless_tokenizer, bundle.windowing, head.sep_id, *asked(rows).values()
    )
    for some in every:
        log_proba = head.log_proba(bundle, some)
        likeliest, best = (answer_of(log_proba, some, one) for one in ("likeliest", "expected_f1"))
        assert best.signals[0] <= likeliest.signals[0] + 1e-12
        assert best.signals[1] == likeliest.signals[1]
        assert best.end > best.start
        assert best.signals[2] <= 1e-9  # no more than all


# --- what the network says ---


@pytest.mark.parametrize("encoder", ENCODERS)
def test_spans_and_none_of_them_add_up_to_one(
    encoder: str, tokens: Path, tmp_path: Path, backbone: Path
) -> None:
    network, objective, data = start(job(tokens, tmp_path, model=model(encoder, "none", backbone)))
    network.eval()
    table = data.table("test")
    batch = objective.batch(table, np.arange(6))
    log_proba = network(batch["input_ids"], batch["lengths"])
    most = objective.max_answer
    assert log_proba.shape == (6, 1 + batch["input_ids"].shape[1] * most)
    torch.testing.assert_close(log_proba.exp().sum(dim=1), torch.ones(6))
    # Outside the context, and over its end, there is nothing.
    spans = log_proba[:, 1:].exp().view(6, -1, most)
    for row in range(6):
        begin, length = int(batch["context"][row]), int(batch["lengths"][row])
        assert spans[row, :begin].sum() == 0 and spans[row, length:].sum() == 0
        assert all(spans[row, length - 1 - back, back + 1 :].sum() == 0 for back in range(most))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_loss_of_a_batch_is_the_sum_of_those_of_its_rows(
    encoder: str, tokens: Path, tmp_path: Path, backbone: Path
) -> None:
    network, objective, data = start(job(tokens, tmp_path, model=model(encoder, "none", backbone)))
    network.eval()
    table = data.table("train")
    rows = np.array([0, 3, 17, 40, 41])
    whole = objective.loss(network, objective.batch(table, rows))
    single = [objective.loss(network, objective.batch(table, rows[n : n + 1])) for n in range(5)]
    torch.testing.assert_close(whole.nats, sum(one.nats for one in single), **NEAR)
    assert whole.terms == sum(one.terms for one in single) == 5
    assert objective.terms(table) == len(table)


def test_matches_are_those_that_a_person_counts() -> None:
    sep = 9
    ids = torch.tensor([[1, 2, 3, sep, 5, 1, 2, 3, 7, 2, 3, 0, 0], [4, sep, 4, 4, *[0] * 9]])
    lengths = torch.tensor([11, 4])
    parts = parts_of(ids, lengths, sep, 0)
    idf = torch.linspace(0.1, 1.0, 10)[ids]
    found = match_features(ids, parts, idf)
    assert found.shape == (2, 13, FEATURES)
    one, two, three, four, rare = found[0, :, :5].T
    assert one.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0]
    assert two.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0]
    assert three.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert four.sum() == 0
    torch.testing.assert_close(rare, one * idf[0])
    assert found[1, :, 0].tolist() == [0, 0, 1, 1, *[0] * 9] and found[1, :, 1].sum() == 0
    near = [sum(float(rare[max(0, t - 4) : t + 5].sum()) for t in (place,)) for place in range(13)]
    context = torch.tensor([4 <= t < 11 for t in range(13)])
    torch.testing.assert_close(found[0, :, 5], torch.tensor(near) / 9 * context)


def test_a_row_without_a_separator_is_a_context() -> None:
    parts = parts_of(torch.tensor([[1, 2, 3]]), torch.tensor([3]), 9, 1)
    assert parts.context_BT.tolist() == [[False, True, False]]


# --- methods, folding, killing ---


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_it_and_folds_into_plain_layers(
    method: str, tokens: Path, tmp_path: Path
) -> None:
    work = job(tokens, tmp_path, model=model("bilstm", method))
    fit(work, lambda event: None)
    bundle = Bundle.load(tmp_path / "out" / "bundle")
    assert {type(one).__module__.partition(".")[0] for one in bundle.network.modules()} <= {
        "torch", "lightning_modules",
    }  # fmt: skip
    network, objective, data = start(work)
    batch = objective.batch(data.table("valid"), np.arange(8))
    objective.loss(network, batch).nats.backward()
    set_mode(network, "mean")
    with torch.inference_mode():
        mean = network(batch["input_ids"], batch["lengths"])
        folded = fold(network).eval()(batch["input_ids"], batch["lengths"])
    torch.testing.assert_close(mean, folded, rtol=1e-3, atol=1e-3)


def test_low_rank_trains_factors_beside_a_backbone(
    tokens: Path, tmp_path: Path, backbone: Path
) -> None:
    work = job(tokens, tmp_path, model=model("pretrained", "low_rank", backbone))
    network, _, _ = start(work)
    trained = {name for name, one in network.named_parameters() if one.requires_grad}
    assert any(name.startswith("head.reader") for name in trained)
    assert not any("word_embeddings.weight" in name for name in trained)
    fit(work, lambda event: None)
    answers = Bundle.load(tmp_path / "out" / "bundle").predict(asked(questions(3, 5)))
    assert len(answers["answer"]) == 3


def test_low_rank_without_a_champion_is_refused(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises((RecipeError, TrainingError), match=r"low_rank|weights"):
        start(job(tokens, tmp_path, model=model("bilstm", "low_rank")))


CHILD = """
import os, signal, sys
from pathlib import Path
from lightning_modules.training import recorder
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
recorder.PROGRESS_SECONDS = 0.0
def die(event):
    if event["event"] == "progress" and event["step"] == 43:
        os.kill(os.getpid(), signal.SIGKILL)
fit(TrainingJob.read(Path(sys.argv[1])), die)
"""


def test_killed_in_mid_epoch_it_ends_where_an_unbroken_one_ends(
    tokens: Path, tmp_path: Path
) -> None:
    """Also with rows that are made up by chance, which is of the step."""
    changes = {
        "task": task(recurring=0.5),
        "execution": ExecutionConfig(accelerator="cpu", checkpoint_every_steps=5),
    }
    unbroken = fit(job(tokens, tmp_path / "whole", **changes), lambda event: None)
    assert unbroken.steps // 2 not in range(40, 44), "step 43 is in mid-epoch"
    work = job(tokens, tmp_path / "killed", **changes)
    (tmp_path / "killed").mkdir()
    work.write(tmp_path / "job.json")
    command = [sys.executable, "-c", CHILD, str(tmp_path / "job.json")]
    child = subprocess.run(command, capture_output=True, timeout=180, env={**os.environ})
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    heard: list[dict[str, Any]] = []
    again = fit(work, heard.append)
    assert heard[0] == {"event": "resumed", "step": 40, "total_steps": unbroken.steps}
    assert again == unbroken


# --- rows that nobody wrote ---


def test_a_span_that_stands_twice_is_asked_for_by_what_stands_round_one_of_them() -> None:
    words = "a b c d Anna Bell e f g h i j k Anna Bell l m n o p q r s".split()
    number = {word: place for place, word in enumerate(dict.fromkeys(words))}
    names = {place: word for word, place in number.items()}
    context = np.array([number[word] for word in words])
    torch.manual_seed(0)
    for _ in range(50):
        made = cloze(context, np.ones(len(number)), -1)
        assert made is not None
        answer = [names[one] for one in made.context[made.start : made.end + 1]]
        assert answer == ["Anna", "Bell"]
        assert made.question.count(-1) == 1
        asked = [names.get(one, "Anna Bell") for one in made.question]
        # Taken out of the text, whose other words stay in their order.
        assert " ".join(asked) in " ".join(words)
        assert len(made.context) + len(made.question) == len(words) - 1
    assert cloze(context[:4], np.ones(len(number)), -1) is None


@pytest.mark.parametrize("encoder", ["bilstm", "pretrained"])
def test_made_up_rows_stand_behind_those_that_were_given(
    encoder: str, tokens: Path, tmp_path: Path, backbone: Path
) -> None:
    """The same for a seed, and what is told is the loss of the given rows."""
    work = job(tokens, tmp_path, model=model(encoder, "none", backbone), task=task(recurring=0.5))
    network, objective, data = start(work)
    network.eval()
    batch = objective.batch(data.table("train"), np.arange(8))
    torch.manual_seed(1)
    one = objective.loss(network, batch)
    torch.manual_seed(1)
    again = objective.loss(network, batch)
    assert torch.equal(one.nats, again.nats) and one.nll is not None
    assert 8 < one.terms <= 12
    objective.task = task()
    given = objective.loss(network, batch)
    torch.testing.assert_close(one.nll / one.terms, given.nats.detach() / 8, **NEAR)
    made = with_recurring(batch, 2.0, np.ones(1000), objective.mask_id)
    for row in range(8, len(made["lengths"])):
        ids, begin = made["input_ids"][row].tolist(), int(made["context"][row])
        assert ids[begin - 1] == objective.sep_id and ids.index(objective.sep_id) == begin - 1
        assert begin <= made["start"][row] <= made["end"][row] < made["lengths"][row]
        assert objective.mask_id in ids[:begin]


# --- rows ---


def test_a_window_that_cuts_an_answer_is_not_learnt_from(tokens: Path) -> None:
    tokenizer = load_lossless((tokens / "tokenizer.json").read_bytes())
    objective = objective_of(task(), FACTS)
    context = "cat " * 30 + "Rome Paris Oslo Peru " + "cat " * 40
    rows = pa.table(
        {
            "id": ["a"],
            "question": ["Where ?"],
            "context": [context],
            "answer": ["Rome Paris Oslo Peru"],
            "answer_start": [120.0],
        }
    )
    for split in ("train", "test"):
        given = rows.append_column("split", pa.array([split]))
        table = objective.encode(given, tokenizer, Windowing(36, 6)).to_pydict()
        assert table["window"] == list(range(len(table["window"])))
        assert len(table["window"]) == (2 if split == "train" else 3)
        whole = [n for n, first in enumerate(table["start"]) if first >= 0]
        assert len(whole) == 1
        ids = table["input_ids"][whole[0]]
        answer = ids[table["start"][whole[0]] : table["end"][whole[0]] + 1]
        assert tokenizer.decode(answer) == "rome paris oslo peru"


def test_an_answer_longer_than_any_window_is_learnt_as_far_as_one_goes(tokens: Path) -> None:
    tokenizer = load_lossless((tokens / "tokenizer.json").read_bytes())
    rows = pa.table(
        {
            "id": ["a"],
            "question": ["Where ?"],
            "context": ["Rome " * 60],
            "answer": [("Rome " * 50).strip()],
            "answer_start": [25.0],
            "split": ["train"],
        }
    )
    table = objective_of(task(), FACTS).encode(rows, tokenizer, Windowing(24, 4)).to_pydict()
    assert len(table["window"]) == 1  # that where it begins
    assert table["start"][0] >= 0 and table["end"][0] == len(table["input_ids"][0]) - 1


def test_rows_without_any_answer_are_refused(tokens: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir()
    table = pq.read_table(tokens / "train.parquet")
    none = pa.array([-1] * len(table), pa.int32())
    for name in ("start", "end"):
        table = table.set_column(table.column_names.index(name), name, none)
    pq.write_table(table, folder / "train.parquet")
    (folder / "tokenizer.json").write_bytes((tokens / "tokenizer.json").read_bytes())
    with pytest.raises(TrainingError, match="No row of the train split has an answer"):
        start(job(folder, tmp_path))


def test_idf_counts_the_contexts_that_a_token_stands_in(tokens: Path, tmp_path: Path) -> None:
    network, _, data = start(job(tokens, tmp_path))
    tokenizer = load_lossless((tokens / "tokenizer.json").read_bytes())
    idf = network.head.idf
    rare, common = (idf[tokenizer.token_to_id(word)] for word in ("whale", "lives"))
    unseen = idf[tokenizer.token_to_id("live")]  # of questions alone
    assert common < rare < unseen
    assert float(unseen) == pytest.approx(1) and float(common) == pytest.approx(0, abs=0.01)
    assert data.table("train").columns.keys() == {
        "context", "start", "end", "opening", "closing",
    }  # fmt: skip


def test_a_champion_of_the_same_sizes_is_begun_with(
    bundle: Bundle, tokens: Path, tmp_path: Path
) -> None:
    work = job(
        tokens, tmp_path, model=model("bilstm", "none"), start=_saved(
            bundle, tmp_path / "champion", decision=bundle.facts["decision"]
        )
    )  # fmt: skip
    network, _, _ = start(work)
    torch.testing.assert_close(network.head.mix.weight, bundle.network.head.mix.weight)


# --- recipes and bundles ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"ngrams": {}}}, "model.ngrams are one vector of a whole document"),
        ({"distillation": {"teacher": "other"}}, "task.kind span learns from no teacher"),
        ({"window": {"max_length": 8, "overlap": 2}}, "window.max_length is 8"),
        ({"task": {"kind": "span", "precision": 1}}, "precision"),
        ({"task": {"kind": "span", "choose": "any"}}, "choose"),
    ],
)
def test_a_recipe_that_cannot_answer_is_refused(changes: dict[str, Any], said: str) -> None:
    from data_contracts.recipe.reading import parse_recipe

    recipe = {
        "name": "passages",
        "task": {"kind": "span"},
        "source": {"kind": "files", "url": "rows.csv"},
        "contract": {"kind": "span", "name": "passages"},
        **changes,
    }
    with pytest.raises(RecipeError, match=said):
        parse_recipe(recipe, origin="here")


def test_what_ships_is_read_by_torch_and_tokenizers_alone() -> None:
    names = {file.name for file in shipped_files("span")}
    assert {"head.py", "matching.py", "choosing.py", "windows.py"} <= names
    assert not {"scores.py", "judge.py", "calibration.py"} & names
    assert "scipy" not in PACKAGES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decision", {"right": [0], "answerable": [0, 1]}),
        ("choose", "any"),
        ("script", 3),
        ("unanswerable", "no"),
    ],
)
def test_a_bundle_whose_facts_cannot_be_is_refused(
    name: str, value: Any, bundle: Bundle, tmp_path: Path
) -> None:
    one = copy.copy(bundle)
    one.facts = {**bundle.facts, name: value}
    save_bundle(
        tmp_path,
        one.network,
        tokenizer_json=one.tokenizer_json,
        windowing=one.windowing,
        facts=one.facts,
    )
    with pytest.raises(BundleError, match=name):
        Bundle.load(tmp_path)


def test_a_decision_stands_in_the_bundle_as_json(bundle: Bundle) -> None:
    stated = json.loads(json.dumps(bundle.facts["decision"]))
    assert Decision.of(stated) == Decision()


# --- what carried a span


def test_the_words_that_carried_a_span_are_told(bundle: Bundle) -> None:
    """Who is asked for stands in the question and in the context, beside the answer."""
    rows = questions(40, 12).to_pylist()
    carried = []
    for row in rows[:6]:
        question = {name: row[name] for name in ("question", "context")}
        found = explain(bundle, question)
        answer = bundle.predict({name: [text] for name, text in question.items()})
        if answer["answer"][0] is not None:
            assert found.target == answer["answer"][0]
        total = sum(part.contribution for part in found.parts)
        assert total == pytest.approx(found.score - found.baseline - found.error, abs=1e-6)
        assert abs(found.error) < 0.02 * sum(abs(part.contribution) for part in found.parts)
        who = row["question"].split()[3]
        strongest = {part.text for part in found.strongest[:5]}
        carried.append(who in strongest or found.target.split()[0] in strongest)
    assert sum(carried) >= 4


def test_a_span_of_a_long_context_is_explained_in_its_window(bundle: Bundle) -> None:
    padding = "The tiger lives in Oslo. " * 20
    question = {
        "question": "Where does the cat live?",
        "context": f"{padding}The cat lives in Peru. {padding}",
    }
    found = explain(bundle, question, "Peru")
    start = question["context"].index("Peru")
    assert found.target == "Peru"
    near = [part for part in found.parts if part.column == "context" and part.contribution]
    assert near and all(abs(part.start - start) < 300 for part in near)
    assert found.deletion is not None
    with pytest.raises(NoisefoldError, match="is no span of the context"):
        explain(bundle, question, "Madrid")
