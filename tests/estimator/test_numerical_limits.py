"""Where arithmetic ends: lost directions, rounding floors, overflow, types."""

import math
from typing import Any

import pytest
import torch

from lightning_lyap import SpectrumEstimate
from lightning_lyap.dynamics import StateChoice
from lightning_lyap.systems import linear_relu_network, linear_step, product_step
from tests.cells import F64, INPUT_SIZE, build, sequences
from tests.compare import assert_near
from tests.plain import plain_spectrum


def linear(matrix: list[list[float]], steps: int, every: int = 1) -> SpectrumEstimate:
    tensor = torch.tensor(matrix, dtype=F64)
    start = torch.zeros(1, len(matrix), dtype=F64)
    inputs = torch.zeros(1, steps, 0, dtype=F64)
    return plain_spectrum(
        linear_step(tensor), inputs, initial_state=start, orthonormalize_every=every
    )


def test_a_zero_column_costs_one_exponent_and_no_other() -> None:
    """Unit 2 feeds nobody: one exponent is minus infinity, the others those of the remaining 2 x 2.

    A basis vector on which the first step acts by zero must not take a leading exponent with it.
    """
    matrix = [[1.0, 0.0, 0.3], [0.2, 0.0, 0.5], [0.3, 0.0, 0.7]]
    rest = torch.linalg.eigvalsh(torch.tensor([[1.0, 0.3], [0.3, 0.7]]).double()).log().flip(0)
    estimate = linear(matrix, steps=500)
    assert_near(estimate.exponents[:2], rest, 3 / 500)
    assert estimate.exponents[2] == -math.inf
    assert estimate.resolved.tolist() == [True, True, False]
    assert estimate.std.isnan().all()


def test_a_network_that_falls_silent_can_be_measured_again() -> None:
    """All units dead at step 2: minus infinity for that block, the true stretches ever after."""
    rnn = linear_relu_network(torch.diag(torch.tensor([0.5, 0.25])).double())
    inputs = torch.ones(1, 10, 1, dtype=F64)
    inputs[0, 2] = -100.0
    estimate = plain_spectrum(rnn, inputs, keep_log_stretches=True)
    assert estimate.log_stretches is not None
    after = estimate.log_stretches[3:, 0].sort(dim=-1, descending=True).values
    expected = torch.tensor([0.5, 0.25]).double().log().expand(7, -1)
    assert_near(after, expected)
    assert bool((estimate.exponents == -math.inf).all())
    assert not bool(estimate.resolved.any())
    assert bool(estimate.valid.all())


@pytest.mark.parametrize(
    ("dtype", "resolved"), [(torch.float32, [True, False]), (torch.float64, [True, True])]
)
def test_exponents_below_the_rounding_floor_are_marked(
    dtype: torch.dtype, resolved: list[bool]
) -> None:
    """0 and -20: float32 ends ``log(2 eps) = -15.2`` below the rows' norms, float64 at -35.4."""
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=F64)
    matrix = turn @ torch.diag(torch.tensor([1.0, math.exp(-20)]).double()) @ turn.T
    estimate = plain_spectrum(
        linear_step(matrix.to(dtype)),
        torch.zeros(1, 50, 0),
        initial_state=torch.zeros(1, 2, dtype=dtype),
    )
    assert estimate.resolved.tolist() == resolved
    right = abs(float(estimate.exponents[1]) + 20) < 0.1
    assert right is resolved[1]


def test_one_unresolved_stretch_marks_the_exponent() -> None:
    """A single step of rank one amid nine identities: finite by rounding, and not to be trusted."""
    lost = torch.tensor([[0.36, 0.48], [0.48, 0.64]], dtype=F64)
    inputs = torch.eye(2, dtype=F64).flatten().repeat(1, 10, 1)
    inputs[0, 3] = lost.flatten()
    start = torch.zeros(1, 2, dtype=F64)
    basis = torch.tensor([[[0.8, -0.6], [0.6, 0.8]]], dtype=F64)
    estimate = plain_spectrum(
        product_step, inputs, initial_state=start, initial_basis=basis, keep_log_stretches=True
    )
    assert estimate.log_stretches is not None
    assert estimate.log_stretches[:, 0, 1].argmin() == 3
    assert estimate.log_stretches[-1].abs().max() < 1e-10
    assert estimate.resolved.tolist() == [True, False]


def test_noise_of_large_networks_is_not_taken_for_exponents() -> None:
    """Rank 64 of 128: the other half is rounding noise, larger by about ``sqrt(N)`` than eps."""
    q = torch.linalg.qr(torch.randn(128, 128)).Q
    matrix = q[:, :64] @ torch.linspace(1, 0.1, 64).diag() @ q[64:]
    estimate = plain_spectrum(
        lambda x, s: (torch.tanh(s) + x) @ matrix.mT,
        torch.randn(2, 20, 128),
        initial_state=torch.zeros(2, 128),
    )
    assert bool(estimate.resolved[:64].all())
    assert not bool(estimate.resolved[64:].any())
    assert float(estimate.exponents[64:].max()) < float(estimate.exponents[63]) - 5


