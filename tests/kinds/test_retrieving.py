"""What holds for every network that finds answers: alone or among others, stopped or not, folded or
not, the same answers; and what its words, its probability and its files are."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from data_contracts.artifacts import WindowingFacts
from data_contracts.errors import NoisefoldError, RecipeError, TrainingError
from data_contracts.kinds.retrieve import Retrieve
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import ExecutionConfig, StatisticsConfig, TrainingConfig
from data_contracts.recipe.tokenizer import BpeTokenizer
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.explaining.asked import tokens_of
from lightning_modules.explaining.explain import explain
from lightning_modules.kinds.answering import AskedWronglyError
from lightning_modules.kinds.base import objective_of
from lightning_modules.kinds.judging import judge_of
from lightning_modules.kinds.retrieve.abstention import Asked, fitted, probabilities
from lightning_modules.kinds.retrieve.answers import FOUND_BY, TEXTS
from lightning_modules.kinds.retrieve.explained import shared_by_token
from lightning_modules.kinds.retrieve.figures import figures_of, ranks, reciprocal
from lightning_modules.kinds.retrieve.indexing import read_answers
from lightning_modules.kinds.retrieve.objective import RetrievalModel
from lightning_modules.kinds.retrieve.terms import Postings, pieces, words
from lightning_modules.kinds.retrieve.towers import towers
from lightning_modules.network.tokenizer import BundleError, load_tokenizer
from lightning_modules.network.windows import Windowing
from lightning_modules.reparameterizations import fold, redraw, set_mode
from lightning_modules.selective import threshold_of
from lightning_modules.training.begin import starting_network
from lightning_modules.training.data import TokenData
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
from tasks.vocabulary import train_tokenizer

FACTS = {"script": "Latin", "pages": True, "links": True}
WINDOWING = Windowing(max_length=24, overlap=0)
ENCODERS: dict[str, dict[str, Any]] = {
    "tanh": {"kind": "tanh", "hidden_size": 24},
    "lstm": {"kind": "lstm", "hidden_size": 16},
    "bilstm": {"kind": "bilstm_attention", "hidden_size": 16},
    "transformer": {
        "kind": "transformer", "num_layers": 1, "num_heads": 2, "feedforward_size": 32,
    },
}  # fmt: skip
METHODS = (
    "none", "multiplicative_noise", "gaussian_posterior", "weight_norm", "sigma_reparam", "sparse",
)  # fmt: skip
NEAR = {"rtol": 1e-4, "atol": 1e-5}  # of float32 sums in another order
THINGS = [f"{one}{two}" for one in ("bel", "kor", "mun", "sap", "tir") for two in (
    "ando", "eska", "ifer", "ogul", "uvat", "ymba", "arnit", "ocho", "ulex", "iddo",
)]  # fmt: skip
# What is asked about a thing, and how its page says it: no word in common but the thing's.
ABOUT = {
    "how much is a {}": "The price of this item is {} euros.",
    "when does my {} arrive": "Delivery takes {} days.",
    "how do i clean a {}": "Wipe it with a wet cloth {} times.",
}


def rows(split: str, things: list[str]) -> pa.Table:
    """A page for each thing, whose first section alone names it."""
    found: dict[str, list[str]] = {name: [] for name in ("question", "answer", "page", "link")}
    for number, thing in enumerate(things):
        draw = random.Random(f"{split}{thing}")
        told = {
            "what is a {}": f"A {thing} is sold here, number {number} of {split}.",
            **{ask: answer.format(draw.randint(100, 999)) for ask, answer in ABOUT.items()},
        }
        for ask, answer in told.items():
            found["question"].append(ask.format(thing))
            found["answer"].append(answer)
            found["page"].append(f"{split}-{thing}")
            found["link"].append(f"https://shop.example/{thing}")
    count = len(found["question"])
    ids = [f"{split}-{number}" for number in range(count)]
    return pa.table({"id": ids, **found, "split": [split] * count})


def corpus() -> dict[str, pa.Table]:
    made = random.Random(0).sample(THINGS, len(THINGS))
    return {
        "train": rows("train", made[:36]),
        "valid": rows("valid", made[36:42]),
        "test": rows("test", made[42:]),
    }


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of tensors as small as these, further ones are waited for and nothing else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("answers"), corpus())


def written(folder: Path, splits: dict[str, pa.Table]) -> Path:
    """Token tables of rows, as `tokenize` writes them."""
    texts = [*splits["train"]["question"].to_pylist(), *splits["train"]["answer"].to_pylist()]
    made = train_tokenizer(BpeTokenizer(vocab_size=500), lambda: iter([texts]))
    (folder / "tokenizer.json").write_text(made.to_str())
    objective = objective_of(Retrieve(), FACTS)
    assert objective.beside(splits.values(), folder)
    for split, table in splits.items():
        encoded = objective.encode(table, made, WINDOWING)
        pq.write_table(encoded, folder / f"{split}.parquet")
    return folder


def job(tokens: Path, folder: Path, **changes: Any) -> TrainingJob:
    settings: dict[str, Any] = {
        "tokens": tokens,
        "facts": FACTS,
        "vocab_size": load_tokenizer((tokens / "tokenizer.json").read_bytes()).get_vocab_size(),
        "windowing": WindowingFacts.model_validate(WINDOWING),
        "task": Retrieve(vector_size=16),
        "model": model("tanh", "multiplicative_noise"),
        "training": TrainingConfig(max_epochs=2, batch_size=8, learning_rate=0.01),
        "execution": ExecutionConfig(accelerator="cpu"),
        "work": folder / "work",
        "out": folder / "out",
    }
    return TrainingJob(**{**settings, **changes})


def model(encoder: str, method: str) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "embedding": {"size": 16},
            "encoder": ENCODERS[encoder],
            "reparameterization": {"kind": method},
        }
    )


@pytest.fixture(scope="module")
def trained(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    training = TrainingConfig(max_epochs=12, batch_size=8, learning_rate=0.02, patience=12)
    fit(job(tokens, folder, training=training), lambda event: None)
    return folder / "out" / "bundle"


@pytest.fixture
def bundle(trained: Path) -> Bundle:
    return Bundle.load(trained)


def start(work: TrainingJob) -> tuple[Any, RetrievalModel, TokenData]:
    objective = objective_of(work.task, work.facts)
    assert isinstance(objective, RetrievalModel)
    objective.tokenizer_json, objective.tokens = work.tokenizer_json, work.tokens
    objective.windowing = Windowing.of(work.windowing)
    data = TokenData(work.tokens, objective, batch_size=8, seed=0)
    objective.prepare(data.table("train"))
    torch.manual_seed(0)
    network, _ = starting_network(work, objective, data, lambda event: None)
    return network, objective, data


# --- words ---


def test_words_and_pieces_of_scripts_with_spaces_and_without() -> None:
    assert words("Wo ist Ｍein Paket-Nr. 7?") == ["wo", "ist", "mein", "paket", "nr", "7"]
    assert words("怎么退货? Ok") == ["怎", "么", "退", "货", "ok"]
    assert pieces("Paket an", 4) == [" pak", "pake", "aket", "ket ", " an "]
    assert pieces("怎么退货", 4) == ["怎么", "么退", "退货"]
    assert pieces("货", 4) == ["货"]
    assert words("") == pieces(" ?! ", 4) == []


def test_scores_of_shared_words_are_those_of_bm25() -> None:
    """Summed term by term, as the formula in the paper stands."""
    texts = ["a cat sat on a mat", "a dog ate", "", "the cat and the dog sat sat sat"]
    postings = Postings.counted(texts, words, 1.2, 0.75)
    counts = [Counter(words(text)) for text in texts]
    mean = sum(sum(one.values()) for one in counts) / len(texts)

    def idf(term: str) -> float:
        seen = sum(term in one for one in counts)
        return math.log(1 + (len(texts) - seen + 0.5) / (seen + 0.5))

    question = ["cat", "sat", "sat", "unheard"]
    found = postings.scores(question)
    whole = sum(map(idf, ["cat", "sat", "unheard"]))
    for number, count in enumerate(counts):
        expected = 0.0
        for term in {"cat", "sat"}:
            length = 1.2 * (0.25 + 0.75 * sum(count.values()) / mean)
            expected += idf(term) * count[term] * 2.2 / (count[term] + length)
        assert found[number] == pytest.approx(expected / whole, rel=1e-5)
    assert postings.scores(["unheard"]).tolist() == [0.0] * 4


def test_training_and_serving_count_the_same_shared_words(tokens: Path, tmp_path: Path) -> None:
    """By sparse matrices for a batch, and by postings for one question."""
    splits = corpus()
    alone = written(tmp_path, {**splits, "valid": splits["train"], "test": splits["train"]})
    _, objective, data = start(job(alone, tmp_path))
    table = data.table("train")
    numbers = np.unique(table.columns["answer"])
    assert objective.shared is not None
    together = objective.shared.between(np.arange(len(table)), numbers)
    network, _, _ = start(job(alone, tmp_path))
    index = Bundle.load(_saved(objective, fold(network), tmp_path)).network.head
    questions = splits["train"]["question"].to_pylist()
    for row in range(0, len(questions), 7):
        one = index.answers.shared_words(questions[row], index.lexicon)
        np.testing.assert_allclose(one.T, together[row], rtol=1e-5, atol=1e-6)


def _saved(objective: RetrievalModel, network: Any, folder: Path) -> Path:
    save_bundle(
        folder / "bundle",
        network,
        tokenizer_json=objective.tokenizer_json,
        windowing=objective.windowing,
        facts=objective.served(),
        files=objective.served_files(network),
    )
    return folder / "bundle"


# --- what is learnt ---


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_loss_is_that_of_a_softmax_over_the_answers_of_the_batch(
    encoder: str, tokens: Path, tmp_path: Path
) -> None:
    """Computed question by question, from vectors that are read one by one."""
    network, objective, data = start(job(tokens, tmp_path, model=model(encoder, "none")))
    network.eval()
    table, chosen = data.table("train"), np.arange(3, 15)
    batch = objective.batch(table, chosen)
    found = objective.loss(network, batch)
    assert found.terms == len(chosen)
    questions, answers = towers(network, batch)
    numbers = batch["numbers"].tolist()
    weights = network.head.log_weights.exp()
    keys, given = table.columns["question_key"], table.columns["answer"]
    total = 0.0
    for place, row in enumerate(chosen.tolist()):
        one = objective.batch(table, np.array([row]))
        torch.testing.assert_close(towers(network, one)[0][0], questions[place], **NEAR)
        right = {int(given[other]) for other in np.flatnonzero(keys == keys[row])}
        scores = [
            weights[0] * (questions[place] @ answers[c]) + batch["shared"][place, c] @ weights[1:]
            for c in range(len(numbers))
        ]
        proba = torch.stack(scores).softmax(dim=0)
        sure = sum(proba[c].detach() for c, number in enumerate(numbers) if number in right)
        total -= float(sure.log())
    assert float(found.nats.detach()) == pytest.approx(total, rel=1e-4)


def test_a_batch_holds_other_answers_of_its_pages(tokens: Path, tmp_path: Path) -> None:
    _, objective, data = start(job(tokens, tmp_path, task=Retrieve(hard_negatives=2)))
    table, pages = data.table("train"), read_answers(tokens)["page"].to_numpy()
    for row in range(0, len(table), 9):
        numbers = objective.batch(table, np.array([row]))["numbers"].numpy()
        assert len(numbers) == 3
        assert len(set(pages[numbers])) == 1
    _, objective, data = start(job(tokens, tmp_path, task=Retrieve(hard_negatives=0)))
    assert len(objective.batch(data.table("train"), np.array([4]))["numbers"]) == 1


def test_answers_of_one_question_are_all_right(tmp_path: Path) -> None:
    """Written in another case, and on another page."""
    splits = corpus()
    asked = splits["train"]["question"][0].as_py().upper().replace(" ", "  ")
    again = pa.table(
        {
            "id": ["again"], "question": [asked], "answer": ["A belando that is red."],
            "page": ["other"], "link": [None], "split": ["train"],
        }
    )  # fmt: skip
    splits["train"] = pa.concat_tables([splits["train"], again], promote_options="default")
    folder = written(tmp_path, splits)
    _, objective, data = start(job(folder, tmp_path))
    table = data.table("train")
    batch = objective.batch(table, np.array([0, len(table) - 1]))
    given = table.columns["answer"][[0, len(table) - 1]]
    places = [batch["numbers"].tolist().index(number) for number in given]
    assert batch["right"][:, places].all()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_it_and_folds_into_plain_layers(
    method: str, tokens: Path, tmp_path: Path
) -> None:
    encoder = "transformer" if method == "sigma_reparam" else "bilstm"
    work = job(
        tokens, tmp_path, model=model(encoder, method), training=TrainingConfig(max_epochs=1)
    )
    result = fit(work, lambda event: None)
    assert math.isfinite(result.validation["val/loss"])
    assert 0 < result.validation["val/mrr"] <= 1
    shipped = Bundle.load(work.out / "bundle")
    assert shipped.predict({"question": ["what is a belando"]})["probability"] == [1.0]
    network, _, _ = start(work)
    redraw(network, 0)
    set_mode(network, "mean")
    plain = fold(copy.deepcopy(network))
    ids = torch.randint(3, 200, (2, 18))
    with torch.no_grad():
        mean, folded = network(ids, torch.tensor([18, 9])), plain(ids, torch.tensor([18, 9]))
    torch.testing.assert_close(mean, folded, **NEAR)


def test_a_backbone_is_fine_tuned_by_low_rank_factors(tokens: Path, tmp_path: Path) -> None:
    """One body for both sides; its factors carry noise, and fold into its own weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=500, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path / "backbone")
    network = {
        "encoder": {"kind": "pretrained", "path": str(tmp_path / "backbone")},
        "reparameterization": {
            "kind": "low_rank", "rank": 4, "noise": {"kind": "multiplicative_noise"},
        },
    }  # fmt: skip
    work = job(tokens, tmp_path, model=ModelConfig.model_validate(network))
    assert fit(work, lambda event: None).validation["val/mrr"] > 0
    found = Bundle.load(work.out / "bundle").predict({"question": ["what is a belando"]})
    assert found["answer"][0] in read_answers(tokens)["text"].to_pylist()


