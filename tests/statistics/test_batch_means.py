"""Sums of contrasts against loops over sequences, and bins that stay few."""

import math
from collections.abc import Iterable, Sequence

import pytest
import torch
from torch import Tensor

from lightning_lyap.statistics.batch_means import (
    MAX_BATCHES,
    NUM_GROUPS,
    NUM_PARTS,
    NUM_SCALES,
    Contrasts,
    StretchBins,
    joined,
)
from tests.compare import assert_near

F64 = torch.float64


def contrasts_of(
    stretches: Tensor, blocks: Iterable[int] = (), lengths: Sequence[int] | None = None
) -> Contrasts:
    """Contrasts of ``[T, B, K]``, in blocks of the given numbers of steps, then of one step."""
    total, batch = stretches.shape[:2]
    steps = torch.tensor(lengths or [total] * batch)
    running = (torch.arange(total).unsqueeze(-1) < steps).unsqueeze(-1)
    bins, start = StretchBins(), 0
    for size in (*blocks, *[1] * total):
        end = min(start + size, total)
        if end > start:
            bins.add(torch.where(running, stretches, 0.0)[start:end].sum(0), end)
        start = end
    return bins.contrasts(steps, torch.ones(batch, dtype=torch.bool))


def by_loop(stretches: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Residual sums of squares of batches of equal length: powers of two alone."""
    exponents = torch.stack([stretches[:n, b].mean(0) for b, n in enumerate(lengths)])
    sums = [(exponents - exponents.mean(0)).square().sum(0)]
    for scale in range(1, NUM_SCALES):
        total = torch.zeros_like(sums[0])
        for b, n in enumerate(lengths):
            if n >= 2**scale:
                halves = stretches[:n, b].unflatten(0, (2**scale, -1)).sum(1) / n
                total += (halves[::2] - halves[1::2]).square().sum(0)
        sums.append(total)
    return sums


def assert_equal(got: Contrasts, expected: Contrasts, tolerance: float = 1e-12) -> None:
    for name, value in vars(expected).items():
        assert_near(getattr(got, name), value, tolerance)


@pytest.mark.parametrize("lengths", [[64, 64, 64], [64, 16, 64], [64, 1, 8]], ids=str)
def test_residuals_are_those_of_a_loop(lengths: list[int]) -> None:
    stretches = 1 + torch.randn(64, 3, 2, dtype=F64)
    contrasts = contrasts_of(stretches, lengths=lengths)
    assert_near(contrasts.residuals(), torch.stack(by_loop(stretches, lengths)))
    expected = [sum(2 ** max(s - 1, 0) for n in lengths if n >= 2**s) for s in range(NUM_SCALES)]
    assert contrasts.terms.tolist() == expected
    exponents = torch.stack([stretches[:n, b].mean(0) for b, n in enumerate(lengths)])
    assert_near(contrasts.mean, exponents.mean(0))
    assert contrasts.count == 3


def test_halves_of_unequal_length_leave_nothing_of_a_constant_stretch() -> None:
    """Which needs the steps in the sums: 0.7 times the difference of the halves' lengths."""
    contrasts = contrasts_of(torch.full((203, 2, 1), 0.7, dtype=F64), blocks=[2, 1] * 60)
    assert float(contrasts.squares[1:].min()) > 1e-5
    assert float(contrasts.residuals().max()) < 1e-15


@pytest.mark.parametrize(("blocks", "shares"), [([45, 50, 5], 0.1), ([20, 40, 40], 0.2)])
def test_halves_are_cut_at_the_nearest_end_of_a_block(blocks: list[int], shares: float) -> None:
    """At 45 and 60 of 100 steps: the halves differ by 10 and 20."""
    contrasts = contrasts_of(torch.ones(100, 1, 1, dtype=F64), blocks=blocks)
    assert contrasts.weights[1].item() == pytest.approx(shares**2)
    assert contrasts.terms.tolist() == [1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("lengths", [[100] * 5, [100, 37, 64, 5, 1]], ids=["equal", "unequal"])
def test_parts_add_up_to_the_whole(lengths: list[int]) -> None:
    stretches = torch.randn(100, 5, 3, dtype=F64)
    whole = contrasts_of(stretches, lengths=lengths)
    one = contrasts_of(stretches[:, :2], lengths=lengths[:2])
    other = contrasts_of(stretches[: max(lengths[2:]), 2:], lengths=lengths[2:])
    assert_equal(joined([one, other]), whole)


def test_samples_are_eighths_of_sequences_dealt_out_in_turn() -> None:
    """Of 35 sequences the first three share their groups with the last three."""
    stretches = torch.randn(80, 35, 2, dtype=F64)
    samples = contrasts_of(stretches).samples
    assert samples.shape == (NUM_GROUPS, NUM_PARTS, 3)
    eighths = stretches.unflatten(0, (8, 10)).sum(1) / 80
    assert_near(samples[5, :, :2], eighths[:, 5])
    assert_near(samples[1, :, :2], eighths[:, 1] + eighths[:, 33])
    assert_near(samples[:4, :, 2], torch.tensor([[2.0]] * 3 + [[1.0]]).to(F64).expand(4, 8) / 8)


def test_samples_of_few_blocks_stand_where_these_end() -> None:
    """Three blocks of ten steps: the cuts at eighths fall on their ends, the others are empty."""
    samples = contrasts_of(torch.ones(30, 1, 1, dtype=F64), blocks=[10, 10, 10]).samples
    assert_near(samples[0, :, 0], samples[0, :, 1])
    assert samples[0, :, 1].count_nonzero() == 3
    assert float(samples[0, :, 1].sum()) == pytest.approx(1)


def test_a_direction_of_minus_infinity_stays_one_in_the_samples() -> None:
    stretches = torch.zeros(16, 1, 2, dtype=F64)
    stretches[5, 0, 0] = -math.inf
    samples = contrasts_of(stretches).samples
    assert samples[0, :, 0].tolist() == [0, 0, -math.inf, 0, 0, 0, 0, 0]
    assert not bool(samples.isnan().any())


def test_invalid_sequences_are_left_out() -> None:
    stretches = torch.randn(40, 3, 2, dtype=F64)
    broken = stretches.clone()
    broken[7:, 1] = math.nan
    bins = StretchBins()
    for t, stretch in enumerate(broken):
        bins.add(stretch, t + 1)
    got = bins.contrasts(torch.tensor([40, 40, 40]), torch.tensor([True, False, True]))
    assert_equal(got, contrasts_of(stretches[:, [0, 2]]))
    nothing = bins.contrasts(torch.tensor([40, 40, 40]), torch.zeros(3, dtype=torch.bool))
    assert_equal(joined([got, nothing]), got)


def test_an_infinite_stretch_leaves_other_exponents_right() -> None:
    stretches = torch.randn(50, 3, 2, dtype=F64)
    expected = contrasts_of(stretches[..., 1:]).residuals()[:, 0]
    stretches[20, 1, 0] = -math.inf
    contrasts = contrasts_of(stretches)
    assert contrasts.mean[0] == -math.inf
    assert_near(contrasts.residuals()[:, 1], expected, 1e-15)
    assert bool(contrasts.residuals()[:, 0].isnan().all())


@pytest.mark.parametrize("sizes", [[1], [5], [1, 3, 2, 7], [50, 1, 1, 1]], ids=str)
@pytest.mark.parametrize("total", [100, 1000, 9999])
def test_bins_stay_few_and_even(sizes: list[int], total: int) -> None:
    """None wider than a 32nd of all steps and a block, none lost, at most 128."""
    bins, end, count = StretchBins(), 0, 0
    while end < total:
        end = min(end + sizes[count % len(sizes)], total)
        count += 1
        bins.add(torch.full((1, 1), float(end), dtype=F64), end)
        assert len(bins.ends) <= 2 * MAX_BATCHES
    widths = torch.tensor([0, *bins.ends]).diff()
    assert int(widths.min()) > 0
    assert int(widths.max()) <= total / (MAX_BATCHES / 2) + max(sizes)
    assert bins.ends[-1] == total
    assert len(bins.ends) >= min(count, MAX_BATCHES) * 0.5


def test_bins_do_not_lose_stretches() -> None:
    stretches = torch.randn(1000, 2, 3, dtype=F64)
    got = contrasts_of(stretches, blocks=[2, 9] * 40)
    assert_near(got.mean, stretches.mean((0, 1)))
    assert int(got.terms[-1]) == 2 * MAX_BATCHES // 2


def test_blocks_of_different_length_measure_the_same() -> None:
    """White noise: contrasts of 2 x 32 batches, known to 1/sqrt(300 x 32): 1 %.

    Unequal halves of b1 and b2 steps have the variance b1 + b2 as equal ones do.
    """
    stretches = 3 + torch.randn(1000, 1, 300, dtype=F64)
    even = contrasts_of(stretches).residuals()[-1].mean()
    uneven = contrasts_of(stretches, blocks=[1, 3, 2, 7] * 70).residuals()[-1].mean()
    assert float(even) == pytest.approx(1 / 1000, rel=0.05)
    assert float(uneven) == pytest.approx(1 / 1000, rel=0.05)
