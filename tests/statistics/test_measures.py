"""Statistics of spectra in closed form."""

import math

import pytest
import torch

from lightning_lyap.statistics.measures import (
    kaplan_yorke_dimension,
    kolmogorov_sinai_entropy,
    num_positive_exponents,
)

INF = math.inf
SPECTRA = [
    # exponents, Kaplan-Yorke dimension, entropy, number of positive ones
    ([-0.1, -1.0], 0.0, 0.0, 0),
    ([0.3, 0.2, 0.1], 3.0, 0.6, 3),
    ([0.5, -1.0], 1.5, 0.5, 1),
    ([0.5, -0.5], 2.0, 0.5, 1),
    ([0.5, -0.25, -1.0], 2.25, 0.5, 1),
    ([0.0, -1.0], 1.0, 0.0, 0),
    ([0.0, 0.0], 2.0, 0.0, 0),
    ([0.9056, 0.0, -14.5723], 2 + 0.9056 / 14.5723, 0.9056, 1),
    ([0.4192, -1.6232], 1 + 0.4192 / 1.6232, 0.4192, 1),
    ([math.log(2), math.log(0.2)], 1.43068, math.log(2), 1),
    ([0.5, -INF, -INF], 1.0, 0.5, 1),
    ([0.5, -0.25, -INF], 2.0, 0.5, 1),
    ([-INF, -INF], 0.0, 0.0, 0),
    ([0.7], 1.0, 0.7, 1),
    ([-0.7], 0.0, 0.0, 0),
]


@pytest.mark.parametrize(("exponents", "dimension", "entropy", "positive"), SPECTRA)
def test_closed_forms_in_any_order(
    exponents: list[float], dimension: float, entropy: float, positive: int
) -> None:
    for ordered in (exponents, exponents[::-1]):
        spectrum = torch.tensor(ordered, dtype=torch.float64)
        assert kaplan_yorke_dimension(spectrum).item() == pytest.approx(dimension, abs=1e-5)
        assert kolmogorov_sinai_entropy(spectrum).item() == pytest.approx(entropy, abs=1e-12)
        assert num_positive_exponents(spectrum).item() == positive


def test_leading_dimensions_are_a_batch() -> None:
    batch = torch.randn(4, 3, 6, dtype=torch.float64)
    for measure in (kaplan_yorke_dimension, kolmogorov_sinai_entropy, num_positive_exponents):
        values = measure(batch)
        assert values.shape == (4, 3)
        for i in range(4):
            for j in range(3):
                assert values[i, j] == measure(batch[i, j])


def test_dimension_solves_the_interpolated_sum() -> None:
    """D is where the piecewise linear sum of the exponents comes back to zero."""
    spectrum = torch.linspace(1, -2, 9, dtype=torch.float64)
    sums = torch.cat([torch.zeros(1).double(), spectrum.cumsum(0)])
    dimension = kaplan_yorke_dimension(spectrum).item()
    below = int(dimension)
    assert 0 < below < 9
    at_dimension = sums[below] + (dimension - below) * spectrum[below]
    assert float(at_dimension) == pytest.approx(0, abs=1e-12)


def test_nan_is_never_silent() -> None:
    spectrum = torch.tensor([[math.nan, -1.0], [0.5, -1.0]])
    assert kaplan_yorke_dimension(spectrum)[0].isnan()
    assert kolmogorov_sinai_entropy(spectrum)[0].isnan()
    assert kaplan_yorke_dimension(spectrum)[1] == 1.5
