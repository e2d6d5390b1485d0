"""Errors of factorizations that later ones amplify, and directions that are mapped to zero."""

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.systems import linear_step
from tests.cells import build, sequences
from tests.compare import assert_near

F32, F64 = torch.float32, torch.float64


def driven_pair(x: Tensor, state: Tensor) -> Tensor:
    """Two layers of one unit: ``a_t s_1`` and ``0.5 s_1 + b_t s_2``."""
    return torch.stack([x[:, 0] * state[:, 0], 0.5 * state[:, 0] + x[:, 1] * state[:, 1]], dim=1)


def turning_inputs(steps: int, dtype: torch.dtype) -> Tensor:
    """The second layer grows first, then the first one."""
    return torch.tensor([[0.25, 0.875]] * steps + [[0.875, 0.25]] * steps, dtype=dtype)[None]


@pytest.mark.parametrize("dtype", [F32, F64])
def test_exponents_that_rounding_has_exchanged_are_not_resolved(dtype: torch.dtype) -> None:
    """Exact values by 120 digits: -0.7536 and -0.7663."""
    estimate = lyapunov_spectrum(
        driven_pair,
        turning_inputs(50, dtype),
        initial_state=torch.zeros(1, 2, dtype=dtype),
        warmup_steps=0,
    )
    exact = torch.tensor([-0.753564074147887, -0.7662616795965264], dtype=F64)
    off = (estimate.exponents - exact).abs()
    assert float(off.max()) > 0.2
    assert not bool(estimate.resolved.any())


@pytest.mark.parametrize("dtype", [F32, F64])
def test_turns_that_are_short_of_the_digits_are_resolved(dtype: torch.dtype) -> None:
    inputs = turning_inputs(6, dtype)
    given = torch.zeros(1, 2, dtype=dtype)
    estimate = lyapunov_spectrum(driven_pair, inputs, initial_state=given, warmup_steps=0)
    # Column by column: the norm of the product's first one, and the determinant.
    product = torch.eye(2, dtype=F64)
    for a, b in inputs[0].double():
        product = torch.tensor([[float(a), 0.0], [0.5, float(b)]], dtype=F64) @ product
    first = torch.linalg.vector_norm(product[:, 0])
    expected = torch.stack([first, product.det().abs() / first]).log() / 12
    assert bool(estimate.resolved.all())
    found = (estimate.exponents - expected.sort(descending=True).values).abs()
    assert bool((found <= 3 * estimate.rounding_errors + 1e-9).all())


def test_directions_that_never_mix_are_resolved_in_any_order() -> None:
    """A basis that starts in the wrong order stays exact where nothing couples its vectors."""
    step = linear_step(torch.diag(torch.tensor([0.1, 0.5, 0.9], dtype=F64)))
    estimate = lyapunov_spectrum(
        step,
        torch.zeros(2, 300, 0, dtype=F64),
        initial_state=torch.ones(2, 3, dtype=F64),
        warmup_steps=0,
    )
    assert_near(estimate.exponents, torch.tensor([0.9, 0.5, 0.1], dtype=F64).log())
    assert bool(estimate.resolved.all())


@pytest.mark.parametrize("chunks", [1, 4])
def test_a_vector_keeps_its_own_minus_infinity(chunks: int) -> None:
    """Each unit is set to zero once: both directions are lost, though never at the same time."""
    inputs = torch.full((1, 40, 2), 2.0)
    inputs[0, 10, 0] = inputs[0, 20, 1] = 0.0
    estimate: SpectrumEstimate = lyapunov_spectrum(
        lambda x, s: x * s,
        inputs,
        initial_state=torch.full((1, 2), 1e-9),
        warmup_steps=0,
        time_chunks=chunks,
    )
    assert estimate.exponents.tolist() == [-math.inf, -math.inf]
    assert not bool(estimate.resolved.any())


def test_a_lost_direction_takes_no_other_along() -> None:
    inputs = torch.full((1, 40, 3), 2.0)
    inputs[0, 10, 0] = 0.0
    inputs[..., 2] = 3.0
    estimate = lyapunov_spectrum(
        lambda x, s: x * s, inputs, initial_state=torch.full((1, 3), 1e-9), warmup_steps=0
    )
    assert_near(estimate.exponents[:2], torch.tensor([3.0, 2.0], dtype=F64).log(), 1e-6)
    assert estimate.exponents[2] == -math.inf
    assert estimate.resolved.tolist() == [True, True, False]


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
def test_healthy_stacks_stay_resolved_in_a_joint_basis(kind: str) -> None:
    stack: nn.RNNBase = build(kind, num_layers=2)
    estimate = lyapunov_spectrum(stack, sequences(3, 60), layers="joint", warmup_steps=0)
    assert bool(estimate.resolved.all())
