"""Intervals between factorizations: predictions in closed form, and what spectra keep of them."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum
from lightning_lyap.dynamics import LayerChoice, StateChoice
from lightning_lyap.interval import EXCESS, FIRST, GROWTH, TOLERANCES, AutoInterval, FixedInterval
from lightning_lyap.orthonormal import Orthonormalization
from lightning_lyap.systems import henon_step, linear_step, lorenz_step
from tests.cells import INPUT_SIZE, build, random_state
from tests.compare import assert_near

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
        assert auto().propose() == FIRST
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
        schedule, steps = auto(), FIRST
        for _ in range(4):
            assert schedule.accepts(steps, block([0.0, 0.0], 1e-9), True)
            assert schedule.propose() == GROWTH * steps
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
        error = 1.01 * EXCESS * LIMIT * 8
        assert not schedule.accepts(8, block([0.0, -8.0], [0.0, error]), True)
        assert schedule.propose() == longest(1.0, error, 8, 7, 2.0) == 7

    def test_just_within_the_excess_is_taken(self) -> None:
        schedule = auto()
        assert schedule.accepts(8, block([0.0, -8.0], [0.0, 0.99 * EXCESS * LIMIT * 8]), True)

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
        assert schedule.propose() == GROWTH


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


def pair(
    module: nn.RNNBase, x: Tensor, dtype: torch.dtype, **settings: Any
) -> tuple[SpectrumEstimate, Tensor]:
    """Measure with an automatic interval; return the errors of what is resolved, too.

    Against float64 and a factorization at every step, in the order of the basis vectors.
    """
    exact = lyapunov_spectrum(module, x, **settings)
    own = lyapunov_spectrum(module, x, dtype=dtype, orthonormalize_every="auto", **settings)
    error = torch.empty_like(exact.exponents)
    error[exact.order] = exact.exponents
    error = (error[own.order] - own.exponents).abs()
    return own, error[own.resolved]


KINDS: list[tuple[str, StateChoice]] = [
    ("tanh", "full"),
    ("gru", "full"),
    ("lstm", "hidden"),
    ("lstm", "full"),
    ("projected", "full"),
]


@pytest.mark.parametrize("layers", ["joint", "union"])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(("kind", "state"), KINDS)
def test_keeps_its_tolerance(
    kind: str, state: StateChoice, dtype: torch.dtype, layers: LayerChoice
) -> None:
    """The tolerance bounds the errors of the stretches, given their directions.

    Where exponents lie close together, directions turn by rounding as well, whatever the interval:
    in a joint basis one exponent in ten may be off by more, by up to some 20 tolerances (as much as
    float32 is with a factorization at every step).
    """
    module = build(kind, num_layers=2, hidden_size=32)
    x = torch.randn(3, 100, INPUT_SIZE, dtype=F64)
    own, error = pair(module, x, dtype, state=state, layers=layers)
    spread = float(own.exponents[own.resolved][0] - own.exponents[own.resolved][-1])
    assert 0.5 < spread < 12
    assert float((error > TOLERANCES[dtype]).double().mean()) < (0.1 if layers == "joint" else 0.02)
    assert float(error.max()) < (20 if layers == "joint" else 2) * TOLERANCES[dtype]
    assert bool((own.rounding_errors[own.resolved] <= TOLERANCES[dtype]).all())
    assert int((~own.resolved).sum()) <= own.num_exponents // 16 + 4
    assert len(own.block_ends) < 100 or (kind in ("lstm", "projected") and dtype == F32)
    assert own.block_ends[-1] == 100


def test_relu_networks_with_dead_units() -> None:
    own, error = pair(
        build("relu", num_layers=2, hidden_size=32), torch.randn(3, 100, INPUT_SIZE).double(), F64
    )
    known = error[error.isfinite()]
    assert known.numel() > 4
    assert float(known.max()) < 1e-5
    assert own.certificate.passed


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_leading_exponents_save_nine_tenths(kind: Any, dtype: torch.dtype) -> None:
    module = kind(INPUT_SIZE, 128).to(F64)
    x = torch.randn(2, 200, INPUT_SIZE, dtype=F64)
    own, error = pair(module, x, dtype, num_exponents=8)
    assert bool(own.resolved.all())
    assert len(own.block_ends) + own.certificate.num_redone <= 20
    assert float(error.max()) < TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("matrix_scale", [1e-3, 1.0, 1e3])
def test_linear_maps_stay_in_range(dtype: torch.dtype, matrix_scale: float) -> None:
    """Stretches of ``log(1000)`` = 7 per step: 88 is what float32 holds, 709 float64."""
    matrix = matrix_scale * torch.diag(torch.tensor([1.0, 0.9, 0.8], dtype=dtype))
    estimate = lyapunov_spectrum(
        linear_step(matrix),
        torch.zeros(1, 200, 0, dtype=dtype),
        initial_state=torch.zeros(1, 3, dtype=dtype),
        orthonormalize_every="auto",
    )
    assert_near(estimate.exponents, matrix.diagonal().double().log(), 1e-5)
    assert bool(estimate.resolved.all())
    longest_block = int(estimate.block_ends.diff().max())
    assert longest_block > (40 if matrix_scale == 1.0 else 5)
    if matrix_scale != 1.0:
        assert longest_block * math.log(1000) < 0.55 * math.log(torch.finfo(dtype).max)


def test_resolved_means_within_the_tolerance() -> None:
    """And the reverse where a stretch stood out: what breaks the promise is marked."""
    module = build("lstm", hidden_size=32)
    own, _ = pair(module, torch.randn(2, 100, INPUT_SIZE).double(), F32)
    kept = own.rounding_errors <= TOLERANCES[F32]
    assert bool((own.resolved <= kept).all())
    assert not bool(own.resolved.all())
    fixed = lyapunov_spectrum(
        module, torch.randn(2, 100, INPUT_SIZE), dtype=F32, orthonormalize_every=1
    )
    assert bool((fixed.resolved & (fixed.rounding_errors > TOLERANCES[F32])).any())


def test_henon_map() -> None:
    """Two exponents, 0.4192 and -1.6232, that part by two nats per step; the sum is log 0.3."""
    start = torch.tensor([[0.1, 0.1], [0.2, 0.0]], dtype=F64)
    settings: dict[str, Any] = {"initial_state": start, "warmup_steps": 50}
    x = torch.zeros(2, 300, 0, dtype=F64)
    one = lyapunov_spectrum(henon_step, x, **settings)
    own = lyapunov_spectrum(henon_step, x, orthonormalize_every="auto", **settings)
    assert_near(own.exponents, one.exponents, 1e-6)
    assert_near(own.exponents.sum(), torch.tensor(math.log(0.3)).double(), 1e-6)
    assert len(own.block_ends) < 250 / 4


@pytest.mark.slow
def test_lorenz_flow() -> None:
    """Steps of 0.01: 0.009, 0 and -0.146 per step."""
    x, start = torch.zeros(1, 150, 0, dtype=F64), torch.tensor([[1.0, 1.0, 20.0]], dtype=F64)
    one = lyapunov_spectrum(lorenz_step, x, initial_state=start)
    own = lyapunov_spectrum(lorenz_step, x, initial_state=start, orthonormalize_every="auto")
    assert_near(own.exponents, one.exponents, 1e-6)
    assert len(own.block_ends) < 40


@pytest.mark.parametrize("lengths", [None, [60, 23, 41]])
@pytest.mark.parametrize("warmup_steps", [0, 11])
def test_warmup_and_lengths(warmup_steps: int, lengths: list[int] | None) -> None:
    module, x = build("gru", hidden_size=16), torch.randn(3, 60, INPUT_SIZE, dtype=F64)
    for b, length in enumerate(lengths or []):
        x[b, length:] = NAN
    settings: dict[str, Any] = {"warmup_steps": warmup_steps, "lengths": lengths}
    own, error = pair(module, x, F64, **settings)
    assert float(error.max()) < 1e-6
    expected = torch.tensor(lengths or [60] * 3) - warmup_steps
    assert own.steps.tolist() == expected.tolist()
    assert int(own.block_ends[-1]) == int(expected.max())
    assert bool((own.block_ends.diff() > 0).all())


def test_a_run_goes_on_where_it_ended() -> None:
    module, x = build("gru", hidden_size=16), torch.randn(2, 60, INPUT_SIZE, dtype=F64)
    start = random_state(module, 2)
    auto_: dict[str, Any] = {"orthonormalize_every": "auto", "num_exponents": 6}
    whole = lyapunov_spectrum(module, x, initial_state=start, num_exponents=6)
    first = lyapunov_spectrum(module, x[:, :25], initial_state=start, **auto_)
    second = lyapunov_spectrum(
        module,
        x[:, 25:],
        initial_state=first.final_state,
        initial_basis=first.final_basis,
        **auto_,
    )
    joined = (25 * first.exponents.sum() + 35 * second.exponents.sum()) / 60
    assert_near(joined, whole.exponents.sum(), 1e-6)
    assert_near(second.final_state, whole.final_state, 1e-10)
    assert_near(second.final_basis, whole.final_basis, 1e-4)


def test_blocks_taken_back_leave_no_trace() -> None:
    """A network that suddenly loses directions: steps done again give the same trajectory."""
    rnn: Any = build("tanh", hidden_size=12)
    x = torch.randn(2, 80, INPUT_SIZE, dtype=F64)
    with torch.no_grad():
        rnn.weight_ih_l0.mul_(0.1)
    x[:, 40:60] *= 60.0
    calls: list[int] = []
    one = lyapunov_spectrum(rnn, x)
    own = lyapunov_spectrum(
        rnn, x, orthonormalize_every="auto", progress=lambda done, _: calls.append(done)
    )
    assert own.certificate.num_redone > 0
    assert calls == list(range(1, 81))
    assert_near(own.final_state, one.final_state, 0)
    assert_near(own.exponents[own.resolved].sum(), one.exponents[own.resolved].sum(), 1e-5)


def test_blocks_in_which_a_sequence_overflows_or_underflows_are_taken_back() -> None:
    """A calm drive makes blocks long; then one sequence grows, or all shrink, ten times as fast."""
    calm, wild = torch.full((4, 150, 1), 1.01), torch.full((4, 150, 1), 1.01)
    wild[3] = 10.0
    for late in (wild, torch.full((4, 150, 1), 0.1)):
        x = torch.cat([calm, late], dim=1)
        settings: dict[str, Any] = {"initial_state": torch.zeros(4, 1)}
        one = lyapunov_spectrum(lambda x, s: x * s, x, **settings)
        auto = lyapunov_spectrum(lambda x, s: x * s, x, orthonormalize_every="auto", **settings)
        assert bool(auto.valid.all())
        torch.testing.assert_close(auto.exponents, one.exponents, atol=1e-4, rtol=0)
        assert auto.certificate.num_factorizations < 150
