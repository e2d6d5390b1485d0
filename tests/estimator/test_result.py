"""What an estimate says about itself, and sums over sequences."""

import math

import pytest
import torch

from lightning_lyap.estimator.result import MeanSpectrum, SpectrumSums
from lightning_lyap.statistics.batch_means import NUM_GROUPS, NUM_PARTS, NUM_SCALES, joined
from lightning_lyap.statistics.confidence import t_quantile
from tests.cells import F64, build, sequences
from tests.compare import assert_near
from tests.plain import plain_spectrum


def samples_of(exponents: torch.Tensor) -> torch.Tensor:
    """Samples of sequences of a single block, ``[B, K]``."""
    samples = torch.zeros(NUM_GROUPS, NUM_PARTS, exponents.shape[1] + 1, dtype=torch.float64)
    samples[: len(exponents), 0, :-1] = exponents
    samples[: len(exponents), 0, -1] = 1
    return samples


def sums_of(exponents: torch.Tensor, unresolved: list[int] | None = None) -> SpectrumSums:
    """Sums of sequences of which nothing is known but their exponents, ``[B, K]``."""
    batch, count = exponents.shape
    nothing = torch.zeros(NUM_SCALES - 1, count, dtype=exponents.dtype)
    return SpectrumSums(
        squares=torch.cat([exponents.square().sum(0, keepdim=True), nothing]),
        cross=torch.cat([exponents.sum(0, keepdim=True), nothing]),
        weights=torch.tensor([batch] + [0] * (NUM_SCALES - 1), dtype=exponents.dtype),
        terms=torch.tensor([batch] + [0] * (NUM_SCALES - 1)),
        rounding=torch.zeros(count, dtype=torch.float64),
        unresolved=torch.tensor(unresolved or [0] * count),
        drift=torch.zeros(count, dtype=torch.float64),
        drift_weight=torch.tensor(0.0, dtype=torch.float64),
        samples=samples_of(exponents),
        overlap=torch.tensor(0.0, dtype=torch.float64),
        steps=torch.tensor([0, 100 * batch]),
    )


def test_log_stretches_add_up_to_the_exponents() -> None:
    estimate = plain_spectrum(
        build("gru"), sequences(3, 22), orthonormalize_every=5, keep_log_stretches=True
    )
    assert estimate.log_stretches is not None
    assert estimate.log_stretches.shape == (5, 3, 7)
    assert_near(estimate.log_stretches.sum(0) / 22, estimate.per_sequence)
    running = estimate.running_exponents()
    assert running.shape == (5, 7)
    assert_near(running[-1], estimate.exponents)
    shorter = estimate.log_stretches[:2].sum(0).mean(0) / 10
    assert_near(running[1], shorter)


def test_running_exponents_need_the_log_stretches() -> None:
    estimate = plain_spectrum(build("tanh"), sequences(1, 3))
    assert estimate.log_stretches is None
    with pytest.raises(
        ValueError, match=r"Expected .* log-stretches, but .*keep_log_stretches=True"
    ):
        estimate.running_exponents()


def test_running_exponents_leave_out_invalid_sequences() -> None:
    rnn = build("relu")
    x = sequences(3, 8)
    initial = torch.zeros(1, 3, 7, dtype=F64)
    initial[0, 1, 0] = math.inf
    with pytest.warns(RuntimeWarning, match="1 of 3 sequences"):
        estimate = plain_spectrum(rnn, x, initial_state=initial, keep_log_stretches=True)
    assert estimate.valid.tolist() == [True, False, True]
    assert_near(estimate.running_exponents()[-1], estimate.exponents)


def test_many_sequences_tell_their_error_by_their_spread() -> None:
    estimate = plain_spectrum(build("gru"), sequences(33, 10))
    expected = estimate.per_sequence.std(0)
    assert_near(estimate.std, expected, 1e-7)
    assert_near(estimate.standard_errors, expected / 33**0.5, 1e-7)
    quantile = t_quantile(torch.tensor(32.0, dtype=F64))
    assert_near(estimate.margins, quantile * estimate.standard_errors)
    assert estimate.num_sequences == 33


def test_intervals_are_exponents_and_margins() -> None:
    estimate = plain_spectrum(build("gru"), sequences(3, 20))
    assert estimate.intervals.shape == (7, 2)
    assert_near(estimate.intervals.mean(-1), estimate.exponents)
    assert_near(estimate.intervals.diff(dim=-1)[:, 0], 2 * estimate.margins)
    assert bool((estimate.margins > 1.96 * estimate.standard_errors).all())


def test_one_sequence_has_no_spread_but_an_error() -> None:
    estimate = plain_spectrum(build("gru"), sequences(1, 10))
    assert bool(estimate.std.isnan().all())
    assert bool((estimate.standard_errors > 0).all())


