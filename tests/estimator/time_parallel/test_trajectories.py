"""Chunks of time side by side: the plain run's result, whatever its gaps."""

import math
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap.estimator import spectrum
from lightning_lyap.estimator.time_parallel import plan
from lightning_lyap.estimator.time_parallel.trajectories import ChunkedTrajectories
from lightning_lyap.estimator.trajectories import Trajectories
from lightning_lyap.systems import HENON, henon_step
from tests.cells import INPUT_SIZE, build
from tests.chunked import F64, assert_same, both, driving, gapped
from tests.compare import assert_near
from tests.plain import plain_spectrum


@pytest.fixture(params=["products", "rounds"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let products give the starts, or rounds alone."""
    if request.param == "rounds":
        monkeypatch.setattr(plan, "MOST_WORK", {})
    return str(request.param)


@pytest.mark.parametrize("num_exponents", [1, 2, None])
@pytest.mark.usefixtures("way")
def test_equals_the_plain_run(num_exponents: int | None) -> None:
    chunked, plain = both(gapped(), driving(2, 158), 4, num_exponents=num_exponents)
    assert chunked.chunks is not None
    assert (chunked.chunks.count, chunked.chunks.steps) == (4, 40)
    assert chunked.chunks.certified
    assert chunked.chunks.angle <= 1e-7
    assert_same(chunked, plain, 1e-7)


def test_a_plain_run_enters_no_code_for_chunks() -> None:
    with mock.patch.object(spectrum, "in_chunks", side_effect=AssertionError):
        plain_spectrum(build("gru"), driving(2, 5))


SETTINGS: list[dict[str, Any]] = [
    {"lengths": [60, 37, 9]},
    {"warmup_steps": 7},
    {"orthonormalize_every": 3},
    {"lengths": [60, 37, 9], "warmup_steps": 5, "orthonormalize_every": 4, "num_exponents": 2},
    {"num_exponents": 1, "keep_log_stretches": True},
]


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.usefixtures("way")
def test_equals_the_plain_run_of_a_network(kind: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(4)
    chunked, plain = both(build(kind, hidden_size=3), driving(3, 60), 5, **settings)
    assert_same(chunked, plain, 1e-6)


@pytest.mark.grid(every=5)
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
    estimate = plain_spectrum(
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
    whole = plain_spectrum(gru, inputs, num_exponents=2)
    first = plain_spectrum(gru, inputs[:, :60], num_exponents=2, time_chunks=3)
    second = plain_spectrum(
        gru,
        inputs[:, 60:],
        initial_state=first.final_state,
        initial_basis=first.final_basis,
        time_chunks=3,
    )
    halves = torch.stack([first.per_sequence, second.per_sequence]).mean(0)
    assert_near(halves, whole.per_sequence, 1e-7)
    assert_near(second.final_basis, whole.final_basis, 1e-6)


def test_one_chunk_is_bitwise_the_plain_run() -> None:
    gru, inputs = build("gru"), driving(2, 20)
    given = plain_spectrum(gru, inputs, time_chunks=1)
    assert given.chunks is None
    assert torch.equal(given.per_sequence, plain_spectrum(gru, inputs).per_sequence)


def test_a_single_block_is_a_plain_run() -> None:
    settings = {"orthonormalize_every": 30, "num_exponents": 1}
    chunked, plain = both(build("gru"), driving(2, 20), 3, **settings)
    assert chunked.chunks is not None
    assert chunked.chunks.count == 1
    assert_same(chunked, plain, 0.0)


def test_groups_and_shares_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    gru, inputs = build("gru", hidden_size=3), driving(5, 60)
    settings: dict[str, Any] = {"lengths": [60, 60, 33, 7, 41], "time_chunks": 4}
    whole = plain_spectrum(gru, inputs, **settings)
    monkeypatch.setattr(spectrum, "num_shares", lambda system, basis: min(2, len(basis)))
    fitting = plan.chunks_that_fit
    monkeypatch.setattr(plan, "chunks_that_fit", lambda *given: (3, fitting(*given)[1]))
    parts = plain_spectrum(gru, inputs, **settings)
    assert_near(parts.per_sequence, whole.per_sequence, 1e-10)
    assert_near(parts.final_basis, whole.final_basis, 1e-9)
    assert parts.chunks is not None
    assert whole.chunks is not None
    assert (parts.chunks.count, parts.chunks.steps) == (whole.chunks.count, whole.chunks.steps)


@pytest.mark.parametrize("time_chunks", [3, 50])
def test_every_step_is_reported_once(time_chunks: int) -> None:
    told: list[tuple[int, int]] = []
    plain_spectrum(
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
        plain_spectrum(
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
        plain_spectrum(build("gru"), driving(2, 20), **settings)
