"""What holds for every network that writes: cached or not, alone or among others, stopped or not."""

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
from torch import Tensor

from data_contracts.artifacts import WindowingFacts
from data_contracts.errors import RecipeError
from data_contracts.kinds.generate import Generate
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.sections import ExecutionConfig, TrainingConfig
from data_contracts.recipe.tokenizer import CharacterTokenizer
from lightning_modules.bundle import Bundle, save_bundle
from lightning_modules.kinds.answering import AskedWronglyError
from lightning_modules.kinds.base import objective_of
from lightning_modules.kinds.generate import scoring
from lightning_modules.kinds.generate.objective import LanguageModel, windows
from lightning_modules.kinds.generate.writing import Piece, Reader, Style, write
from lightning_modules.network.tokenizer import load_lossless
from lightning_modules.network.windows import Windowing
from lightning_modules.reparameterizations import fold, redraw, set_mode
from lightning_modules.training.begin import starting_network
from lightning_modules.training.data import TokenData
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
from tasks.vocabulary import train_tokenizer

FACTS = {"form": "text", "template": "{prompt}"}
WINDOWING = Windowing(max_length=24, overlap=8)
EMBEDDING = {"size": 16, "init_std": 1.0}
ENCODERS: dict[str, dict[str, Any]] = {
    "lstm": {"kind": "lstm", "hidden_size": 24, "num_layers": 2},
    "transformer": {
        "kind": "causal_transformer", "num_layers": 2, "num_heads": 2, "feedforward_size": 32,
    },
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "multiplicative_noise": {"kind": "multiplicative_noise"},
    "gaussian_posterior": {"kind": "gaussian_posterior"},
    "weight_norm": {"kind": "weight_norm"},
    "sigma_reparam": {"kind": "sigma_reparam"},
    "sparse": {"kind": "sparse"},
}
NEAR = {"rtol": 1e-4, "atol": 1e-5}  # of float32 sums in another order


def texts(count: int, seed: int) -> list[str]:
    """Sentences of few words, in two languages, of very different lengths."""
    draw = random.Random(seed)
    words = ["the cat ", "a dog ", "saw ", "it. ", "猫", "看见了", "狗。", "\n"]
    return ["".join(draw.choices(words, k=draw.choice([1, 3, 8, 40]))) for _ in range(count)]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    made = train_tokenizer(CharacterTokenizer(), lambda: iter([texts(60, 0)]))
    (folder / "tokenizer.json").write_text(made.to_str())
    tokenizer = load_lossless(made.to_str().encode())
    objective = objective_of(Generate(), FACTS)
    for seed, (split, count) in enumerate({"train": 60, "valid": 12, "test": 12}.items()):
        rows = pa.table({"id": [f"{split}-{i}" for i in range(count)], "text": texts(count, seed)})
        pq.write_table(objective.encode(rows, tokenizer, WINDOWING), folder / f"{split}.parquet")
    return folder


def job(tokens: Path, folder: Path, **changes: Any) -> TrainingJob:
    settings: dict[str, Any] = {
        "tokens": tokens,
        "facts": FACTS,
        "vocab_size": load_lossless((tokens / "tokenizer.json").read_bytes()).get_vocab_size(),
        "windowing": WindowingFacts.model_validate(WINDOWING),
        "task": Generate(),
        "model": model("lstm", "multiplicative_noise"),
        "training": TrainingConfig(max_epochs=2, batch_size=8),
        "execution": ExecutionConfig(accelerator="cpu"),
        "work": folder / "work",
        "out": folder / "out",
    }
    return TrainingJob(**{**settings, **changes})


def model(encoder: str, method: str) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "embedding": EMBEDDING,
            "encoder": ENCODERS[encoder],
            "reparameterization": METHODS[method],
        }
    )


