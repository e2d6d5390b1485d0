"""Intervals between factorizations: predictions in closed form, and blocks taken back."""

import math
from typing import Any

import pytest
import torch

from lightning_lyap.estimator.schedule import (
    FIRST_INTERVAL,
    MOST_GROWTH,
    MOST_OVERSHOOT,
    TOLERANCES,
    AutoInterval,
    FixedInterval,
)
from lightning_lyap.qr.orthonormalize import Orthonormalization

F32, F64 = torch.float32, torch.float64
LIMIT = TOLERANCES[F32]
INF, NAN = math.inf, math.nan


def block(
    stretch: Any, error: Any = 0.0, resolved: list[bool] | None = None, size: int = 9
) -> Orthonormalization:
    """Make up a factorization: stretches of one sequence, ``[K]``, or of several, ``[b, K]``."""
    log_stretch = torch.atleast_2d(torch.as_tensor(stretch, dtype=F64))
    errors = torch.as_tensor(error, dtype=F64).expand_as(log_stretch)
    known = torch.ones(log_stretch.shape[-1], dtype=torch.bool)
    known = torch.tensor(resolved) if resolved is not None else known
    basis = torch.zeros(log_stretch.shape[0], size, log_stretch.shape[1])
    return Orthonormalization(basis, log_stretch, known.expand_as(log_stretch), errors)


def auto(num_exponents: int = 2, size: int = 9, dtype: torch.dtype = F32) -> AutoInterval:
    return AutoInterval(num_exponents, size, dtype)


def longest(spread: float, error: float, steps: int, most: int, share: float) -> int:
    """Solve ``error exp(spread (k - steps)) <= share limit k`` for the largest k, step by step."""
    fitting = [
        k
        for k in range(1, most + 1)
        if math.log(error) + spread * (k - steps) <= math.log(share * LIMIT * k)
    ]
    return max(fitting, default=1)


class TestFixed:
    def test_is_always_the_same_and_takes_everything(self) -> None:
        fixed = FixedInterval(7)
        for result in (block([0.0, -1.0]), block([0.0, NAN], 1e9), block([-INF, -INF])):
            assert fixed.propose() == 7
            assert fixed.accepts(7, result, True)
        assert fixed.propose() == 7
        assert fixed.tolerance is None


