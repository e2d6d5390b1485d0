"""The states beside those of the module's own forward pass: whose they are, and how near."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap.certificate.forward_pass import forward_check
from lightning_lyap.dynamics import as_dynamics
from tests.cells import F64, INPUT_SIZE, build, multiply_weights, sequences
from tests.healthy import ALL, measure
from tests.registering import registered


def test_subclass_with_torchs_forward_pass_is_healthy() -> None:
    class Named(nn.LSTM):
        """Nothing new but the name."""

    assert measure(Named(INPUT_SIZE, 5), sequences(2, 6, torch.float32)).states is not None


class OutputAlone(nn.GRU):
    """A forward pass that takes and gives no state."""

    def forward(self, input: Any) -> Any:  # type: ignore[override]
        return super().forward(input)[0]


class OutputForState(nn.LSTM):
    """A forward pass whose second result is no state."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        output, _ = super().forward(input, hx)
        return output, 3


@pytest.mark.parametrize("kind", [OutputAlone, OutputForState])
def test_forward_passes_of_another_form_are_not_compared(kind: Any) -> None:
    certificate = measure(kind(INPUT_SIZE, 5), sequences(2, 6, torch.float32))
    assert set(certificate.checks) == ALL - {"states"}


def test_registered_subclass_is_measured_by_its_step() -> None:
    """Its states are those of the step it was registered with, not of torch's forward pass."""

    def step_of_it(module: Any) -> Any:
        return lambda x, h: torch.tanh(h + x[:, :1])

    zeros = lambda module, batch: torch.zeros(batch, 5)  # noqa: E731

    class Own(nn.GRU):
        def forward(self, input: Any, hx: Any = None) -> Any:
            return super().forward(input, hx)[0]

    with registered(Own, step=step_of_it, initial_state=zeros, sequences=True):
        certificate = measure(Own(INPUT_SIZE, 5), sequences(2, 6, torch.float32))
    assert set(certificate.checks) == ALL - {"sum_rule"} | {"precision"}


def test_derived_cell_with_its_own_step_is_differentiated() -> None:
    class Clipped(nn.GRUCell):
        def forward(self, input: Tensor, hx: Any = None) -> Tensor:
            return super().forward(input, hx) / 2

    certificate = measure(Clipped(INPUT_SIZE, 5).double(), sequences(2, 6))
    assert set(certificate.checks) == ALL - {"sum_rule"} | {"precision"}


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_states_of_chaotic_networks_may_grow_apart(kind: str) -> None:
    """The bound follows what the network makes of a small difference, and no further."""
    bounds = []
    for factor in (0.5, 20.0):
        module = multiply_weights(build(kind, num_layers=2, hidden_size=20), factor)
        x = sequences(8, 4)
        check = forward_check(module, as_dynamics(module), x, None)
        assert check is not None
        bounds.append(check.bound)
    assert bounds[0] == pytest.approx(1e3 * torch.finfo(F64).eps)
    assert bounds[0] < bounds[1] < 1e-3
