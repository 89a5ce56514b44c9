"""The embedding started from a pretrained model's own: which table, which pieces, how projected,
what is refused.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModel

from data_contracts.errors import NoisefoldError, RecipeError, TrainingError
from data_contracts.recipe.files import is_backbone
from data_contracts.recipe.model import ModelConfig
from data_contracts.recipe.reading import rebase
from data_contracts.recipe.sections import TrainingConfig
from lightning_modules.bundle import Bundle
from lightning_modules.starting.backbone import input_embeddings
from lightning_modules.starting.vectors import project_vectors
from tests.lightning_modules.conftest import WORDS
from tests.lightning_modules.jobs import fit

PIECES = [
    "[PAD]",
    "[UNK]",
    "good",
    "##ness",
    "bad",
    "table",
    "word",
    "电",
    *(f"##{i}" for i in range(10)),
]
OURS = ["[PAD]", "[UNK]", "Good", "goodness", "bad", "电", "zzz", "word4"]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece({piece: row for row, piece in enumerate(PIECES)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_truncation(
        1
    )  # as such files often have it; a token's pieces must not be cut by it
    return tokenizer


def byte_level(words: list[str]) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: row for row, piece in enumerate([*alphabet, *words])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "g"), ("g", "o")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def ours(tokens: list[str] = OURS) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordLevel({token: row for row, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]"])
    return tokenizer


def written(
    folder: Path,
    tokenizer: Tokenizer,
    table: torch.Tensor,
    name: str = "embeddings.word_embeddings",
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(
        {f"{name}.weight": table, "encoder.layer.0.weight": torch.zeros(2, 2)},
        folder / "model.safetensors",
    )
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    table = torch.randn(len(PIECES), 16, generator=torch.Generator().manual_seed(3))
    return written(tmp_path / "bert", wordpiece(), table), table


def test_a_token_starts_as_the_mean_of_its_pieces_and_distances_are_kept(
    bert: tuple[Path, torch.Tensor],
) -> None:
    """Five tokens span four dimensions, so a projection to four is a rotation."""
    folder, pretrained = bert
    table = torch.full((len(OURS), 4), 77.0)
    found = project_vectors(table, ours(), str(folder), std=0.1)
    assert found.tolist() == [False, False, True, True, True, True, False, True]
    assert (table[~found] == 77).all()
    rows = {piece: row for row, piece in enumerate(PIECES)}
    pieces = [["good"], ["good", "##ness"], ["bad"], ["电"], ["word", "##4"]]
    means = torch.stack([pretrained[[rows[piece] for piece in one]].mean(dim=0) for one in pieces])
    assert table[found].std() == pytest.approx(0.1, rel=1e-5)
    assert table[found].mean(dim=0).abs().max() < 1e-6
    ratio = torch.pdist(table[found]) / torch.pdist(means)
    assert torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-4)
    again = torch.zeros_like(table)
    project_vectors(again, ours(), str(folder), std=0.1)
    assert torch.equal(again[found], table[found])


def test_a_projection_keeps_the_directions_of_most_variance(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(len(PIECES), 16, generator=generator) * torch.tensor(
        [5.0, 3.0] + [0.01] * 14
    )
    folder = written(tmp_path / "m", wordpiece(), table)
    out = torch.zeros(len(OURS), 2)
    found = project_vectors(
        out, ours(["[PAD]", "[UNK]", "good", "bad", "table", "word", "电"]), str(folder), std=1.0
    )
    kept = torch.pdist(table[[2, 4, 5, 6, 7], :2])
    ratio = torch.pdist(out[:7][found[:7]]) / kept
    assert ratio.std() / ratio.mean() < 0.01


def test_a_word_of_a_byte_level_model_is_looked_up_as_it_stands_in_running_text(
    tmp_path: Path,
) -> None:
    tokenizer = byte_level(["Ġg", "go"])
    rows = tokenizer.get_vocab_size()
    table = torch.randn(rows, 8, generator=torch.Generator().manual_seed(1))
    folder = written(tmp_path / "gpt2", tokenizer, table, name="transformer.wte")
    tokens = ["[PAD]", "[UNK]", "g", "电", "a"]
    out = torch.zeros(len(tokens), 2)
    found = project_vectors(out, ours(tokens), str(folder), std=1.0)
    assert found.tolist() == [False, False, True, True, True]
    expected = torch.stack(
        [table[tokenizer.encode(text).ids].mean(dim=0) for text in (" g", "电", " a")]
    )
    ratio = torch.pdist(out[2:]) / torch.pdist(expected)
    assert torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        lambda: transformers.BertConfig(vocab_size=18, **SIZES),
        lambda: transformers.RobertaConfig(vocab_size=18, **SIZES),
        lambda: transformers.ModernBertConfig(
            vocab_size=18,
            pad_token_id=0,
            cls_token_id=1,
            sep_token_id=2,
            bos_token_id=1,
            eos_token_id=2,
            **SIZES,
        ),
        lambda: transformers.LlamaConfig(vocab_size=18, **SIZES),
        lambda: transformers.Qwen2Config(vocab_size=18, num_key_value_heads=2, **SIZES),
        lambda: transformers.GPT2Config(vocab_size=18, n_embd=16, n_layer=1, n_head=2),
        lambda: transformers.T5Config(
            vocab_size=18, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
        ),
    ],
    ids=["bert", "roberta", "modernbert", "llama", "qwen2", "gpt2", "t5"],
)
@pytest.mark.parametrize("shards", ["one file", "several"])
def test_the_table_is_the_one_that_transformers_looks_tokens_up_in(
    tmp_path: Path, config: Any, shards: str
) -> None:
    model = AutoModel.from_config(config())
    model.save_pretrained(tmp_path, max_shard_size="5GB" if shards == "one file" else "2KB")
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards == "several")
    _, table = input_embeddings(str(tmp_path))
    assert torch.equal(table, model.get_input_embeddings().weight.detach())


def test_half_precision_weights_are_read(bert: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder = written(tmp_path / "half", wordpiece(), bert[1].bfloat16())
    assert input_embeddings(str(folder))[1].dtype == torch.float32


def test_models_that_give_no_vectors_are_refused_with_what_is_wrong(
    bert: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder, table = bert

    def refused(
        match: str, path: Path | str, size: int = 4, kind: type[NoisefoldError] = RecipeError
    ) -> None:
        with pytest.raises(kind, match=f"model.embedding.vectors.*{match}"):
            project_vectors(torch.zeros(len(OURS), size), ours(), str(path), std=1.0)

    refused("its vectors have size 16, and model.embedding.size is 32", folder, 32)
    refused("knows 5 of the 8 tokens: too few for 6 components", folder, 6, TrainingError)
    refused(
        "no such file or folder, and no config.json of that name in the local Hugging Face cache",
        "owner/absent",
    )
    other = written(tmp_path / "other", wordpiece(), table, name="projection")
    refused("none of its weights is a table of input embeddings", other)
    refused(
        "the tokenizer has 18 tokens, the table 5 rows",
        written(tmp_path / "short", wordpiece(), table[:5]),
    )
    torn = Path(shutil.copytree(folder, tmp_path / "torn"))
    (torn / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    refused("cannot be read", torn)
    (torn / "tokenizer.json").write_text("{}")
    refused("cannot be read", torn)
    (torn / "tokenizer.json").unlink()
    refused("has no tokenizer.json", torn)
    code = Path(shutil.copytree(folder, tmp_path / "code"))
    (code / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}}))
    refused("brings its own code", code)
    (code / "config.json").unlink()
    refused("has no config.json", code)


def test_a_recipe_may_name_a_file_a_folder_or_a_model_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "minilm").mkdir()
    (tmp_path / "vectors").write_text("good 1 2\n")

    def of(value: str) -> str:
        return rebase({"model": {"embedding": {"vectors": value}}}, tmp_path)["model"]["embedding"][
            "vectors"
        ]

    assert of("minilm") == str(tmp_path / "minilm")
    assert of("glove.txt") == str(tmp_path / "glove.txt"), (
        "a missing file is named with its whole path"
    )
    assert of("owner/model") == "owner/model"
    expected = {"minilm": True, "glove.txt": False, "owner/model": True, "vectors": False}
    assert {name: is_backbone(of(name)) for name in expected} == expected
    assert not is_backbone(str(tmp_path / "absent")), "an absolute path is no name of the hub"


def test_a_training_starts_from_a_backbone_and_its_identity_is_the_content(
    arguments: dict[str, Any], bert: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder, _ = bert
    events: list[dict[str, Any]] = []
    training = TrainingConfig(max_epochs=1, learning_rate=1e-9)
    settings = {**arguments, "on_progress": events.append, "training": training}

    def model(path: Path) -> ModelConfig:
        return ModelConfig(
            embedding={"size": 8, "vectors": str(path)},
            encoder={"kind": "tanh"},
            reparameterization={"kind": "none"},
        )

    def run(path: Path, name: str) -> Bundle:
        fit(model=model(path), work=tmp_path / "w", out=tmp_path / name, **settings)
        return Bundle.load(tmp_path / name / "bundle")

    first = run(folder, "o1")
    table = torch.zeros(2 + len(WORDS), 8)
    found = project_vectors(
        table, first.tokenizer, str(folder), std=ModelConfig().embedding.init_std
    )
    assert torch.allclose(
        first.network.state_dict()["embedding.weight"][found], table[found], atol=1e-5
    )
    assert first.meta["train/vector_coverage_vocabulary"] == pytest.approx(
        found.float().mean().item()
    )
    assert ["Word vectors" in event["message"] for event in events if event["event"] == "note"] == [
        True
    ]

    moved = Path(shutil.move(folder, tmp_path / "moved"))
    events.clear()
    assert run(moved, "o2").digest == first.digest
    assert "resumed" in {event["event"] for event in events}, (
        "the same model elsewhere is the same training"
    )
    before = model(moved).identity()
    tokenizer = wordpiece()
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.save(str(moved / "tokenizer.json"))
    assert model(moved).identity() != before, (
        "another tokenizer of the backbone gives other vectors"
    )