CHILD = """
import os, signal, sys
from pathlib import Path
from lightning_modules.training import recorder
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
recorder.PROGRESS_SECONDS = 0.0
def die(event):
    if event["event"] == "progress" and event["step"] == 27:
        os.kill(os.getpid(), signal.SIGKILL)
fit(TrainingJob.read(Path(sys.argv[1])), die)
"""


def test_killed_in_mid_epoch_it_ends_where_an_unbroken_one_ends(
    tokens: Path, tmp_path: Path
) -> None:
    """Also the other answers of a page, which are drawn for each batch."""
    changes = {
        "task": Retrieve(vector_size=16, hard_negatives=1),
        "execution": ExecutionConfig(accelerator="cpu", checkpoint_every_steps=5),
    }
    unbroken = fit(job(tokens, tmp_path / "whole", **changes), lambda event: None)
    assert unbroken.steps // 2 not in range(25, 28), "step 27 is in mid-epoch"
    work = job(tokens, tmp_path / "killed", **changes)
    (tmp_path / "killed").mkdir()
    work.write(tmp_path / "job.json")
    command = [sys.executable, "-c", CHILD, str(tmp_path / "job.json")]
    child = subprocess.run(command, capture_output=True, timeout=180, env={**os.environ})
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    heard: list[dict[str, Any]] = []
    again = fit(work, heard.append)
    assert heard[0] == {"event": "resumed", "step": 25, "total_steps": unbroken.steps}
    assert again == unbroken


