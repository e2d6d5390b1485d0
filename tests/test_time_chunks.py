"""Chunks of time side by side: the plain run's result, whatever its gaps."""

import math
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, chunk_rounds, cuts, lyapunov_spectrum, memory, spectrum
from lightning_lyap.certificate import Inspector
from lightning_lyap.cuts import chunk_steps
from lightning_lyap.dynamics import as_dynamics
from lightning_lyap.systems import HENON, henon_step, linear_step, product_step
from lightning_lyap.time_chunks import ChunkedTrajectories
from lightning_lyap.trajectories import Trajectories
from tests.cells import INPUT_SIZE, build
from tests.compare import assert_near

F64 = torch.float64
TENSORS = (
    "exponents",
    "std",
    "standard_errors",
    "margins",
    "resolved",
    "per_sequence",
    "valid",
    "steps",
    "order",
    "final_basis",
    "block_ends",
    "log_stretches",
)


def both(
    dynamics: Any, inputs: Tensor, time_chunks: int, **settings: Any
) -> tuple[SpectrumEstimate, SpectrumEstimate]:
    """Run in chunks, and plainly."""
    settings = {"keep_log_stretches": True} | settings
    chunked = lyapunov_spectrum(dynamics, inputs, time_chunks=time_chunks, **settings)
    plain = lyapunov_spectrum(dynamics, inputs, **settings)
    assert plain.chunks is None
    assert chunked.chunks is not None
    return chunked, plain


def assert_same(chunked: SpectrumEstimate, plain: SpectrumEstimate, tolerance: float) -> None:
    for name in TENSORS:
        got, expected = getattr(chunked, name), getattr(plain, name)
        assert torch.equal(got.isnan(), expected.isnan()), name
        assert_near(got.nan_to_num(0.0), expected.nan_to_num(0.0), tolerance)
    # An error of a stretch is a matter of the condition of the basis: half of it tells nothing.
    torch.testing.assert_close(chunked.rounding_errors, plain.rounding_errors, rtol=0.5, atol=1e-12)
    assert chunked.num_sequences == plain.num_sequences
    assert (chunked.layer is None) == (plain.layer is None)
    own = (chunked.certificate, plain.certificate)
    assert all(certificate.passed for certificate in own)
    assert own[0].checks.keys() == own[1].checks.keys()
    assert own[0].num_factorizations == own[1].num_factorizations
    for got, expected in zip(_states(chunked), _states(plain), strict=True):
        assert torch.equal(got, expected)


def _states(estimate: SpectrumEstimate) -> tuple[Tensor, ...]:
    state = estimate.final_state
    return state if isinstance(state, tuple) else (state,)


