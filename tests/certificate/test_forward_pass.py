"""Steps that are no maps of each sequence's own state are found out."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from tests.cells import INPUT_SIZE, build
from tests.compare import assert_near

F64 = torch.float64
X = torch.randn(3, 20, 2, dtype=F64)
START = torch.ones(3, 2, dtype=F64)
FAILS = "fails its certificate: states is off by .* A step must depend on x_t and its own sequence"


class Counter(nn.Module):
    """Shrinks and grows by turns: keeps count in itself."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.calls += 1
        return h * (0.5 if self.calls % 2 else 2.0)


@pytest.mark.parametrize(
    "step",
    [
        Counter(),
        lambda x, h: h - 0.5 * h.mean(0),
        lambda x, h: 0.5 * h.roll(1, 0),
    ],
    ids=["keeps a state", "mixes sequences", "exchanges sequences"],
)
def test_impure_steps_fail_the_certificate(step: Any) -> None:
    with pytest.warns(RuntimeWarning, match=FAILS):
        estimate = lyapunov_spectrum(step, X, initial_state=START * torch.rand(3, 1, dtype=F64))
    assert not estimate.certificate.passed


@pytest.mark.parametrize("batch", [1, 3])
def test_pure_steps_pass(batch: int) -> None:
    estimate = lyapunov_spectrum(
        lambda x, h: torch.tanh(h + x), X[:batch], initial_state=START[:batch]
    )
    assert estimate.certificate.states is not None
    assert estimate.certificate.passed


def test_steps_that_hold_something_of_each_sequence_pass() -> None:
    """Parameters ``[B, N]`` of their own: such a step can't be tried on a sequence alone."""
    gains = torch.tensor([[0.5], [0.25], [0.125]], dtype=F64).expand(3, 2)
    estimate = lyapunov_spectrum(lambda x, h: gains * h, X, initial_state=START)
    assert estimate.certificate.passed
    assert_near(estimate.per_sequence, gains.log(), 1e-12)


def test_compiled_modules_are_measured_as_what_they_are() -> None:
    module = build("lstm")
    x = torch.randn(2, 6, INPUT_SIZE, dtype=F64)
    compiled: Any = torch.compile(module)
    expected = lyapunov_spectrum(module, x).exponents
    assert torch.equal(lyapunov_spectrum(compiled, x).exponents, expected)