def test_a_long_interval_loses_the_trailing_exponents_and_says_so() -> None:
    """Gap 2 per step: float64 holds (36 - log 2) / 2 = 17 steps of it."""
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=F64)
    matrix = (turn @ torch.tensor([1.0, math.exp(-2)], dtype=F64).diag() @ turn.T).tolist()
    assert linear(matrix, 200, 16).resolved.tolist() == [True, True]
    assert linear(matrix, 200, 20).resolved.tolist() == [True, False]


def test_sequences_that_explode_are_left_out_and_announced() -> None:
    rnn = linear_relu_network(torch.tensor([[3.0, 1.0], [1.0, 2.0]]))
    rnn.to(torch.float32)
    inputs = torch.ones(3, 120, 1)
    inputs[1] = 0.0
    with pytest.warns(RuntimeWarning, match="2 of 3 sequences did not stay finite") as record:
        estimate = plain_spectrum(rnn, inputs)
    assert record[0].filename == __file__
    assert estimate.valid.tolist() == [False, True, False]
    assert estimate.num_sequences == 1
    torch.testing.assert_close(estimate.exponents, estimate.per_sequence[1])
    assert bool(estimate.exponents.isfinite().all()) or bool(
        (estimate.exponents == -math.inf).all()
    )


@pytest.mark.parametrize(("kind", "state"), [("tanh", "full"), ("gru", "full"), ("lstm", "hidden")])
def test_saturated_units_are_resolved_in_float32(kind: str, state: StateChoice) -> None:
    """Biases of plus and minus 10: slopes of e^-20, where ``1 - tanh^2`` would be zero."""
    module: Any = build(kind)
    with torch.no_grad():
        module.bias_ih_l0.copy_(10 * torch.randn_like(module.bias_ih_l0).sign())
    x = sequences(2, 20)
    double = plain_spectrum(module, x, state=state)
    single = plain_spectrum(module, x, state=state, dtype=torch.float32)
    assert float(double.exponents.min()) < -9
    assert bool(single.resolved.all())
    assert_near(single.exponents, double.exponents, 1e-4)


@pytest.mark.parametrize("every", [1, 5])
def test_noise_takes_part_in_no_statistic(every: int) -> None:
    """Growth of 100 in one direction, 0.01 in five: one positive exponent, two dimensions.

    Over five steps noise of eps grows to log(100) + log(eps) / 5 = 1.4 nats per step.
    """
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=F64)).Q
    growth = basis @ torch.diag(torch.tensor([1e2] + [1e-2] * 5, dtype=F64)) @ basis.mT
    matrix = growth.float()
    estimate = plain_spectrum(
        lambda x, s: s @ matrix.mT,
        torch.zeros(2, 50, 0),
        initial_state=torch.zeros(2, 6),
        orthonormalize_every=every,
    )
    measures = estimate.measures()
    assert measures.num_positive == measures.num_positive_estimates == 1
    assert measures.kolmogorov_sinai_entropy == pytest.approx(math.log(100), abs=0.01)
    assert measures.max == estimate.exponents[0].item()
    known = bool(estimate.resolved.all())
    assert known is (every == 1)
    assert measures.dimension_is_lower_bound is not known
    expected = 2 if known else 1
    assert measures.kaplan_yorke_dimension == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_broken_weights_warn_and_give_no_number(bad: float) -> None:
    rnn: Any = build("tanh")
    with torch.no_grad():
        rnn.weight_hh_l0[0, 0] = bad
    with pytest.warns(RuntimeWarning, match="2 of 2 sequences did not stay finite"):
        estimate = plain_spectrum(rnn, sequences(2, 5))
    assert estimate.num_sequences == 0
    assert bool(estimate.exponents.isnan().all())
    assert not bool(estimate.resolved.any())
    assert not bool(estimate.valid.any())
    assert math.isnan(estimate.measures().max)


def test_float64_is_kept_and_is_another_number_than_float32() -> None:
    module, x = build("gru"), sequences(2, 30)
    double = plain_spectrum(module, x)
    single = plain_spectrum(module, x, dtype=torch.float32)
    assert double.final_basis.dtype == torch.float64
    assert single.final_basis.dtype == torch.float32
    assert double.exponents.dtype == single.exponents.dtype == torch.float64
    difference = float((double.exponents - single.exponents).abs().max())
    assert 0 < difference < 1e-4
    single_inputs = plain_spectrum(module, x.float())
    assert single_inputs.final_basis.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_modules_are_measured_in_float32(dtype: torch.dtype) -> None:
    module = build("lstm").to(dtype)
    x = torch.randn(2, 20, INPUT_SIZE)
    half = plain_spectrum(module, x)
    assert half.final_basis.dtype == torch.float32
    assert torch.equal(half.exponents, plain_spectrum(module.float(), x).exponents)