class TestPrediction:
    def test_starts_short_and_knows_its_tolerance(self) -> None:
        assert auto().propose() == FIRST_INTERVAL
        assert auto().tolerance == 1e-3
        assert auto(dtype=F64).tolerance == 1e-6

    @pytest.mark.parametrize("length", [3, 5, 7])
    @pytest.mark.parametrize("spread", [0.5, 1.0, 3.0])
    def test_the_error_grows_with_the_spread(self, spread: float, length: int) -> None:
        """``ln (k limit / 2 error) / spread`` steps more, half the limit for safety."""
        error = 0.999 * 0.5 * LIMIT * length * math.exp(-spread * (length - 2))
        schedule = auto()
        assert schedule.accepts(2, block([0.0, -2 * spread], [0.0, error]), True)
        assert schedule.propose() == length
        assert schedule.propose() == longest(spread, error, 2, 8, 0.5)

    def test_the_level_of_the_stretches_does_not_matter(self) -> None:
        proposals = []
        for level in (-3.0, 0.0, 3.0):
            schedule = auto()
            schedule.accepts(2, block([level, level - 2.0], [0.0, 1e-5]), True)
            proposals.append(schedule.propose())
        assert proposals == [longest(1.0, 1e-5, 2, 8, 0.5)] * 3

    def test_the_error_is_the_mean_over_sequences(self) -> None:
        one, both = auto(), auto()
        assert one.accepts(2, block([0.0, -2.0], [0.0, 4e-5]), True)
        stretch, error = [[0.0, -2.0], [0.0, -2.0]], [[0.0, 7e-5], [0.0, 1e-5]]
        assert both.accepts(2, block(stretch, error), True)
        assert one.propose() == both.propose() == longest(1.0, 4e-5, 2, 8, 0.5)

    def test_spreads_are_means_over_the_run(self) -> None:
        """One step of spread 4 after four of 0.5: 1.2 per step is what is predicted with."""
        schedule = auto()
        assert schedule.accepts(4, block([0.0, -2.0]), True)
        assert schedule.accepts(1, block([0.0, -4.0], [0.0, 3e-6]), True)
        assert schedule.propose() == longest(1.2, 3e-6, 1, 4, 0.5) < 8

    def test_grows_by_a_factor_at_most(self) -> None:
        schedule, steps = auto(), FIRST_INTERVAL
        for _ in range(4):
            assert schedule.accepts(steps, block([0.0, 0.0], 1e-9), True)
            assert schedule.propose() == MOST_GROWTH * steps
            steps = schedule.propose()

    @pytest.mark.parametrize(("dtype", "reach"), [(F32, 44), (F64, 354)])
    @pytest.mark.parametrize("rate", [1.0, -1.0])
    def test_stays_within_half_the_range_of_the_numbers(
        self, dtype: torch.dtype, reach: int, rate: float
    ) -> None:
        """Equal stretches lose no digits, but ``exp(88)`` and ``exp(709)`` overflow."""
        schedule = auto(dtype=dtype)
        for _ in range(6):
            steps = schedule.propose()
            assert schedule.accepts(steps, block([rate * steps] * 2), True)
        assert schedule.propose() == reach

    def test_a_huge_stretch_of_a_single_sequence_limits_the_range(self) -> None:
        schedule = auto()
        assert schedule.accepts(2, block([[0.0, 0.0], [0.0, -40.0]]), True)
        assert schedule.propose() == 2


class TestRollback:
    def test_too_large_an_error_is_taken_back(self) -> None:
        schedule = auto()
        assert schedule.accepts(2, block([0.0, -2.0], 1e-9), True)
        error = 1.01 * MOST_OVERSHOOT * LIMIT * 8
        assert not schedule.accepts(8, block([0.0, -8.0], [0.0, error]), True)
        assert schedule.propose() == longest(1.0, error, 8, 7, 2.0) == 7

    def test_just_within_the_excess_is_taken(self) -> None:
        schedule = auto()
        assert schedule.accepts(
            8, block([0.0, -8.0], [0.0, 0.99 * MOST_OVERSHOOT * LIMIT * 8]), True
        )

    def test_a_first_block_too_long_is_halved(self) -> None:
        schedule = auto()
        assert not schedule.accepts(2, block([0.0, -2.0], 1.0), True)
        assert schedule.propose() == 1

    def test_repeated_refusals_end_at_a_single_step(self) -> None:
        schedule, steps, tries = auto(), 8, 0
        assert schedule.accepts(2, block([0.0, -0.2], 1e-9), True)
        while not schedule.accepts(steps, block([0.0, -0.1 * steps], [0.0, 9.0]), True):
            assert 1 <= schedule.propose() < steps
            steps, tries = schedule.propose(), tries + 1
        assert steps == 1
        assert tries <= 7

    def test_a_single_step_is_always_taken(self) -> None:
        schedule = auto()
        assert schedule.accepts(1, block([0.0, -30.0], [0.0, 9.0]), True)
        assert schedule.propose() == 1


