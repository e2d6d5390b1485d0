"""What has not settled is told from what has, and how many steps would do."""

import math

import pytest
import torch
from torch import Tensor

from lightning_lyap.statistics.batch_means import Contrasts
from lightning_lyap.statistics.stationarity import drift, steps_to_settle
from tests.statistics.test_batch_means import contrasts_of

F64 = torch.float64
REPLICATES = 40


def transient(
    time_constant: float, warmup_steps: int, num_steps: int, batch: int = 10
) -> Contrasts:
    """Stretches that start 1 too large and forget it exponentially, with noise of 0.3."""
    time = torch.arange(warmup_steps, warmup_steps + num_steps, dtype=F64)
    mean = (-time / time_constant).exp().reshape(-1, 1, 1)
    return contrasts_of(mean + 0.3 * torch.randn(num_steps, batch, REPLICATES, dtype=F64))


def share_settled(contrasts: Contrasts) -> float:
    return float(drift(contrasts, torch.zeros(REPLICATES, dtype=F64)).settled.double().mean())


def wanted(contrasts: Contrasts, warmup_steps: int, num_steps: int) -> Tensor:
    """Steps asked for in each replicate, NaN where it has settled."""
    found = drift(contrasts, torch.zeros(REPLICATES, dtype=F64))
    return torch.tensor(
        [
            steps_to_settle(
                contrasts, found, torch.arange(REPLICATES) == k, warmup_steps, num_steps
            )
            for k in range(REPLICATES)
        ]
    )


@pytest.mark.parametrize(("batch", "steps"), [(10, 50), (1, 400)])
def test_noise_has_settled(batch: int, steps: int) -> None:
    """But for one in a hundred; of 40 three binomial errors are 5 %."""
    assert share_settled(contrasts_of(torch.randn(steps, batch, REPLICATES, dtype=F64))) > 0.9


def test_a_transient_of_a_quarter_of_the_steps_has_not() -> None:
    assert share_settled(transient(25.0, 0, 100)) < 0.1


@pytest.mark.parametrize(
    ("time_constant", "warmup_steps", "num_steps"),
    [(20.0, 0, 100), (50.0, 0, 400), (200.0, 0, 400), (200.0, 200, 200), (50.0, 0, 100)],
)
def test_as_many_steps_as_are_asked_for_do(
    time_constant: float, warmup_steps: int, num_steps: int
) -> None:
    """The median of 40 replicates does, with half of it discarded, and a quarter of it does not.

    Unless that is fewer than there were.
    """
    asked = wanted(transient(time_constant, warmup_steps, num_steps), warmup_steps, num_steps)
    half = int(asked[asked.isfinite()].median()) // 2
    assert share_settled(transient(time_constant, half, half)) > 0.6
    if half // 4 > num_steps + warmup_steps:
        assert share_settled(transient(time_constant, half // 4, half // 4)) < 0.9


def test_what_has_settled_asks_for_nothing() -> None:
    contrasts = contrasts_of(torch.randn(100, 10, REPLICATES, dtype=F64))
    found = drift(contrasts, torch.zeros(REPLICATES, dtype=F64))
    assert math.isnan(steps_to_settle(contrasts, found, found.settled, 0, 100))


def test_a_single_block_tells_nothing() -> None:
    contrasts = contrasts_of(torch.randn(4, 1, 2, dtype=F64), blocks=[4])
    found = drift(contrasts, torch.zeros(2, dtype=F64))
    assert not bool(found.settled.any())
    every = torch.ones(2, dtype=torch.bool)
    assert math.isnan(steps_to_settle(contrasts, found, every, 0, 4))


def test_a_trend_without_end_asks_for_more() -> None:
    contrasts = contrasts_of(torch.arange(64.0, dtype=F64).reshape(-1, 1, 1).expand(-1, 4, 1))
    found = drift(contrasts, torch.zeros(1, dtype=F64))
    every = torch.ones(1, dtype=torch.bool)
    assert steps_to_settle(contrasts, found, every, 0, 64) >= 4 * 64