def test_one_block_of_one_sequence_tells_no_error() -> None:
    estimate = plain_spectrum(build("gru"), sequences(1, 10), orthonormalize_every=10)
    assert bool(estimate.exponents.isfinite().all())
    assert bool(estimate.standard_errors.isnan().all())
    assert bool(estimate.intervals.isnan().all())


def test_equal_sequences_have_next_to_no_spread() -> None:
    """Variance from sums of squares: rounding leaves ``sqrt(eps) |lambda|``."""
    start = torch.zeros(1, 4, 7, dtype=F64)
    start[0, :, 0] = 1e-9 * torch.arange(4)  # else they were one
    x = sequences(1, 10).expand(4, -1, -1)
    estimate = plain_spectrum(build("gru"), x, initial_state=start)
    assert float(estimate.std.abs().max()) < 1e-6


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    exponents = torch.randn(7, 4, dtype=F64)
    one, other, whole = sums_of(exponents[:3]), sums_of(exponents[3:]), sums_of(exponents)
    both = joined([one, other])
    assert_near(both.mean, whole.mean)
    assert_near(both.std(), whole.std())
    assert_near(both.samples, whole.samples)
    assert_near(whole.std(), exponents.std(0))


def test_sorted_mean_sorts_every_field_alike() -> None:
    exponents = torch.tensor([[-1.0, 0.5, -math.inf], [-3.0, 0.7, -math.inf]], dtype=F64)
    spectrum, order = sums_of(exponents, [1, 0, 0]).sorted_mean(5)
    assert isinstance(spectrum, MeanSpectrum)
    assert order.tolist() == [1, 0, 2]
    assert spectrum.exponents.tolist() == [0.6, -2.0, -math.inf]
    assert spectrum.resolved.tolist() == [True, False, False]
    assert spectrum.std[:2].tolist() == pytest.approx([0.02**0.5, 2**0.5])
    assert spectrum.std[2].isnan()
    assert spectrum.standard_errors[:2].tolist() == pytest.approx([0.1, 1.0])
    assert spectrum.margins[:2].tolist() == pytest.approx([1.27062, 12.7062], rel=1e-4)
    assert spectrum.standard_errors[2].isnan()
    assert spectrum.margins[2].isnan()
    assert (spectrum.num_exponents, spectrum.tangent_size) == (3, 5)
    assert not spectrum.is_complete


def test_no_sequence_gives_nan() -> None:
    spectrum, _ = sums_of(torch.zeros(0, 2)).sorted_mean(2)
    assert bool(spectrum.exponents.isnan().all())
    assert not bool(spectrum.resolved.any())
    assert spectrum.num_sequences == 0


def test_estimates_are_frozen() -> None:
    estimate = plain_spectrum(build("tanh"), sequences(1, 3))
    with pytest.raises(AttributeError):
        estimate.exponents = torch.zeros(7)  # type: ignore[misc]


@pytest.mark.parametrize("every", [1, 3])
def test_finite_time_exponents_are_means_of_windows(every: int) -> None:
    module, x = build("gru"), torch.randn(3, 20, 3, dtype=torch.float64)
    lengths = [20, 13, 6]
    estimate = plain_spectrum(
        module, x, lengths=lengths, orthonormalize_every=every, keep_log_stretches=True
    )
    windows = estimate.finite_time_exponents(6)
    assert windows.shape == (3, 3, 7)
    assert windows.isnan().all(-1).tolist() == [
        [False, False, False],
        [False, False, True],
        [False, True, True],
    ]
    one = plain_spectrum(module, x, keep_log_stretches=True)
    assert one.log_stretches is not None
    by_column = one.log_stretches[:, :, one.order.argsort()][..., estimate.order]
    known = slice(None if every == 1 else 4)  # three steps leave the last ones to rounding
    assert_near(windows[1, 0, known], by_column[6:12, 0].mean(0)[known], 1e-8)
    whole = one.finite_time_exponents(20)
    assert_near(whole[0], one.per_sequence)


def test_windows_longer_than_the_run_give_none() -> None:
    estimate = plain_spectrum(
        build("tanh"), torch.randn(2, 5, 3, dtype=torch.float64), keep_log_stretches=True
    )
    assert estimate.finite_time_exponents(6).shape == (0, 2, 7)


def test_windows_must_be_whole_blocks() -> None:
    x = torch.randn(1, 12, 3, dtype=torch.float64)
    estimate = plain_spectrum(build("tanh"), x, orthonormalize_every=4, keep_log_stretches=True)
    with pytest.raises(ValueError, match=r"but got 6 and blocks that end after \[4, 8, 12\]"):
        estimate.finite_time_exponents(6)
    with pytest.raises(ValueError, match="`window` to be at least 1"):
        estimate.finite_time_exponents(0)
    with pytest.raises(ValueError, match=r"keep_log_stretches=True"):
        plain_spectrum(build("tanh"), x).finite_time_exponents(4)
