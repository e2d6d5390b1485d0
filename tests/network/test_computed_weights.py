"""Weights that a network computes as it runs forward are those of the forward pass watched."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lightning_lyap import LyapunovSpectrumCallback, lyapunov_spectrum, spectra_of
from lightning_lyap.dynamics.evaluation_mode import replaced_weights
from tests.compare import assert_near
from tests.networks import FEATURES, Predictor, fit, val_loader
from tests.registering import registered

X = torch.randn(4, 12, FEATURES)
NAMES = ("weight_hh_l0",)


class WeightDrop(nn.Module):
    """Drops recurrent weights in training, as AWD-LSTM does: sets what it computes from ``raw``."""

    def __init__(self, inner: nn.RNNBase, as_parameter: bool = False) -> None:
        super().__init__()
        self.inner: Any = inner
        self.as_parameter = as_parameter
        raw = inner.weight_hh_l0
        assert isinstance(raw, nn.Parameter)
        self.raw = nn.Parameter(raw.detach().clone())
        del inner._parameters["weight_hh_l0"]

    def forward(self, x: Tensor) -> Any:
        weight = nn.functional.dropout(self.raw, 0.5, self.training)
        # A parameter or a plain attribute: both are seen.
        self.inner._parameters.pop("weight_hh_l0", None)
        vars(self.inner).pop("weight_hh_l0", None)
        self.inner.weight_hh_l0 = nn.Parameter(weight.detach()) if self.as_parameter else weight
        return self.inner(x)


class Network(Predictor):
    """Has a weight-dropped network."""

    def __init__(self, as_parameter: bool = False) -> None:
        super().__init__("lstm")
        self.rnn: Any = WeightDrop(self.rnn, as_parameter)


def plain(network: Any) -> nn.LSTM:
    """Return a network of plain parameters with the raw weights."""
    wrapper = network.rnn
    module = nn.LSTM(FEATURES, wrapper.inner.hidden_size, batch_first=True)
    weights = {f"{k}": v for k, v in wrapper.inner.named_parameters() if k not in NAMES}
    module.load_state_dict(weights | {"weight_hh_l0": wrapper.raw})
    return module


@pytest.mark.parametrize("as_parameter", [False, True])
@pytest.mark.parametrize("ran_before", [False, True])
def test_spectra_of_a_weight_dropped_network(as_parameter: bool, ran_before: bool) -> None:
    network = Network(as_parameter)
    if ran_before:
        network(X)  # in training, with weights dropped
        with torch.no_grad():
            network.rnn.raw.mul_(1.5)
    estimate = spectra_of(network, X)["rnn.inner"]
    assert_near(estimate.exponents, lyapunov_spectrum(plain(network), X).exponents, 1e-5)
    assert estimate.certificate.passed
    states = estimate.certificate.states
    assert states is not None
    assert states.residual < 1e-5


def test_callback_measures_a_weight_dropped_network(tmp_path: Path) -> None:
    callback = LyapunovSpectrumCallback(num_sequences=8, num_steps=12)
    _, network = fit(tmp_path, callback, network=Network)
    history = callback.histories["rnn.inner"]
    assert history.failures == []
    x = val_loader().dataset[:8][0]
    expected = lyapunov_spectrum(plain(network), x).exponents
    assert_near(history.spectra[-1].exponents, expected, 1e-4)


class Rescaled(nn.GRU):
    """Its weight is computed by a hook of the user's own."""

    def __init__(self) -> None:
        super().__init__(FEATURES, 5, batch_first=True)
        self.raw = nn.Parameter(self.weight_hh_l0.detach().clone())
        del self._parameters["weight_hh_l0"]
        self.weight_hh_l0: Any = 0 * self.raw.detach()
        self.register_forward_pre_hook(self.compute)

    @staticmethod
    def compute(module: Any, inputs: Any) -> None:
        module.weight_hh_l0 = 2 * module.raw


def test_hook_of_ones_own() -> None:
    network = nn.Sequential(Rescaled())
    own: Any = network[0]
    stale = own.weight_hh_l0
    estimate = spectra_of(network, X)["0"]
    assert own.weight_hh_l0 is stale
    assert estimate.certificate.passed
    own.compute(own, None)
    assert_near(estimate.exponents, lyapunov_spectrum(own, X).exponents, 1e-6)


class Inside(nn.Module):
    """A registered module that computes the weight of a part of its own, in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.cell: Any = nn.GRUCell(FEATURES, 4)
        self.raw = nn.Parameter(self.cell.weight_hh.detach().clone())
        del self.cell._parameters["weight_hh"]

    def forward(self, x: Tensor, h: Any = None) -> Tensor:
        self.cell.weight_hh = 2 * self.raw
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h


def test_part_of_a_registered_module() -> None:
    def zeros(module: Any, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 4)

    with registered(Inside, step=lambda m: m.cell, initial_state=zeros, sequences=True):
        module = Inside()
        estimate = spectra_of(nn.Sequential(module), X)["0"]
    cell = nn.GRUCell(FEATURES, 4)
    weights = dict(module.cell.named_parameters()) | {"weight_hh": 2 * module.raw}
    cell.load_state_dict(weights)
    assert estimate.certificate.passed
    assert_near(estimate.exponents, lyapunov_spectrum(cell, X).exponents, 1e-5)


def test_own_parameters_changed_in_place_since_fail_the_certificate(tmp_path: Path) -> None:
    """Of a network that adapts to what it is validated on, say."""

    class Adapting(Predictor):
        def validation_step(self, *given: Any) -> None:
            super().validation_step(*given)
            self.rnn.get_parameter("weight_hh_l0").mul_(1.2)

    callback = LyapunovSpectrumCallback(num_sequences=8, num_steps=12)
    with pytest.warns(UserWarning, match="its weights have changed since"):
        fit(tmp_path, callback, network=Adapting)
    assert all("states is off" in said["message"] for said in callback.histories["rnn"].failures)


def test_weights_are_put_back() -> None:
    module = nn.RNN(2, 3)
    prune.random_unstructured(module, "weight_hh_l0", 0.5)
    own, flat = module.weight_hh_l0, list(module._flat_weights)
    zeros = torch.zeros(3, 3)
    with replaced_weights(module, {"weight_hh_l0": zeros, "weight_new": zeros}):
        assert module.weight_hh_l0 is zeros
        assert module(torch.randn(4, 2))[0].shape == (4, 3)
    assert module.weight_hh_l0 is own
    assert "weight_new" not in vars(module)
    assert all(a is b for a, b in zip(module._flat_weights, flat, strict=True))
