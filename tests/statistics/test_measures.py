"""Statistics of spectra in closed form."""

import math

import pytest
import torch
from torch import Tensor

from lightning_lyap.statistics.measures import (
    SpectrumMeasures,
    kaplan_yorke_dimension,
    kolmogorov_sinai_entropy,
    measure_spectrum,
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


def measures(
    exponents: list[float], tangent_size: int, resolved: list[bool] | None = None
) -> SpectrumMeasures:
    values = torch.tensor(exponents, dtype=torch.float64)
    mask = torch.tensor(resolved or [True] * len(exponents))
    spread: Tensor = torch.arange(len(exponents), dtype=torch.float64)
    return measure_spectrum(values, spread, mask, tangent_size)


def test_all_statistics_of_a_complete_spectrum() -> None:
    assert measures([0.5, -0.25, -1.0], 3) == SpectrumMeasures(
        max=0.5,
        mean=-0.25,
        mean_all=-0.25,
        variance=0.375,
        variance_all=0.375,
        min=-1.0,
        std_over_sequences=1.0,
        num_positive=1,
        kaplan_yorke_dimension=2.25,
        kolmogorov_sinai_entropy=0.5,
        num_unresolved=0,
        dimension_is_lower_bound=False,
        entropy_is_lower_bound=False,
    )


@pytest.mark.parametrize(
    ("exponents", "tangent_size", "dimension_open", "entropy_open"),
    [
        ([0.3, 0.2, 0.1], 3, False, False),
        ([0.3, 0.2, 0.1], 4, True, True),
        ([0.3, -0.1], 4, True, False),
        ([0.3, -0.5], 4, False, False),
        ([-0.3, -0.5], 4, False, False),
        ([0.3, -INF], 4, False, False),
    ],
)
def test_partial_spectra_flag_their_lower_bounds(
    exponents: list[float], tangent_size: int, dimension_open: bool, entropy_open: bool
) -> None:
    result = measures(exponents, tangent_size)
    assert result.dimension_is_lower_bound is dimension_open
    assert result.entropy_is_lower_bound is entropy_open


def test_a_flagged_dimension_really_is_a_lower_bound() -> None:
    whole = torch.tensor([0.3, 0.1, -0.1, -0.2, -0.5])
    exact = kaplan_yorke_dimension(whole).item()
    for count in range(1, 6):
        partial = measures(whole[:count].tolist(), 5)
        if partial.dimension_is_lower_bound:
            assert partial.kaplan_yorke_dimension < exact
        else:
            assert partial.kaplan_yorke_dimension == pytest.approx(exact, abs=1e-6)


def test_unresolved_exponents_stay_out_of_the_averages() -> None:
    result = measures([0.5, -0.5, -INF], 3, [True, True, False])
    assert (result.mean, result.variance, result.min) == (0.0, 0.25, -0.5)
    assert result.num_unresolved == 1
    assert result.std_over_sequences == 0.5


def test_averages_over_all_are_told_beside_those_over_the_resolved() -> None:
    result = measures([0.5, -0.5, -3.0, -INF], 4, [True, True, False, False])
    assert (result.mean, result.variance) == (0.0, 0.25)
    assert result.mean_all == -1.0
    assert result.variance_all == pytest.approx((1.5**2 + 0.5**2 + 2.0**2) / 3)
    assert result.num_unresolved == 2


def test_an_exponent_that_is_minus_infinity_is_in_neither_average() -> None:
    result = measures([0.5, -0.5, -INF], 3, [True, True, False])
    assert (result.mean_all, result.variance_all) == (result.mean, result.variance)


def test_nothing_resolved_gives_nan_and_no_crash() -> None:
    result = measures([-INF, -INF], 2, [False, False])
    assert result.max == -INF
    assert result.num_unresolved == 2
    assert all(math.isnan(v) for v in (result.mean, result.variance, result.min))
    assert all(math.isnan(v) for v in (result.mean_all, result.variance_all))


def test_scalars_are_the_numbers_without_the_flags() -> None:
    scalars = measures([0.5, -1.0], 4).scalars()
    assert list(scalars) == [
        "max",
        "mean",
        "mean_all",
        "variance",
        "variance_all",
        "min",
        "std_over_sequences",
        "num_positive",
        "kaplan_yorke_dimension",
        "kolmogorov_sinai_entropy",
        "num_unresolved",
    ]
    assert all(type(value) is float for value in scalars.values())