def test_train_rows_of_one_answer_are_refused(tmp_path: Path) -> None:
    splits = corpus()
    same = pa.array(["Ask us."] * len(splits["train"]))
    place = splits["train"].column_names.index("answer")
    splits["train"] = splits["train"].set_column(place, "answer", same)
    splits["train"] = splits["train"].drop_columns(["page", "link"])
    with pytest.raises(TrainingError, match="All train rows have the same answer"):
        start(job(written(tmp_path, splits), tmp_path))


# --- what is answered ---


def test_it_learns_which_section_of_a_page_is_asked_for(bundle: Bundle) -> None:
    """Of things that no train row names, whose pages name them in another section alone."""
    table = corpus()["test"]
    found = bundle.predict({"question": table["question"].to_pylist()}, {"top": 3})
    right = [
        one == other
        for one, other in zip(found["answer"], table["answer"].to_pylist(), strict=True)
    ]
    assert np.mean(right) > 0.8
    ranking = json.loads(found["ranking"][0])
    assert [set(one) for one in ranking] == [{"answer", "link", "score"}] * 3
    assert ranking[0]["answer"] == found["answer"][0]
    assert ranking[0]["score"] >= ranking[1]["score"] >= ranking[2]["score"]


QUESTIONS = ["what is a belando", "when does my korifer arrive", "clean", "怎么退货 munogul", "?"]


