"""The page of regimes: its edge of chaos, and pairs that meet or part."""

import re
from importlib import import_module
from typing import Any

import pytest

regimes: Any = import_module("docs.regimes")


def test_the_edge_is_found_where_the_exponent_vanishes() -> None:
    drive = regimes.noise(size=16, steps=30)
    edge = regimes.find_edge(drive)
    low, high = regimes.leading(edge.gain, drive).intervals[0].tolist()
    assert low < 0 < high
    assert 1 < edge.gain < 2.5
    with pytest.raises(ValueError, match="Expected an edge between the gains"):
        regimes.find_edge(drive, low=0.1, high=0.2)


def test_the_edge_told_is_that_of_mean_field_theory() -> None:
    (told,) = re.findall(r"mean-field theory \| ([\d.]+) \|", regimes.PAGE.read_text())
    below, above = (
        regimes.mean_field_exponent(float(told) + side, regimes.DRIVE_VARIANCE)
        for side in (-0.001, 0.001)
    )
    assert below < 0 < above


def test_pairs_meet_or_part_at_the_rate_of_the_exponent() -> None:
    """Slopes from step 20 to 40, where neither rounding nor the size of the attractor matters.

    Ten pairs over twenty steps: the spread of finite-time exponents, about 0.05, over sqrt(10).
    """
    drive = regimes.noise()
    for gain in (regimes.STABLE, regimes.CHAOTIC):
        apart = regimes.distances(regimes.network(gain), drive).log()
        slope = float((apart[:, 40] - apart[:, 20]).mean()) / 20
        assert slope == pytest.approx(float(regimes.leading(gain, drive).exponents), abs=0.05)
