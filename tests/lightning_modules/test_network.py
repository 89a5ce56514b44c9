"""Properties that hold for every encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

import lightning_modules
from data_contracts.recipe.methods import MultiplicativeNoise, Reparameterization
from data_contracts.recipe.model import ModelConfig
from lightning_modules.network.encoders.lstm import _Permute, reversal
from lightning_modules.network.encoders.ngrams import NgramFeatures
from lightning_modules.network.network import TextNetwork, build_network
from lightning_modules.reparameterizations import fold, redraw, reparameterize, set_mode
from lightning_modules.shipping import shipped_files
from lightning_modules.starting.vectors import BiasedEmbedding
from lightning_modules.training.begin import body_description
from tests.lightning_modules.jobs import classification

ENCODERS = {
    "tanh": {"kind": "tanh", "hidden_size": 6},
    "lstm": {"kind": "lstm", "hidden_size": 5, "num_layers": 2},
    "bilstm_attention": {"kind": "bilstm_attention", "hidden_size": 5, "num_layers": 2},
    "transformer": {"kind": "transformer", "num_layers": 2, "num_heads": 2, "feedforward_size": 12},
}
every_encoder = pytest.mark.parametrize(
    "encoder", [*ENCODERS, "tanh+ngrams", "lstm+ngrams", "tanh+wide"]
)
LENGTHS = torch.tensor([7, 1, 4])


def make(encoder: str) -> TextNetwork:
    torch.manual_seed(1)
    kind, _, part = encoder.partition("+")
    ngrams = {"buckets": 64, "max_n": 3, "size": 4} if part == "ngrams" else None
    config = ModelConfig(embedding={"size": 8}, encoder=ENCODERS[kind], ngrams=ngrams)
    objective = classification(wide={"buckets": 64, "max_n": 3} if part == "wide" else None)
    body = body_description(config, vocab_size=30, max_length=12)
    network = build_network({**body, **objective.head()}).eval()
    if network.ngrams:
        nn.init.normal_(network.ngrams.table.weight)  # which starts at 0
    if network.head.wide:
        nn.init.normal_(network.head.wide.table.weight)
        network.head.wide.weigh([(make_batch(), LENGTHS)])
    return network


def make_batch(width: int = 7, fill: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 30, (3, 12), generator=generator)[:, :width]
    return torch.where(torch.arange(width) < LENGTHS[:, None], ids, fill)


@every_encoder
def test_padding_never_changes_logits(encoder: str) -> None:
    """Neither what stands in the padding, nor how wide it is, nor the other rows of the batch."""
    network = make(encoder)
    expected = network(make_batch(), LENGTHS)
    assert expected.shape == (3, 3)
    torch.testing.assert_close(network(make_batch(fill=17), LENGTHS), expected, rtol=0, atol=0)
    torch.testing.assert_close(
        network(make_batch(width=12, fill=5), LENGTHS), expected, rtol=1e-5, atol=1e-6
    )
    for row, length in enumerate(LENGTHS.tolist()):
        alone = network(make_batch()[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(alone[0], expected[row], rtol=1e-5, atol=1e-6)


@every_encoder
def test_padding_never_changes_gradients(encoder: str) -> None:
    network, gradients = make(encoder), []
    for width, fill in ((7, 0), (12, 9)):
        network.zero_grad()
        network(make_batch(width, fill), LENGTHS).square().sum().backward()
        gradients.append(
            {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        )
    assert gradients[0].keys() == {
        name for name, p in network.named_parameters() if p.requires_grad
    }
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


@every_encoder
def test_order_matters_where_it_should(encoder: str) -> None:
    network, ids = make(encoder), torch.tensor([[3, 4, 5, 6]])
    lengths = torch.tensor([4])
    same = torch.allclose(network(ids, lengths), network(ids.flip(1), lengths), atol=1e-6)
    assert same == (encoder == "tanh"), "the tanh encoder alone is a bag of tokens"


@every_encoder
def test_description_builds_the_same_network(encoder: str) -> None:
    network = make(encoder)
    description = json.loads(json.dumps(network.describe()))
    again = build_network(description).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(make_batch(), LENGTHS), network(make_batch(), LENGTHS))
    noisy = reparameterize(make(encoder), MultiplicativeNoise())
    assert noisy.describe() == network.describe()


@every_encoder
def test_folded_network_is_plain_and_equals_mean(encoder: str) -> None:
    network = reparameterize(make(encoder), MultiplicativeNoise())
    set_mode(network, "sample")
    redraw(network, 3)
    sampled = network(make_batch(), LENGTHS)
    folded = fold(network)
    set_mode(network, "mean")
    assert torch.equal(folded(make_batch(), LENGTHS), network(make_batch(), LENGTHS))
    assert not torch.equal(sampled, folded(make_batch(), LENGTHS))
    plain = ("torch.nn", "lightning_modules.network", "lightning_modules.kinds")
    assert not [m for m in folded.modules() if not type(m).__module__.startswith(plain)]
    assert not any("alpha" in name for name in folded.state_dict())


def test_directions_may_differ_in_size() -> None:
    """What a method that removes units at fold would leave behind loads like any other network."""
    description = make("bilstm_attention").describe()
    description["encoder"]["hidden_sizes"] = [[5, 3], [2, 4]]
    assert build_network(description).describe() == description


def test_lstm_puts_out_the_state_at_each_documents_last_token() -> None:
    """Reference: nn.LSTM(num_layers=2) over pack_padded_sequence with the same weights; its last
    hidden state.
    """
    encoder, x = make("lstm").encoder, torch.randn(3, 7, 8)
    reference = nn.LSTM(8, 5, num_layers=2, batch_first=True)
    with torch.no_grad():
        for index, layer in enumerate(encoder.layers):
            for name, weight in layer.named_parameters():
                getattr(reference, name.replace("_l0", f"_l{index}")).copy_(weight)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    _, (state, _) = reference(packed)
    mask = torch.arange(7) < LENGTHS[:, None]
    torch.testing.assert_close(encoder(x, LENGTHS, mask), state[-1], rtol=1e-5, atol=1e-6)


def test_ngram_features_are_the_mean_over_the_documents_own_ngrams() -> None:
    """Against the formula in Python integers, document by document."""
    features = make("tanh+ngrams").ngrams
    assert features is not None
    ids, found = make_batch(), features(make_batch(fill=9), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        buckets = buckets_of(ids[row, :length].tolist())
        expected = features.table.weight[torch.tensor(buckets)].mean(dim=0)
        torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-6)


def buckets_of(document: list[int]) -> list[int]:
    """Buckets of 64 of all n-grams of up to three tokens, by the formula of NgramFeatures."""
    buckets = []
    for n in (1, 2, 3):
        for start in range(len(document) - n + 1):
            state = 0
            for token in document[start : start + n]:
                state = (state + token + 1) * 0x9E3779B97F4A7C15 % 2**64
                signed = state - 2**64 if state >= 2**63 else state
                state = (signed ^ (signed >> 29)) % 2**64
            signed = state - 2**64 if state >= 2**63 else state
            buckets.append(signed % 64)
    return buckets


def test_wide_logits_are_those_of_tfidf_over_the_documents_own_ngrams() -> None:
    """Against scikit-learn on the same counts: its idf, its sublinear counts, its norm; what
    training never met is out.

    Each document is told by itself, so an n-gram of one alone is met by that one only.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    wide, ids = (
        make("tanh+wide").head.wide,
        torch.randint(1, 30, (3, 12), generator=torch.Generator().manual_seed(4)),
    )
    assert wide is not None
    documents = [make_batch()[row, :length].tolist() for row, length in enumerate(LENGTHS.tolist())]
    counts = torch.tensor(
        [[buckets_of(document).count(bucket) for bucket in range(64)] for document in documents]
    )
    reference, met = TfidfTransformer(sublinear_tf=True).fit(counts), (counts > 0).any(dim=0)
    torch.testing.assert_close(wide.idf.double()[met], torch.from_numpy(reference.idf_)[met])
    assert not wide.idf[~met].any()
    new = torch.tensor(
        [[buckets_of(row).count(bucket) for bucket in range(64)] for row in ids.tolist()]
    )
    assert (new[:, ~met] > 0).any()
    share = torch.from_numpy(reference.transform(new * met).toarray()).float()
    found = wide(ids, torch.full((3,), 12))
    torch.testing.assert_close(found, 10 * share @ wide.table.weight, rtol=1e-5, atol=1e-5)
    wide.idf.zero_()
    assert not wide(ids, torch.full((3,), 12)).any(), (
        "a document of unknown n-grams gets nothing, and no NaN"
    )


