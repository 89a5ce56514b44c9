"""What holds for every network that translates: a beam of one is greedy, cached or not, alone or
among others, stopped or not, folded or not."""

from __future__ import annotations

import copy
import math
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
from data_contracts.errors import RecipeError, TrainingError
from data_contracts.kinds.translate import Translate
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import ExecutionConfig, StatisticsConfig, TrainingConfig
from data_contracts.recipe.tokenizer import BpeTokenizer, ByteTokenizer, CharacterTokenizer
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.answering import AskedWronglyError
from lightning_modules.kinds.base import objective_of
from lightning_modules.kinds.judging import judge_of
from lightning_modules.kinds.translate.counting import Pairs, dictionaries
from lightning_modules.kinds.translate.objective import TranslationModel
from lightning_modules.kinds.translate.scoring import (
    Sides,
    nats_of,
    pairs_of,
    read_pairs,
    teacher_forced,
)
from lightning_modules.kinds.translate.search import Search, look_for, read_source
from lightning_modules.kinds.translate.segmentation import Merges
from lightning_modules.network.spelling import Spelling
from lightning_modules.network.tokenizer import BundleError, eos_id, load_lossless
from lightning_modules.network.windows import Windowing
from lightning_modules.reparameterizations import fold, redraw, set_mode
from lightning_modules.reparameterizations.noise_left import alphas_of, drawn, load_noise
from lightning_modules.training.begin import starting_network
from lightning_modules.training.data import TokenData
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
from tasks.vocabulary import train_tokenizer

FACTS = {"source_script": "Latin", "target_script": "Han"}
WINDOWING = Windowing(max_length=24, overlap=0)
ENCODERS: dict[str, dict[str, Any]] = {
    "lstm": {"kind": "lstm", "hidden_size": 16},
    "bilstm": {"kind": "bilstm_attention", "hidden_size": 16},
    "transformer": {
        "kind": "transformer", "num_layers": 1, "num_heads": 2, "feedforward_size": 32,
    },
    "tanh": {"kind": "tanh", "hidden_size": 16},
}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "lstm": {"kind": "lstm", "hidden_size": 24},
    "transformer": {
        "kind": "transformer", "num_layers": 2, "num_heads": 2, "feedforward_size": 32,
    },
}  # fmt: skip
# What is trained once for the tests of answers: both decoders, tied or not, with a dictionary or
# without.
PAIRED = {
    "lstm": ("bilstm", "lstm", {}),
    "transformer": ("transformer", "transformer", {"tied": False}),
    "network alone": ("lstm", "lstm", {"lexical": None}),
}
METHODS = (
    "none", "multiplicative_noise", "gaussian_posterior", "weight_norm", "sigma_reparam", "sparse",
)  # fmt: skip
NEAR = {"rtol": 1e-4, "atol": 1e-5}  # of float32 sums in another order
WORDS = {"the cat": "猫", "a dog": "狗", "saw": "看见", "ate": "吃了", "fish": "鱼", "rice": "米饭"}


