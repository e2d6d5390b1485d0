"""How often 95 % intervals cover the truth, over 500 replicates and more of systems that have one.

Coverage must lie between 92 and 98 %. Over n = 500 replicates its binomial error is
``sqrt(0.95 * 0.05 / n)``, 1 %: three of them either way. Replicates are measured in one batch
through `lyapunov_spectrum`, and told apart as columns of the sums, where exponents know nothing of
each other.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from lightning_lyap import SpectrumEstimate
from lightning_lyap.statistics.batch_means import StretchBins
from lightning_lyap.statistics.confidence import uncertainty
from lightning_lyap.systems import gaussian_product_exponents, product_step
from tests.compare import assert_near
from tests.plain import plain_spectrum

F64 = torch.float64
REPLICATES = 500
LONG = [(1, 1000), (4, 250)]
SHAPES = [(10, 100), (40, 25), *(pytest.param(*s, marks=pytest.mark.slow) for s in LONG)]


class Intervals(NamedTuple):
    """Means and margins of all replicates, ``[R, K]``."""

    means: Tensor
    margins: Tensor

    def coverage(self, truth: Tensor | float) -> Tensor:
        """Fraction of the intervals that cover the truth, ``[K]``."""
        return ((self.means - truth).abs() <= self.margins).double().mean(0)


def replicates(log_stretches: Tensor, batch: int) -> Intervals:
    """Take every ``batch`` sequences of ``[T, R * batch, K]`` as a replicate."""
    size = log_stretches.shape[-1]
    columns = log_stretches.unflatten(1, (-1, batch)).movedim(1, 2).flatten(2)
    bins = StretchBins()
    for t, stretch in enumerate(columns):
        bins.add(stretch, t + 1)
    steps = torch.full((batch,), len(columns))
    contrasts = bins.contrasts(steps, torch.ones(batch, dtype=torch.bool))
    error = uncertainty(contrasts)
    return Intervals(
        contrasts.mean.unflatten(0, (-1, size)), error.margins.unflatten(0, (-1, size))
    )


def autoregressive(steps: int, rows: int, coefficient: float) -> Tensor:
    """Stationary ``a_t = coefficient a_(t-1) + noise``, ``[rows, steps, 2]``."""
    noise = torch.randn(steps, rows, 2, dtype=F64)
    values = [noise[0] / math.sqrt(1 - coefficient**2)]
    for each in noise[1:]:
        values.append(coefficient * values[-1] + each)
    return torch.stack(values, dim=1)


def diagonal_step(x: Tensor, s: Tensor) -> Tensor:
    """``s' = diag(exp(a_t)) s`` with ``a_t`` in the input: exponents are the means of ``a_t``."""
    return x.exp() * s


def logistic_step(x: Tensor, s: Tensor) -> Tensor:
    """``s' = 4 s (1 - s)``: log 2, and stretches that telescope to ``log 2 + (g_T - g_0) / T``.

    With ``g(s) = log(s (1 - s)) / 2``; Grassberger, Badii, Politi (1988), Journal of Statistical
    Physics 51, 135-178: the error shrinks like 1/T.
    """
    return 4 * s * (1 - s)


def measured(step: object, inputs: Tensor, size: int) -> SpectrumEstimate:
    return plain_spectrum(
        step,  # type: ignore[arg-type]
        inputs,
        initial_state=torch.zeros(len(inputs), size, dtype=F64),
        keep_log_stretches=True,
    )


def stretches_of(estimate: SpectrumEstimate) -> Tensor:
    assert estimate.log_stretches is not None
    return estimate.log_stretches


def between(coverage: Tensor | float, low: float, high: float) -> bool:
    values = torch.as_tensor(coverage)
    return bool(((values >= low) & (values <= high)).all())


@pytest.mark.parametrize(("batch", "steps"), SHAPES)
def test_products_of_gaussian_matrices(batch: int, steps: int) -> None:
    inputs = torch.randn(REPLICATES * batch, steps, 4, dtype=F64)
    intervals = replicates(stretches_of(measured(product_step, inputs, 2)), batch)
    coverage = intervals.coverage(gaussian_product_exponents(2))
    assert between(coverage, 0.92, 0.98), coverage


@pytest.mark.parametrize(("batch", "steps"), SHAPES)
def test_stretches_that_follow_their_like(batch: int, steps: int) -> None:
    """AR(1), coefficient 0.9; both exponents are 0, so 1000 replicates."""
    inputs = autoregressive(steps, REPLICATES * batch, 0.9)
    intervals = replicates(stretches_of(measured(diagonal_step, inputs, 2)), batch)
    coverage = intervals.coverage(0.0).mean()
    assert between(coverage, 0.92, 0.98), coverage


@pytest.mark.grid(every=3)
@pytest.mark.parametrize(("batch", "steps"), [(5, 60), (1, 200), (40, 10)])
def test_a_replicate_measured_alone_has_the_same_interval(batch: int, steps: int) -> None:
    inputs = autoregressive(steps, 3 * batch, 0.9) + torch.tensor([0.5, -3.0], dtype=F64)
    intervals = replicates(stretches_of(measured(diagonal_step, inputs, 2)), batch)
    for each in range(3):
        alone = measured(diagonal_step, inputs[each * batch : (each + 1) * batch], 2)
        assert_near(alone.exponents, intervals.means[each])
        assert_near(alone.margins, intervals.margins[each], 1e-8)


