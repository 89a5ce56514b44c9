"""A Hugging Face backbone under every method: the library's own outputs, whatever the padding,
whole in its bundle.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from data_contracts.errors import RecipeError
from data_contracts.kinds.classify import Classify
from data_contracts.recipe.files import digest
from data_contracts.recipe.model import ModelConfig, PretrainedConfig
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.bundle import Bundle
from lightning_modules.kinds.base import objective_of
from lightning_modules.kinds.classify.answering import predict_proba
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.reparameterizations import fold, redraw, reparameterize, set_mode
from lightning_modules.reparameterizations.layers import Reparameterized
from lightning_modules.starting.backbone import describe, load_weights
from lightning_modules.training import recorder
from lightning_modules.training.warm_start import warm_start
from tests.lightning_modules.jobs import fit

VOCABULARY, POSITIONS = 48, 16
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
BERT = {**COMMON, "intermediate_size": 64, "max_position_embeddings": POSITIONS}
LLAMA = {**BERT, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
BACKBONES: dict[str, Any] = {
    "bert": lambda: transformers.BertConfig(**BERT),
    # Its positions count from pad_token_id + 1.
    "roberta": lambda: transformers.RobertaConfig(
        **{**BERT, "max_position_embeddings": POSITIONS + 2},
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=POSITIONS,
        bos_token_id=2,
        eos_token_id=2,
    ),
    "llama": lambda: transformers.LlamaConfig(**LLAMA),
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA),
}
DROPOUT = {"dropout": 0.2}
METHODS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "dropout": {"kind": "none"},
    "multiplicative_noise": {"kind": "multiplicative_noise"},
    "low_rank": {"kind": "low_rank", "rank": 4},
    "noisy_low_rank": {
        "kind": "low_rank",
        "rank": 4,
        "targets": "attention",
        "noise": {"kind": "multiplicative_noise"},
    },
}
LABELS = ("negative", "positive", "neither")
DOCUMENTS = [[5, 6, 7, 8, 9, 10, 11], [3], [40, 41, 42], [7, 7, 7, 7]]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders as save_pretrained writes them."""
    folders = {}
    for kind, config in BACKBONES.items():
        torch.manual_seed(0)
        folders[kind] = tmp_path_factory.mktemp(kind)
        model = AutoModel.from_config(config())
        with torch.no_grad():  # far from the small, symmetric weights of a fresh model
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_pretrained(folders[kind])
    return folders


def make(folder: Path, method: str | None = None, **config: Any) -> TextNetwork:
    chosen = PretrainedConfig(path=str(folder), **config)
    torch.manual_seed(1)
    network = build_network({"encoder": describe(chosen), "num_classes": 3})
    load_weights(network, chosen, vocab_size=VOCABULARY, max_length=POSITIONS)
    if method:
        reparameterization = ModelConfig.model_validate(
            {"encoder": chosen, "reparameterization": METHODS[method]}
        )
        network = reparameterize(
            network, reparameterization.reparameterization, DROPOUT.get(method, 0.0)
        )
    return network.eval()


def padded(documents: list[list[int]], filler: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, documents)) + 2
    rows = [[*ids, *[filler] * (width - len(ids))] for ids in documents]
    return torch.tensor(rows), torch.tensor([len(ids) for ids in documents])


@torch.no_grad()
def by_hand(folder: Path, network: TextNetwork, pooling: str) -> torch.Tensor:
    """Logits through the library alone, one document at a time, with no padding."""
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    for ids in DOCUMENTS:
        h_TH = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        rows.append({"mean": h_TH.mean(dim=0), "cls": h_TH[0], "last": h_TH[-1]}[pooling])
    return torch.stack(rows) @ network.head.decoder.weight.T + network.head.decoder.bias