def pairs(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Who does what, in words that stand in another order on the other side."""
    draw = random.Random(seed)
    sources, targets = [], []
    for _ in range(count):
        who, what = draw.choice(["the cat", "a dog"]), draw.choice(["fish", "rice"])
        verb, times = draw.choice(["saw", "ate"]), draw.choice([1, 1, 2, 4])
        sources.append(
            " and ".join([f"{who} {verb} {what}"] * times) + f" {seed}{draw.random()}."[:5]
        )
        targets.append("，".join([f"{WORDS[what]}{WORDS[who]}{WORDS[verb]}"] * times) + "。")
    return sources, targets


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of tensors as small as these, further ones are waited for and nothing else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    config = BpeTokenizer(vocab_size=340, lossless=True)
    made = train_tokenizer(config, lambda: iter(list(pairs(160, 0))))
    (folder / "tokenizer.json").write_text(made.to_str())
    tokenizer = load_lossless(made.to_str().encode())
    objective = objective_of(Translate(), FACTS)
    for seed, (split, count) in enumerate({"train": 160, "valid": 16, "test": 16}.items()):
        table = objective.encode(rows(split, count, seed), tokenizer, WINDOWING)
        pq.write_table(table, folder / f"{split}.parquet")
    return folder


def rows(split: str, count: int, seed: int) -> pa.Table:
    sources, targets = pairs(count, seed)
    sources[0], targets[0] = f"{sources[0]} Q", f"{targets[0]} Q"
    ids = [f"{split}-{i}" for i in range(count)]
    return pa.table({"id": ids, "source": sources, "target": targets, "split": [split] * count})


def job(tokens: Path, folder: Path, **changes: Any) -> TrainingJob:
    settings: dict[str, Any] = {
        "tokens": tokens,
        "facts": FACTS,
        "vocab_size": load_lossless((tokens / "tokenizer.json").read_bytes()).get_vocab_size(),
        "windowing": WindowingFacts.model_validate(WINDOWING),
        "task": task("lstm"),
        "model": model("bilstm", "multiplicative_noise"),
        "training": TrainingConfig(max_epochs=2, batch_size=8, learning_rate=0.01),
        "execution": ExecutionConfig(accelerator="cpu"),
        "work": folder / "work",
        "out": folder / "out",
    }
    return TrainingJob(**{**settings, **changes})


def task(decoder: str, **options: Any) -> Translate:
    return Translate.model_validate({"decoder": DECODERS[decoder], **options})


def model(encoder: str, method: str) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "embedding": {"size": 16, "init_std": 0.3},
            "encoder": ENCODERS[encoder],
            "reparameterization": {"kind": method},
        }
    )


@pytest.fixture(scope="module", params=PAIRED)
def bundle(
    request: pytest.FixtureRequest, tokens: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A trained one of each decoder, with noise on its weights, folded."""
    encoder, decoder, options = PAIRED[request.param]
    folder = tmp_path_factory.mktemp("trained")
    work = job(
        tokens,
        folder,
        training=TrainingConfig(max_epochs=5, batch_size=8, learning_rate=0.02),
        model=model(encoder, "multiplicative_noise"),
        task=task(decoder, **options),
    )
    fit(work, lambda event: None)
    return Bundle.load(folder / "out" / "bundle")


def start(work: TrainingJob) -> tuple[Any, TranslationModel, TokenData]:
    objective = objective_of(work.task, work.facts)
    assert isinstance(objective, TranslationModel)
    objective.tokenizer_json = work.tokenizer_json
    data = TokenData(work.tokens, objective, batch_size=8, seed=0)
    objective.prepare(data.table("train"))
    torch.manual_seed(0)
    network, _ = starting_network(work, objective, data, lambda event: None)
    return network, objective, data


TEXTS = [
    "the cat saw fish.",
    "a dog ate rice and the cat saw fish.",
    "fish",
    "a dog saw a dog 猫 é?",
]

# --- greedy, cached, alone ---


def afresh(bundle: Bundle, ids: list[int], written: list[int]) -> torch.Tensor:
    """(V,) log-probabilities after what is written, everything read anew."""
    network, head = bundle.network, bundle.network.head
    source = torch.tensor([[*ids, head.eos_id]])
    # The last one is never read.
    target = torch.tensor([[*written, 0]])
    sizes = (torch.tensor([one.shape[1]]) for one in (source, target))
    with torch.inference_mode():
        read = read_pairs(network, Sides(source, next(sizes), target, next(sizes)))
        return head.log_proba(read.seen, read.source, head.words(source[0]))[-1]


def beam_afresh(bundle: Bundle, ids: list[int], search: Search) -> list[int]:
    """A beam search that keeps nothing from step to step."""
    end = bundle.network.head.eos_id
    going: list[tuple[float, list[int]]] = [(0.0, [])]
    whole: list[tuple[float, list[int]]] = []
    for _ in range(search.max_tokens):
        longer = [
            (score + float(proba), written, token)
            for score, written in going
            for token, proba in enumerate(afresh(bundle, ids, written).tolist())
        ]
        ranked = sorted(longer, key=lambda one: -one[0])[: 2 * search.beam]
        whole += [(s, w) for s, w, token in ranked[: search.beam] if token == end]
        going = [(s, [*w, token]) for s, w, token in ranked if token != end][: search.beam]
        if len(whole) >= search.beam:
            break
    if whole:
        return max(whole, key=lambda one: search.worth(one[0], len(one[1]) + 1))[1]
    return max(going, key=lambda one: search.worth(one[0], len(one[1])))[1]


@pytest.mark.parametrize("size", [1, 3])
def test_a_search_that_keeps_what_it_read_finds_what_one_that_reads_anew_does(
    bundle: Bundle, size: int
) -> None:
    search = Search(beam=size, max_tokens=9)
    for text in TEXTS:
        ids = bundle.lossless_tokenizer.encode(text).ids
        assert look_for(bundle.network, ids, search, 24).ids == beam_afresh(bundle, ids, search)


def test_a_beam_of_one_is_greedy(bundle: Bundle) -> None:
    end = bundle.network.head.eos_id
    for text in TEXTS:
        ids = bundle.lossless_tokenizer.encode(text).ids
        found = look_for(bundle.network, ids, Search(beam=1, max_tokens=12), 24)
        for place, token in enumerate([*found.ids, *[end] * found.ended]):
            assert int(afresh(bundle, ids, found.ids[:place]).argmax()) == token


def test_the_log_probability_of_a_translation_is_that_of_its_tokens(bundle: Bundle) -> None:
    """Step by step in a beam, and all at once where it is judged."""
    head = bundle.network.head
    for text in TEXTS:
        ids = bundle.lossless_tokenizer.encode(text).ids
        found = look_for(bundle.network, ids, Search(beam=3), 24)
        if not found.ended:
            continue
        pair = (np.array([*ids, head.eos_id]), np.array([*found.ids, head.eos_id]))
        ((nats, tokens),) = nats_of(bundle.network, Sides.of_pairs([pair]))
        assert tokens == found.tokens
        assert -nats == pytest.approx(found.log_probability, rel=1e-4, abs=1e-4)


def test_a_translation_is_the_same_alone_and_in_any_batch_order_and_split(bundle: Bundle) -> None:
    together = bundle.predict({"source": TEXTS})
    for row, text in enumerate(TEXTS):
        alone = bundle.predict({"source": [text]})
        assert {name: values[row] for name, values in together.items()} == {
            name: values[0] for name, values in alone.items()
        }
    turned = bundle.predict({"source": TEXTS[::-1]})
    assert turned["translation"][::-1] == together["translation"]


def test_pairs_are_judged_alike_alone_and_among_others(bundle: Bundle, tokens: Path) -> None:
    table = pq.read_table(tokens / "test.parquet")
    together = teacher_forced(bundle, table)
    for row in range(len(table)):
        np.testing.assert_allclose(
            teacher_forced(bundle, table.slice(row, 1))[0], together[row], rtol=1e-4
        )
    assert together[:, 1].sum() == sum(len(target) for _, target in pairs_of(table))


def test_the_probabilities_of_a_next_token_add_up_to_one(bundle: Bundle) -> None:
    network, head = bundle.network, bundle.network.head
    ids = torch.tensor([[*bundle.lossless_tokenizer.encode("the cat saw 猫").ids, head.eos_id]])
    with torch.inference_mode():
        proba = network(ids, torch.tensor([ids.shape[1]])).exp()
    assert proba.shape == (1, len(head.bias))
    assert float(proba.sum()) == pytest.approx(1, abs=1e-4)


# --- texts as they come ---


def test_lines_are_translated_one_by_one_and_their_ends_are_kept(bundle: Bundle) -> None:
    one, other = bundle.predict({"source": ["the cat saw fish.", "a dog ate rice."]})["translation"]
    text = "the cat saw fish.\r\n\n  a dog ate rice. \n"
    (whole,) = bundle.predict({"source": [text]})["translation"]
    assert whole == f"{one}\r\n\n  {other} \n"


def test_null_has_no_translation_and_a_blank_text_is_its_own(bundle: Bundle) -> None:
    answers = bundle.predict({"source": [None, " \n", ""]})
    assert answers["translation"] == [None, " \n", ""]
    assert answers["tokens"] == [None, 0, 0]


def test_a_source_longer_than_a_window_is_read_whole(bundle: Bundle) -> None:
    """Its windows side by side: another last word is another translation's probability."""
    ids = [
        bundle.lossless_tokenizer.encode(f"{'the cat saw fish and ' * 14}{end}").ids
        for end in ("a", "é")
    ]
    assert min(map(len, ids)) > 2 * WINDOWING.max_length
    with torch.inference_mode():
        states = [read_source(bundle.network, one, WINDOWING.max_length) for one in ids]
    assert states[0].shape[1] == len(ids[0])
    assert not torch.equal(states[0][:, -1], states[1][:, -1])
    (found,) = bundle.predict({"source": ["the cat saw fish and " * 40]}, {"max_tokens": 30})[
        "tokens"
    ]
    assert found <= 30


def test_special_words_in_a_source_are_text(bundle: Bundle) -> None:
    ids = bundle.lossless_tokenizer.encode("[EOS] [PAD]").ids
    assert bundle.network.head.eos_id not in ids
    assert isinstance(bundle.predict({"source": ["[EOS] fish"]})["translation"][0], str)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"beam": 0}, "beam is 0, and has to be from 1 to 64"),
        ({"beam": 1.5}, "beam is 1.5, and has to be a whole number"),
        ({"length_penalty": -1}, "length_penalty is -1, and has to be from 0 to 10"),
        ({"length_penalty": float("nan")}, "length_penalty is nan, and has to be from 0 to 10"),
        ({"max_tokens": 0}, "max_tokens is 0, and has to be from 1 to 100,000"),
        ({"temperature": 1.0}, "temperature is none of beam, length_penalty, max_tokens"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    bundle: Bundle, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(AskedWronglyError) as refused:
        bundle.predict({"source": ["the"]}, params)
    assert said in str(refused.value)


# --- training ---


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_the_loss_of_a_batch_is_the_sum_of_those_of_its_rows(
    encoder: str, decoder: str, tokens: Path, tmp_path: Path
) -> None:
    """No pair sees another, and no row its neighbours or its padding."""
    network, objective, data = start(
        job(tokens, tmp_path, model=model(encoder, "none"), task=task(decoder))
    )
    table = data.table("train")
    numbers = np.arange(20)
    together = objective.loss(network, objective.batch(table, numbers))
    single = [objective.loss(network, objective.batch(table, numbers[i : i + 1])) for i in numbers]
    assert together.terms == sum(one.terms for one in single)
    alone = sum(float(one.nats.detach()) for one in single)
    assert float(together.nats.detach()) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_method_trains_it_and_folds_into_plain_layers(
    decoder: str, method: str, tokens: Path, tmp_path: Path
) -> None:
    encoder = {"lstm": "bilstm", "transformer": "transformer"}[decoder]
    work = job(
        tokens,
        tmp_path,
        model=model(encoder, method),
        task=task(decoder),
        training=TrainingConfig(max_epochs=1, batch_size=16),
    )
    result = fit(work, lambda event: None)
    assert math.isfinite(result.validation["val/nll"])
    assert 0 <= result.validation["val/chrf"] <= 1
    shipped = Bundle.load(work.out / "bundle")
    assert shipped.predict({"source": ["the cat"]}, {"max_tokens": 5})["tokens"][0] >= 1
    network, _, _ = start(work)
    redraw(network, 0)
    set_mode(network, "mean")
    plain = fold(copy.deepcopy(network))
    ids = torch.randint(3, 200, (2, 18))
    with torch.no_grad():
        mean, folded = network(ids, torch.tensor([18, 9])), plain(ids, torch.tensor([18, 9]))
    torch.testing.assert_close(mean, folded, **NEAR)


def test_low_rank_without_a_champion_is_refused(tokens: Path, tmp_path: Path) -> None:
    low = ModelConfig.model_validate(
        {"encoder": ENCODERS["bilstm"], "reparameterization": {"kind": "low_rank", "rank": 2}}
    )
    with pytest.raises(TrainingError, match="low_rank freezes the weights it starts from"):
        start(job(tokens, tmp_path, model=low))


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


@pytest.mark.parametrize("decoder", DECODERS)
def test_killed_in_mid_epoch_it_ends_where_an_unbroken_one_ends(
    decoder: str, tokens: Path, tmp_path: Path
) -> None:
    """Also with merges undone and two passes over each batch, whose chance is of the step."""
    changes = {
        "task": task(decoder, bpe_dropout=0.2, r_drop=1.0),
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


def test_a_small_model_learns_words_and_their_order(tokens: Path, tmp_path: Path) -> None:
    """Which a dictionary cannot: it would leave the words as they stand in the source."""
    sizes = {"embedding": {"size": 32, "init_std": 0.3}, "reparameterization": {"kind": "none"}}
    work = job(
        tokens,
        tmp_path,
        model=ModelConfig.model_validate({**sizes, "encoder": ENCODERS["bilstm"]}),
        task=Translate.model_validate({"decoder": {"hidden_size": 48}}),
        training=TrainingConfig(max_epochs=20, batch_size=8, learning_rate=0.015, patience=20),
    )
    assert fit(work, lambda event: None).validation["val/chrf"] > 0.9
    found = Bundle.load(tmp_path / "out" / "bundle").predict({"source": ["the cat ate fish."]})
    assert found["translation"] == ["鱼猫吃了。"]


def test_another_night_begins_with_the_champion_and_counts_anew(
    bundle: Bundle, tokens: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "champion"
    save_bundle(
        folder,
        bundle.network,
        tokenizer_json=bundle.tokenizer_json,
        windowing=bundle.windowing,
        facts=bundle.facts,
    )
    described = bundle.network.describe()
    decoder = described["decoder"]["kind"]
    encoder = next(
        name for name, one in ENCODERS.items() if one["kind"] == described["encoder"]["kind"]
    )
    options = {"tied": described["tied"], "lexical": {"max_entries": 3}}
    work = job(
        tokens,
        tmp_path,
        model=model(encoder, "none"),
        task=task(decoder, **options),
        start=folder,
    )
    head = start(work)[0].head
    assert torch.equal(head.output.weight, bundle.network.head.output.weight)
    assert torch.equal(head.bias, bundle.network.head.bias)
    assert max(np.diff(head.lexical.offsets.numpy())) == 3


# --- the dictionary ---


def test_em_finds_the_translations_that_explain_the_pairs() -> None:
    """The example of Koehn's book: das Haus, das Buch, ein Buch."""
    das, haus, buch, ein, the, house, book, a = range(8)
    given = [([das, haus], [the, house]), ([das, buch], [the, book]), ([ein, buch], [a, book])]
    ids = np.array([one for pair in given for side in pair for one in side])
    four = np.full(3, 4)
    found, (others, *_) = dictionaries(
        Pairs(ids, np.arange(3) * 4, np.full(3, 2), four),
        8,
        np.array([0, 1, 2]),
        iterations=40,
        max_entries=8,
    )
    keys = found.keys
    asked = np.array([[das, haus, buch, ein]]), np.array([[the, house, book, a]])
    proba = found.of(*asked, keys)[0]
    assert proba.argmax(axis=0).tolist() == [0, 1, 2, 3]
    assert proba.max(axis=0).min() > 0.9
    # Of the first pair alone, so that the others know nothing of a house.
    unseen = others.of(*asked, others.keys)[0]
    np.testing.assert_allclose(unseen[:, haus], 1 / 8)
    assert others.seen.tolist() == [1, 0, 2, 1, 0, 0, 0, 0]


def test_a_pair_is_told_by_the_dictionary_of_others(tokens: Path, tmp_path: Path) -> None:
    """What the whole dictionary has of a train pair's rarest word, its own part's has not."""
    _, objective, data = start(job(tokens, tmp_path))
    assert objective.counted is not None
    whole, parts = objective.counted
    table = data.table("train")
    missed = 0
    for row in range(len(table)):
        ids = table.ids[table.starts[row] :][: table.columns["context"][row]]
        entries, _ = parts[row % len(parts)]
        once = whole.seen[ids] == 1
        assert (entries.seen[ids[once]] == 0).all()
        missed += int(once.sum())
    assert missed > 0


# --- merges undone ---


def test_merges_undone_are_the_same_text(tokens: Path) -> None:
    tokenizer_json = (tokens / "tokenizer.json").read_bytes()
    tokenizer, merges = load_lossless(tokenizer_json), Merges(tokenizer_json)
    end = eos_id(tokenizer)
    ids = np.array([*tokenizer.encode("the cat saw fish and 猫").ids, end])
    torch.manual_seed(0)
    cuts = {tuple(merges.undone(ids, 0.3).tolist()) for _ in range(20)}
    assert len(cuts) > 10
    for one in cuts:
        assert tokenizer.decode(one[:-1]) == "the cat saw fish and 猫"
        assert one[-1] == end
    assert merges.undone(ids, 0.0).tolist() == ids.tolist()
    apart = merges.undone(ids, 1.0)
    assert len(apart) == len("the cat saw fish and 猫".encode()) + 1


# --- recipes and rows ---


def test_pairs_longer_than_a_window_are_judged_and_not_learnt(tokens: Path) -> None:
    tokenizer = load_lossless((tokens / "tokenizer.json").read_bytes())
    objective = objective_of(Translate(), FACTS)
    for split, kept in (("train", 1), ("valid", 1), ("test", 2)):
        given = pa.table(
            {
                "id": ["short", "long"],
                "source": ["fish", "fish " * 40],
                "target": ["鱼", "鱼"],
                "split": [split] * 2,
            }
        )
        assert len(objective.encode(given, tokenizer, WINDOWING)) == kept


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"ngrams": {}}}, "model.ngrams are one vector of a whole document"),
        ({"window": {"max_length": 32, "overlap": 2}}, "window.overlap is 2"),
        ({"tokenizer": {"kind": "word"}}, "lossless"),
        ({"distillation": {"teacher": "other"}}, "task.kind translate learns from no teacher"),
        (
            {"task": {"kind": "translate", "decoder": {"kind": "transformer", "num_heads": 3}}},
            "num_heads",
        ),
        (
            {"task": {"kind": "translate", "bpe_dropout": 0.1}, "tokenizer": {"kind": "byte"}},
            "merge",
        ),
    ],
)
def test_a_recipe_that_cannot_translate_is_refused(changes: dict[str, Any], said: str) -> None:
    from data_contracts.recipe.reading import parse_recipe

    recipe = {
        "name": "phrases",
        "task": {"kind": "translate"},
        "source": {"kind": "files", "url": "pairs.csv"},
        "contract": {"kind": "translate", "name": "phrases"},
        **changes,
    }
    with pytest.raises(RecipeError, match=said):
        parse_recipe(recipe, origin="here")


