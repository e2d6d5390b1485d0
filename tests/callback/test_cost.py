"""What a measurement costs, and which setting makes it cheaper."""

import time

import pytest

from lightning_lyap.callback import cost
from lightning_lyap.callback.cost import SLOW_FRACTION, Pace, advice


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still; its one entry is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_fraction_is_of_the_time_since_the_last_measurement(clock: list[float]) -> None:
    pace = Pace()
    clock[0] += 20
    assert pace.fraction(5) == 0.25
    pace.restart()
    clock[0] += 10
    assert pace.fraction(5) == 0.5


def test_fraction_is_at_most_one(clock: list[float]) -> None:
    pace = Pace()
    clock[0] += 1
    assert pace.fraction(3) == 1
    assert Pace().fraction(0) == 0


def test_the_first_validation_of_a_run_is_due_and_then_every_nth() -> None:
    pace, due = Pace(), []
    for _ in range(7):
        pace.count(fitting=True)
        due.append(pace.is_due(every=3))
    assert due == [True, False, True, False, False, True, False]
    assert pace.validations == 7


def test_a_validation_outside_of_the_run_only_passes() -> None:
    pace = Pace()
    for fitting in (True, False, False):
        pace.count(fitting)
    assert pace.validations == 1
    assert pace.is_regular(every=3)


def test_a_measurement_is_regular_after_as_many_validations_as_asked_for() -> None:
    pace = Pace()
    regular = []
    for measured in (True, False, True, False, False):
        pace.count(fitting=True)
        regular.append(pace.is_regular(every=2))
        if measured:
            pace.restart()
    assert regular == [False, False, True, False, True]


def test_no_advice_up_to_a_tenth() -> None:
    assert SLOW_FRACTION == 0.1
    assert advice(1, 0.1, every=1) is None
    assert advice(1, 0.11, every=1) is not None


@pytest.mark.parametrize(
    ("seconds", "training", "every", "enough"),
    [(1, 1, 1, 9), (1, 8.9, 1, 2), (2, 6, 3, 9), (10, 1, 1, 90), (0.5, 0.5, 4, 36)],
)
def test_advice_names_an_interval_that_suffices(
    seconds: float, training: float, every: int, enough: int
) -> None:
    """With n validations of training time t / every each, s / (s + n t / every) <= 0.1."""
    message = advice(seconds, seconds / (seconds + training), every)
    assert message is not None
    assert f"`every_n_validations={enough}`" in message
    assert seconds / (seconds + enough * training / every) <= SLOW_FRACTION + 1e-12
    assert seconds / (seconds + (enough - 1) * training / every) > SLOW_FRACTION


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.123, "0.123 s"), (2, "2 s"), (12.34, "12.3 s"), (345.6, "346 s")]
)
def test_advice_says_what_it_took(seconds: float, shown: str) -> None:
    message = advice(seconds, 0.5, every=1)
    assert message is not None
    assert f"took {shown}, 50% of the time" in message
    for cheaper in ("`num_exponents`", "`num_sequences`", "`figures=False`"):
        assert cheaper in message


def test_advice_where_there_was_no_training_at_all() -> None:
    assert "every_n_validations" in str(advice(1, 1, every=1))
    assert cost.advice(0, 0, every=1) is None
