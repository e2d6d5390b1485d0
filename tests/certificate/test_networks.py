"""Another network measured than the one given: the states alone tell."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from lightning_lyap.dynamics import LayerChoice, torch_modules
from lightning_lyap.dynamics.gates import GateWeights
from tests.cells import INPUT_SIZE, LAYERS, build, sequences
from tests.exposing import expose, names


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize(
    ("kind", "order"), [("lstm", [1, 0, 2, 3]), ("lstm", [0, 1, 3, 2]), ("gru", [1, 0, 2])]
)
@pytest.mark.parametrize("cell", [False, True])
def test_planted_weights_read_in_the_wrong_order(
    kind: str, order: list[int], cell: bool, layers: LayerChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All consistent but for the states: another network is measured."""

    def planted(module: Any, suffix: str, state: Any, dtype: torch.dtype) -> Any:
        layer: Any = read(module, suffix, state, dtype)
        ih, hh = (
            GateWeights(weight.rows[order].flatten(0, 1), len(order))
            for weight in (layer.weight_ih, layer.weight_hh)
        )
        return replace(layer, weight_ih=ih, weight_hh=hh)

    read = torch_modules._read_layer
    monkeypatch.setattr(torch_modules, "_read_layer", planted)
    cells: dict[str, Any] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}
    module = cells[kind](INPUT_SIZE, 5).double() if cell else build(kind, num_layers=2)
    estimate = expose(module, sequences(2, 6), "states", layers=layers)
    assert names(estimate) == {"states"}


class Halved(nn.Module):
    """A forward pass with another step than torch's."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        output, h = super().forward(input, hx)
        return output, h / 2


class HalvedRNN(Halved, nn.RNN):
    """A tanh network with another step than torch's."""


class HalvedGRU(Halved, nn.GRU):
    """A GRU with another step than torch's."""


class BackwardLSTM(nn.LSTM):
    """A network that reads its sequences from their end."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(input.flip(1 if self.batch_first else 0), hx)


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [HalvedRNN, HalvedGRU, BackwardLSTM])
def test_subclass_with_a_forward_pass_of_its_own(
    kind: Any, batch_first: bool, layers: LayerChoice
) -> None:
    module = kind(INPUT_SIZE, 5, 2, batch_first=batch_first)
    estimate = expose(module, sequences(2, 6, torch.float32), "states", layers=layers)
    assert names(estimate) == {"states"}
