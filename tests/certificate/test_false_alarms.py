"""Large, coarse and broken weights: no fault of the computation, so the certificate passes."""

import math
import warnings
from typing import Any

import pytest
import torch

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice
from tests.cells import F64, KINDS, build, multiply_weights, sequences
from tests.exposing import FAULTY
from tests.healthy import measure


@pytest.mark.parametrize(("dtype", "layers"), [(torch.float32, "joint"), (F64, "union")])
@pytest.mark.parametrize(("kind", "state"), KINDS)
class TestNoFalseAlarms:
    @pytest.mark.grid(every=5)
    @pytest.mark.parametrize("scale", [0.0, 5.0, 20.0])
    def test_large_weights(
        self, kind: str, state: str, dtype: torch.dtype, layers: LayerChoice, scale: float
    ) -> None:
        """Chaos, saturation, overflow of slopes, dead units, and weights of zero."""
        for seed, every in ((0, 1), (1, "auto")):
            torch.manual_seed(seed)
            module = build(kind, num_layers=2, hidden_size=(16, 5)[seed]).to(dtype)
            multiply_weights(module, scale)
            x = sequences(3, 8, dtype)
            measure(module, x, state=state, layers=layers, orthonormalize_every=every)

    @pytest.mark.grid(every=3)
    @pytest.mark.parametrize("bias", [10.0, 30.0])
    def test_saturated_units(
        self, kind: str, state: str, dtype: torch.dtype, layers: LayerChoice, bias: float
    ) -> None:
        module: Any = build(kind, num_layers=2).to(dtype)
        with torch.no_grad():
            for k in range(2):
                own = getattr(module, f"bias_ih_l{k}")
                own.copy_(bias * torch.randn_like(own).sign())
        measure(module, sequences(3, 8, dtype), state=state, layers=layers)


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    module = build(kind, num_layers=2, hidden_size=32).to(dtype)
    certificate = measure(module, sequences(3, 8, torch.float32))
    assert certificate.states is not None
    assert certificate.states.residual > 0
    assert 0.05 <= certificate.states.bound < 0.5


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l1", "bias_hh_l1"])
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_broken_weights_are_announced_once(kind: str, name: str, bad: float) -> None:
    module = build(kind, num_layers=2)
    with torch.no_grad():
        getattr(module, name).view(-1)[0] = bad
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        estimate = lyapunov_spectrum(module, sequences(2, 6))
    messages = [str(w.message) for w in record if issubclass(w.category, RuntimeWarning)]
    assert len(messages) <= 1  # an infinite bias saturates one unit, and that is all
    assert not any(FAULTY in message for message in messages)
    assert estimate.certificate.passed == bool(estimate.valid.any())
    assert all(check.passed for check in estimate.certificate.checks.values())