def test_an_answer_is_the_same_alone_and_in_any_batch_and_order(bundle: Bundle) -> None:
    together = bundle.predict({"question": QUESTIONS})
    turned = bundle.predict({"question": QUESTIONS[::-1]})
    assert turned["answer"][::-1] == together["answer"]
    for row, question in enumerate(QUESTIONS):
        alone = bundle.predict({"question": [question]})
        assert alone["answer"][0] == together["answer"][row]
        one, other = (json.loads(each) for each in (alone["ranking"][0], together["ranking"][row]))
        assert [each["answer"] for each in one] == [each["answer"] for each in other]


def test_null_has_no_answer_and_a_long_question_is_read_whole(bundle: Bundle) -> None:
    long = "what is a belando and " * 40
    found = bundle.predict({"question": [None, f"{long} korifer", f"{long} munogul"]})
    assert found["answer"][0] is None and found["probability"][0] is None
    assert found["ranking"][1] != found["ranking"][2]


def test_below_the_threshold_nobody_has_answered(bundle: Bundle) -> None:
    bundle.facts = {**bundle.facts, "abstention": {"weights": [0.0] * 8, "threshold": 0.4}}
    assert bundle.predict({"question": ["what is a belando"]})["answer"][0] is not None
    refused = bundle.predict({"question": ["what is a belando"]}, {"threshold": 0.6})
    assert refused["answer"] == [None] and refused["link"] == [None]
    assert refused["probability"] == [0.5] and refused["ranking"][0] is not None
    bundle.facts = {**bundle.facts, "notice": "Ask a person."}
    assert bundle.predict({"question": ["what is a belando"]})["notice"] == ["Ask a person."]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"top": 0}, "top is 0, and has to be a whole number from 1 to 1000"),
        ({"top": 1.5}, "top is 1.5, and has to be a whole number"),
        ({"threshold": 2.0}, "threshold is 2.0, and has to lie between 0 and 1"),
        ({"threshold": float("nan")}, "threshold is nan, and has to lie between 0 and 1"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    bundle: Bundle, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(AskedWronglyError) as refused:
        bundle.predict({"question": ["belando"]}, params)
    assert said in str(refused.value)


# --- files of a bundle ---


def test_answers_that_were_changed_are_refused(trained: Path, tmp_path: Path) -> None:
    for name in (TEXTS, FOUND_BY):
        folder = tmp_path / name
        folder.mkdir()
        for file in trained.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        data = bytearray((folder / name).read_bytes())
        data[-3] ^= 1
        (folder / name).write_bytes(bytes(data))
        with pytest.raises(BundleError, match=f"{name} has changed since the bundle was written"):
            Bundle.load(folder)
        (folder / name).unlink()
        with pytest.raises(BundleError, match=f"{name} cannot be read"):
            Bundle.load(folder)


def _hostile(files: dict[str, bytes], what: str) -> dict[str, bytes]:
    texts, arrays = json.loads(files[TEXTS]), load_safetensors(files[FOUND_BY])
    if what == "fewer texts":
        texts["texts"].pop()
    elif what == "no texts":
        texts["texts"] = [3] * len(texts["texts"])
    elif what == "a page far away":
        arrays["pages"][0] = 2**30
    elif what == "a text that is not there":
        arrays["answers.0.texts"][5] = 10**6
    elif what == "ends elsewhere":
        arrays["answers.1.offsets"][-1] += 1
    elif what == "not a number":
        arrays["vectors"][0, 0] = np.nan
    elif what == "another size":
        arrays["vectors"] = np.ascontiguousarray(arrays["vectors"][:, :3])
    else:
        del arrays["question_keys"]
    return {TEXTS: json.dumps(texts).encode(), FOUND_BY: save_safetensors(arrays)}


@pytest.mark.parametrize(
    "what",
    [
        "fewer texts", "no texts", "a page far away", "a text that is not there", "ends elsewhere",
        "not a number", "another size", "nothing",
    ],
)  # fmt: skip
def test_answers_that_are_none_are_refused_where_a_bundle_is_loaded(
    what: str, bundle: Bundle, tmp_path: Path
) -> None:
    save_bundle(
        tmp_path,
        bundle.network,
        tokenizer_json=bundle.tokenizer_json,
        windowing=bundle.windowing,
        facts=bundle.facts,
        files=_hostile(bundle.files, what),
    )
    with pytest.raises(BundleError, match="its files beside the weights are not what they have"):
        Bundle.load(tmp_path)


def test_the_same_answers_give_the_same_bytes(tokens: Path, trained: Path, tmp_path: Path) -> None:
    network, objective, _ = start(job(tokens, tmp_path, model=model("tanh", "none")))
    one, other = (objective.served_files(fold(network)) for _ in range(2))
    assert one == other
    assert json.loads(one[TEXTS])["texts"] == read_answers(tokens)["text"].to_pylist()


# --- another night ---


def test_answers_are_replaced_with_the_champions_weights_as_they_are(
    trained: Path, tmp_path: Path
) -> None:
    splits = corpus()
    place = splits["test"].column_names.index("answer")
    changed = [f"{text} Since today." for text in splits["test"]["answer"].to_pylist()]
    splits["test"] = splits["test"].set_column(place, "answer", pa.array(changed))
    folder = written(tmp_path, splits)
    (folder / "tokenizer.json").write_bytes((trained / "tokenizer.json").read_bytes())
    objective = objective_of(Retrieve(), FACTS)
    objective.beside(splits.values(), folder)
    tokenizer = load_tokenizer((trained / "tokenizer.json").read_bytes())
    for split, table in splits.items():
        pq.write_table(objective.encode(table, tokenizer, WINDOWING), folder / f"{split}.parquet")
    training = TrainingConfig(max_epochs=0, warm_start="champion")
    work = job(folder, tmp_path / "night", training=training, start=trained)
    result = fit(work, lambda event: None)
    assert result.steps == 0 and result.validation["val/mrr"] > 0.5
    before, after = Bundle.load(trained), Bundle.load(work.out / "bundle")
    for name, tensor in before.network.state_dict().items():
        assert torch.equal(tensor, after.network.state_dict()[name])
    asked = splits["test"]["question"].to_pylist()
    found = after.predict({"question": asked})["answer"]
    assert all(one.endswith("Since today.") for one in found[:8])
    assert not any(
        one.endswith("Since today.") for one in before.predict({"question": asked})["answer"]
    )


def test_weights_of_another_network_cannot_be_taken_as_they_are(
    tokens: Path, trained: Path, tmp_path: Path
) -> None:
    training = TrainingConfig(max_epochs=0, warm_start="champion")
    work = job(tokens, tmp_path, training=training, start=trained, task=Retrieve(vector_size=12))
    with pytest.raises(TrainingError, match="of the weights cannot be the champion's, the first"):
        fit(work, lambda event: None)


# --- how it is judged ---


def test_ranks_count_what_is_as_good_and_wrong_before() -> None:
    scores = np.array([[3.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    right = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    assert ranks(scores, right).tolist() == [3, 2, 0]
    assert reciprocal(np.array([1, 4, 10, 11, 0])).tolist() == [1, 0.25, 0.1, 0, 0]
    found = figures_of(np.array([1, 2, 6, 0]))
    assert found["recall_at_1"] == 0.25 and found["recall_at_5"] == 0.5
    assert found["recall_at_10"] == 0.75 and found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 6) / 4)


def test_figures_are_those_that_a_row_by_row_count_gives(bundle: Bundle, tokens: Path) -> None:
    judge = judge_of(Retrieve(vector_size=16), FACTS, StatisticsConfig())
    scored = {
        split: judge.score(
            bundle, pq.read_table(tokens / f"{split}.parquet", columns=list(judge.token_columns))
        )
        for split in ("valid", "test")
    }
    judge = judge.fitted(corpus()["valid"], scored["valid"]).tried(bundle, corpus()["test"], tokens)
    table = corpus()["test"]
    bundle.facts = {**bundle.facts, **judge.task.served_facts(judge.facts())}
    found = judge.evidence(table, scored["test"]).point()
    told = bundle.predict({"question": table["question"].to_pylist()}, {"top": 100})
    truth = table["answer"].to_pylist()
    places = [
        [one["answer"] for one in json.loads(ranking)].index(answer) + 1
        for ranking, answer in zip(told["ranking"], truth, strict=True)
    ]
    assert scored["test"]["rank"].to_pylist() == places
    assert found["mrr"] == pytest.approx(np.mean([1 / p if p <= 10 else 0 for p in places]))
    given = [one is not None for one in told["answer"]]
    assert found["answered"] == pytest.approx(np.mean(given))
    evidence = judge.evidence(table, scored["test"])
    assert evidence.unit == "pages" and len(evidence.sampled) == len(set(table["page"].to_pylist()))
    right = [one == answer for one, answer in zip(told["answer"], truth, strict=True) if one]
    assert found["precision"] == pytest.approx(np.mean(right))
    answers = judge.answers(table, scored["test"])
    np.testing.assert_allclose(answers["probability"].to_numpy(), told["probability"], rtol=1e-4)
    titles = [
        block.text
        for block in judge.report(table, scored["test"], _intervals(judge, table, scored["test"]))
        if getattr(block, "style", "") == "heading"
    ]
    assert "When nobody has answered" in titles and "Ordinary questions" in titles
    of_file = judge_of(Retrieve(vector_size=16), FACTS, StatisticsConfig())
    read = of_file.evidence(table, of_file.predictions(answers)).point()
    assert read == pytest.approx(found)
    again = judge.ask(bundle, answers)
    assert again["rank"].to_pylist() == places
    rivals = judge.against(answers, again, bundle, "version 1")
    assert rivals.ours.point()["mrr"] == rivals.theirs.point()["mrr"]
    assert rivals.theirs.point()["answered"] == pytest.approx(found["answered"])
    floor = judge.against_constant(answers, tokens)
    assert floor is not None
    assert floor.ours.point()["mrr"] > floor.theirs.point()["mrr"] > 0


def _intervals(judge: Any, table: pa.Table, scored: pa.Table) -> Any:
    from lightning_modules.evidence import figures

    return figures(judge.evidence(table, scored), 50)


def test_a_peer_may_give_rankings_or_ranks(bundle: Bundle, tokens: Path) -> None:
    judge = judge_of(Retrieve(), FACTS, StatisticsConfig())
    table = corpus()["test"].slice(0, 2)
    said = [["wrong", table["answer"][0].as_py()], ["wrong"]]
    scored = judge.predictions(pa.table({"id": table["id"], "ranking": said}))
    assert judge.evidence(table, scored).point()["mrr"] == 0.25
    scored = judge.predictions(pa.table({"id": table["id"], "rank": [2, 0]}))
    assert judge.evidence(table, scored).point()["mrr"] == 0.25
    with pytest.raises(Exception, match="It has no column ranking, but id, answer"):
        judge.predictions(pa.table({"id": ["a"], "answer": ["b"]}))


def test_the_promised_precision_is_kept_where_the_probability_tells() -> None:
    """Of features that say it and a noise beside: on other rows, within what 2,000 of them can."""
    rng = np.random.default_rng(0)

    def asked(count: int) -> Asked:
        sure = rng.normal(size=count)
        right = rng.random(count) < 1 / (1 + np.exp(-2 * sure - 1))
        features = np.stack([sure, rng.normal(size=count)], axis=1)
        return Asked(features, features - [3.0, 0.0], right)

    decided = fitted(asked(4000), 0.2, 0.9)
    features, right, weights = asked(4000).together(0.2)
    given = probabilities(features, decided["weights"]) >= decided["threshold"]
    assert 0.3 < weights[given].sum() < 0.9
    assert (weights * right)[given].sum() / weights[given].sum() == pytest.approx(0.9, abs=0.03)


def test_a_threshold_gives_answers_of_one_probability_together() -> None:
    sure, right = np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False])
    even = np.full(4, 0.25)
    assert threshold_of(sure, right, 0.9, weights_N=even, never=1.0) == 0.9
    assert threshold_of(sure, right, 0.6, weights_N=even, never=1.0) == 0.8
    assert threshold_of(np.array([0.5]), np.array([False]), 0.5, never=1.0) == 1.0