@pytest.mark.parametrize(
    ("kind", "pooling", "expected"),
    [
        *[(kind, "auto", "mean") for kind in ("bert", "roberta")],
        *[(kind, "auto", "last") for kind in ("gpt2", "llama", "qwen2")],
        *[("bert", pooling, pooling) for pooling in ("cls", "last")],
        ("gpt2", "mean", "mean"),
    ],
)
@torch.no_grad()
def test_logits_are_those_of_the_library_whatever_the_padding(
    backbones: dict[str, Path], kind: str, pooling: str, expected: str
) -> None:
    network = make(backbones[kind], pooling=pooling)
    logits = network(*padded(DOCUMENTS))
    torch.testing.assert_close(
        logits, by_hand(backbones[kind], network, expected), atol=2e-6, rtol=1e-5
    )
    torch.testing.assert_close(network(*padded(DOCUMENTS, filler=33)), logits, atol=0, rtol=0)


def takes(kind: str, method: str) -> bool:
    """GPT-2 keeps its weights in layers of transformers' own, which low_rank alone knows."""
    return kind != "gpt2" or method in ("none", "low_rank", "noisy_low_rank")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "qwen2"])
def test_methods_start_from_the_pretrained_function_and_fold_back_to_it(
    backbones: dict[str, Path], kind: str, method: str
) -> None:
    plain, inputs = make(backbones[kind]), padded(DOCUMENTS)
    if not takes(kind, method):
        with pytest.raises(RecipeError, match="Conv1D"):
            make(backbones[kind], method)
        return
    network = make(backbones[kind], method)
    with torch.no_grad():
        torch.testing.assert_close(network(*inputs), plain(*inputs), atol=2e-6, rtol=1e-5)
    set_mode(network, "sample")
    redraw(network, 3)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(*inputs)[:, 0].sum().backward()
        optimizer.step()
    set_mode(network, "mean")
    with torch.no_grad():
        moved, folded = network(*inputs), fold(network)
        assert (moved - plain(*inputs)).abs().max() > 1e-3
        assert not [layer for layer in folded.modules() if isinstance(layer, Reparameterized)]
        torch.testing.assert_close(folded(*inputs), moved, atol=1e-6, rtol=0)
        again = build_network(json.loads(json.dumps(folded.describe()))).eval()
        again.load_state_dict(folded.state_dict())
        torch.testing.assert_close(again(*inputs), folded(*inputs), atol=0, rtol=0)


def test_low_rank_leaves_the_backbone_frozen(backbones: dict[str, Path]) -> None:
    network = make(backbones["bert"], "low_rank")
    before = {name: p.clone() for name, p in network.named_parameters() if not p.requires_grad}
    network(*padded(DOCUMENTS)).sum().backward()
    assert any("word_embeddings" in name for name in before)
    assert all(network.get_parameter(name).grad is None for name in before), (
        "no gradient is computed for them"
    )


WIDE = Classify.model_validate(
    {"wide": {"buckets": 200, "max_n": 2, "naive_bayes": True, "share": 0.4}}
)


def model(folder: Path, method: str = "low_rank", **parts: Any) -> ModelConfig:
    chosen = {
        "encoder": {"path": str(folder)},
        "dropout": DROPOUT.get(method, 0.0),
        "reparameterization": METHODS[method],
    }
    return ModelConfig.model_validate({**chosen, **parts})


def training(**changes: Any) -> TrainingConfig:
    settings = {
        "max_epochs": 2,
        "batch_size": 16,
        "learning_rate": 0.02,
    }
    return TrainingConfig(**{**settings, **changes})


