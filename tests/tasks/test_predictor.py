"""The recurrent part of both tasks: which cell, and how its weights are drawn."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from lightning_lyap.tasks.predictor import CELLS, build_recurrent

SIZES: dict[str, Any] = {"input_size": 5, "hidden_size": 40, "num_layers": 2, "bias": True}
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN, "rnn_relu": nn.RNN}


def plain(cell: str) -> nn.RNNBase:
    """PyTorch's own module, as it initializes it."""
    options = {"nonlinearity": "relu"} if cell == "rnn_relu" else {}
    module: nn.RNNBase = KINDS[cell](**SIZES, batch_first=True, **options)
    return module


@pytest.mark.parametrize("cell", CELLS)
def test_kind_and_sizes(cell: str) -> None:
    module = build_recurrent(cell, **SIZES, init_p=0.1)
    assert type(module) is KINDS[cell]
    assert {name: getattr(module, name) for name in SIZES} == SIZES
    assert module.batch_first
    assert module.dropout == 0
    assert not module.bidirectional
    if isinstance(module, nn.RNN):
        assert module.nonlinearity == ("relu" if cell == "rnn_relu" else "tanh")


@pytest.mark.parametrize("init_p", [0.08, 0.48, 3.0])
@pytest.mark.parametrize("cell", CELLS)
def test_weights_of_all_layers_are_uniform(cell: str, init_p: float) -> None:
    """Moments within five standard errors of those of the uniform distribution on [-p, p]."""
    module = build_recurrent(cell, **SIZES, init_p=init_p)
    weights = [p for name, p in module.named_parameters() if name.startswith("weight")]
    assert len(weights) == 2 * SIZES["num_layers"]
    for weight in weights:
        x = weight.detach().flatten() / init_p
        assert x.abs().max() <= 1
        assert x.abs().max() > 1 - 20 / len(x)
        assert abs(x.mean()) < 5 / math.sqrt(3 * len(x))
        assert abs(x.square().mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / len(x))


@pytest.mark.parametrize("cell", CELLS)
def test_biases_keep_pytorchs_initialization(cell: str) -> None:
    torch.manual_seed(3)
    expected = dict(plain(cell).named_parameters())
    torch.manual_seed(3)
    built = dict(build_recurrent(cell, **SIZES, init_p=0.1).named_parameters())
    assert set(built) == set(expected)
    for name, parameter in built.items():
        same = torch.equal(parameter, expected[name])
        assert same == name.startswith("bias"), name


@pytest.mark.parametrize("cell", CELLS)
def test_without_biases(cell: str) -> None:
    module = build_recurrent(cell, **SIZES | {"bias": False}, init_p=0.1)
    assert all(name.startswith("weight") for name, _ in module.named_parameters())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cell": "LSTM"}, ValueError, r"\('lstm', 'gru', 'rnn', 'rnn_relu'\), but got 'LSTM'"),
        ({"hidden_size": 0}, ValueError, "`hidden_size` to be at least 1, but got 0"),
        ({"hidden_size": 2.0}, TypeError, "`hidden_size` to be an int, but got 2.0"),
        ({"num_layers": 0}, ValueError, "`num_layers` to be at least 1, but got 0"),
        ({"init_p": 0}, ValueError, r"`init_p` in \(0, inf\), but got 0"),
        ({"init_p": -0.1}, ValueError, r"`init_p` in \(0, inf\), but got -0.1"),
        ({"init_p": math.nan}, ValueError, r"`init_p` in \(0, inf\), but got nan"),
        ({"init_p": "0.1"}, TypeError, "`init_p` to be a number, but got '0.1'"),
    ],
)
def test_arguments_are_checked(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_recurrent(**{"cell": "lstm", **SIZES, "init_p": 0.1} | changes)
