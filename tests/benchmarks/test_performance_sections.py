"""Each section of the performance benchmark with toy sizes: what it measures and divides."""

import math
from dataclasses import replace

import pytest
import torch

from lightning_lyap.dynamics.gates import prefers_dense
from performance import crossover, laws, leading, over_time, overhead, parallel, union
from performance.timing import Spread, Stopwatch
from tests.fake_clock import FakeClock
from tests.toy_sections import CPU, TOYS

NUM_ROWS = {
    "overhead": 3,
    "leading": 9,
    "laws": 12,
    "crossover": 4,
    "union": 2,
    "parallel": 2,
    "over_time": 1,
    "callback": 5,
}


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")
@pytest.mark.grid(every=3)
@pytest.mark.parametrize("name", TOYS)
def test_a_section_measures_to_the_end(name: str) -> None:
    result = TOYS[name](CPU)
    assert len({row.what for row in result.rows}) == len(result.rows) == NUM_ROWS[name]
    differences = [row.difference for row in result.rows if row.difference is not None]
    assert differences
    assert all(0 < difference < 1e-3 for difference in differences)
    for row in result.rows:
        assert all(math.isfinite(value) for value in row.found)
        assert row.found.lowest <= row.found.median <= row.found.highest
        assert f"| {row.what} |" in result.markdown()
    assert "{" not in result.text


def test_a_section_measures_on_its_device_by_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, clock = [], FakeClock()

    def watch(device: torch.device) -> Stopwatch:
        asked.append(device)
        return Stopwatch(clock, clock.taking(1.0), shortest=0.0)

    for module in (overhead, leading):
        monkeypatch.setattr(module, "stopwatch_of", watch)
    rows = [TOYS[name](CPU).rows[-2].found for name in ("overhead", "leading")]
    assert rows == [Spread(1.0, 1.0, 1.0, 2)] * 2
    assert asked == [CPU] * 4


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("overhead", overhead),
        ("crossover", crossover),
        ("union", union),
        ("parallel", parallel),
        ("over_time", over_time),
    ],
)
def test_the_first_of_two_is_divided_by_the_second(
    name: str, module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "in_turn", lambda *given, **named: [[6.0, 3.0], [9.0, 1.0]])
    assert {row.found for row in TOYS[name](CPU).rows} == {Spread(5.5, 2.0, 9.0, 2)}


def test_all_exponents_are_divided_by_some(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [[12.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.25]]
    monkeypatch.setattr(leading, "in_turn", lambda *given, **named: times)
    rows = TOYS["leading"](CPU).rows
    assert [row.found.median for row in rows[:-1]] == [1, 2, 3, 4, 6, 12, 24, 48]
    assert [None if row.bar is None else row.bar.value for row in rows] == [
        None,
        1.6,
        15,
        15,
        100,
        100,
        None,
        None,
        1e-3,
    ]


@pytest.mark.parametrize("units", [128, 512])
@pytest.mark.parametrize("gates", [3, 4, 5])
def test_the_switch_lies_between_the_sides(gates: int, units: int) -> None:
    sides = crossover.sides(gates, units)
    assert [prefers_dense(gates, units, k) for k in sides] == [False, False, True, True]


def test_what_is_timed_is_the_problem() -> None:
    estimate = laws.Problem(4, 3, 5, count=6, stack=2, layers="union").call()()
    assert (estimate.tangent_size, estimate.num_exponents, estimate.num_sequences) == (8, 6, 3)
    assert estimate.steps.tolist() == [5, 5, 5]
    assert estimate.layer is not None
    assert laws.Problem(4, 3, 5, stack=2).call()().layer is None


def test_a_law_varies_one_size_alone() -> None:
    (found,) = (each for each in laws.QUICK.laws() if each.what == "L, complete, union")
    assert [p.stack for p in found.problems()] == [1, 2, 3, 4]
    assert {replace(p, stack=1) for p in found.problems()} == {
        laws.Problem(128, 4, 12, layers="union")
    }


class TestChunksOfTime:
    @pytest.mark.parametrize(
        ("case", "outcome"),
        [
            (over_time.Case("GRU", 8, 1, 2, 40, 4), "1 round, certified"),
            (over_time.Case("GRU", 8, None, 2, 200, 5), "3 rounds, 2 of 2 finished plainly"),
            (over_time.Case("GRU", 8, 1, 2, 40, 1), "in one go"),
        ],
    )
    def test_the_outcome_is_said(self, case: over_time.Case, outcome: str) -> None:
        assert over_time._outcome(case.run(CPU, case.chunks)) == outcome

    def test_the_larger_difference_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(over_time.Case, "difference", lambda self, device: 0.5)
        (row,) = TOYS["over_time"](CPU).rows
        assert row.difference == 0.5
