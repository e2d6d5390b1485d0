import math

import numpy as np
import pytest
import torch

from paper.regimes import Mean, Regime, draws, seeds, unforgotten


@pytest.mark.parametrize(
    ("low", "high", "regime"),
    [
        (-0.4, -0.021, "stable"),
        (-0.019, 0.019, "marginal"),
        (0.021, 0.4, "chaotic"),
        (-0.03, -0.01, "undecided"),
        (0.01, 0.03, "undecided"),
        (-1.0, 1.0, "undecided"),
        (-math.inf, math.inf, "undecided"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_the_regime_is_told_by_the_interval(low: float, high: float, regime: Regime) -> None:
    assert Mean((low + high) / 2, low, high).regime == regime


def test_means_come_with_students_interval() -> None:
    mean = Mean.of(np.array([1.0, 2.0, 3.0]))
    assert mean == pytest.approx((2.0, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    assert f"{mean:.1f}" == "2.0 [-0.5, 4.5]"


@pytest.mark.filterwarnings("error")
def test_a_mean_that_is_not_finite_has_no_interval() -> None:
    mean = Mean.of(np.array([-math.inf, 0.0, 0.1]))
    assert mean.value == -math.inf
    assert mean.regime == "undecided"


def activity(spread: float) -> torch.Tensor:
    # Two drives of variance 1, and of each unit's starts a spread around.
    generator = torch.Generator().manual_seed(0)
    drives = torch.randn(2, 1, 400, 30, generator=generator)
    return drives + spread * torch.randn(2, 10, 400, 30, generator=generator)


@pytest.mark.parametrize("spread", [0.01, 0.5])
def test_what_is_not_forgotten_is_the_variance_over_starts(spread: float) -> None:
    # Drives of variance 1 differ by 1 + spread^2; 3,000 late numbers each: within a tenth.
    known = spread**2 / (1 + spread**2)
    assert unforgotten(activity(spread)) == pytest.approx(known, rel=0.1)


def test_only_the_last_quarter_counts() -> None:
    late = activity(0.0)
    late[:, :, :300] += torch.randn(2, 10, 300, 30)
    assert unforgotten(late) == pytest.approx(0.0, abs=1e-12)
    late[:, :, 300:] += torch.randn(2, 10, 100, 30)
    assert unforgotten(late) > 0.3


def test_unrelated_activity_has_nothing_forgotten() -> None:
    generator = torch.Generator().manual_seed(1)
    assert unforgotten(torch.randn(2, 10, 400, 30, generator=generator)) == pytest.approx(
        1.0, rel=0.05
    )


class Chosen:
    draws, seed, sequences, steps, warmup_steps = 3, 0, 1, 2, 1


def test_purposes_share_no_random_numbers() -> None:
    groups = [set(seeds(Chosen, purpose)) for purpose in range(4)]
    assert len(set.union(*groups)) == 12
    firsts = [next(draws(Chosen, 4, purpose)).inputs for purpose in range(2)]
    assert not torch.equal(*firsts)
