"""Derivatives of step functions that are not whole must be found, those that are must pass."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_lyap import lyapunov_spectrum
from tests.exposing import expose, names

F64 = torch.float64
MIX = torch.randn(6, 6, dtype=F64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    "step",
    [
        lambda x, s: torch.tanh(s * float(s.mean()) + x),
        lambda x, s: torch.tanh(s @ MIX.to(s) + x) * torch.sigmoid(s).detach(),
        lambda x, s: 0.5 * s + (s.round() - s).detach() + x,
    ],
    ids=["reads a value out", "detaches a part", "has a surrogate gradient"],
)
def test_step_that_loses_a_part_of_its_derivative(step: Any, dtype: torch.dtype) -> None:
    """One sequence: of several, the mean mixes them, and the states tell."""
    x, start = torch.randn(1, 8, 6, dtype=dtype), torch.rand(1, 6, dtype=dtype)
    estimate = expose(step, x, "tangent_map", initial_state=start)
    assert names(estimate) == {"tangent_map"}


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum fails its certificate. precision is off")
@pytest.mark.grid(every=3)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize(
    "step",
    [
        lambda x, s: torch.relu(s @ MIX.to(s) + x),
        lambda x, s: torch.tanh(30 * s @ MIX.to(s) + x),
        lambda x, s: torch.tanh(1e6 * s) / 1e6 + 1e-9 * x,
        lambda x, s: 0.5 * s + 0.25 * s.floor() + x,
        lambda x, s: torch.tanh((s.half() @ MIX.half()).to(s) + x),
        lambda x, s: torch.sqrt(s + x.abs()),
    ],
    ids=["kinks", "steep", "in tiny units", "jumps", "in half precision inside", "edge of domain"],
)
def test_derivative_that_is_whole_is_not_suspected(
    step: Any, start: float, dtype: torch.dtype
) -> None:
    """The project turns the warning of the certificate into an error, but for that of precision."""
    x, initial = torch.randn(3, 8, 6, dtype=dtype), start * torch.rand(3, 6, dtype=dtype)
    certificate = lyapunov_spectrum(step, x, initial_state=initial).certificate
    assert certificate.tangent_map is not None
    assert certificate.tangent_map.passed


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum fails its certificate. precision is off")
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    ("step", "certain"),
    [
        (lambda x, s: s + 0 * x, True),
        (lambda x, s: 2 + torch.relu(s - 2), False),
        (lambda x, s: s.floor(), False),
        (lambda x, s: s.bfloat16().to(s), False),
    ],
    ids=["smooth", "at a kink", "at a jump", "rounds to half precision"],
)
def test_where_a_step_bends_or_rounds_the_bound_is_wider(
    step: Any, certain: bool, dtype: torch.dtype
) -> None:
    """The state stays at 2."""
    x, start = torch.zeros(2, 5, 3, dtype=dtype), torch.full((2, 3), 2.0, dtype=dtype)
    check = lyapunov_spectrum(step, x, initial_state=start).certificate.tangent_map
    assert check is not None
    assert (check.residual < 1e-2) == (check.bound < 2e-2) == certain


def test_step_that_refuses_states_nearby_is_not_judged() -> None:
    def step(x: Tensor, s: Tensor) -> Tensor:
        assert not (s > 1).any()
        return s.clone()

    start = torch.ones(2, 3, dtype=F64)
    estimate = lyapunov_spectrum(step, torch.zeros(2, 5, 1, dtype=F64), initial_state=start)
    assert estimate.certificate.tangent_map is None