@pytest.mark.parametrize(
    ("kind", "method"), [("bert", "low_rank"), ("qwen2", "noisy_low_rank"), ("gpt2", "none")]
)
def test_fine_tuning_learns_and_its_bundle_holds_the_whole_model(
    backbones: dict[str, Path], arguments: dict[str, Any], tmp_path: Path, kind: str, method: str
) -> None:
    folder = shutil.copytree(backbones[kind], tmp_path / "backbone")
    folds = {"work": tmp_path / "work", "out": tmp_path / "out"}
    result = fit(**arguments, model=model(folder, method), training=training(max_epochs=4), **folds)
    assert result.validation["val/macro_f1"] > 0.5, "the three classes are of one size"
    shutil.rmtree(folder)
    bundle = Bundle.load(tmp_path / "out" / "bundle")
    assert sorted(p.name for p in (tmp_path / "out" / "bundle").iterdir()) == [
        "bundle.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert str(tmp_path) not in (tmp_path / "out" / "bundle" / "bundle.json").read_text()
    texts = ["word1 good word2", "bad", "word3 word4 table", "good " * 30]
    assert [LABELS[row.argmax()] for row in predict_proba(bundle, texts)][1] in LABELS
    alone = [predict_proba(bundle, [text])[0] for text in texts]
    assert abs(predict_proba(bundle, texts) - alone).max() < 1e-6


@pytest.mark.parametrize("method", ["low_rank", "noisy_low_rank", "none", "multiplicative_noise"])
def test_ngrams_learn_beside_a_backbone_and_ship_with_it(
    backbones: dict[str, Path], arguments: dict[str, Any], tmp_path: Path, method: str
) -> None:
    settings = {"model": model(backbones["bert"], method), "task": WIDE}
    fit(**arguments, **settings, training=training(), work=tmp_path / "work", out=tmp_path)
    network = Bundle.load(tmp_path / "bundle").network
    plain = make(backbones["bert"])
    unchanged = torch.equal(next(network.encoder.parameters()), next(plain.encoder.parameters()))
    assert unchanged == ("low_rank" in method), "low rank leaves the backbone's embedding as it was"
    met, wide_BC = network.head.wide.idf > 0, network.head.wide(*padded(DOCUMENTS))
    assert network.describe()["wide"]["rows"] == 200
    assert network.head.wide.table.weight[met].any(dim=1).all(), (
        "every n-gram of the train split has learned"
    )
    assert not network.head.wide.table.weight[~met].any()
    assert type(network.head.wide.table).__name__ == "ClassTable", "the product, without ratios"
    assert wide_BC.std() > 0


@pytest.mark.parametrize("parts", [{}, {"task": WIDE}], ids=["alone", "with n-grams"])
def test_a_killed_fine_tuning_ends_where_an_unbroken_one_ends(
    backbones: dict[str, Path],
    arguments: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parts: dict[str, Any],
) -> None:
    """The backbone's own dropout draws too: it has to be a function of (seed, step)."""
    monkeypatch.setattr(recorder, "PROGRESS_SECONDS", 0.0)
    settings = {"model": model(backbones["bert"]), "training": training(), **parts}
    whole = fit(**arguments, **settings, work=tmp_path / "a", out=tmp_path / "whole")

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == 17:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(
            **{**arguments, "on_progress": stop},
            **settings,
            work=tmp_path / "b",
            out=tmp_path / "broken",
        )
    events: list[dict[str, Any]] = []
    again = {**arguments, "on_progress": events.append}
    resumed = fit(**again, **settings, work=tmp_path / "b", out=tmp_path / "broken")
    assert next(event["step"] for event in events if event["event"] == "resumed") == 15
    assert resumed.bundle_digest == whole.bundle_digest


def test_a_champion_gives_weights_by_name_and_classes_by_label(
    backbones: dict[str, Path], arguments: dict[str, Any], tokenizer_json: bytes, tmp_path: Path
) -> None:
    fit(
        **arguments,
        model=model(backbones["bert"]),
        training=training(),
        work=tmp_path / "w",
        out=tmp_path,
    )
    champion, network = Bundle.load(tmp_path / "bundle").network, make(backbones["bert"])
    names = ("neither", "new", "negative")
    objective = objective_of(Classify(), {"labels": names})
    taken = warm_start(network, objective, tmp_path / "bundle", tokenizer_json)
    assert taken == set(network.state_dict())
    for name, tensor in champion.encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], tensor), name
    assert torch.equal(network.head.decoder.weight[[0, 2]], champion.head.decoder.weight[[2, 0]])


