import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from lightning_lyap.sweeps.csv_tables import read_table
from paper.claims import Verdict
from paper.driven import predicted_mean_exponent
from paper.fig1 import FIGURE
from paper.fig1_findings import agrees, findings, in_order
from paper.readings import READINGS, read_as
from paper.regimes import Example, Mean, Regime, Regimes
from tests.paper.conftest import Commands

GAINS = {"stable": 1.0, "marginal": 1.73, "chaotic": 4.0}


@pytest.mark.slow
def test_the_command_runs_to_its_end(commands: Commands) -> None:
    done = commands.once(FIGURE)
    assert "The marginal gain of 32 units is 1." in done.said
    assert Image.open(done.folder / "fig1.png").width > 800
    assert (done.folder / "fig1.png").stat().st_size < 100_000
    claims: list[dict[str, Any]] = json.loads((done.folder / "claims.json").read_text())
    assert [claim["item"] for claim in claims] == [
        "Fig. 1",
        "Fig. 1a",
        "Fig. 1b",
        "Fig. 1c",
        *["Fig. 1 (caption)"] * len(READINGS),
        *["Fig. 1 (beyond)"] * 2,
    ]
    assert {claim["scale"] for claim in claims} == {"tiny, 32 units, nothing trained"}
    rows = read_table(done.folder / "fig1.csv")
    largest, spectra = rows[: -3 * 32], rows[-3 * 32 :]
    assert len({row["gain"] for row in largest}) == len(largest) > 12
    assert {float(gain) for name in READINGS for gain in read_as(name, 32)} <= {
        float(row["gain"]) for row in largest
    }
    values = [float(row["exponent"]) for row in spectra]
    assert all(sorted(values[i : i + 32])[::-1] == values[i : i + 32] for i in (0, 32, 64))


def test_the_captions_variances_are_read_as_gains() -> None:
    gains = {name: read_as(name, 500) for name in READINGS}
    assert gains["the variance of V's entries"] == pytest.approx((1, 50_000**0.5, 500))
    other = gains["the variance of V's entries, 1/500 being left out of 100 and 500"]
    assert other == pytest.approx((1, 10, 500**0.5))
    assert gains["the square of the gain"] == pytest.approx((500**-0.5, 10, 500**0.5))
    assert gains["the gain"] == (1 / 500, 100, 500)
    deviation = gains["the standard deviation of V's entries"]
    assert deviation == pytest.approx((500**-0.5, 100 * 500**0.5, 500**1.5))
    assert gains["the sum of the squares of V's entries"] == pytest.approx((1 / 500, 0.2**0.5, 1))


@pytest.mark.parametrize(
    ("regimes", "verdict"),
    [
        (("stable", "marginal", "chaotic"), "yes"),
        (("stable", "chaotic", "chaotic"), "no"),
        (("undecided", "undecided", "stable"), "no"),
        (("stable", "undecided", "chaotic"), "undecided"),
    ],
)
def test_regimes_are_judged_in_order(regimes: tuple[Regime, ...], verdict: Verdict) -> None:
    assert in_order(regimes) == verdict


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (Mean(1.73, 1.70, 1.76), "yes"),
        (Mean(1.76, 1.74, 1.78), "no"),
        (Mean(1.69, 1.68, 1.70), "no"),
        (Mean(1.73, 1.60, 1.86), "undecided"),
        (Mean(1.73, -math.inf, math.inf), "undecided"),
        (Mean(math.nan, math.nan, math.nan), "undecided"),
    ],
)
def test_agreement_with_theory_takes_a_narrow_interval(mean: Mean, verdict: Verdict) -> None:
    assert agrees(mean, 1.7273) == verdict


def exactly(value: float) -> Mean:
    return Mean(value, value - 0.001, value + 0.001)


def made_up(left: dict[str, float], mean_error: float = 0.0) -> Regimes:
    # Exponents that are log(g / 1.73), and the given remainder of initial states.
    read = {gain for name in READINGS for gain in read_as(name, 500)}
    largest = {gain: exactly(math.log(gain / 1.73)) for gain in {*read, *GAINS.values()}}
    examples = {}
    for name, gain in GAINS.items():
        mean = predicted_mean_exponent(gain) + mean_error
        spectrum: Any = SimpleNamespace(exponents=torch.tensor([mean + 0.5, mean - 0.5]))
        examples[name] = Example(gain, torch.zeros(2, 10, 40), spectrum, exactly(left[name]))
    return Regimes(500, 8, exactly(1.732), exactly(1.727), 1.7273, largest, examples)


FORGOTTEN = {"stable": 1e-9, "marginal": 0.01, "chaotic": 0.9}


def verdicts(seen: Regimes) -> list[Verdict]:
    return [finding.agree for finding in findings(seen)]


def test_findings_of_what_the_paper_shows() -> None:
    found = verdicts(made_up(FORGOTTEN))
    assert found[:4] == ["yes"] * 4
    assert found[-2:] == ["yes"] * 2
    assert found[4:-2] == ["no"] * len(READINGS)


def test_findings_of_the_opposite() -> None:
    kept = {"stable": 0.9, "marginal": 0.8, "chaotic": 0.01}
    seen = made_up(kept, mean_error=0.03)
    seen = replace(seen, largest={gain: exactly(0.5) for gain in seen.largest}, predicted=1.8)
    assert verdicts(seen) == ["no"] * (6 + len(READINGS))


def test_what_is_near_the_bound_is_undecided() -> None:
    found = verdicts(made_up(dict.fromkeys(FORGOTTEN, 0.0505)))
    assert found[1:4] == ["undecided"] * 3


def test_a_reading_whose_gains_give_the_regimes_is_told() -> None:
    seen = made_up(FORGOTTEN)
    gains = read_as("the sum of the squares of V's entries", 500)
    fitting = dict(zip(gains, map(exactly, (-1.0, 0.0, 1.0)), strict=True))
    found = findings(replace(seen, largest=seen.largest | fitting))
    agreeing = [finding.claim for finding in found[4:-2] if finding.agree == "yes"]
    assert len(agreeing) == 1
    assert "read as the sum of the squares" in agreeing[0]
    assert "marginal (0 at gain 0.4472), chaotic (1 at gain 1), with 500 units" in found[9].result


def test_the_deviation_at_finite_size_is_told_beside_the_limit() -> None:
    said = findings(made_up(FORGOTTEN))[-2].result
    assert "theory 1.7273; found 1.7320 [1.7310, 1.7330] with 500 units, +0.0047" in said
    assert "1.7270 [1.7260, 1.7280] with what goes like 1/N removed by 250 units" in said
    assert "g^2 is 0.030 of it" in said
    assert "about 34 units" in said