class TestBudget:
    @pytest.mark.parametrize(("counted", "proposed"), [(True, 8), (False, 7)])
    def test_warmup_saves_nothing(self, counted: bool, proposed: bool) -> None:
        """What a counted block leaves of its tolerance lets the next take 1.5 times its own."""
        schedule = auto()
        assert schedule.accepts(2, block([0.0, -2.0]), counted)
        assert schedule.accepts(8, block([0.0, -8.0], [0.0, 1.5 * LIMIT * 8]), False)
        assert schedule.propose() == proposed

    def test_what_was_taken_too_much_is_made_up_for(self) -> None:
        schedule = auto()
        assert schedule.accepts(8, block([0.0, -8.0], [0.0, 1.5 * LIMIT * 8]), True)
        assert schedule.propose() == longest(1.0, 1.5 * LIMIT * 8, 8, 8, 1.0) == 7

    @pytest.mark.parametrize(
        ("num_exponents", "size", "lost"), [(32, 32, 2), (16, 16, 1), (15, 15, 0), (32, 33, 0)]
    )
    def test_a_sixteenth_of_a_complete_spectrum_may_be_lost(
        self, num_exponents: int, size: int, lost: int
    ) -> None:
        for bad in range(lost + 2):
            error = torch.zeros(num_exponents)
            error[num_exponents - bad :] = 9.0
            accepted = auto(num_exponents, size).accepts(
                2, block([0.0] * num_exponents, error), True
            )
            assert accepted is (bad <= lost)


class TestLostColumns:
    def test_lost_in_a_single_step_they_do_not_hold_up_the_rest(self) -> None:
        schedule = auto(3)
        gone = [True, True, False]
        assert schedule.accepts(1, block([0.0, 0.0, -30.0], [0.0, 0.0, 9.0], gone), True)
        assert schedule.propose() == 4
        assert schedule.accepts(4, block([0.0, 0.0, -40.0], [0.0, 0.0, 9.0], gone), True)

    def test_lost_over_several_steps_they_do(self) -> None:
        result = block([0.0, 0.0, -30.0], [0.0, 0.0, 9.0], [True, True, False])
        assert not auto(3).accepts(2, result, True)

    @pytest.mark.parametrize("level", [-6.0, 0.0, 6.0])
    def test_mapped_to_zero_they_cost_nothing(self, level: float) -> None:
        with_zero, without = auto(3), auto(2)
        stretch, error = [level, level - 2.0, -INF], [0.0, 1e-5, 0.0]
        for steps in (1, 2):
            assert with_zero.accepts(steps, block(stretch, error), True)
            assert without.accepts(steps, block(stretch[:2], error[:2]), True)
        # A gap of 2 nats in the first step, and of 2 in the two after it.
        assert with_zero.propose() == without.propose() == longest(4 / 3, 1e-5, 2, 8, 0.5)

    def test_a_zero_that_no_single_step_has_made_is_an_underflow(self) -> None:
        schedule = auto(2)
        zero = block([0.0, -INF])
        assert not schedule.accepts(8, zero, True)
        assert schedule.propose() == 4
        assert schedule.accepts(1, zero, True)
        assert schedule.accepts(4, zero, True)
        assert not schedule.accepts(4, block([-INF, -INF]), True)

    def test_all_mapped_to_zero(self) -> None:
        schedule = auto()
        assert schedule.accepts(1, block([-INF, -INF]), True)
        assert schedule.propose() == MOST_GROWTH


class TestNotFinite:
    @pytest.mark.parametrize("bad", [NAN, INF])
    def test_lost_sequences_have_no_say(self, bad: float) -> None:
        one, both = auto(), auto()
        stretch, error = [[0.0, -2.0], [0.0, bad]], [[0.0, 1e-5], [NAN, NAN]]
        assert not both.accepts(2, block(stretch, error), True)
        for steps in (1, 2):
            assert one.accepts(steps, block([0.0, -2.0], [0.0, 1e-5]), True)
            assert both.accepts(steps, block(stretch, error), True)
        assert both.propose() == one.propose() == longest(4 / 3, 1e-5, 2, 8, 0.5)

    def test_without_any_other_the_block_is_halved_down_to_a_step(self) -> None:
        schedule = auto()
        for steps, shorter in ((8, 4), (5, 2), (2, 1)):
            assert not schedule.accepts(steps, block([0.0, NAN]), True)
            assert schedule.propose() == shorter
        assert schedule.accepts(1, block([0.0, NAN]), True)
        assert schedule.propose() == 1