@pytest.fixture(scope="module", params=ENCODERS)
def bundle(
    request: pytest.FixtureRequest, tokens: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A trained one of each encoder, with noise on its weights, folded."""
    folder = tmp_path_factory.mktemp("trained")
    fit(job(tokens, folder, model=model(request.param, "multiplicative_noise")), lambda event: None)
    return Bundle.load(folder / "out" / "bundle")


def documents(tokens: Path, split: str = "test") -> list[scoring.Document]:
    table = pq.read_table(tokens / f"{split}.parquet")
    lists = table["input_ids"].combine_chunks()
    columns = {name: table[name].to_numpy() for name in ("context", "bytes")}
    lengths, numbers = np.diff(lists.offsets.to_numpy()), table["window"].to_numpy()
    return list(scoring.documents(lists.flatten().to_numpy(), lengths, numbers, columns))


# --- cached, alone, whole ---


def test_a_text_read_step_by_step_is_the_text_read_at_once(bundle: Bundle) -> None:
    """The state that is carried is all that counts: also past the context of a Transformer."""
    ids = [bundle.network.head.eos_id, *bundle.lossless_tokenizer.encode("the cat saw 猫 " * 9).ids]
    assert len(ids) > 3 * WINDOWING.max_length
    whole, _ = bundle.network.read(torch.tensor([ids]))
    reader = Reader(bundle)
    with torch.inference_mode():
        contexts = bundle.network.head.contexts(torch.tensor([ids]))[0]
        at_once = bundle.network.head.next_log_proba(whole[0], contexts)
        for place, token in enumerate(ids):
            step = reader.read([token])
            np.testing.assert_allclose(step, at_once[place].double().numpy(), **NEAR)
            assert math.isclose(float(np.exp(step).sum()), 1.0, rel_tol=1e-4)


def test_what_is_carried_does_not_grow_with_the_text(bundle: Bundle) -> None:
    reader = Reader(bundle)
    sizes = []
    with torch.inference_mode():
        for _ in range(4):
            reader.read([5] * WINDOWING.max_length)
            sizes.append(sum(one.numel() for one in _tensors(reader.carry)))
    assert sizes[1] == sizes[2] == sizes[3]


def _tensors(carry: Any) -> Iterator[Tensor]:
    if isinstance(carry, Tensor):
        yield carry
    elif isinstance(carry, list | tuple):
        for part in carry:
            yield from _tensors(part)


def test_a_completion_is_the_same_alone_and_in_any_batch_order_and_split(bundle: Bundle) -> None:
    prompts = ["the cat", "", "猫看见了", "a dog saw the cat " * 8, "\n"]
    params = {"max_tokens": 30}
    together = bundle.predict({"prompt": prompts}, params)
    for row, prompt in enumerate(prompts):
        alone = bundle.predict({"prompt": [prompt]}, params)
        assert {name: values[row] for name, values in together.items()} == {
            name: values[0] for name, values in alone.items()
        }
    turned = bundle.predict({"prompt": prompts[::-1]}, params)
    assert turned["completion"][::-1] == together["completion"]


def test_documents_are_judged_alike_alone_and_among_others(bundle: Bundle, tokens: Path) -> None:
    given = documents(tokens)
    together = scoring.evidence_of(bundle.network, given, 15)
    for one, evidence in zip(given, together, strict=True):
        (alone,) = scoring.evidence_of(bundle.network, [one], 15)
        np.testing.assert_allclose(alone[:, :4], evidence[:, :4], **NEAR)
        assert evidence[:, scoring.TOKENS].sum() == len(one.ids) - one.first
        assert math.isclose(evidence[:, scoring.BYTES].sum(), one.bytes)


def test_a_model_that_goes_on_counting_is_judged_and_writes_alike(
    bundle: Bundle, tokens: Path
) -> None:
    """The log-probability of what it writes is what it says of that text; and no text sees
    another.
    """
    facts = bundle.facts
    bundle.facts = {**facts, "adaptive": True}
    try:
        prompts = ["the cat saw it. the cat", "猫"]
        params = {"max_tokens": 40, "temperature": 0}
        together = bundle.predict({"prompt": prompts}, params)
        alone = bundle.predict({"prompt": prompts[1:]}, params)
        assert together["completion"][1] == alone["completion"][0]
        tokenizer, head = bundle.lossless_tokenizer, bundle.network.head
        before = [head.eos_id, *tokenizer.encode(prompts[0]).ids]
        ids = [*before, *tokenizer.encode(together["completion"][0]).ids]
        if together["finish_reason"][0] == "end":
            ids.append(head.eos_id)
        given = [scoring.Document(np.array(ids), len(before), 1), *documents(tokens)[:4]]
        evidence = scoring.evidence_of(bundle.network, given, 15, adaptive=True)
        said = pytest.approx(together["log_probability"][0], rel=1e-4)
        assert -evidence[0][:, scoring.NATS].sum() == said
        for one, among in zip(given, evidence, strict=True):
            (by_itself,) = scoring.evidence_of(bundle.network, [one], 15, adaptive=True)
            np.testing.assert_allclose(by_itself[:, :4], among[:, :4], **NEAR)
        static = scoring.evidence_of(bundle.network, given, 15)
        assert not np.allclose(static[0], evidence[0], rtol=1e-3)
    finally:
        bundle.facts = facts


def test_a_sample_is_a_function_of_model_prompt_seed_and_position(bundle: Bundle) -> None:
    def said(**params: Any) -> str:
        return bundle.predict({"prompt": ["the "]}, {"max_tokens": 40, **params})["completion"][0]

    torch.manual_seed(1)
    one = said(seed=1)
    torch.manual_seed(2)
    np.random.seed(3)
    assert said(seed=1) == one
    assert said(seed=2) != one
    assert one.startswith(said(seed=1, max_tokens=11))


def test_what_is_streamed_is_what_is_answered(bundle: Bundle) -> None:
    long = (seed for seed in range(100) if len(_pieces(bundle, seed)) > 10)
    seed = next(long)
    pieces = _pieces(bundle, seed)
    whole = pieces[-1].written
    assert whole is not None
    assert "".join(piece.text for piece in pieces) == whole.text
    assert len([piece for piece in pieces if piece.text]) > 5
    answer = bundle.predict(
        {"prompt": ["the cat 猫"]}, {"max_tokens": 60, "temperature": 1.0, "seed": seed}
    )
    assert answer["completion"] == [whole.text]


def _pieces(bundle: Bundle, seed: int) -> list[Piece]:
    return list(write(bundle, "the cat 猫", Style(max_tokens=60, temperature=1.0, seed=seed)))


def test_the_log_probability_of_a_completion_is_that_of_its_tokens(bundle: Bundle) -> None:
    answer = bundle.predict({"prompt": ["a dog "]}, {"max_tokens": 25, "temperature": 0})
    tokenizer, head = bundle.lossless_tokenizer, bundle.network.head
    before = [head.eos_id, *tokenizer.encode("a dog ").ids]
    ids = [*before, *tokenizer.encode(answer["completion"][0]).ids]
    if answer["finish_reason"] == ["end"]:
        ids.append(head.eos_id)
    document = scoring.Document(np.array(ids), len(before), 1)
    (evidence,) = scoring.evidence_of(bundle.network, [document], 15)
    assert evidence[0, scoring.TOKENS] == answer["tokens"][0]
    assert -evidence[0, scoring.NATS] == pytest.approx(answer["log_probability"][0], rel=1e-4)
    assert evidence[0, scoring.HITS] == answer["tokens"][0], "temperature 0 takes the likeliest"


# --- training ---


def test_the_loss_of_a_batch_is_the_sum_of_those_of_its_rows(tokens: Path, tmp_path: Path) -> None:
    """No document sees another, and no row its neighbours or its padding."""
    for encoder in ENCODERS:
        work = job(tokens, tmp_path, model=model(encoder, "none"))
        network, objective, data = start(work)
        table = data.table("train")
        rows = np.arange(len(table))[:20]
        together = objective.loss(network, objective.batch(table, rows))
        single = [objective.loss(network, objective.batch(table, rows[i : i + 1])) for i in rows]
        assert together.terms == sum(one.terms for one in single)
        alone = sum(float(one.nats.detach()) for one in single)
        assert float(together.nats.detach()) == pytest.approx(alone, rel=1e-5)


def start(work: TrainingJob) -> tuple[Any, LanguageModel, TokenData]:
    objective = objective_of(work.task, work.facts)
    assert isinstance(objective, LanguageModel)
    data = TokenData(work.tokens, objective, batch_size=8, seed=0)
    objective.prepare(data.table("train"))
    torch.manual_seed(0)
    network, _ = starting_network(work, objective, data, lambda event: None)
    return network, objective, data


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_method_trains_it_and_folds_into_plain_layers(
    encoder: str, method: str, tokens: Path, tmp_path: Path
) -> None:
    work = job(
        tokens, tmp_path, model=model(encoder, method), training=TrainingConfig(max_epochs=1)
    )
    result = fit(work, lambda event: None)
    assert math.isfinite(result.validation["val/bits_per_byte"])
    shipped = Bundle.load(work.out / "bundle")
    assert shipped.predict({"prompt": ["the"]}, {"max_tokens": 5})["tokens"][0] >= 1
    network, _, _ = start(work)
    set_mode(network, "mean")
    redraw(network, 0)
    plain = fold(copy.deepcopy(network))
    ids = torch.randint(3, 20, (2, 18))
    with torch.no_grad():
        mean, folded = network(ids, torch.tensor([18, 9])), plain(ids, torch.tensor([18, 9]))
    torch.testing.assert_close(mean, folded, **NEAR)


CHILD = """
import os, signal, sys
from pathlib import Path
from lightning_modules.training import recorder
from lightning_modules.training.fit import fit
from lightning_modules.training.job import TrainingJob
recorder.PROGRESS_SECONDS = 0.0
def die(event):
    if event["event"] == "progress" and event["step"] == 17:
        os.kill(os.getpid(), signal.SIGKILL)
fit(TrainingJob.read(Path(sys.argv[1])), die)
"""


@pytest.mark.parametrize("encoder", ENCODERS)
def test_killed_in_mid_epoch_it_ends_where_an_unbroken_one_ends(
    encoder: str, tokens: Path, tmp_path: Path
) -> None:
    changes = {
        "model": model(encoder, "multiplicative_noise"),
        "execution": ExecutionConfig(accelerator="cpu", checkpoint_every_steps=5),
    }
    unbroken = fit(job(tokens, tmp_path / "whole", **changes), lambda event: None)
    assert unbroken.steps // 2 not in range(15, 18), "step 17 is in mid-epoch"
    work = job(tokens, tmp_path / "killed", **changes)
    (tmp_path / "killed").mkdir()
    work.write(tmp_path / "job.json")
    command = [sys.executable, "-c", CHILD, str(tmp_path / "job.json")]
    child = subprocess.run(command, capture_output=True, timeout=180, env={**os.environ})
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    heard: list[dict[str, Any]] = []
    again = fit(work, heard.append)
    assert heard[0] == {"event": "resumed", "step": 15, "total_steps": unbroken.steps}
    assert again == unbroken


def test_another_night_begins_with_the_champion_and_counts_anew(
    bundle: Bundle, tokens: Path, tmp_path: Path
) -> None:
    facts = bundle.facts
    folder = tmp_path / "champion"
    save_bundle(
        folder,
        bundle.network,
        tokenizer_json=bundle.tokenizer_json,
        windowing=bundle.windowing,
        facts=facts,
    )
    kind = bundle.network.encoder.describe()["kind"]
    encoder = "lstm" if kind == "lstm" else "transformer"
    work = job(
        tokens,
        tmp_path,
        model=model(encoder, "none"),
        task=Generate.model_validate({"counted": {"order": 3}}),
        start=folder,
    )
    network, _, _ = start(work)
    head = network.head
    assert torch.equal(head.decoder.weight, bundle.network.head.decoder.weight)
    assert len(head.counted.sizes) == 3
    assert head.counted.sizes[1][0] > 5


# --- rows ---


def test_every_token_is_predicted_once_whatever_the_window() -> None:
    draw = random.Random(0)
    for _ in range(300):
        length = draw.choice([2, 3, 24, 25, 26, 60, 200])
        first = draw.randint(1, length - 1)
        ids = [-1, *range(1, length)]
        rows = list(windows(ids, first, WINDOWING))
        predicted = [one for row, context in rows for one in row[context:]]
        assert predicted == ids[first:]
        assert all(len(row) <= WINDOWING.max_length + 1 for row, _ in rows)
        assert rows[0][0][0] == -1
        for row, context in rows[1:]:
            assert context > WINDOWING.overlap
            assert row == list(range(row[0], row[0] + len(row)))


def test_of_a_pair_the_completion_alone_is_learnt(tokens: Path) -> None:
    facts = {"form": "pairs", "template": "Q: {prompt}\nA: "}
    objective = LanguageModel(Generate(), facts)
    tokenizer = load_lossless((tokens / "tokenizer.json").read_bytes())
    rows = pa.table({"id": ["a"], "prompt": ["the cat"], "completion": ["saw it."]})
    (row,) = objective.encode(rows, tokenizer, Windowing(max_length=100, overlap=8)).to_pylist()
    given, learnt = row["input_ids"][: row["context"]], row["input_ids"][row["context"] :]
    assert tokenizer.decode(given[1:], skip_special_tokens=False) == "Q: the cat\nA: "
    assert tokenizer.decode(learnt[:-1], skip_special_tokens=False) == "saw it."
    assert given[0] == learnt[-1] == tokenizer.token_to_id("[EOS]")
    assert row["bytes"] == len("saw it.")


# --- how it is asked ---


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"temperature": -1}, "temperature is -1, and has to be 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan, and has to be 0 or more"),
        ({"temperature": "hot"}, "temperature is 'hot', and has to be a number"),
        ({"top_p": 0}, "top_p is 0, which leaves no token"),
        ({"top_k": 1.5}, "top_k is 1.5, and has to be a whole number"),
        ({"max_tokens": 0}, "max_tokens is 0, and has to be from 1 to 1e+06"),
        ({"repetition_penalty": 0.5}, "repetition_penalty is 0.5, and has to be from 1 to 1e+06"),
        ({"stop": [""]}, "stop has to be texts of 1 to 200 characters"),
        ({"beams": 4}, "beams is none of max_tokens"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    bundle: Bundle, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(AskedWronglyError) as refused:
        bundle.predict({"prompt": ["the"]}, params)
    assert said in str(refused.value)


def test_each_parameter_bites(bundle: Bundle) -> None:
    def answer(**params: Any) -> dict[str, Any]:
        found = bundle.predict({"prompt": ["the cat "]}, {"max_tokens": 60, "seed": 1, **params})
        return {name: values[0] for name, values in found.items()}

    likeliest = answer(temperature=0)
    assert answer(temperature=0, seed=9) == likeliest
    assert answer(top_k=1)["completion"] == likeliest["completion"]
    assert answer(top_p=1e-9)["completion"] == likeliest["completion"]
    hot = answer(temperature=1e9)
    assert hot["log_probability"] < 1.5 * answer(temperature=1)["log_probability"]
    tokenizer = bundle.lossless_tokenizer

    def repeats(text: str) -> int:
        ids = tokenizer.encode(text).ids
        runs = list(zip(ids, ids[1:], ids[2:], strict=False))
        return len(runs) - len(set(runs))

    assert repeats(likeliest["completion"]) > 3
    assert repeats(answer(temperature=0, no_repeat_ngram=3)["completion"]) == 0
    penalized = answer(temperature=0, repetition_penalty=3.0)
    assert repeats(penalized["completion"]) < repeats(likeliest["completion"])


def test_a_stop_ends_a_text_before_it_and_one_that_never_comes_does_not(bundle: Bundle) -> None:
    params = {"max_tokens": 50, "temperature": 0}
    free = bundle.predict({"prompt": ["the cat "]}, params)
    text = free["completion"][0]
    stop = text[4:7]
    stopped = bundle.predict({"prompt": ["the cat "]}, {**params, "stop": [stop, "never"]})
    assert stopped["completion"] == [text[: text.index(stop)]]
    assert stopped["finish_reason"] == ["stop"]
    never = bundle.predict({"prompt": ["the cat "]}, {**params, "stop": "never there"})
    assert never["completion"] == free["completion"]
    assert never["finish_reason"][0] in ("length", "end")


def test_a_prompt_that_is_null_has_no_answer_and_an_empty_one_has(bundle: Bundle) -> None:
    answers = bundle.predict({"prompt": [None, ""]}, {"max_tokens": 3})
    assert [one is None for one in answers["completion"]] == [True, False]
    assert answers["tokens"][0] is None


def test_special_words_in_a_prompt_are_text(bundle: Bundle) -> None:
    def said(text: str) -> list[int]:
        return bundle.lossless_tokenizer.encode(text).ids

    assert bundle.network.head.eos_id not in said("[EOS][PAD]")
    assert bundle.lossless_tokenizer.decode(said("[EOS] é 😀\n")) == "[EOS] é 😀\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model": {"encoder": {"kind": "bilstm_attention"}}},
            "bilstm_attention reads what stands",
        ),
        ({"model": {"ngrams": {}}}, "model.ngrams are of whole documents"),
        ({"window": {"max_length": 32, "overlap": 2}}, "window.overlap has to be 5 or more"),
        ({"tokenizer": {"kind": "word"}}, "lossless"),
        (
            {"task": {"kind": "generate", "counted": None, "adaptive": True}},
            "task.adaptive goes on",
        ),
        (
            {"distillation": {"teacher": "other"}},
            "task.kind generate learns from no teacher",
        ),
    ],
)
def test_a_recipe_that_cannot_write_is_refused(changes: dict[str, Any], said: str) -> None:
    from data_contracts.recipe.reading import parse_recipe

    recipe = {
        "name": "letters",
        "task": {"kind": "generate"},
        "source": {"kind": "files", "url": "texts/*.txt"},
        "contract": {"kind": "generate", "name": "letters"},
        **changes,
    }
    with pytest.raises(RecipeError, match=said):
        parse_recipe(recipe, origin="here")


# --- a pretrained backbone ---


@pytest.fixture(scope="module")
def backbone(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small causal one, made from its configuration, which knows the corpus' characters."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("backbone")
    size = load_lossless((tokens / "tokenizer.json").read_bytes()).get_vocab_size()
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=32, bos_token_id=2,
        eos_token_id=2,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapted(backbone: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Trained by low-rank factors that carry noise."""
    folder = tmp_path_factory.mktemp("adapted")
    config = {
        "encoder": {"kind": "pretrained", "path": str(backbone)},
        "reparameterization": {
            "kind": "low_rank", "rank": 4, "noise": {"kind": "multiplicative_noise"},
        },
    }  # fmt: skip
    work = job(tokens, folder, model=ModelConfig.model_validate(config))
    fit(work, lambda event: None)
    return Bundle.load(folder / "out" / "bundle")


def test_a_backbone_says_what_it_said_where_it_was_trained(
    backbone: Path, tokens: Path, tmp_path: Path
) -> None:
    import transformers

    plain = {"kind": "none"}
    encoder = {"kind": "pretrained", "path": str(backbone)}
    model = ModelConfig.model_validate({"encoder": encoder, "reparameterization": plain})
    without = Generate.model_validate({"counted": None})
    network, _, _ = start(job(tokens, tmp_path, model=model, task=without))
    given = transformers.GPT2LMHeadModel.from_pretrained(backbone).eval()
    ids = torch.randint(3, 20, (1, 17))
    network.eval()
    set_mode(network, "mean")
    with torch.no_grad():
        expected = given(ids).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(network(ids, torch.tensor([17]))[0], expected, **NEAR)


def test_a_backbone_read_step_by_step_is_the_one_read_at_once(adapted: Bundle) -> None:
    ids = [adapted.network.head.eos_id, *adapted.lossless_tokenizer.encode("the cat saw it").ids]
    reader = Reader(adapted)
    with torch.inference_mode():
        whole, _ = adapted.network.read(torch.tensor([ids]))
        contexts = adapted.network.head.contexts(torch.tensor([ids]))[0]
        at_once = adapted.network.head.next_log_proba(whole[0], contexts)
        for place, token in enumerate(ids):
            step = reader.read([token])
            np.testing.assert_allclose(step, at_once[place].double().numpy(), **NEAR)


def test_a_backbone_goes_on_past_its_positions(adapted: Bundle) -> None:
    """With the later half of what they held; and a prompt that is longer is read whole."""
    answer = adapted.predict({"prompt": ["the cat", "a dog saw " * 20]}, {"max_tokens": 90})
    assert all(isinstance(text, str) for text in answer["completion"])
    assert answer["tokens"][0] > 32 or answer["finish_reason"][0] == "end"
    again = adapted.predict({"prompt": ["the cat"]}, {"max_tokens": 90})
    assert again["completion"][0] == answer["completion"][0]