# --- noise that is left ---


def test_noise_is_drawn_from_the_folded_network_as_it_was_in_training(
    tokens: Path, tmp_path: Path
) -> None:
    """As far from the mean as the method's own draws are, and gone afterwards."""
    network, _, _ = start(job(tokens, tmp_path))
    alphas = alphas_of(network)
    assert "head.output.weight" in alphas
    plain = fold(network)
    weight = plain.get_parameter("head.output.weight")
    before, own, again = weight.detach().clone(), [], []
    for seed in range(40):
        with drawn(plain, alphas, seed):
            own.append((weight.detach() - before).square().mean())
        redraw(network, seed)
        set_mode(network, "sample")
        again.append((network.head.output.used("weight").detach() - before).square().mean())
    assert torch.equal(weight, before)
    assert float(sum(own)) == pytest.approx(float(sum(again)), rel=0.1)
    with drawn(plain, alphas, 3):
        one = weight.detach().clone()
    with drawn(plain, alphas, 3):
        assert torch.equal(weight, one)


def test_an_evaluation_asks_the_noise_how_sure_each_translation_is(
    tokens: Path, tmp_path: Path
) -> None:
    fit(job(tokens, tmp_path), lambda event: None)
    bundle = Bundle.load(tmp_path / "out" / "bundle")
    statistics = StatisticsConfig()
    table = pq.read_table(tokens / "test.parquet")
    without = judge_of(task("lstm"), FACTS, statistics).score(bundle, table)
    bundle.noise = load_noise(tmp_path / "out")
    scored = judge_of(task("lstm", draws=5), FACTS, statistics).score(bundle, table)
    assert "log_probability_drawn" not in without.column_names
    assert scored.drop_columns(["log_probability_drawn"]).equals(without)
    sure = scored["log_probability_drawn"].to_numpy()
    assert (sure < 0).all() and len(np.unique(sure)) > 5
    per_token = scored["log_probability"].to_numpy() / scored["tokens"].to_numpy()
    assert np.corrcoef(sure, per_token)[0, 1] > 0.5