def test_ngrams_spread_over_their_buckets() -> None:
    """All pairs of 200 ids fill as many of 65,536 buckets as 40,000 random throws do (29,950 +-
    85), within 4 sigma.
    """
    features = NgramFeatures({"buckets": 65_536, "max_n": 2, "size": 1})
    with torch.no_grad():
        features.table.weight.copy_(torch.arange(65_536.0).unsqueeze(1))
    first, second = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    pairs, lengths = torch.stack([first, second], dim=-1).view(-1, 2), torch.full((40_000,), 2)
    one = torch.arange(200).unsqueeze(1)
    unigram = features(one, torch.ones(200, dtype=torch.long)).round()
    bigram = 3 * features(pairs, lengths) - unigram[pairs[:, 0]] - unigram[pairs[:, 1]]
    assert abs(len(bigram.round().unique()) - 29_950) < 4 * 85


@pytest.mark.parametrize(
    ("method", "dropout"),
    [({"kind": "none"}, 0.0), ({"kind": "none"}, 0.3), ({"kind": "multiplicative_noise"}, 0.0)],
)
def test_embedding_bias_joins_the_table_at_fold(method: dict[str, Any], dropout: float) -> None:
    network = make("lstm")
    network.embedding = BiasedEmbedding(network.embedding)
    before = network(make_batch(), LENGTHS)
    torch.testing.assert_close(make("lstm")(make_batch(), LENGTHS), before, rtol=0, atol=0)
    reparameterize(network, TypeAdapter(Reparameterization).validate_python(method), dropout)
    with torch.no_grad():
        network.embedding.bias.normal_()
    set_mode(network, "sample")
    redraw(network, 3)
    network(make_batch(), LENGTHS).sum().backward()
    assert network.embedding.bias.grad.abs().min() > 0
    set_mode(network, "mean")
    folded = fold(network)
    assert type(folded.embedding) is nn.Embedding
    assert torch.equal(folded(make_batch(), LENGTHS), network(make_batch(), LENGTHS))
    assert not torch.equal(folded(make_batch(), LENGTHS), before)
    assert torch.equal(fold(folded).embedding.weight, folded.embedding.weight)
    assert folded.state_dict().keys() == make("lstm").state_dict().keys()
    build_network(folded.describe()).load_state_dict(folded.state_dict())


