"""Statistics of given spectra: what takes part, how well it is known, what it rests on."""

import math
from typing import Any

import pytest
import torch

from lightning_lyap.statistics.measures import (
    OF_THE_WHOLE,
    SpectrumMeasures,
    kaplan_yorke_dimension,
)
from lightning_lyap.statistics.summary import measure_spectrum

INF, NAN, F64 = math.inf, math.nan, torch.float64


def measures(
    exponents: list[float],
    tangent_size: int,
    resolved: list[bool] | None = None,
    margins: list[float] | None = None,
    **others: Any,
) -> SpectrumMeasures:
    """Statistics of exponents that are exact and have settled unless told otherwise."""
    count = len(exponents)
    others = {key: torch.as_tensor(value) for key, value in others.items()}
    margin = torch.tensor(margins or [0.0] * count, dtype=F64)
    return measure_spectrum(
        torch.tensor(exponents, dtype=F64),
        torch.arange(count, dtype=F64),
        torch.tensor(resolved or [True] * count),
        tangent_size,
        margins=margin,
        standard_errors=margin / 2,
        **({"settled": torch.ones(count, dtype=torch.bool)} | others),
    )


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
        num_positive_estimates=1,
        kaplan_yorke_dimension=2.25,
        kolmogorov_sinai_entropy=0.5,
        num_unresolved=0,
        num_unsettled=0,
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
    ],
)
def test_partial_spectra_flag_their_lower_bounds(
    exponents: list[float], tangent_size: int, dimension_open: bool, entropy_open: bool
) -> None:
    result = measures(exponents, tangent_size)
    assert result.dimension_is_lower_bound is dimension_open
    assert result.entropy_is_lower_bound is entropy_open


def test_minus_infinity_is_known_to_lie_below_everything() -> None:
    result = measures([0.3, -INF], 4, [True, False])
    assert result.kaplan_yorke_dimension == 1
    assert not result.dimension_is_lower_bound
    assert not result.entropy_is_lower_bound
    nothing_else = measures([-INF, -INF], 2, [False, False])
    assert nothing_else.max == -INF
    assert nothing_else.kaplan_yorke_dimension == nothing_else.kolmogorov_sinai_entropy == 0
    assert not nothing_else.dimension_is_lower_bound


def test_a_flagged_dimension_really_is_a_lower_bound() -> None:
    whole = torch.tensor([0.3, 0.1, -0.1, -0.2, -0.5])
    exact = kaplan_yorke_dimension(whole).item()
    for count in range(1, 6):
        partial = measures(whole[:count].tolist(), 5)
        if partial.dimension_is_lower_bound:
            assert partial.kaplan_yorke_dimension < exact
        else:
            assert partial.kaplan_yorke_dimension == pytest.approx(exact, abs=1e-6)


def test_unresolved_exponents_take_part_in_no_statistic() -> None:
    result = measures([0.9, 0.5, 0.2, -0.5], 4, [False, True, False, True])
    assert (result.max, result.mean, result.variance, result.min) == (0.5, 0.0, 0.25, -0.5)
    assert (result.num_positive, result.num_positive_estimates) == (1, 1)
    assert (result.kaplan_yorke_dimension, result.kolmogorov_sinai_entropy) == (2.0, 0.5)
    assert result.std_over_sequences == 2.0
    assert result.num_unresolved == 2


@pytest.mark.parametrize(
    ("noise", "dimension_open", "entropy_open"),
    [(0.1, True, True), (-0.3, True, False), (-0.8, False, False)],
)
def test_noise_hides_what_lies_above_the_turning_point_alone(
    noise: float, dimension_open: bool, entropy_open: bool
) -> None:
    """Exponents 0.5 and -0.6: dimension 1.83; what lies above -0.6 would add to it."""
    result = measures([0.5, -0.6, noise], 3, [True, True, False])
    assert result.kaplan_yorke_dimension == pytest.approx(1 + 0.5 / 0.6)
    assert result.dimension_is_lower_bound is dimension_open
    assert result.entropy_is_lower_bound is entropy_open


def test_averages_over_all_are_told_beside_those_over_the_resolved() -> None:
    result = measures([0.5, -0.5, -3.0, -INF], 4, [True, True, False, False])
    assert (result.mean, result.variance) == (0.0, 0.25)
    assert result.mean_all == -1.0
    assert result.variance_all == pytest.approx((1.5**2 + 0.5**2 + 2.0**2) / 3)
    assert result.num_unresolved == 2


def test_an_exponent_that_is_minus_infinity_is_in_neither_average() -> None:
    result = measures([0.5, -0.5, -INF], 3, [True, True, False])
    assert (result.mean_all, result.variance_all) == (result.mean, result.variance)


