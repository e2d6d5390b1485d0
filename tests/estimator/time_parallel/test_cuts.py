"""Where sequences are cut in time, and what fits into the memory."""

import pytest
import torch
from torch import nn

from lightning_lyap.dynamics import as_dynamics
from lightning_lyap.estimator.batching import bytes_per_sequence
from lightning_lyap.estimator.time_parallel import plan as planning
from lightning_lyap.estimator.time_parallel.plan import chunk_steps
from lightning_lyap.estimator.trajectories import Start
from tests.cells import build
from tests.chunked import assert_same, both, driving


def test_never_more_chunks_than_blocks() -> None:
    torch.manual_seed(4)
    settings = {"orthonormalize_every": 6}
    chunked, plain = both(build("gru", hidden_size=3), driving(2, 20), 100, **settings)
    assert chunked.chunks is not None
    assert (chunked.chunks.count, chunked.chunks.steps) == (4, 6)
    assert_same(chunked, plain, 1e-6)


@pytest.mark.grid(every=5)
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


def test_short_chunks_are_held_to_smaller_angles() -> None:
    """All angles as large as what passes: they add up to a tenth of the promise at most."""
    system = as_dynamics(nn.GRU(1, 2), None, "full", None)
    state, basis = (torch.zeros(1, 2),), torch.zeros(1, 2, 1)
    for num_steps, count in ((100, 50), (1000, 10), (1000, 1000)):
        drive, ends = system.drive(torch.zeros(1, num_steps, 1)), torch.tensor([num_steps])
        start = Start(drive, state, basis, ends)
        _, plan = planning.plan_chunks(system, start, 0, 1, count)
        added = sum(plan.angle * k for k in range(count)) / num_steps
        assert max(added, plan.angle / plan.steps) <= 1e-4
        assert added > 1e-7


def test_memory_decides_on_sequences_then_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    system = as_dynamics(nn.GRU(1, 4), None, "full", None)
    each = bytes_per_sequence(system, 2)
    for room, expected in [(35, (2, 10)), (14, (1, 10)), (8, (1, 5)), (1, (1, 1))]:
        monkeypatch.setattr(planning, "free_bytes", lambda device, room=room: room * each * 2)
        assert planning.chunks_that_fit(system, 2, 3 * each, 10) == expected
    monkeypatch.setattr(planning, "free_bytes", lambda device: None)
    assert planning.chunks_that_fit(system, 2, 3 * each, 10) == (None, 10)


def test_memory_counts_the_columns_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    system = as_dynamics(nn.GRU(1, 16), None, "full", None)
    drive, basis = torch.zeros(100, 1, 48), torch.zeros(1, 16, 1)
    start = Start(drive, (torch.zeros(1, 16),), basis, torch.tensor([100]))
    room = 10**5 + 20 * bytes_per_sequence(system, 1)
    monkeypatch.setattr(planning, "free_bytes", lambda device: 2 * room)
    lengths = {}
    for most in (1e9, 0.0):
        monkeypatch.setattr(planning, "MOST_WORK", {"cpu": most})
        _, plan = planning.plan_chunks(system, start, 0, 1, 20)
        lengths[plan.products] = plan.steps
    assert lengths[True] > lengths[False]