def test_a_backbone_is_known_by_its_content(backbones: dict[str, Path], tmp_path: Path) -> None:
    moved = shutil.copytree(backbones["bert"], tmp_path / "moved")
    assert model(moved).identity() == model(backbones["bert"]).identity()
    assert model(moved, "none").identity() != model(moved).identity()
    state = load_file(moved / "model.safetensors")
    state[min(state)] += 1
    save_file(state, moved / "model.safetensors", {"format": "pt"})
    assert model(moved).identity() != model(backbones["bert"]).identity()


def test_a_hub_name_is_read_from_the_local_cache(
    backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    entry = tmp_path / "models--someone--tiny"
    shutil.copytree(backbones["gpt2"], entry / "snapshots" / ("0" * 40))
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("0" * 40)
    network, same = make(Path("someone/tiny")), make(backbones["gpt2"])
    with torch.no_grad():
        assert torch.equal(network(*padded(DOCUMENTS)), same(*padded(DOCUMENTS)))
    with pytest.raises(RecipeError, match="hf download someone/other"):
        digest("someone/other")


def changed_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_a_layer(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if "layer.1" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("break_", "message"),
    [
        (
            only_a_pickle,
            r"no \*\.safetensors \(pytorch_model\.bin may hold a pickle and is not "
            r"read\).*save_pretrained",
        ),
        (
            lambda folder: changed_config(folder, auto_map={"AutoModel": "code.Model"}),
            r"brings its own code \(auto_map",
        ),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is no JSON"),
        (
            lambda folder: changed_config(folder, model_type="unheard_of"),
            "cannot be read by transformers.*unheard_of",
        ),
        (
            lambda folder: transformers.T5Config().save_pretrained(folder),
            "a t5 model, neither a text encoder nor a causal",
        ),
        (
            lambda folder: transformers.ViTConfig().save_pretrained(folder),
            "a vit model, neither a text encoder nor a causal",
        ),
        (without_a_layer, r"the safetensors lack 16 of its weights \(encoder\.layer\.1"),
        (
            lambda folder: changed_config(folder, intermediate_size=48),
            "cannot be read by transformers",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"{}"),
            "cannot be read by transformers",
        ),
        (shutil.rmtree, "no such file or folder"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(
    backbones: dict[str, Path], tmp_path: Path, break_: Any, message: str
) -> None:
    folder = shutil.copytree(backbones["bert"], tmp_path / "broken")
    break_(folder)
    with pytest.raises(RecipeError, match=rf"(?s)model\.encoder\.path.*{message}"):
        make(folder)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
def test_windows_longer_than_the_positions_are_refused(
    backbones: dict[str, Path], kind: str
) -> None:
    config = PretrainedConfig(path=str(backbones[kind]))
    network = build_network({"encoder": describe(config), "num_classes": 2})
    load_weights(network, config, vocab_size=VOCABULARY, max_length=POSITIONS)
    with torch.no_grad():
        assert (
            network.eval()(torch.full((1, POSITIONS), 5), torch.tensor([POSITIONS]))
            .isfinite()
            .all()
        )
    with pytest.raises(
        RecipeError, match=r"window\.max_length is 17.*Set window\.max_length to 16 or less"
    ):
        load_weights(network, config, vocab_size=VOCABULARY, max_length=POSITIONS + 1)
    with pytest.raises(RecipeError, match=r"49 tokens.*knows 48.*Leave tokenizer\.path out"):
        load_weights(network, config, vocab_size=VOCABULARY + 1, max_length=POSITIONS)


def test_vectors_of_ngrams_are_refused_and_the_wide_table_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"beside a pretrained encoder, n-grams go in task\.wide"):
        model(tmp_path, ngrams={})
    with pytest.raises(ValueError, match=r"embedding\.bias is for models from scratch"):
        model(tmp_path, embedding={"bias": True})
