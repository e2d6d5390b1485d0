"""Rounds over chunks of time, what they end with and what is finished in order."""

import math
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap.certificate.along_the_run import Inspector
from lightning_lyap.estimator.time_parallel import chunks, plan
from lightning_lyap.systems import linear_step, product_step
from tests.chunked import F64, assert_same, both, driving, gapped
from tests.compare import assert_near
from tests.plain import plain_spectrum


def rotation(angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=F64)


def sheared_rotation() -> Tensor:
    """Never forgets a direction, and stretches directions in turn: which one it is matters."""
    shear = torch.tensor([[1.0, 0.0], [0.0, 0.2]], dtype=F64)
    return shear @ rotation(0.7) @ shear.inverse()


def test_what_never_forgets_is_finished_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST_WORK", {})
    start, inputs = torch.zeros(2, 2, dtype=F64), torch.zeros(2, 40, 0, dtype=F64)
    chunked, plain = both(
        linear_step(sheared_rotation()), inputs, 8, initial_state=start, num_exponents=1
    )
    assert chunked.chunks is not None
    assert not chunked.chunks.certified
    assert chunked.chunks.num_finished_plainly == 2
    assert chunked.chunks.rounds == chunks.ROUNDS
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
    monkeypatch.setattr(plan, "MOST_WORK", {})

    def step(x: Tensor, s: Tensor) -> Tensor:
        # The input chooses between what never forgets and what forgets at once.
        gap = torch.tensor([[1.0, 0.3], [0.0, 0.1]], dtype=F64)
        return torch.where(x[:, :1] > 0, s @ sheared_rotation().mT, s @ gap.mT)

    inputs = torch.ones(3, 60, 1, dtype=F64)
    inputs[1] = -1
    # This one forgets in its second half alone: only a few of its chunks are run in order.
    inputs[2, 40:] = -1
    ran: list[int] = []
    run = chunks.Chunks.run

    def counting(self: chunks.Chunks, rows: Tensor, reports: Any) -> Any:
        ran.append(len(rows))
        return run(self, rows, reports)

    monkeypatch.setattr(chunks.Chunks, "run", counting)
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
    monkeypatch.setattr(plan, "MOST_WORK", {})
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


@pytest.mark.parametrize("size", [4, 16])
def test_chunks_of_a_single_step_in_float32_come_to_an_end(size: int) -> None:
    """A copy of a rounded basis is no angle away from it."""
    gru, inputs = nn.GRU(2, size, batch_first=True), torch.randn(1, 150, 2)
    runs, own = [], chunks.Chunks.run

    def count(*given: Any) -> Any:
        runs.append(1)
        assert len(runs) <= 150 + chunks.ROUNDS
        return own(*given)

    with mock.patch.object(chunks.Chunks, "run", count):
        chunked = plain_spectrum(gru, inputs, time_chunks=150)
    plain = plain_spectrum(gru, inputs)
    assert chunked.chunks is not None
    assert chunked.chunks.steps == 1
    assert_near(chunked.exponents, plain.exponents, 1e-5)


def test_what_is_finished_plainly_adds_no_angle() -> None:
    inputs = torch.randn(1, 150, 2)
    with mock.patch.dict(plan.MOST_WORK, cpu=0):
        chunked = plain_spectrum(nn.GRU(2, 16, batch_first=True), inputs, time_chunks=10)
    assert chunked.chunks is not None
    assert not chunked.chunks.certified
    assert chunked.chunks.angle == 0


def test_pieces_of_a_plain_run_are_not_checked_one_by_one() -> None:
    looks, own = [], Inspector._check_basis

    def count(*given: Any) -> None:
        looks.append(1)
        own(*given)

    with (
        mock.patch.dict(plan.MOST_WORK, cpu=0),
        mock.patch.object(Inspector, "_check_basis", count),
    ):
        chunked = plain_spectrum(
            nn.GRU(2, 16, batch_first=True), torch.randn(1, 150, 2), time_chunks=50
        )
    assert chunked.chunks is not None
    assert not chunked.chunks.certified
    assert len(looks) < 25
