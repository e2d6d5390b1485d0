"""Coefficients against closed forms, intervals against samples of known correlation."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from lightning_lyap.sweeps.correlation import (
    Association,
    associate,
    partial_spearman,
    pearson,
    spearman,
)

F64 = torch.float64


def normal(n: int, correlation: float, seed: int, count: int = 1) -> torch.Tensor:
    """Draw ``[2, count, n]`` from a bivariate normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    x, e = torch.randn(2, count, n, generator=generator, dtype=F64)
    return torch.stack([x, correlation * x + math.sqrt(1 - correlation**2) * e])


def test_spearman_without_ties_is_that_of_the_squared_differences() -> None:
    x = torch.arange(5.0)
    for order in permutations(range(5)):
        y = torch.tensor(order, dtype=F64)
        difference = (x - y).square().sum().item()
        expected = 1 - 6 * difference / (5 * 24)
        assert spearman(x, y).item() == pytest.approx(expected)
        if expected == 0:
            assert str(spearman(x, y).item()) == "0.0"  # printed without a sign of rounding


def test_spearman_with_ties() -> None:
    # Ranks (1, 2.5, 2.5, 4) and (1, 3, 2, 4): 4.5 / sqrt(4.5 * 5).
    value = spearman(torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([0.0, 8.0, 3.0, 9.0]))
    assert value.item() == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_pearson_is_that_of_numpy() -> None:
    x, y = normal(30, 0.4, 1)[:, 0]
    assert pearson(x, y).item() == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert pearson(x, 3 - 2 * x).item() == pytest.approx(-1)


def test_partial_correlation_is_that_of_the_residuals() -> None:
    x, y = normal(25, 0.5, 2)[:, 0]
    given = x + y + normal(25, 0.0, 3)[0, 0]
    design = np.stack([np.ones(25), rankdata(given)], axis=1)
    rest = [rankdata(v) - design @ np.linalg.lstsq(design, rankdata(v))[0] for v in (x, y)]
    assert partial_spearman(x, y, given).item() == pytest.approx(pearson(*rest).item(), abs=1e-12)


def test_nothing_is_left_where_the_third_explains_all() -> None:
    given, noise = normal(4000, 0.0, 4)[:, 0]
    x, y = given + noise, given - 0.5 * normal(4000, 0.0, 5)[0, 0]
    assert spearman(x, y).item() > 0.5
    assert abs(partial_spearman(x, y, given).item()) < 4 / math.sqrt(4000)


def test_batches_are_loops() -> None:
    x, y = normal(12, 0.3, 6, count=4)
    for coefficient in (pearson, spearman):
        singly = [coefficient(a, b) for a, b in zip(x, y, strict=True)]
        np.testing.assert_allclose(coefficient(x, y), singly, rtol=1e-12)


@pytest.mark.parametrize("coefficient", [pearson, spearman])
def test_intervals_hold_the_truth_as_often_as_they_say(coefficient: object) -> None:
    correlation, n, count = 0.6, 40, 200
    truth = correlation if coefficient is pearson else 6 / math.pi * math.asin(correlation / 2)
    held = 0
    for x, y in zip(*normal(n, correlation, 7, count), strict=True):
        low, high = associate(coefficient, x, y, num_resamples=400).interval  # type: ignore[arg-type, misc]
        held += low <= truth <= high
    # Three standard deviations of a binomial count, and the known 3 % that Pearson's falls short.
    deviation = math.sqrt(0.95 * 0.05 / count)
    assert 0.95 - 0.03 - 3 * deviation < held / count < 0.95 + 3 * deviation


def test_seeds_make_intervals_reproducible_and_leave_the_global_generator() -> None:
    x, y = normal(10, 0.5, 8)[:, 0].tolist()
    before = torch.get_rng_state()
    assert associate(spearman, x, y, seed=1) == associate(spearman, x, y, seed=1)
    assert associate(spearman, x, y, seed=1) != associate(spearman, x, y, seed=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("coefficient", "samples"),
    [
        (spearman, [[1, 2], [1, 2]]),
        (partial_spearman, [[1, 2, 3], [1, 3, 2], [2, 1, 3]]),
        (pearson, [[1, 2, 3, 4], [0.1, 0.1, 0.1, 0.1]]),
        (partial_spearman, [[1, 2, 3, 4, 5], [1, 3, 2, 5, 4], [10, 30, 20, 50, 40]]),
        (spearman, [[], []]),
    ],
)
def test_what_is_not_defined_is_none(coefficient: object, samples: list[list[float]]) -> None:
    assert associate(coefficient, *samples) == Association(None, None)  # type: ignore[arg-type]


def test_intervals_are_finite_or_none() -> None:
    # One run of seven differs: a third of the resamples miss it and have no coefficient.
    found = associate(pearson, [0, 0, 0, 0, 0, 0, 1], [1, 2, 3, 4, 5, 6, 7])
    assert found.interval is not None
    assert all(math.isfinite(end) for end in found.interval)
    # Of four runs three resamples in four hold three at most, where nothing partial is defined.
    assert associate(partial_spearman, [1, 1, 1, 2], [1, 2, 2, 2], [1, 1, 2, 2]).interval is None


def test_samples_of_other_runs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected samples of the same runs, but got \[3, 2\]"):
        associate(spearman, [1, 2, 3], [1, 2])