def test_where_nothing_tells_right_from_wrong_all_is_answered() -> None:
    one = np.ones((3, 2))
    assert fitted(Asked(one, one, np.ones(3, bool)), 0.0, 0.9) == {"weights": [], "threshold": 0.0}


# --- recipes ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"distillation": {"teacher": "other"}}, "task.kind retrieve learns from no teacher"),
        ({"training": {"max_epochs": 0}}, "set training.warm_start: champion, or train an epoch"),
        ({"training": {"monitor": "val/precision"}}, "is none of val/mrr"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    from data_contracts.recipe.reading import parse_recipe

    recipe = {
        "name": "faq",
        "task": {"kind": "retrieve"},
        "source": {"kind": "files", "url": "faq.csv"},
        "contract": {"kind": "retrieve", "name": "faq"},
        **changes,
    }
    with pytest.raises(RecipeError, match=said):
        parse_recipe(recipe, origin="here")


# --- what carried a match


def test_the_words_of_a_question_that_carried_its_match_are_told(bundle: Bundle) -> None:
    """Cosine and shared words alike, to the score that ranks the answers."""
    thing = corpus()["test"]["question"][0].as_py().split()[-1]
    for text in (f"  What is a {thing.upper()}", f"怎么清洗 {thing}？ how do i clean it", "ﬁne"):
        found = explain(bundle, {"question": text})
        ranking = json.loads(bundle.predict({"question": [text]})["ranking"][0])
        assert found.score == pytest.approx(ranking[0]["score"], abs=1e-3)
        assert found.target == ranking[0]["answer"]
        total = sum(part.contribution for part in found.parts)
        assert total == pytest.approx(found.score - found.baseline - found.error, abs=1e-6)
        assert abs(found.error) < 0.02 * sum(abs(part.contribution) for part in found.parts) + 1e-6
    named = explain(bundle, {"question": f"what is a {thing}"})
    if thing in named.target:
        at = named.texts["question"].index(thing)
        own = sum(part.contribution for part in named.parts if part.start >= at)
        assert own > sum(part.contribution for part in named.parts) / 2


def test_shared_words_are_shared_out_to_the_last_bit_of_them(bundle: Bundle) -> None:
    head = bundle.network.head
    for text in ("What IS a beLANDO?", "ｗｈａｔ　is", "是什么 belando", "cafe\u0301 is a"):
        tokens = [token for _, token in tokens_of(bundle.tokenizer, "question", text)]
        shared = head.answers.shared_words(text, head.lexicon)
        weights = head.log_weights.detach().exp().numpy()[1:]
        for number in (0, 5, 17):
            own = shared_by_token(head, text, number, tokens)
            assert own.sum() == pytest.approx(float(weights @ shared[:, number]), abs=1e-5)


def test_an_answer_of_another_place_is_explained_or_refused(bundle: Bundle) -> None:
    text = "how do i clean a belando"
    ranking = json.loads(bundle.predict({"question": [text]}, {"top": 3})["ranking"][0])
    assert explain(bundle, {"question": text}, "3").target == ranking[2]["answer"]
    with pytest.raises(NoisefoldError, match="answers from place 1 to"):
        explain(bundle, {"question": text}, "0")
