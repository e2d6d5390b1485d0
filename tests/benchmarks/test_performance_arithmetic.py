"""Ratios, power laws, verdicts and the page of the performance benchmark, by fake clocks."""

import math
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import run
from performance import page
from performance.fits import law, slope
from performance.page import Machine, Measured, compose
from performance.table import Bar, Result, Row, number
from performance.timing import Spread, Stopwatch, in_turn, interleaved, ratio, stopwatch_of, threads
from tests.fake_clock import FakeClock

CPU = torch.device("cpu")


class TestTiming:
    def test_a_quick_call_is_repeated_until_its_time_can_be_read(self) -> None:
        clock = FakeClock()
        watch = Stopwatch(clock, shortest=1.0)
        assert watch.seconds(clock.taking(0.3)) == pytest.approx(0.3)
        assert len(clock.calls) == 4
        assert watch.seconds(clock.taking(5.0)) == pytest.approx(5.0)
        assert len(clock.calls) == 5

    def test_what_the_device_still_does_counts(self) -> None:
        clock = FakeClock()
        pending = [7.0, 2.0]

        def wait() -> None:
            clock.now += pending.pop(0)

        assert Stopwatch(clock, wait).seconds(clock.taking(1.0)) == pytest.approx(3.0)

    def test_calls_take_turns(self) -> None:
        clock = FakeClock()
        calls = [clock.taking(1.0), clock.taking(2.0)]
        times = in_turn(calls, 3, stopwatch=Stopwatch(clock))
        assert times == [[1.0, 2.0]] * 3
        assert clock.calls == [1.0, 2.0] * 4

    def test_nothing_is_called_before_without_warm_up(self) -> None:
        clock = FakeClock()
        in_turn([clock.taking(1.0)], 2, stopwatch=Stopwatch(clock), warm_up=False)
        assert clock.calls == [1.0, 1.0]

    @pytest.mark.parametrize(("budget", "rounds"), [(0.0, 1), (2.5, 2), (99.0, 4)])
    def test_no_round_begins_beyond_the_budget(self, budget: float, rounds: int) -> None:
        clock = FakeClock()
        times = in_turn([clock.taking(1.0)], 4, budget, Stopwatch(clock))
        assert len(times) == rounds

    def test_ratios_are_those_of_the_same_round(self) -> None:
        times = [[2.0, 1.0], [30.0, 10.0], [4.0, 4.0]]
        assert ratio(times, 0, 1) == Spread(2.0, 1.0, 3.0, 3)
        assert ratio(times, 1, 0) == Spread(0.5, 1 / 3, 1.0, 3)

    def test_every_call_is_compared_with_every_other(self) -> None:
        compared = interleaved([partial(sum, range(500)), partial(sum, range(500))], 1)
        assert [compared[0][0], compared[1][1]] == [1.0, 1.0]
        assert compared[0][1] == pytest.approx(1 / compared[1][0])

    def test_the_number_of_threads_comes_back(self) -> None:
        before = torch.get_num_threads()

        def fail() -> None:
            with threads(before + 1):
                assert torch.get_num_threads() == before + 1
                raise RuntimeError("within")

        with pytest.raises(RuntimeError, match="within"):
            fail()
        assert torch.get_num_threads() == before

    def test_on_cuda_the_clock_waits_for_the_device(self) -> None:
        assert stopwatch_of(torch.device("cuda")).wait is torch.cuda.synchronize
        assert stopwatch_of(CPU) == Stopwatch()


class TestFits:
    def test_a_power_law_is_found_exactly(self) -> None:
        found = slope([3, 6, 12, 24], [7 * n**2.5 for n in (3, 6, 12, 24)])
        assert found.value == pytest.approx(2.5)
        assert found.error == pytest.approx(0, abs=1e-9)

    def test_the_standard_error_is_that_of_least_squares(self) -> None:
        found = slope([1, 2, 4], [1, 4, 2])  # y = 0, 2, 1 at x = 0, 1, 2; residuals -1/2, 1, -1/2
        assert found == pytest.approx((0.5, math.sqrt(1.5 / 1 / 2)))

    @pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, 3.0]])
    def test_too_few_points_are_refused(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match="at least three sizes and a value for each"):
            slope([1, 2], values)

    def test_every_round_has_an_exponent_and_the_medians_an_error(self) -> None:
        rounds = [[1.0, 2.0, 4.0], [1.0, 4.0, 16.0], [9.0, 27.0, 81.0]]
        found, error = law([1, 2, 4], rounds)
        assert found.lowest == pytest.approx(1)
        assert found.highest == pytest.approx(2)
        assert found.median == pytest.approx(math.log2(3))
        medians = [statistics.median(values) for values in zip(*rounds, strict=True)]
        assert error == slope([1, 2, 4], medians).error


