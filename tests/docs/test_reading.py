"""Reading weights leaves a module as it is, also where reading them is computing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum, spectra_of
from lightning_lyap.callback.measurement import combine_processes
from lightning_lyap.dynamics import as_dynamics
from lightning_lyap.estimator.settings import MeasurementSettings
from tests.cells import INPUT_SIZE

X = torch.linspace(-1, 1, 2 * 6 * INPUT_SIZE).view(2, 6, INPUT_SIZE)
SETTINGS = MeasurementSettings(2, 6, 0, 1, None, "full", "joint", None)


def kept(module: nn.Module) -> list[Any]:
    return [value.tolist() for value in module.state_dict().values()]


def iterated() -> nn.RNNBase:
    """Return a module in training mode whose power iteration is far from its end."""
    torch.manual_seed(1)
    module = nn.GRU(INPUT_SIZE, 5, batch_first=True)
    spectral_norm(module, "weight_hh_l0")
    nn.init.normal_(module.parametrizations.weight_hh_l0.original)  # type: ignore[union-attr,arg-type]
    return module.train()


READERS: dict[str, Callable[[nn.RNNBase], Any]] = {
    "dynamics": as_dynamics,
    "estimator": lambda module: lyapunov_spectrum(module, X),
    "network": lambda module: spectra_of(module, X, num_exponents=2),
    "metric": lambda module: LyapunovSpectrum().update(module, X),
    "expectation": lambda module: LyapunovSpectrum().expect(module),
    "process without a share": lambda module: combine_processes({"rnn": module}, {}, SETTINGS),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_weight_that_changes_when_it_is_read_stays(reader: str) -> None:
    module = iterated()
    before = kept(module)
    READERS[reader](module)
    assert kept(module) == before
    assert all(part.training for part in module.modules())
    assert isinstance(module.weight_hh_l0, torch.Tensor)  # read in training mode
    assert kept(module) != before


def test_the_weights_are_those_of_the_evaluation() -> None:
    module = iterated()
    evaluated = lyapunov_spectrum(module.eval(), X).exponents
    assert torch.equal(lyapunov_spectrum(module.train(), X).exponents, evaluated)
