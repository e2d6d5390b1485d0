"""Weights that torch's hooks compute before each forward pass are read as they will be."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from lightning_lyap import lyapunov_spectrum, register_recurrence, spectra_of, unregister_recurrence
from lightning_lyap.dynamics.evaluation_mode import as_evaluated
from tests.compare import assert_near

F64 = torch.float64
X = torch.randn(3, 20, 2, dtype=F64)


def pruned(module: Any, name: str) -> None:
    prune.l1_unstructured(module, name, 0.3)


def twice_pruned(module: Any, name: str) -> None:
    prune.l1_unstructured(module, name, 0.3)
    prune.random_unstructured(module, name, 0.2)


KINDS: list[Callable[..., Any]] = [pruned, twice_pruned, weight_norm, spectral_norm]


def changed(kind: Callable[..., Any], module: Any, name: str = "weight_hh_l0") -> Any:
    """Let a weight be computed, and change what it is computed from, as an optimizer does."""
    kind(module, name)
    module.eval()
    with torch.no_grad():
        source = getattr(module, f"{name}_g" if kind is weight_norm else f"{name}_orig")
        source.copy_(1.5 * source + 0.1 * torch.randn_like(source))
    return module


def after_a_forward_pass(module: Any) -> nn.RNN:
    """Return a plain network with the weights that a forward pass leaves behind."""
    plain = nn.RNN(2, 4, batch_first=True, dtype=F64)
    with torch.no_grad():
        module(X)
        for name, weight in plain.named_parameters():
            weight.copy_(getattr(module, name))
    return plain


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
class TestWeightsComputedByHooks:
    def test_are_those_of_the_next_forward_pass(self, kind: Callable[..., Any]) -> None:
        module = changed(kind, nn.RNN(2, 4, batch_first=True, dtype=F64))
        got = lyapunov_spectrum(module, X)
        inside = spectra_of(nn.Sequential(module), X)["0"]
        stale = lyapunov_spectrum(nn.RNN(2, 4, dtype=F64), X)
        expected = lyapunov_spectrum(after_a_forward_pass(module), X)
        assert_near(got.exponents, expected.exponents, 1e-12)
        assert_near(inside.exponents, expected.exponents, 1e-12)
        assert got.certificate.passed
        assert (stale.exponents - expected.exponents).abs().max() > 1e-2

    def test_leave_the_module_as_it_is(self, kind: Callable[..., Any]) -> None:
        module = changed(kind, nn.RNN(2, 4, batch_first=True, dtype=F64)).train()
        attributes = dict(vars(module))
        flat = list(module._flat_weights)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        lyapunov_spectrum(module, X)
        assert vars(module).keys() == attributes.keys()
        assert all(vars(module)[name] is value for name, value in attributes.items())
        assert all(a is b for a, b in zip(module._flat_weights, flat, strict=True))
        assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())

    def test_of_a_registered_step(self, kind: Callable[..., Any], own_kind: Any) -> None:
        module = changed(kind, own_kind(), "weight")
        with torch.no_grad():
            got = lyapunov_spectrum(module, torch.zeros(2, 10, 0, dtype=F64))
            module.train(False)
            module(torch.zeros(2, 0, dtype=F64), torch.zeros(2, 4, dtype=F64))
            expected = torch.linalg.slogdet(module.weight).logabsdet
        assert_near(got.exponents.sum(), expected, 1e-10)


@pytest.fixture
def own_kind() -> Iterator[Any]:
    class Linear(nn.Module):
        """A linear map whose weight is read without a call."""

        def __init__(self) -> None:
            super().__init__()
            # Entries of different sizes: what pruning takes away leaves it regular.
            weight = torch.diag(torch.arange(1.0, 5.0)) + torch.arange(16.0).reshape(4, 4) / 20
            self.weight = nn.Parameter(weight.to(F64) / 5)

        def forward(self, x: Any, h: Any) -> Any:
            return h @ self.weight.mT

        def advance(self, x: Any, h: Any) -> Any:
            return h @ self.weight.mT

    def zeros(module: Any, batch_size: int) -> Any:
        return torch.ones(batch_size, 4, dtype=F64)

    register_recurrence(Linear, step=lambda module: module.advance, initial_state=zeros)
    yield Linear
    unregister_recurrence(Linear)


def test_own_weights_come_back_after_an_error() -> None:
    module = nn.RNN(2, 4, dtype=F64)
    pruned(module, "weight_hh_l0")
    own = module.weight_hh_l0

    def fail() -> None:
        with as_evaluated(module):
            assert module.weight_hh_l0 is not own
            assert module._flat_weights[1] is module.weight_hh_l0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert module.weight_hh_l0 is own
    assert module._flat_weights[1] is own
