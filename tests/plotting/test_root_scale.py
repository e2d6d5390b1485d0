"""The scale of colors goes with the square root of an exponent's size."""

import numpy as np
import pytest

from lightning_lyap.plotting.root_scale import root_norm, root_ticks


@pytest.mark.parametrize(("low", "high"), [(-25.0, 4.0), (-25.0, -1.0), (1.0, 25.0), (-4.0, 0.0)])
def test_colors_go_with_the_square_root_of_an_exponents_size(low: float, high: float) -> None:
    norm, values = root_norm(low, high), np.linspace(low, high, 7)
    size = np.where(values > 0, abs(high), abs(low)) if low < 0 < high else 1
    root = np.sign(values) * np.sqrt(np.abs(values) / size)
    expected = (root - root[0]) / (root[-1] - root[0])
    np.testing.assert_allclose(norm(values), expected, atol=1e-12)
    np.testing.assert_allclose(norm.inverse(norm(values)), values, atol=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "some"),
    [(-28.0, 0.037, [-20, -5, 0, 0.02]), (-28.0, -0.16, [-20, -5, -0.5]), (2.1, 2.9, [2.2, 2.8])],
)
def test_ticks_of_the_scale_are_round_and_apart(low: float, high: float, some: list[float]) -> None:
    norm = root_norm(low, high)
    ticks = root_ticks(norm)
    assert set(some) <= set(ticks.round(9))
    assert 4 <= len(ticks) <= 11
    assert (np.diff(norm(ticks)) >= 0.085).all()
    assert low <= ticks[0] <= ticks[-1] <= high
