"""Trainings with and without the callback, compared by the clocks within and outside."""

from typing import Any

import pytest

from performance import fit
from performance.clocks import Clocked
from performance.table import Row
from tests.fake_clock import FakeClock


class TestTheCallback:
    @staticmethod
    def rows(with_callback: fit.Fit, without: fit.Fit) -> dict[str, Row]:
        return {row.what: row for row in fit.compare([(with_callback, without)], 1e-6)}

    def test_fits_are_compared(self) -> None:
        one = fit.Fit(10.0, [1.0, 1.2], [0.5, 0.4], [0.5, 0.5], measuring=3.0)
        rows = self.rows(one, fit.Fit(6.0, [1.0, 1.0]))
        found = [row.found.median for row in rows.values()]
        assert found == pytest.approx([0.45, 0.9, 0.2, 0.75, 1.1])
        verdicts = [row.line().split(" | ")[5] for row in rows.values()]
        assert verdicts == ["-", "-", "not met", "-", "not met"]

    def test_every_logged_fraction_has_its_partner(self) -> None:
        with pytest.raises(ValueError, match="shorter"):
            self.rows(fit.Fit(1.0, [1.0], [0.5], []), fit.Fit(1.0, [1.0]))

    def test_the_clock_outside_sees_all_of_the_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = FakeClock()
        monkeypatch.setattr("time.perf_counter", clock)
        ours = Clocked()
        ours._since = 0.0
        trainer: Any = type("T", (), {"sanity_checking": False})()
        hook, last = (
            ours._clocked(lambda trainer: clock.taking(1.0)(), end) for end in (False, True)
        )
        for idle in (2.0, 6.0):
            clock.now += idle
            hook(trainer)
            last(trainer)
        assert ours.fractions == [0.5, 0.25]
        trainer.sanity_checking = True
        last(trainer)
        assert len(ours.fractions) == 2