# --- spelling ---


@pytest.mark.parametrize("kind", ["bpe", "byte", "character"])
def test_no_token_that_may_follow_breaks_a_character(kind: str, tokens: Path) -> None:
    """Whatever is written token by token, the letters are those that Python reads in the bytes."""
    config = {"bpe": BpeTokenizer(vocab_size=340, lossless=True), "byte": ByteTokenizer()}
    made = train_tokenizer(
        config.get(kind, CharacterTokenizer()), lambda: iter(list(pairs(160, 0)))
    )
    tokenizer = load_lossless(made.to_str().encode())
    end, size = eos_id(tokenizer), tokenizer.get_vocab_size()
    assert end is not None
    spelling = Spelling(tokenizer, size, end)
    draw = random.Random(0)
    special = {0, 1, end}
    for _ in range(200):
        state, ids = 0, []
        while len(ids) < 12 or state:
            allowed = [
                one
                for one in range(size)
                if spelling.after[state, one] != 255 and one not in special
            ]
            # What cannot be ended is not begun.
            ids.append(draw.choice(allowed))
            state = int(spelling.after[state, ids[-1]])
        assert "\ufffd" not in tokenizer.decode(ids, skip_special_tokens=False)
    texts = ["a é 猫 😀 \U00010348 ࠀ ퟿ \U0010ffff", "看见"]
    for text in texts:
        state = 0
        for one in tokenizer.encode(text).ids:
            state = int(spelling.after[state, one])
            assert state != 255
        assert state == 0


