import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.systems import mean_field_exponent, random_tanh_network
from paper.driven import (
    DRIVE_VARIANCE,
    Realization,
    find_root,
    marginal_gains,
    predicted_marginal_gain,
    predicted_mean_exponent,
    realize,
)


def silent(factor: float) -> Realization:
    # Without drive and from zero the network is linear: its exponents are log(g factor).
    made = realize(8, 2, 6, 2, seed=0)
    nothing = torch.zeros_like(made.inputs), torch.zeros_like(made.states)
    return Realization(factor * made.matrix, *nothing, made.warmup_steps)


def test_the_marginal_gain_of_linear_networks_is_found() -> None:
    found = marginal_gains([silent(1.0), silent(0.4)], 0.5, 4.0)
    assert found.tolist() == pytest.approx([1.0, 2.5], abs=3e-4)


def test_gains_that_are_all_stable_name_the_settings_to_change() -> None:
    with pytest.raises(ValueError, match=r"opposite signs at 0\.5 and 0\.9.*scale\.gains\.stable"):
        marginal_gains([silent(1.0)], 0.5, 0.9)


@pytest.mark.parametrize(
    ("function", "root"),
    [
        (lambda x: x**9 - 0.5, 0.5 ** (1 / 9)),  # flat, then steep
        (lambda x: 0.5 - x, 0.5),  # falling
        (lambda x: math.copysign(1.0, x - 0.3), 0.3),  # a jump
        (lambda x: math.exp(20 * x) - 2, math.log(2) / 20),
    ],
)
def test_roots_are_found(function: Callable[[float], float], root: float) -> None:
    assert find_root(function, -0.2, 1.6, 1e-8) == pytest.approx(root, abs=1e-7)


def test_values_that_are_not_finite_are_no_root() -> None:
    with pytest.raises(ValueError, match="got -inf and 1"):
        find_root(lambda x: x if x > 0 else -math.inf, -1.0, 1.0, 1e-3)


def test_a_root_that_takes_too_many_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected a root within 60 steps"):
        find_root(lambda x: math.copysign(1.0, x), -1.0, 2.0, 0.0)


def test_a_realization_has_the_captions_statistics() -> None:
    made = realize(50, 40, 20, 5, seed=3)
    eye = torch.eye(50, dtype=torch.float64)
    torch.testing.assert_close(made.matrix @ made.matrix.mT, eye)
    assert made.inputs.shape == (40, 25, 50)
    assert float(made.inputs.var()) == pytest.approx(0.6, rel=0.03)  # 50,000 numbers: 5 sigma
    assert float(made.states.var()) == pytest.approx(1.0, rel=0.16)  # 2,000 numbers: 5 sigma


def test_matrices_are_not_more_of_one_sign_on_the_diagonal() -> None:
    # The QR decomposition alone makes the trace of O one-sided; for Haar it is about N(0, 1).
    traces = torch.stack([realize(12, 1, 1, 0, seed).matrix.trace() for seed in range(60)])
    assert abs(float(traces.mean())) < 5 / 60**0.5


def test_a_realization_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    realize(8, 2, 3, 1, seed=0).largest(1.5)
    assert torch.equal(before, torch.get_rng_state())


def test_the_same_seed_gives_the_same_exponents_and_another_seed_others() -> None:
    first, again, other = (realize(8, 2, 10, 1, seed).largest(1.5) for seed in (0, 0, 1))
    assert first == again != other


def test_the_network_is_driven_through_the_identity() -> None:
    made = realize(6, 3, 4, 0, seed=0)
    activity = made.activity(2.0, 2, 3)
    assert activity.shape == (2, 3, 4, 6)
    for drive, start in itertools.product(range(2), range(3)):
        state = made.states[start]
        for step in range(4):
            state = torch.tanh(2.0 * made.matrix @ state + made.inputs[drive, step])
            torch.testing.assert_close(activity[drive, start, step], state)


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_orthogonal_and_gaussian_matrices_have_the_largest_exponent_of_mean_field(
    gain: float,
) -> None:
    # At 200 units deviations are about 1/N; a single Gaussian matrix deviates by 0.01.
    made = realize(200, 8, 150, 100, seed=1)
    torch.manual_seed(0)
    network: Any = random_tanh_network(200, gain, 1.0).double()
    gaussian = network.weight_hh_l0.detach() / gain
    known = mean_field_exponent(gain, DRIVE_VARIANCE)
    assert made.largest(gain) == pytest.approx(known, abs=0.012)
    assert replace(made, matrix=gaussian).largest(gain) == pytest.approx(known, abs=0.035)


def test_the_mean_exponent_of_an_orthogonal_network_is_that_of_mean_field() -> None:
    # 8,000 log-slopes that vary by about the gain: within 5 sigma. A Gaussian V has 0.5 less.
    made = realize(100, 2, 40, 20, seed=0)
    for gain in (1.0, 2.0):
        mean = float(made.spectrum(gain).exponents.mean())
        assert mean == pytest.approx(predicted_mean_exponent(gain), abs=0.06 * gain)


def test_exponents_are_those_of_the_estimator() -> None:
    made = realize(8, 2, 10, 3, seed=0)
    direct = lyapunov_spectrum(
        made.network(1.5), made.inputs, initial_state=made.states[None], warmup_steps=3
    )
    torch.testing.assert_close(made.spectrum(1.5).exponents, direct.exponents)
    assert direct.exponents.shape == (8,)


def test_the_marginal_gain_of_mean_field_theory_solves_its_equation() -> None:
    gain = predicted_marginal_gain(1.0, 4.0)
    assert gain == pytest.approx(1.7273, abs=1e-4)
    assert mean_field_exponent(gain, DRIVE_VARIANCE) == pytest.approx(0, abs=1e-8)
