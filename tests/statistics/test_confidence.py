"""Quantiles, closed forms and limits of the error bars; see test_calibration for their coverage."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_lyap import LyapunovSpectrum, lyapunov_spectrum
from lightning_lyap.statistics.batch_means import NUM_GROUPS, NUM_PARTS, NUM_SCALES, Contrasts
from lightning_lyap.statistics.confidence import (
    Uncertainty,
    long_enough,
    pool,
    t_quantile,
    uncertainty,
)
from lightning_lyap.systems import linear_relu_network
from tests.cells import INPUT_SIZE, build
from tests.compare import assert_near
from tests.statistics.test_batch_means import contrasts_of

F64 = torch.float64


def test_quantiles_are_those_of_tables() -> None:
    """Abramowitz and Stegun (1964), Table 26.10, three decimals."""
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 10: 2.228, 20: 2.086}
    table |= {30: 2.042, 60: 2.000, 120: 1.980}
    degrees = torch.tensor(list(table), dtype=F64)
    assert_near(t_quantile(degrees), torch.tensor(list(table.values()), dtype=F64), 6e-4)
    assert t_quantile(torch.tensor(1e7, dtype=F64)).item() == pytest.approx(1.959964, abs=1e-6)


def test_quantiles_in_closed_form() -> None:
    """``tan(0.475 pi)`` for 1 degree; ``F(t) = 1/2 + t / (2 sqrt(2 + t^2))`` for 2."""
    one, two = t_quantile(torch.tensor([1.0, 2.0], dtype=F64)).tolist()
    assert one == pytest.approx(math.tan(0.475 * math.pi), rel=1e-8)
    assert two == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-8)


@pytest.mark.parametrize("degrees", [1.5, 4.3, 11.7, 250.5])
def test_quantiles_of_real_degrees_integrate_to_their_probability(degrees: float) -> None:
    """The density of Student's t, summed by the trapezoidal rule."""
    t = torch.linspace(0, t_quantile(torch.tensor(degrees, dtype=F64)).item(), 20001, dtype=F64)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    density = math.exp(log_scale) / math.sqrt(degrees * math.pi)
    values = density * (1 + t.square() / degrees).pow(-(degrees + 1) / 2)
    assert torch.trapezoid(values, t).item() == pytest.approx(0.475, abs=1e-7)


def of_scales(count: int, variances: list[float]) -> Uncertainty:
    """Uncertainty where every scale says what the mean's variance is, all in exact agreement."""
    used = range(1, len(variances))
    terms = [count, *(count * 2 ** (scale - 1) for scale in used)]
    squares = [(count - 1) * count * variances[0], *(count**2 * v for v in variances[1:])]
    rest = NUM_SCALES - len(variances)
    contrasts = Contrasts(
        squares=torch.tensor([*squares, *[0.0] * rest], dtype=F64).unsqueeze(-1),
        cross=torch.zeros(NUM_SCALES, 1, dtype=F64),
        weights=torch.tensor([float(count), *[0.0] * (NUM_SCALES - 1)], dtype=F64),
        terms=torch.tensor([*terms, *[0] * rest]),
        drift=torch.zeros(1, dtype=F64),
        drift_weight=torch.tensor(0.0, dtype=F64),
        samples=torch.zeros(NUM_GROUPS, NUM_PARTS, 2, dtype=F64),
        overlap=torch.tensor(0.0, dtype=F64),
    )
    return uncertainty(contrasts)


def test_many_sequences_are_their_spread_alone() -> None:
    error = of_scales(33, [0.25, 7.0])
    assert error.standard_errors.tolist() == [0.5]
    assert error.degrees.tolist() == [32]
    assert error.margins.item() == pytest.approx(0.5 * 2.0369, rel=1e-4)


def test_scales_that_agree_are_pooled() -> None:
    """White noise: 1, 2 and 4 contrasts of 4 sequences and 3 degrees of the spread: 63 in all.

    Not knowing the slope costs three quarters of the degrees and never all: 17 of 63.
    """
    error = of_scales(4, [0.25] * 5)
    assert error.standard_errors.item() == pytest.approx(0.5, rel=0.1)
    assert 10 < error.degrees.item() < 30


