"""What alignment of the basis has left in exponents, judged by their gaps."""

import math

import pytest
import torch

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.statistics.alignment import misalignment
from lightning_lyap.systems import linear_step

F64 = torch.float64


@pytest.mark.parametrize("warmup_steps", [0, 20])
def test_two_directions_of_a_symmetric_map(warmup_steps: int) -> None:
    """A vector at 45 degrees: half of its square decays like ``exp(-2 g t)`` of the other half."""
    gap, steps = 0.02, 400
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=F64) / math.sqrt(2)
    matrix = turn @ torch.diag(torch.tensor([1.0, math.exp(-gap)], dtype=F64)) @ turn.mT
    estimate = lyapunov_spectrum(
        linear_step(matrix),
        torch.zeros(1, warmup_steps + steps, 0, dtype=F64),
        initial_state=torch.zeros(1, 2, dtype=F64),
        warmup_steps=warmup_steps,
    )
    exact = torch.tensor([0.0, -gap], dtype=F64)
    left = misalignment(exact, warmup_steps, steps)
    # The estimate leaves out how the rest of the vector's square shrinks meanwhile.
    ratio = (estimate.exponents - exact) / left
    assert bool(((ratio > 0.5) & (ratio < 1.01)).all())


def test_blocks_do_not_mix() -> None:
    exponents = torch.tensor([-0.1, -0.3, -0.11, -0.31], dtype=F64)
    apart = misalignment(exponents, 30, 30, columns=2)
    torch.testing.assert_close(apart[:2], misalignment(exponents[:2], 30, 30))
    assert float(misalignment(exponents, 30, 30).abs().max()) > float(apart.abs().max())


def test_infinite_exponents_take_no_part() -> None:
    exponents = torch.tensor([-0.1, -0.2, -math.inf, -math.inf], dtype=F64)
    left = misalignment(exponents, 0, 50)
    torch.testing.assert_close(left[:2], misalignment(exponents[:2], 0, 50))
    assert left[2:].tolist() == [0, 0]


def test_close_exponents_settle_when_there_are_steps_enough() -> None:
    """A drift that no half shows: gaps of 0.01, noise of 0.01 a step."""
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=F64)).Q
    matrix = turn @ torch.diag(torch.tensor([0.0, -0.01, -0.02, -0.03], dtype=F64).exp()) @ turn.mT

    def settled(steps: int) -> float:
        noise = 1 + 0.01 * torch.randn(10, steps, 1, dtype=F64)
        estimate = lyapunov_spectrum(
            lambda x, s: x * (s @ matrix.mT), noise, initial_state=torch.zeros(10, 4, dtype=F64)
        )
        return float(estimate.settled.double().mean())

    assert settled(60) < 0.6
    assert settled(1600) > 0.7
