"""Blocks are checked together, and each of them counts."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.certificate import along_the_run
from lightning_lyap.dynamics.stacked import StackedRecurrence

FAULT = 1e-2


def marked_network(step: int) -> tuple[nn.RNN, Tensor]:
    """Return a network and inputs of 3 sequences, 20 steps, one of which drives unit 0."""
    rnn = nn.RNN(2, 6, bias=False, dtype=torch.float64)
    weight = next(rnn.parameters())
    with torch.no_grad():
        weight[:, 0] = torch.tensor([3.0, 0, 0, 0, 0, 0])
        weight[0, 1] = 0
    x = torch.randn(3, 20, 2, dtype=torch.float64)
    x[..., 0] = 0
    x[1, step, 0] = 1
    return rnn, x


def is_marked(drive: Tensor) -> Tensor:
    """Tell which sequences are marked, ``[B]``, 1 or 0."""
    return (drive[:, 0] == 3).double()


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("together", [1, 3, 7, along_the_run.DERIVATIVES])
@pytest.mark.parametrize(("step", "found"), [(0, True), (7, True), (19, True), (6, False)])
def test_derivative_of_every_block_that_is_looked_at(
    step: int, found: bool, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first, second, fourth, eighth, sixteenth and last steps, each a block."""
    own = StackedRecurrence.derivative

    def wrong(self: Any, drive: Tensor, state: Any, vector: Tensor) -> Tensor:
        return own(self, drive, state, vector) * (1 + FAULT * is_marked(drive)).unsqueeze(1)

    monkeypatch.setattr(StackedRecurrence, "derivative", wrong)
    monkeypatch.setattr(along_the_run, "DERIVATIVES", together)
    rnn, x = marked_network(step)
    with pytest.warns(RuntimeWarning, match="tangent_map") if found else nullcontext():
        checks = lyapunov_spectrum(rnn, x).certificate.checks
    assert checks["tangent_map"].passed != found


@pytest.mark.parametrize("step", [0, 3, 4])
def test_volume_of_every_step_of_a_block(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequence whose volume is computed moves on from block to block: 0, 1, 2, 0."""
    own = StackedRecurrence.log_abs_det

    def wrong(self: Any, drive: Tensor, state: Any) -> Tensor:
        return own(self, drive, state) + FAULT * is_marked(drive)

    monkeypatch.setattr(StackedRecurrence, "log_abs_det", wrong)
    rnn, x = marked_network(step)
    x = x if step == 4 else x.roll(-1, 0)  # the second block begins with step 4
    with pytest.warns(RuntimeWarning, match="sum_rule"):
        check = lyapunov_spectrum(rnn, x, orthonormalize_every=4).certificate.checks["sum_rule"]
    assert check.residual == pytest.approx(FAULT / 4, rel=1e-6)


class OfEachSequence:
    """Dynamics that hold something of each sequence, and take whole batches alone."""

    tangent_size, dtype, device = 3, torch.float64, torch.device("cpu")

    def __init__(self, batch: int) -> None:
        self.matrices = torch.randn(batch, 3, 3, dtype=torch.float64)

    def drive(self, inputs: Tensor) -> Tensor:
        return inputs.transpose(0, 1)

    def initial_state(self, given: Any, batch_size: int) -> Any:
        return (torch.zeros(batch_size, 3, dtype=torch.float64),)

    def export_state(self, state: Any) -> Any:
        return state[0]

    def step(self, drive: Tensor, state: Any) -> Any:
        new = self.derivative(drive, state, state[0]) + drive
        return (new,), lambda basis: self.matrices @ basis

    def derivative(self, drive: Tensor, state: Any, vector: Tensor) -> Tensor:
        if len(vector) != len(self.matrices):
            raise ValueError("another batch")
        return (self.matrices @ vector.unsqueeze(-1)).squeeze(-1)

    def log_abs_det(self, drive: Tensor, state: Any) -> Tensor:
        raise NotImplementedError


def test_blocks_of_dynamics_that_are_not_known_are_checked_one_by_one() -> None:
    x = torch.randn(4, 20, 3, dtype=torch.float64)
    certificate = lyapunov_spectrum(OfEachSequence(4), x, num_exponents=2).certificate
    assert certificate.passed
    assert "tangent_map" in certificate.checks