@pytest.mark.parametrize(("slope", "factor"), [(-1 / 60, 1.6), (0.0, 1.6), (0.1, 1.6), (1.0, 3.0)])
def test_the_line_through_the_scales_is_followed_to_whole_sequences(
    slope: float, factor: float
) -> None:
    """``A + c' = 1`` at slope 1; the finest scale is 0.2, 1, 5.7 or 48 times that.

    At slope 1, where A = 0, the average over slopes can err to one side alone: the safe one.
    """
    variances = [1.0, *(1 + slope * (3 * 2 ** (scale - 1) - 1) for scale in range(1, 6))]
    variance = of_scales(2, variances).standard_errors.square().item()
    assert 1 / 1.6 < variance < factor


@pytest.mark.parametrize("slope", [-1 / 60, 0.0, 1.0])
def test_the_average_over_slopes_is_that_of_a_grid(slope: float) -> None:
    """The posterior of variance and ratio, summed over a grid of both, and matched in its moments.

    With independent chi-squares, densities ``1 / variance`` and ``ratio^(-3/2)``.
    """
    slopes = torch.tensor([1, 3, 6, 12, 24, 48], dtype=F64)
    degrees = torch.tensor([1, 2, 4, 8, 16, 32], dtype=F64)
    estimates = 1 + slope * (slopes - 1)
    log_variance = torch.linspace(-8, 12, 2001, dtype=F64)[:, None]
    log_ratio = torch.linspace(math.log(1 / 32), math.log(48), 401, dtype=F64)
    lines = 1 + (log_ratio.exp().unsqueeze(-1) - 1) * (slopes - 1) / 47
    log_likelihood = -0.5 * (
        degrees.sum() * log_variance
        + lines.log() @ degrees
        + (1 / log_variance.exp()) * ((degrees / lines) @ estimates)
    )
    density = (log_likelihood - 0.5 * log_ratio).flatten().softmax(0)
    variance = log_variance.exp().expand(-1, len(log_ratio)).flatten()
    mean, square = (density * variance).sum(), (density * variance.square()).sum()
    known = 4 + 2 / (square / mean.square() - 1)
    pooled, pooled_degrees = pool(estimates.unsqueeze(-1), degrees, slopes)
    assert pooled_degrees.item() == pytest.approx(known.item(), rel=0.01)
    expected = mean * (known - 2) / known
    assert pooled.item() == pytest.approx(expected.item(), rel=0.01)


def test_each_exponent_leaves_out_scales_of_its_own() -> None:
    """As many columns at once as one by one."""
    variances = torch.rand(6, 50, dtype=F64)
    degrees = torch.tensor([1.0, 2, 4, 8, 16, 32], dtype=F64)
    slopes = torch.tensor([3.0, 6, 12, 24, 48, 96], dtype=F64)
    kept = long_enough(variances, degrees, 0)
    assert 0 < int((kept == 0).sum()) < kept.numel()
    together = torch.stack(pool(variances, kept, slopes))
    for k in range(50):
        used = kept[:, k] > 0
        alone = pool(variances[used, k : k + 1], degrees[used], slopes[used])
        assert_near(together[:, k : k + 1], torch.stack(alone))


def test_one_sequence_goes_by_its_course_over_time() -> None:
    """White noise: ``1 / sqrt(T)``, from 63 contrasts known to 15 % or better on average of 400."""
    contrasts = contrasts_of(torch.randn(512, 1, 400, dtype=F64))
    errors = uncertainty(contrasts).standard_errors
    assert errors.square().mean().sqrt().item() == pytest.approx(1 / math.sqrt(512), rel=0.08)


def test_sequences_that_differ_go_by_their_spread() -> None:
    """A spread of four times what time says, from five sequences: F = 16 with 4 degrees."""
    error = of_scales(5, [16.0, 1.0, 1.0, 1.0])
    assert error.standard_errors.item() == 4
    assert error.degrees.item() == 4


def test_a_sequence_of_few_blocks_leaves_the_spread_alone() -> None:
    stretches = torch.randn(64, 4, 2, dtype=F64)
    contrasts = contrasts_of(stretches, lengths=[64, 64, 64, 1])
    exponents = torch.stack([stretches[:n, b].mean(0) for b, n in enumerate([64, 64, 64, 1])])
    error = uncertainty(contrasts)
    assert_near(error.standard_errors, exponents.std(0) / 2)
    assert error.degrees.tolist() == [3, 3]