def test_bilstm_equals_torch_on_packed_sequences() -> None:
    """Reference: nn.LSTM(bidirectional=True) over pack_padded_sequence with the same weights."""
    encoder = make("bilstm_attention").encoder
    reference = nn.LSTM(8, 5, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for name, weight in encoder.forwards[0].named_parameters():
            getattr(reference, name).copy_(weight)
        for name, weight in encoder.backwards[0].named_parameters():
            getattr(reference, f"{name}_reverse").copy_(weight)
    x = torch.randn(3, 7, 8)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    index = reversal(LENGTHS, 7)
    back = _Permute.apply(encoder.backwards[0](_Permute.apply(x, index))[0], index)
    found = torch.cat([encoder.forwards[0](x)[0], back], dim=-1)
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(
            found[row, :length], expected[row, :length], rtol=1e-4, atol=1e-6
        )


def test_permutation_gradcheck() -> None:
    x = torch.randn(3, 4, 2, dtype=torch.double, requires_grad=True)
    index = reversal(torch.tensor([4, 1, 3]), 4)
    assert torch.equal(_Permute.apply(x, index)[0], x[0].flip(0))
    assert torch.autograd.gradcheck(lambda x: _Permute.apply(x, index), (x,))
    assert torch.autograd.gradgradcheck(lambda x: _Permute.apply(x, index), (x,))


def test_shipped_files_import_nothing_of_the_training_side() -> None:
    """They travel inside the registered model, where neither Lightning nor pyarrow nor pydantic
    need be present.
    """
    blocked = (
        "pytorch_lightning",
        "torchmetrics",
        "pyarrow",
        "pydantic",
        "data_contracts",
        "tasks",
        "flows",
        "mlflow",
    )
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "import lightning_modules.bundle\n"
        "from lightning_modules.kinds.heads import head_class\n"
        "head_class('classify')\n"
        "names = [m for m in sys.modules if m.startswith('lightning_modules.')]\n"
        "print(*sorted(sys.modules[name].__file__ for name in names), sep='\\n')"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    shipped = set(map(str, shipped_files("classify")))
    assert set(found.stdout.split()) == shipped - {lightning_modules.__file__}