def test_a_model_that_knows_little_writes_whole_characters(bundle: Bundle) -> None:
    strange = ["猫 é 😀 the", "zzz qqq", "\u0928\u092e\u0938\u094d\u0924\u0947", "fish 鱼鱼"]
    for beam in (1, 4):
        answered = bundle.predict({"source": strange}, {"beam": beam, "max_tokens": 41})
        assert all("\ufffd" not in text for text in answered["translation"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("targets", 100_000, "its dictionary has targets that are no tokens|cannot be run"),
        ("offsets", -3, "the offsets of its dictionary are none|cannot be run"),
    ],
)
def test_a_dictionary_that_is_none_is_refused_where_a_bundle_is_loaded(
    name: str, value: int, said: str, tokens: Path, tmp_path: Path
) -> None:
    fit(job(tokens, tmp_path, training=TrainingConfig(max_epochs=1)), lambda event: None)
    bundle = Bundle.load(tmp_path / "out" / "bundle")
    getattr(bundle.network.head.lexical, name)[7] = value
    folder = tmp_path / "hostile"
    save_bundle(
        folder,
        bundle.network,
        tokenizer_json=bundle.tokenizer_json,
        windowing=bundle.windowing,
        facts=bundle.facts,
    )
    with pytest.raises(BundleError, match=said):
        Bundle.load(folder)