@pytest.fixture(params=["products", "rounds"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let products give the starts, or rounds alone."""
    if request.param == "rounds":
        monkeypatch.setattr(cuts, "MOST_WORK", {})
    return str(request.param)


def driving(batch: int, steps: int, dtype: torch.dtype = F64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, steps, INPUT_SIZE, generator=generator, dtype=dtype)


def gapped() -> nn.RNN:
    """Exponents near the logarithms of 0.9, 0.45, 0.2 and 0.1."""
    generator = torch.Generator().manual_seed(2)
    q = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=F64)).Q
    rnn = nn.RNN(INPUT_SIZE, 4, bias=False, batch_first=True, dtype=F64)
    rnn.weight_hh_l0.data = q @ torch.diag(torch.tensor([0.9, 0.45, -0.2, 0.1]).double()) @ q.T
    rnn.weight_ih_l0.data = torch.randn(4, INPUT_SIZE, generator=generator, dtype=F64) / 4
    return rnn


@pytest.mark.parametrize("num_exponents", [1, 2, None])
@pytest.mark.usefixtures("way")
def test_equals_the_plain_run(num_exponents: int | None) -> None:
    chunked, plain = both(gapped(), driving(2, 158), 4, num_exponents=num_exponents)
    assert chunked.chunks is not None
    assert (chunked.chunks.count, chunked.chunks.steps) == (4, 40)
    assert chunked.chunks.certified
    assert chunked.chunks.angle <= 1e-7
    assert_same(chunked, plain, 1e-7)


SETTINGS: list[dict[str, Any]] = [
    {"lengths": [60, 37, 9]},
    {"warmup_steps": 7},
    {"orthonormalize_every": 3},
    {"lengths": [60, 37, 9], "warmup_steps": 5, "orthonormalize_every": 4, "num_exponents": 2},
    {"num_exponents": 1, "keep_log_stretches": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.usefixtures("way")
def test_equals_the_plain_run_of_a_network(kind: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(4)
    chunked, plain = both(build(kind, hidden_size=3), driving(3, 60), 5, **settings)
    assert_same(chunked, plain, 1e-6)


@pytest.mark.parametrize("state", ["hidden", "full"])
@pytest.mark.parametrize("layers", ["joint", "union"])
@pytest.mark.parametrize("num_exponents", [1, 3, None])
def test_equals_the_plain_run_of_a_stack(
    state: str, layers: str, num_exponents: int | None
) -> None:
    torch.manual_seed(4)
    settings = {"state": state, "layers": layers, "num_exponents": num_exponents}
    lstm = build("lstm", num_layers=2, hidden_size=3)
    chunked, plain = both(lstm, driving(2, 40), 4, **settings)
    assert_same(chunked, plain, 1e-6)


def test_keeps_the_promise_in_float32() -> None:
    torch.manual_seed(4)
    gru = nn.GRU(INPUT_SIZE, 8)
    chunked, plain = both(gru, driving(2, 200, torch.float32), 10, num_exponents=2)
    assert chunked.chunks is not None
    assert chunked.chunks.certified
    assert chunked.chunks.rounds == 1
    assert_near(chunked.per_sequence, plain.per_sequence, 1e-5)


def test_what_a_plain_run_does_not_resolve_is_not_resolved() -> None:
    settings = {"orthonormalize_every": 20, "dtype": torch.float32}
    chunked, plain = both(gapped().float(), driving(2, 60, torch.float32), 3, **settings)
    assert not plain.resolved.all()
    assert plain.resolved.any()
    assert torch.equal(chunked.resolved, plain.resolved)


def test_chaos_does_not_take_the_chunks_apart() -> None:
    """Rounding grows to the size of the states within a chunk of 100 steps."""
    generator = torch.Generator().manual_seed(2)
    rnn = nn.RNN(INPUT_SIZE, 32, bias=False, batch_first=True, dtype=F64)
    rnn.weight_hh_l0.data = 2 * torch.randn(32, 32, generator=generator, dtype=F64)
    rnn.weight_ih_l0.data = torch.randn(32, INPUT_SIZE, generator=generator, dtype=F64) / 10
    chunked, plain = both(rnn, driving(1, 300), 3, num_exponents=2)
    assert 100 * float(plain.exponents[0]) > -math.log(torch.finfo(F64).eps)
    assert chunked.chunks is not None
    assert chunked.chunks.certified
    assert_same(chunked, plain, 1e-7)


def test_finds_known_exponents() -> None:
    inputs = torch.zeros(1, 2100, 0, dtype=F64)
    start = torch.tensor([[0.1, 0.1]], dtype=F64)
    estimate = lyapunov_spectrum(
        henon_step, inputs, initial_state=start, warmup_steps=100, time_chunks=40
    )
    assert estimate.chunks is not None
    assert estimate.chunks.certified
    assert_near(estimate.exponents, torch.tensor(HENON, dtype=F64), 0.02)
    # The determinant is -0.3 everywhere.
    assert float(estimate.exponents.sum()) == pytest.approx(math.log(0.3), abs=1e-12)


@pytest.mark.usefixtures("way")
def test_goes_on_where_an_earlier_one_ended() -> None:
    gru, inputs = gapped(), driving(2, 120)
    whole = lyapunov_spectrum(gru, inputs, num_exponents=2)
    first = lyapunov_spectrum(gru, inputs[:, :60], num_exponents=2, time_chunks=3)
    second = lyapunov_spectrum(
        gru,
        inputs[:, 60:],
        initial_state=first.final_state,
        initial_basis=first.final_basis,
        time_chunks=3,
    )
    halves = torch.stack([first.per_sequence, second.per_sequence]).mean(0)
    assert_near(halves, whole.per_sequence, 1e-7)
    assert_near(second.final_basis, whole.final_basis, 1e-6)


def rotation(angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=F64)


def sheared_rotation() -> Tensor:
    """Never forgets a direction, and stretches directions in turn: which one it is matters."""
    shear = torch.tensor([[1.0, 0.0], [0.0, 0.2]], dtype=F64)
    return shear @ rotation(0.7) @ shear.inverse()


def test_what_never_forgets_is_finished_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "MOST_WORK", {})
    start, inputs = torch.zeros(2, 2, dtype=F64), torch.zeros(2, 40, 0, dtype=F64)
    chunked, plain = both(
        linear_step(sheared_rotation()), inputs, 8, initial_state=start, num_exponents=1
    )
    assert chunked.chunks is not None
    assert not chunked.chunks.certified
    assert chunked.chunks.num_finished_plainly == 2
    assert chunked.chunks.rounds == chunk_rounds.ROUNDS
    assert_same(chunked, plain, 1e-12)


def test_products_give_the_starts_of_what_never_forgets() -> None:
    start, inputs = torch.zeros(2, 2, dtype=F64), torch.zeros(2, 40, 0, dtype=F64)
    chunked, plain = both(
        linear_step(sheared_rotation()), inputs, 8, initial_state=start, num_exponents=1
    )
    assert chunked.chunks is not None
    assert chunked.chunks.certified
    assert chunked.chunks.rounds == 1
    assert 0 < chunked.chunks.angle < 1e-12
    assert_same(chunked, plain, 1e-12)


def test_products_do_not_vanish() -> None:
    """Over a chunk the largest stretch is exp(-140), and float32 ends at exp(-103)."""
    rnn = gapped().float()
    next(weight for name, weight in rnn.named_parameters() if "hh" in name).data.mul_(0.03)
    chunked, plain = both(rnn, driving(2, 160, torch.float32), 4, num_exponents=1)
    assert chunked.chunks is not None
    assert chunked.chunks.rounds == 1
    assert_near(chunked.per_sequence, plain.per_sequence, 1e-5)


def test_products_that_overflow_are_not_used() -> None:
    """Bases of such a gap forget within a chunk, so two rounds do without products."""
    matrix = 1e8 * gapped().float().state_dict()["weight_hh_l0"]
    start, inputs = torch.zeros(1, 4), torch.zeros(1, 120, 0)
    chunked, plain = both(linear_step(matrix), inputs, 6, initial_state=start, num_exponents=1)
    assert chunked.chunks is not None
    assert chunked.chunks.rounds == 2
    assert chunked.chunks.certified
    assert_near(chunked.per_sequence, plain.per_sequence, 1e-5)


def test_only_sequences_that_need_it_are_finished_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "MOST_WORK", {})

    def step(x: Tensor, s: Tensor) -> Tensor:
        # The input chooses between what never forgets and what forgets at once.
        gap = torch.tensor([[1.0, 0.3], [0.0, 0.1]], dtype=F64)
        return torch.where(x[:, :1] > 0, s @ sheared_rotation().mT, s @ gap.mT)

    inputs = torch.ones(3, 60, 1, dtype=F64)
    inputs[1] = -1
    # This one forgets in its second half alone: only a few of its chunks are run in order.
    inputs[2, 40:] = -1
    ran: list[int] = []
    run = chunk_rounds.Chunks.run

    def counting(self: chunk_rounds.Chunks, rows: Tensor, reports: Any) -> Any:
        ran.append(len(rows))
        return run(self, rows, reports)

    monkeypatch.setattr(chunk_rounds.Chunks, "run", counting)
    start = torch.zeros(3, 2, dtype=F64)
    chunked, plain = both(step, inputs, 6, initial_state=start, num_exponents=1)
    assert chunked.chunks is not None
    assert chunked.chunks.num_finished_plainly == 2
    assert_same(chunked, plain, 1e-9)
    # All; all but the first of each; those still off; then the first of each that is off.
    assert ran[:2] == [18, 15]
    assert ran[3:] == [2, 2, 1]


def test_lost_sequences_are_the_same_ones() -> None:
    def step(x: Tensor, s: Tensor) -> Tensor:
        return s * x

    inputs = torch.rand(3, 40, 2, dtype=F64) + 0.5
    inputs[1, 17] = 1e300
    inputs[1, 18] = 1e300
    start = torch.ones(3, 2, dtype=F64)
    settings = {"initial_state": start, "orthonormalize_every": 2, "warmup_steps": 1}
    with pytest.warns(RuntimeWarning, match="1 of 3 sequences did not stay finite"):
        chunked, plain = both(step, inputs, 4, **settings)
    assert chunked.valid.tolist() == [True, False, True]
    assert torch.equal(chunked.valid, plain.valid)
    assert_near(chunked.exponents, plain.exponents, 1e-12)
    assert torch.equal(chunked.final_basis.isnan(), plain.final_basis.isnan())


def test_what_a_wrong_start_has_lost_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first basis vector overflows in the second chunk, where the true one never is."""
    monkeypatch.setattr(cuts, "MOST_WORK", {})
    steps = torch.eye(2, dtype=F64).repeat(24, 1, 1)
    steps[0] = rotation(math.pi / 2).round()
    steps[6:12, 0, 0] = 1e60
    inputs, start = steps.flatten(1).unsqueeze(0), torch.zeros(1, 2, dtype=F64)
    basis = torch.tensor([[[1.0], [0.0]]], dtype=F64)
    settings = {"initial_state": start, "initial_basis": basis, "orthonormalize_every": 6}
    chunked, plain = both(product_step, inputs, 4, **settings)
    assert plain.valid.all()
    assert torch.equal(chunked.exponents, plain.exponents)
    assert torch.equal(chunked.final_basis, plain.final_basis)


def test_one_chunk_is_bitwise_the_plain_run() -> None:
    gru, inputs = build("gru"), driving(2, 20)
    given = lyapunov_spectrum(gru, inputs, time_chunks=1)
    assert given.chunks is None
    assert torch.equal(given.per_sequence, lyapunov_spectrum(gru, inputs).per_sequence)


def test_never_more_chunks_than_blocks() -> None:
    torch.manual_seed(4)
    settings = {"orthonormalize_every": 6}
    chunked, plain = both(build("gru", hidden_size=3), driving(2, 20), 100, **settings)
    assert chunked.chunks is not None
    assert (chunked.chunks.count, chunked.chunks.steps) == (4, 6)
    assert_same(chunked, plain, 1e-6)


def test_a_single_block_is_a_plain_run() -> None:
    settings = {"orthonormalize_every": 30, "num_exponents": 1}
    chunked, plain = both(build("gru"), driving(2, 20), 3, **settings)
    assert chunked.chunks is not None
    assert chunked.chunks.count == 1
    assert_same(chunked, plain, 0.0)


@pytest.mark.parametrize("num_steps", range(1, 40, 6))
@pytest.mark.parametrize("count", [2, 3, 7, 100])
@pytest.mark.parametrize("every", [1, 4])
def test_chunks_are_whole_blocks_and_no_more_than_asked_for(
    num_steps: int, count: int, every: int
) -> None:
    steps = chunk_steps(num_steps, count, every)
    assert steps % every == 0
    assert -(-num_steps // steps) <= count
    assert steps == every or -(-num_steps // (steps - every)) > count


@pytest.mark.parametrize("size", [4, 16])
def test_chunks_of_a_single_step_in_float32_come_to_an_end(size: int) -> None:
    """A copy of a rounded basis is no angle away from it."""
    gru, inputs = nn.GRU(2, size, batch_first=True), torch.randn(1, 150, 2)
    runs, own = [], chunk_rounds.Chunks.run

    def count(*given: Any) -> Any:
        runs.append(1)
        assert len(runs) <= 150 + chunk_rounds.ROUNDS
        return own(*given)

    with mock.patch.object(chunk_rounds.Chunks, "run", count):
        chunked = lyapunov_spectrum(gru, inputs, time_chunks=150)
    plain = lyapunov_spectrum(gru, inputs)
    assert chunked.chunks is not None
    assert chunked.chunks.steps == 1
    assert_near(chunked.exponents, plain.exponents, 1e-5)


def test_what_is_finished_plainly_adds_no_angle() -> None:
    inputs = torch.randn(1, 150, 2)
    with mock.patch.dict(cuts.MOST_WORK, cpu=0):
        chunked = lyapunov_spectrum(nn.GRU(2, 16, batch_first=True), inputs, time_chunks=10)
    assert chunked.chunks is not None
    assert not chunked.chunks.certified
    assert chunked.chunks.angle == 0


def test_pieces_of_a_plain_run_are_not_checked_one_by_one() -> None:
    looks, own = [], Inspector._check_basis

    def count(*given: Any) -> None:
        looks.append(1)
        own(*given)

    with (
        mock.patch.dict(cuts.MOST_WORK, cpu=0),
        mock.patch.object(Inspector, "_check_basis", count),
    ):
        chunked = lyapunov_spectrum(
            nn.GRU(2, 16, batch_first=True), torch.randn(1, 150, 2), time_chunks=50
        )
    assert chunked.chunks is not None
    assert not chunked.chunks.certified
    assert len(looks) < 25


def test_short_chunks_are_held_to_smaller_angles() -> None:
    """All angles as large as what passes: they add up to a tenth of the promise at most."""
    system = as_dynamics(nn.GRU(1, 2), None, "full", None)
    state, basis = (torch.zeros(1, 2),), torch.zeros(1, 2, 1)
    for num_steps, count in ((100, 50), (1000, 10), (1000, 1000)):
        start = state, basis, system.drive(torch.zeros(1, num_steps, 1))
        _, plan = cuts.plan_chunks(system, start, num_steps, 1, count)
        added = sum(plan.angle * k for k in range(count)) / num_steps
        assert max(added, plan.angle / plan.steps) <= 1e-4
        assert added > 1e-7


def test_memory_decides_on_sequences_then_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    system = as_dynamics(nn.GRU(1, 4), None, "full", None)
    each = memory.bytes_per_sequence(system, 2)
    for room, expected in [(35, (2, 10)), (14, (1, 10)), (8, (1, 5)), (1, (1, 1))]:
        monkeypatch.setattr(memory, "free_bytes", lambda device, room=room: room * each * 2)
        assert memory.chunks_that_fit(system, 2, 3 * each, 10) == expected
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    assert memory.chunks_that_fit(system, 2, 3 * each, 10) == (None, 10)


def test_memory_counts_the_columns_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    system = as_dynamics(nn.GRU(1, 16), None, "full", None)
    start = (torch.zeros(1, 16),), torch.zeros(1, 16, 1), torch.zeros(100, 1, 48)
    room = 10**5 + 20 * memory.bytes_per_sequence(system, 1)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2 * room)
    lengths = {}
    for most in (1e9, 0.0):
        monkeypatch.setattr(cuts, "MOST_WORK", {"cpu": most})
        _, plan = cuts.plan_chunks(system, start, 100, 1, 20)
        lengths[plan.products] = plan.steps
    assert lengths[True] > lengths[False]


def test_groups_and_shares_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    gru, inputs = build("gru", hidden_size=3), driving(5, 60)
    settings: dict[str, Any] = {"lengths": [60, 60, 33, 7, 41], "time_chunks": 4}
    whole = lyapunov_spectrum(gru, inputs, **settings)
    monkeypatch.setattr(spectrum, "sensible_shares", lambda system, basis: min(2, len(basis)))
    fitting = memory.chunks_that_fit
    monkeypatch.setattr(cuts, "chunks_that_fit", lambda *given: (3, fitting(*given)[1]))
    parts = lyapunov_spectrum(gru, inputs, **settings)
    assert_near(parts.per_sequence, whole.per_sequence, 1e-10)
    assert_near(parts.final_basis, whole.final_basis, 1e-9)
    assert parts.chunks is not None
    assert whole.chunks is not None
    assert (parts.chunks.count, parts.chunks.steps) == (whole.chunks.count, whole.chunks.steps)


@pytest.mark.parametrize("time_chunks", [3, 50])
def test_every_step_is_reported_once(time_chunks: int) -> None:
    told: list[tuple[int, int]] = []
    lyapunov_spectrum(
        build("gru"),
        driving(2, 50),
        warmup_steps=6,
        num_exponents=1,
        time_chunks=time_chunks,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 50) for done in range(1, 51)]


def test_only_the_states_are_run_in_order() -> None:
    """Steps with a basis: those of the longest chunk, once for the products and once to measure."""
    moved: list[int] = []
    advance = Trajectories._advance

    def counting(self: Trajectories, drive: Tensor, running: Tensor | None) -> None:
        moved.append(len(drive))
        advance(self, drive, running)

    with mock.patch.object(Trajectories, "_advance", counting):
        lyapunov_spectrum(
            build("gru"), driving(2, 100), num_exponents=1, time_chunks=10, warmup_steps=10
        )
    assert moved == [2] * 10 + [20] * 9


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"time_chunks": 0}, ValueError, "Expected `time_chunks` to be at least 1, but got 0"),
        ({"time_chunks": 2.0}, TypeError, "Expected `time_chunks` to be an int, but got 2.0"),
        ({"time_chunks": True}, TypeError, "Expected `time_chunks` to be an int"),
        ({"time_chunks": 2, "target_stderr": 0.1}, ValueError, "Leave out one of them"),
        ({"time_chunks": 2, "orthonormalize_every": "auto"}, ValueError, "Give a number of steps"),
    ],
)
def test_errors_name_the_remedy_before_work_starts(
    settings: dict[str, Any], error: type[Exception], match: str
) -> None:
    with (
        mock.patch.object(ChunkedTrajectories, "go", side_effect=AssertionError),
        mock.patch.object(Trajectories, "go", side_effect=AssertionError),
        pytest.raises(error, match=match),
    ):
        lyapunov_spectrum(build("gru"), driving(2, 20), **settings)
