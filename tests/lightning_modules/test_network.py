"""Properties that hold for every encoder."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from data_contracts.model_config import ModelConfig, MultiplicativeNoise
from lightning_modules.encoders import _Permute, reversal
from lightning_modules.network import TextNetwork, build_network
from lightning_modules.reparameterizations import fold, redraw, reparameterize, set_mode
from lightning_modules.training import network_description

ENCODERS = {
    "tanh": {"kind": "tanh", "hidden_size": 6},
    "bilstm_attention": {"kind": "bilstm_attention", "hidden_size": 5, "num_layers": 2},
    "transformer": {"kind": "transformer", "num_layers": 2, "num_heads": 2, "feedforward_size": 12},
}
every_encoder = pytest.mark.parametrize("encoder", ENCODERS)
LENGTHS = torch.tensor([7, 1, 4])


def make(encoder: str) -> TextNetwork:
    torch.manual_seed(1)
    config = ModelConfig(embedding_dim=8, encoder=ENCODERS[encoder])
    return build_network(network_description(config, vocab_size=30, num_classes=3, max_length=12)).eval()


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
    torch.testing.assert_close(network(make_batch(width=12, fill=5), LENGTHS), expected, rtol=1e-5, atol=1e-6)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = network(make_batch()[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(alone[0], expected[row], rtol=1e-5, atol=1e-6)


@every_encoder
def test_padding_never_changes_gradients(encoder: str) -> None:
    network, gradients = make(encoder), []
    for width, fill in ((7, 0), (12, 9)):
        network.zero_grad()
        network(make_batch(width, fill), LENGTHS).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == dict(network.named_parameters()).keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


@every_encoder
def test_order_matters_where_it_should(encoder: str) -> None:
    network, ids = make(encoder), torch.tensor([[3, 4, 5, 6]])
    lengths = torch.tensor([4])
    same = torch.allclose(network(ids, lengths), network(ids.flip(1), lengths), atol=1e-6)
    assert same == (encoder == "tanh"), "the tanh encoder is a bag of tokens, the others are not"


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
    own = [m for m in folded.modules() if not type(m).__module__.startswith(("torch.nn", "lightning_modules.enc"))]
    assert own == [folded]
    assert not any("alpha" in name for name in folded.state_dict())


def test_directions_may_differ_in_size() -> None:
    """What a method that removes units at fold would leave behind loads like any other network."""
    description = make("bilstm_attention").describe()
    description["encoder"]["hidden_sizes"] = [[5, 3], [2, 4]]
    assert build_network(description).describe() == description


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
        torch.testing.assert_close(found[row, :length], expected[row, :length], rtol=1e-4, atol=1e-6)


def test_permutation_gradcheck() -> None:
    x = torch.randn(3, 4, 2, dtype=torch.double, requires_grad=True)
    index = reversal(torch.tensor([4, 1, 3]), 4)
    assert torch.equal(_Permute.apply(x, index)[0], x[0].flip(0))
    assert torch.autograd.gradcheck(lambda x: _Permute.apply(x, index), (x,))
    assert torch.autograd.gradgradcheck(lambda x: _Permute.apply(x, index), (x,))


def test_shipped_files_import_nothing_of_the_training_side() -> None:
    """They travel inside the registered model, where neither Lightning nor pyarrow nor pydantic need be present."""
    blocked = ("pytorch_lightning", "torchmetrics", "pyarrow", "pydantic", "data_contracts", "tasks", "flows", "mlflow")
    code = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "import lightning_modules.bundle\n"
        "print(sorted(m for m in sys.modules if m.startswith('lightning_modules.')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    expected = ["lightning_modules.bundle", "lightning_modules.encoders", "lightning_modules.network"]
    assert found.stdout.strip() == str(expected)
