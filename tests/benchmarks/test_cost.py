"""The table of costs: ratios of times, and a page with all of its rows."""

import sys
from importlib import import_module
from typing import Any

import pytest

cost: Any = import_module("cost")


def test_costs_are_ratios_of_times() -> None:
    def work(size: int) -> Any:
        return lambda: sum(range(size))

    ratios = cost.interleaved([work(20_000), work(80_000)], rounds=3)
    assert ratios[1][0] == pytest.approx(4, rel=0.5)
    assert ratios[0][0] == 1


def test_the_page_of_costs_has_every_row() -> None:
    text = cost.PAGE.read_text()
    assert cost.HEADER in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    labels = [f"{name} | {case.label}" for name, *_, cases in cost.NETWORKS for case in cases]
    cells = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert [f"{row[0]} | {row[3]}" for row in cells] == labels
    assert all(float(number) > 0 for row in cells for number in row[4:])


def test_costs_of_a_page_want_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cost.py", "--quick", "--write"])
    with pytest.raises(SystemExit):
        cost.main()