@pytest.mark.parametrize("exponents", [[0.5, -0.5], [0.5, -INF], [NAN, NAN]], ids=str)
def test_nothing_resolved_gives_nan_and_no_crash(exponents: list[float]) -> None:
    result = measures(exponents, 2, [False, False])
    assert result.num_unresolved == 2
    assert (result.num_positive, result.num_positive_estimates) == (0, 0)
    assert all(math.isnan(v) for v in (result.max, result.mean, result.variance, result.min))
    assert result.entropy_is_lower_bound
    assert str(result)


def test_positive_is_what_lies_above_zero_with_its_whole_interval() -> None:
    """Of a free limit cycle: 7e-11 +- 1.6e-10 is zero for all that is known."""
    result = measures([0.3, 7e-11, 0.0, -0.1], 4, margins=[0.1, 1.6e-10, 0.0, 0.2])
    assert (result.num_positive, result.num_positive_estimates) == (1, 2)
    assert result.intervals["num_positive"] == (1, 3)
    rounded = measures([1e-9], 1, rounding_errors=[1e-8])
    assert rounded.num_positive == 0


def test_an_unknown_interval_leaves_open_what_is_positive() -> None:
    result = measures([0.3, -0.1], 2, margins=[NAN, NAN])
    assert (result.num_positive, result.num_positive_estimates) == (0, 1)
    assert result.intervals["num_positive"] == (0, 2)
    assert math.isnan(result.intervals["max"][0])


def test_statistics_have_the_errors_they_are_given() -> None:
    errors = torch.tensor([[0.01 * n, 0.02 * n] for n in range(1, 7)], dtype=F64)
    result = measures([0.5, -0.25, -1.0], 3, margins=[0.1, 0.2, 0.3], statistic_errors=errors)
    for n, name in enumerate(OF_THE_WHOLE, start=1):
        assert result.standard_errors[name] == pytest.approx(0.01 * n)
        low, high = result.intervals[name]
        assert (high - low) / 2 == pytest.approx(0.02 * n)
        assert (high + low) / 2 == pytest.approx(getattr(result, name))
    assert result.intervals["max"] == (0.4, 0.6)
    assert result.intervals["min"] == (-1.3, -0.7)
    assert result.standard_errors["max"] == 0.05


def test_a_largest_exponent_of_either_sign_leaves_dimension_and_entropy_open() -> None:
    """-0.01 +- 0.05: nothing grows, or 0.04 does, over 1 + 0.04 / 0.5 dimensions."""
    errors = torch.zeros(6, 2, dtype=F64)
    result = measures([-0.01, -0.5], 2, margins=[0.05, 0.0], statistic_errors=errors)
    assert (result.kaplan_yorke_dimension, result.kolmogorov_sinai_entropy) == (0, 0)
    assert result.intervals["kaplan_yorke_dimension"] == pytest.approx((0, 1.08))
    assert result.intervals["kolmogorov_sinai_entropy"] == pytest.approx((0, 0.04))


@pytest.mark.parametrize(
    ("moving", "resting"),
    [
        (0, {"max", "num_positive", "num_positive_estimates", "kolmogorov_sinai_entropy"}),
        (1, set()),
        (2, {"min"}),
    ],
)
def test_statistics_tell_whether_they_rest_on_what_has_not_settled(
    moving: int, resting: set[str]
) -> None:
    averages = {"mean", "mean_all", "variance", "variance_all", "std_over_sequences"}
    dimension = {"kaplan_yorke_dimension"} if moving < 2 else set()
    result = measures([0.5, -0.6, -1.0], 3, settled=[n != moving for n in range(3)])
    assert result.unsettled == averages | dimension | resting
    assert result.num_unsettled == 1


def test_what_noise_does_is_not_called_unsettled() -> None:
    result = measures([0.5, -0.6], 2, [True, False], settled=[True, False])
    assert (result.num_unsettled, result.unsettled) == (0, frozenset())


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
        "num_positive_estimates",
        "kaplan_yorke_dimension",
        "kolmogorov_sinai_entropy",
        "num_unresolved",
        "num_unsettled",
    ]
    assert all(type(value) is float for value in scalars.values())


def test_every_statistic_but_counts_of_flaws_has_an_interval() -> None:
    result = measures([0.5, -1.0], 2)
    without = {"num_unresolved", "num_unsettled"}
    assert result.scalars().keys() - without == result.intervals.keys()
    assert result.intervals.keys() == result.standard_errors.keys()


def test_printed_every_number_stands_with_its_interval() -> None:
    text = str(measures([0.5, 0.1], 3, margins=[0.25, 0.2], settled=[False, True]))
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines()}
    assert lines["max"] == "0.5  [0.25, 0.75]  not settled"
    assert lines["kaplan_yorke_dimension"] == "2  lower bound  not settled"
    assert lines["num_positive"] == "1  [1, 2]  lower bound  not settled"
    assert lines["num_unsettled"] == "1"
