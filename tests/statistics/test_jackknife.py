"""Errors of statistics: closed forms of linear ones, and how often the intervals cover."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lightning_lyap.statistics.jackknife import jackknife
from lightning_lyap.statistics.measures import OF_THE_WHOLE, whole_spectrum_statistics
from tests.compare import assert_near
from tests.statistics.test_batch_means import contrasts_of

F64 = torch.float64


def of_sequences(exponents: Tensor, linear: Tensor) -> Tensor:
    """Errors of a linear statistic of sequences of a single block, ``[B, K]``."""
    return jackknife(contrasts_of(exponents.unsqueeze(0)), lambda rows: rows @ linear)


def test_a_linear_statistic_has_the_error_of_a_mean() -> None:
    exponents, linear = torch.randn(20, 3, dtype=F64), torch.randn(3, 1, dtype=F64)
    values = exponents @ linear
    errors = of_sequences(exponents, linear)
    assert errors[0, 0].item() == pytest.approx(values.std().item() / math.sqrt(20))
    assert errors[0, 1].item() == pytest.approx(2.0930 * errors[0, 0].item(), rel=1e-4)


def test_groups_of_sequences_know_their_spread() -> None:
    """64 sequences in 32 groups of two: the error is known to 1 / sqrt(2 x 31), 13 %."""
    exponents = torch.randn(64, 200, dtype=F64)
    errors = of_sequences(exponents, torch.eye(200, dtype=F64))[:, 0]
    assert float(errors.square().mean().sqrt()) == pytest.approx(1 / 8, rel=0.05)


def test_what_is_minus_infinity_does_not_move() -> None:
    stretches = torch.randn(64, 4, 3, dtype=F64)
    expected = jackknife(contrasts_of(stretches[..., :2]), statistics_of_two)
    stretches[9, 1, 2] = -math.inf
    assert_near(jackknife(contrasts_of(stretches), statistics_of_two), expected)


def statistics_of_two(rows: Tensor) -> Tensor:
    """All statistics, the third exponent of minus infinity among them where there is one."""
    return whole_spectrum_statistics(rows, torch.tensor([True, True, False])[: rows.shape[-1]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7)], ids=str)
def test_a_single_block_of_a_single_sequence_tells_nothing(shape: tuple[int, int]) -> None:
    stretches = torch.randn(shape[1], 1, 2, dtype=F64)
    errors = jackknife(contrasts_of(stretches, blocks=[shape[1]]), statistics_of_two)
    assert bool(errors.isnan().all())


def test_no_sequence_gives_nan() -> None:
    nothing = contrasts_of(torch.zeros(5, 0, 2, dtype=F64))
    assert bool(jackknife(nothing, statistics_of_two).isnan().all())


def coverage(batch: int, steps: int, replicates: int, correlation: float = 0.0) -> dict[str, float]:
    """How often intervals cover, of spectra whose stretches have independent normal noise.

    Exponents 0.3, 0.05, -0.1 ... -0.8: dimension 3.42, 0.35 nats of entropy; noise of 1 a step.
    """
    exponents = torch.tensor([0.3, 0.05, -0.1, -0.6, -0.8], dtype=F64)
    every = torch.ones(5, dtype=torch.bool)
    truth = whole_spectrum_statistics(exponents.unsqueeze(0), every)[0]
    covered = torch.zeros(len(truth), dtype=F64)
    for _ in range(replicates):
        noise = torch.randn(steps, batch, 5, dtype=F64)
        for before, after in pairwise(noise):
            after.mul_(math.sqrt(1 - correlation**2)).add_(correlation * before)
        contrasts = contrasts_of(exponents + 0.5 * noise)
        margins = jackknife(contrasts, lambda rows: whole_spectrum_statistics(rows, every))[:, 1]
        value = whole_spectrum_statistics(contrasts.mean.unsqueeze(0), every)[0]
        covered += (value - truth).abs() <= margins
    return dict(zip(OF_THE_WHOLE, (covered / replicates).tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize(("batch", "steps"), [(10, 100), (40, 50), (2, 400), (1, 800)])
def test_intervals_cover(batch: int, steps: int, correlation: float) -> None:
    """Of 400 replicates: three binomial errors are 3.3 %.

    One sequence is no more than eight eighths, so that correlations can't be ruled out: 99 %.
    """
    for name, share in coverage(batch, steps, 400, correlation).items():
        assert 0.915 <= share <= (0.998 if batch == 1 else 0.985), (name, share)
