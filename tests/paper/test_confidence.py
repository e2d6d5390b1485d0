import numpy as np
import pytest

from paper.confidence import interval, jackknife
from paper.settling import relative_spread

K = 20
LINE = np.linspace(-1.0, -5.0, K)


def test_the_interval_of_a_mean_is_students() -> None:
    low, high = interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)


def test_the_jackknife_covers_the_spread_of_gaussian_sequences() -> None:
    # 200 replicates of a 95 % interval: 190 +- 3; three standard errors and the bias of few.
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values = LINE + 0.1 * draw.normal(size=(10, K))
        low, high = jackknife(relative_spread, values)
        covered += low < 0.1 / 4.0 < high
    assert 170 <= covered <= 199