class TestTable:
    @pytest.mark.parametrize(
        ("bar", "found", "verdict"),
        [
            (Bar("<=", 1.15), 1.15, "met"),
            (Bar("<=", 1.15), 1.16, "not met"),
            (Bar("<", 1.5), 1.5, "not met"),
            (Bar("<", 1.5), 1.4, "met"),
            (Bar(">=", 15), 15, "met"),
            (Bar(">=", 15), 14.9, "not met"),
            (Bar(">=", 15), math.nan, "not met"),
            (Bar("<=", 15), math.nan, "not met"),
        ],
    )
    def test_verdicts(self, bar: Bar, found: float, verdict: str) -> None:
        assert bar.verdict(found) == verdict

    def test_a_line_has_all_there_is(self) -> None:
        row = Row("a", Spread(1.234, 1.0, 20.0, 3), Bar(">=", 1.6), 0.05, 2e-5)
        assert row.line() == ("| a | 1.23 ± 0.05 | 1 to 20 | 3 | >= 1.6 | not met | 2.0e-05 |")
        assert Row("b", Spread(2, 2, 2, 1)).line() == "| b | 2 | - | 1 | - | - | - |"

    @pytest.mark.parametrize(
        ("value", "text"), [(0.0, "0"), (-0.001, "-1.0e-03"), (999.4, "999"), (12345.6, "12346")]
    )
    def test_numbers_have_three_digits(self, value: float, text: str) -> None:
        assert number(value) == text


def _measured(title: str, **changes: Any) -> Measured:
    row = Row(f"of {title}", Spread(1.5, 1.0, 2.0, 3), Bar(">=", 2.0), None, 1e-6)
    machine = Machine("CPU", 2, 2, "2.13.0", "3.11.7")
    return replace(Measured(Result(title, "Words.", [row]), machine, 0.5, False), **changes)


class TestPage:
    def test_what_is_kept_comes_back(self, tmp_path: Path) -> None:
        found = _measured("one")
        rows = [*found.result.rows, Row("plain", Spread(1.0, 1.0, 1.0, 1))]
        found = replace(found, result=replace(found.result, rows=rows))
        page.keep(tmp_path / "new", "one", found)
        assert page.kept(tmp_path / "new", ["one", "two"]) == {"one": found}

    def test_sections_come_in_order_with_what_was_missed(self) -> None:
        text = compose({"b": _measured("B", load=2.0), "a": _measured("A")}, ["a", "b"])
        assert text.index("## A") < text.index("## B")
        assert "Of 2 bars 2 are not met:\n\n- A: of A: 1.5, bar >= 2" in text
        assert "load of 0.5 to 2.0" in text
        assert "machine with 2 CPU cores" in text
        assert "{" not in text

    def test_a_page_says_when_all_bars_are_met(self) -> None:
        row = Row("x", Spread(3.0, 3.0, 3.0, 1), Bar(">=", 2.0))
        assert page.missed([Result("X", "", [row, row])]) == "\nAll 2 bars are met."

    @pytest.mark.parametrize(
        ("sections", "message"),
        [
            ({}, r"none of \['a'\]"),
            ({"a": _measured("A", quick=True)}, r"quick ones of \['a'\]"),
        ],
    )
    def test_a_page_has_all_sections_in_full(
        self, sections: dict[str, Measured], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            compose(sections, ["a"])

    def test_a_page_is_of_one_machine(self) -> None:
        other = _measured("B", machine=Machine("CPU", 64, 2, "2.13.0", "3.11.7"))
        with pytest.raises(ValueError, match="on one machine, but got 2"):
            compose({"a": _measured("A"), "b": other}, ["a", "b"])

    def test_start_up_is_pointed_to_where_it_is_measured(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(page, "START_UP", tmp_path / "startup.py")
        assert page.start_up() == ""
        page.START_UP.touch()
        assert "benchmarks/startup.py" in page.start_up()

    def test_the_page_in_the_docs_has_all_sections(self) -> None:
        text = run.PAGE.read_text(encoding="utf-8")
        assert [line for line in text.splitlines() if line.startswith("## ")][:9] == [
            "## Overhead over a bare loop",
            "## Automatic interval and leading exponents",
            "## How the time grows",
            "## Dense and matrix-free products",
            "## Peak memory",
            "## Layers by themselves",
            "## Shares side by side",
            "## Chunks of time",
            "## The callback in a fit",
        ]