@pytest.mark.parametrize("steps", [2, 3, 4, 7, 8])
def test_few_blocks_of_one_sequence_give_a_wide_interval(steps: int) -> None:
    error = uncertainty(contrasts_of(torch.randn(steps, 1, 50, dtype=F64)))
    assert bool(error.standard_errors.isfinite().all())
    assert bool((error.margins > 2.2 * error.standard_errors).all())


def test_too_few_contrasts_to_see_a_slope_are_taken_as_white() -> None:
    """Four blocks: one contrast of halves, two of quarters, together three degrees of freedom."""
    x = torch.randn(4, 1, 3, dtype=F64)
    a, b, c, d = x[:, 0]
    halves, quarters = (a + b - c - d) / 4, torch.stack([a - b, c - d]) / 4
    error = uncertainty(contrasts_of(x))
    expected = (1 * halves.square() + 2 * quarters.square().sum(0)) / 3
    assert_near(error.standard_errors.square(), expected)
    assert error.degrees.tolist() == [3, 3, 3]


def test_one_block_tells_nothing() -> None:
    for name, value in uncertainty(contrasts_of(torch.randn(1, 1, 2, dtype=F64)))._asdict().items():
        assert bool(value.isnan().all()), name


def test_constant_stretches_have_no_error() -> None:
    error = uncertainty(contrasts_of(torch.ones(64, 3, 2, dtype=F64)))
    assert error.standard_errors.tolist() == error.margins.tolist() == [0, 0]


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_units_do_not_matter(batch: int) -> None:
    stretches = torch.randn(100, batch, 5, dtype=F64)
    one, other = (uncertainty(contrasts_of(scale * stretches)) for scale in (1.0, 1e-9))
    torch.testing.assert_close(1e-9 * one.margins, other.margins, rtol=1e-6, atol=0)
    torch.testing.assert_close(one.degrees, other.degrees, rtol=1e-6, atol=0)


def lost_direction(rate: Tensor) -> Tensor:
    return torch.block_diag(rate, torch.zeros(1, 1, dtype=F64))


@pytest.mark.parametrize("batch", [1, 3])
def test_an_exponent_of_minus_infinity_leaves_the_others_right(batch: int) -> None:
    """A relu network whose second unit is dead beside a GRU-like rate of one half."""
    x = 1 + torch.rand(batch, 30, 1, dtype=F64)
    rate = torch.tensor([[0.5]], dtype=F64)
    alone = lyapunov_spectrum(linear_relu_network(rate), x)
    both = lyapunov_spectrum(linear_relu_network(lost_direction(rate)), x)
    assert both.exponents[1] == -math.inf
    for name in ("exponents", "standard_errors", "margins"):
        assert_near(getattr(both, name)[:1], getattr(alone, name), 1e-12)
    assert bool(both.standard_errors[1].isnan())
    assert bool(both.intervals[1].isnan().all())


@pytest.mark.parametrize("lengths", [[90, 90, 90, 90, 90], [90, 31, 64, 70, 33]], ids=str)
def test_merging_gives_the_error_of_the_whole(lengths: list[int]) -> None:
    """And it is no function of the parts' errors: their sequences are set side by side."""
    module, x = build("gru"), torch.randn(5, 90, INPUT_SIZE, dtype=F64)
    settings: dict[str, Any] = {"orthonormalize_every": 3, "warmup_steps": 5}
    whole = lyapunov_spectrum(module, x, lengths=lengths, **settings)
    metric = LyapunovSpectrum(**settings)
    other = LyapunovSpectrum(**settings)
    metric.update(module, x[:1], lengths=lengths[:1])
    longest = max(lengths[1:])
    other.update(module, x[1:, :longest], lengths=lengths[1:])
    before = metric.mean_spectrum()
    metric.merge_state(other)
    merged = metric.mean_spectrum()
    for name in ("exponents", "std", "standard_errors", "margins"):
        assert_near(getattr(merged, name), getattr(whole, name), 1e-9)
    assert bool((merged.margins < before.margins).any())