@pytest.mark.slow
def test_the_naive_bootstrap_covers_too_seldom() -> None:
    """Single steps resampled as if independent, beside the intervals of the same stretches.

    Correlations make the variance of the mean ``(1 + 0.9) / (1 - 0.9) = 19`` times as large, so
    that 1.96 naive errors are 0.45 true ones: 35 %.
    """
    values = autoregressive(1000, REPLICATES, 0.9)
    stretches = stretches_of(measured(diagonal_step, values, 2))
    drawn = torch.randint(1000, (400, 1000))
    weights = torch.zeros(400, 1000, dtype=F64).scatter_add_(
        1, drawn, torch.ones(400, 1000).to(F64)
    )
    means = weights @ stretches.flatten(1) / 1000
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=F64), dim=0)
    naive = ((low <= 0) & (high >= 0)).double().mean()
    ours = replicates(stretches, 1).coverage(0.0).mean()
    assert between(naive, 0.25, 0.45), naive
    assert between(ours, 0.92, 0.98), ours


@pytest.mark.parametrize(
    ("coefficient", "batch", "steps"),
    [(0.9, 1, 100), (0.9, 2, 50), pytest.param(0.99, 1, 1000, marks=pytest.mark.slow)],
)
def test_batches_shorter_than_the_correlation_are_left_out(
    coefficient: float, batch: int, steps: int
) -> None:
    """Were they not, of one sequence 56 and 62 % would be covered."""
    stretches = autoregressive(steps, REPLICATES * batch, coefficient).transpose(0, 1)
    coverage = replicates(stretches, batch).coverage(0.0).mean()
    assert between(coverage, 0.92, 0.985), coverage


@pytest.mark.parametrize("coefficient", [-0.5, 0.5])
@pytest.mark.parametrize(("batch", "steps"), [(1, 400), (10, 40)])
def test_short_correlations_of_either_sign(coefficient: float, batch: int, steps: int) -> None:
    """1000 replicates: three binomial errors are 2 %, the others are the band's."""
    stretches = autoregressive(steps, REPLICATES * batch, coefficient).transpose(0, 1)
    coverage = replicates(stretches, batch).coverage(0.0).mean()
    assert between(coverage, 0.92, 0.98), coverage


@pytest.mark.parametrize("batch", [4, 10, 40])
def test_sequences_of_different_exponents(batch: int) -> None:
    """Their spread, 0.5, is five times what the 100 steps of one leave."""
    exponents = 0.5 * torch.randn(1, REPLICATES * batch, 2, dtype=F64)
    stretches = exponents + torch.randn(100, REPLICATES * batch, 2, dtype=F64)
    coverage = replicates(stretches, batch).coverage(0.0).mean()
    assert between(coverage, 0.92, 0.98), coverage


def test_the_anomalous_logistic_map_at_r_4() -> None:
    """Never covered too seldom, and four times the steps make the error bar four times smaller.

    The error itself is ``(g_T - g_0) / T``: the interval is at most three times 1.96 of its spread
    for one sequence, 1.7 times for four. The bars of single replicates vary by half, so that the
    ratio of their medians is known to 5 %.
    """
    rows = REPLICATES * 4
    start = (math.pi / 2 * torch.rand(rows, 1, dtype=F64)).sin().square()
    estimate = plain_spectrum(
        logistic_step,
        torch.zeros(rows, 1024, 0, dtype=F64),
        initial_state=start,
        keep_log_stretches=True,
    )
    stretches = stretches_of(estimate)
    for batch, widest in ((1, 3.0), (4, 1.7)):
        short, long = (replicates(stretches[:steps], batch) for steps in (256, 1024))
        for intervals in (short, long):
            assert between(intervals.coverage(math.log(2)), 0.95, 1)
            spread = (intervals.means - math.log(2)).square().mean().sqrt()
            assert float(intervals.margins.median() / (1.96 * spread)) < widest
        shrinkage = float(short.margins.median() / long.margins.median())
        assert shrinkage == pytest.approx(4, rel=0.15)


OVERLAPPING = [(10, 10, 100), *(pytest.param(*s, marks=pytest.mark.slow) for s in [(2, 10, 100)])]
OVERLAPPING += [pytest.param(*s, marks=pytest.mark.slow) for s in [(40, 10, 100), (4, 50, 400)]]


@pytest.mark.parametrize(("batch", "shift", "steps"), OVERLAPPING)
def test_windows_of_one_recording(batch: int, shift: int, steps: int) -> None:
    """Of 1000 recordings; were they other sequences the intervals would cover 42 to 83 %."""
    recording = autoregressive(steps + shift * (batch - 1), REPLICATES, 0.5)
    windows = recording.unfold(1, steps, shift).movedim(3, 0).movedim(2, 1)
    bins = StretchBins()
    for t, stretch in enumerate(windows):
        bins.add(stretch.flatten(1), t + 1)
    every = torch.ones(batch, dtype=torch.bool)
    contrasts = bins.contrasts(torch.full((batch,), steps), every)
    apart = shift * (torch.arange(batch).unsqueeze(0) - torch.arange(batch).unsqueeze(1)).abs()
    shared = (steps - apart).clamp(min=0).to(F64).fill_diagonal_(0).sum() / steps
    told, untold = (
        uncertainty(replace(contrasts, overlap=overlap)).margins
        for overlap in (shared, torch.tensor(0.0, dtype=F64))
    )
    covered, before = ((contrasts.mean.abs() <= m).double().mean() for m in (told, untold))
    assert between(covered, 0.92, 0.98), covered
    assert float(before) < 0.86
