"""The systems themselves: fixed points, attractors, and what the doctests do not say."""

import math

import pytest
import torch

from lightning_lyap.systems import (
    LORENZ_FIXED,
    LORENZ_STEP,
    MEAN_FIELD,
    bernoulli_lattice_exponents,
    bernoulli_lattice_step,
    gaussian_mean,
    ikeda_step,
    linear_relu_network,
    lorenz_fixed_point,
    lorenz_step,
    mean_field_exponent,
)
from tests.compare import assert_near

F64 = torch.float64
NOTHING = torch.zeros(1, 0)


@pytest.mark.parametrize("key", MEAN_FIELD)
def test_mean_field_constants_solve_the_equations(key: tuple[float, float]) -> None:
    assert mean_field_exponent(*key) == pytest.approx(MEAN_FIELD[key], abs=6e-7)


def test_mean_field_without_chaos_is_the_linear_network() -> None:
    """Below g = 1 activity dies out, slowly the closer to it; then the exponent is log g."""
    assert mean_field_exponent(0.8, 0.0) == pytest.approx(math.log(0.8), abs=1e-9)


def test_mean_field_at_large_gain_is_carried_by_the_few_units_that_are_not_saturated() -> None:
    # E sech^4 = (4/3) / sqrt(2 pi q) as q grows, and q = g^2 + s^2 but for order g.
    for gain in (1e3, 1e6):
        known = 0.5 * math.log(4 / 3 * gain / math.sqrt(2 * math.pi))
        assert mean_field_exponent(gain, 0.6) == pytest.approx(known, abs=1 / gain)


@pytest.mark.parametrize("variance", [0.0, 1e-6, 0.3, 1.0, 40.0, 1e8])
def test_means_over_a_gaussian_of_any_width(variance: float) -> None:
    # E Phi(a + 1) = Phi(1 / sqrt(1 + variance)), Phi the distribution function of N(0, 1).
    one = torch.tensor(1.0, dtype=F64)
    assert gaussian_mean(torch.square, variance) == pytest.approx(variance, rel=1e-9)
    share = gaussian_mean(lambda a: torch.special.ndtr(a + 1), variance)
    assert share == pytest.approx(float(torch.special.ndtr(one / (1 + variance) ** 0.5)), abs=1e-9)


def test_lorenz_fixed_point_stays_and_has_the_eigenvalues_listed() -> None:
    """The Runge-Kutta step leaves ``(h l)^5 / 120`` of the fast one: 4e-5 per unit of time."""
    point = lorenz_fixed_point(20.0)[None]
    assert_near(lorenz_step(NOTHING, point, 20.0), point, 1e-12)
    jacobian = torch.func.jacrev(lambda s: lorenz_step(NOTHING, s[None], 20.0)[0])(point[0])
    moduli = torch.linalg.eigvals(jacobian).abs().log().sort(descending=True).values
    assert_near(moduli / LORENZ_STEP, torch.tensor(LORENZ_FIXED, dtype=F64), 5e-5)


def test_ikeda_shrinks_areas_by_the_square_of_u() -> None:
    for point in torch.randn(5, 2, dtype=F64):
        jacobian = torch.func.jacrev(lambda s: ikeda_step(NOTHING, s[None])[0])(point)
        assert float(torch.linalg.det(jacobian)) == pytest.approx(0.81, abs=1e-12)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_bernoulli_lattice_is_circulant(size: int) -> None:
    start = torch.rand(size, dtype=F64)
    jacobian = torch.func.jacrev(lambda s: bernoulli_lattice_step(torch.zeros(1), s[None])[0])(
        start
    )
    moduli = torch.linalg.eigvalsh(jacobian).abs().log().sort(descending=True).values
    assert_near(moduli, bernoulli_lattice_exponents(size), 1e-10)


def test_linear_network_refuses_weights_that_could_kill_units() -> None:
    with pytest.raises(ValueError, match=r"without negative entries, but got one of -0\.5"):
        linear_relu_network(torch.tensor([[-0.5]]))
