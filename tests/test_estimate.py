"""What an estimate says about itself, and sums over sequences."""

import math

import pytest
import torch

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.estimate import MeanSpectrum, SpectrumSums
from tests.cells import INPUT_SIZE, build
from tests.compare import assert_near

F64 = torch.float64


def sequences(batch: int, steps: int) -> torch.Tensor:
    return torch.randn(batch, steps, INPUT_SIZE, dtype=F64)


def sums_of(exponents: torch.Tensor, unresolved: list[int] | None = None) -> SpectrumSums:
    count = exponents.shape[1]
    return SpectrumSums(
        total=exponents.sum(0),
        squares=exponents.square().sum(0),
        rounding=torch.zeros(count, dtype=torch.float64),
        unresolved=torch.tensor(unresolved or [0] * count),
        count=exponents.shape[0],
    )


def test_log_stretches_add_up_to_the_exponents() -> None:
    estimate = lyapunov_spectrum(
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
    estimate = lyapunov_spectrum(build("tanh"), sequences(1, 3))
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
        estimate = lyapunov_spectrum(rnn, x, initial_state=initial, keep_log_stretches=True)
    assert estimate.valid.tolist() == [True, False, True]
    assert_near(estimate.running_exponents()[-1], estimate.exponents)


def test_spread_over_sequences() -> None:
    estimate = lyapunov_spectrum(build("gru"), sequences(6, 10))
    expected = estimate.per_sequence.std(0)
    assert_near(estimate.std, expected, 1e-7)
    assert_near(estimate.standard_errors, expected / 6**0.5, 1e-7)
    assert estimate.num_sequences == 6


def test_one_sequence_has_no_spread() -> None:
    estimate = lyapunov_spectrum(build("gru"), sequences(1, 10))
    assert bool(estimate.std.isnan().all())
    assert bool(estimate.standard_errors.isnan().all())


def test_equal_sequences_have_next_to_no_spread() -> None:
    """Variance from sums of squares: rounding leaves ``sqrt(eps) |lambda|``."""
    estimate = lyapunov_spectrum(build("gru"), sequences(1, 10).expand(4, -1, -1))
    assert float(estimate.std.abs().max()) < 1e-6


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    exponents = torch.randn(7, 4, dtype=F64)
    one, other = sums_of(exponents[:3]), sums_of(exponents[3:])
    joined = SpectrumSums(
        total=one.total + other.total,
        squares=one.squares + other.squares,
        rounding=one.rounding + other.rounding,
        unresolved=one.unresolved + other.unresolved,
        count=one.count + other.count,
    )
    for got, expected in zip(joined.mean(), sums_of(exponents).mean(), strict=True):
        assert_near(got, expected)


def test_sorted_mean_sorts_every_field_alike() -> None:
    exponents = torch.tensor([[-1.0, 0.5, -math.inf], [-3.0, 0.7, -math.inf]], dtype=F64)
    spectrum, order = sums_of(exponents, [1, 0, 0]).sorted_mean(5)
    assert isinstance(spectrum, MeanSpectrum)
    assert order.tolist() == [1, 0, 2]
    assert spectrum.exponents.tolist() == [0.6, -2.0, -math.inf]
    assert spectrum.resolved.tolist() == [True, False, False]
    assert spectrum.std[:2].tolist() == pytest.approx([0.02**0.5, 2**0.5])
    assert spectrum.std[2].isnan()
    assert (spectrum.num_exponents, spectrum.tangent_size) == (3, 5)
    assert not spectrum.is_complete


def test_no_sequence_gives_nan() -> None:
    spectrum, _ = sums_of(torch.zeros(0, 2)).sorted_mean(2)
    assert bool(spectrum.exponents.isnan().all())
    assert not bool(spectrum.resolved.any())
    assert spectrum.num_sequences == 0


def test_estimates_are_frozen() -> None:
    estimate = lyapunov_spectrum(build("tanh"), sequences(1, 3))
    with pytest.raises(AttributeError):
        estimate.exponents = torch.zeros(7)  # type: ignore[misc]
