"""Volumes: of matrices, and of every layer's step without its tangent map."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from lightning_lyap.dynamics import from_torch_module
from lightning_lyap.dynamics.numerics import log_abs_det
from tests.cells import CASES, INPUT_SIZE, Case, active_tensors, build, random_state, step_of
from tests.compare import assert_near

F64 = torch.float64


def dense_jacobian(case: Case, module: Any, x: Tensor, state: tuple[Tensor, ...]) -> Tensor:
    """Differentiate the step of one sequence by reverse mode on torch's cells, ``[N, N]``."""
    step, active = step_of(module), active_tensors(module, case.state)

    def advance(vector: Tensor) -> Tensor:
        parts = list(state)
        for k, part in zip(active, vector.split([state[k].shape[1] for k in active]), strict=True):
            parts[k] = part[None]
        new = step(x, tuple(parts))
        return torch.cat([new[k][0] for k in active])

    return jacobian(advance, torch.cat([state[k][0] for k in active]))


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("case", [c for c in CASES if c.num_layers in (1, 3)], ids=str)
def test_every_layer_equals_autograd(case: Case) -> None:
    module: Any = case.module()
    if case.kind == "relu":  # every unit alive
        with torch.no_grad():
            for name, weight in module.named_parameters():
                weight.abs_() if "weight" in name else weight.fill_(1.0)
    system = from_torch_module(module, case.state)
    given: Any = random_state(module, 3)
    given = given.abs() if case.kind == "relu" else given
    x = torch.randn(3, 1, INPUT_SIZE, dtype=F64).abs()
    state = system.initial_state(given, 3)
    with torch.no_grad():
        got = system.log_abs_det(system.drive(x)[0], state)
    for b in range(3):
        matrix = dense_jacobian(case, module, x[b], tuple(part[b : b + 1] for part in state))
        # By singular values: nothing in common with the QR that is tested.
        assert_near(got[b], torch.linalg.svdvals(matrix).log().sum(), 1e-10)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_saturated_units_keep_their_volume(kind: str) -> None:
    """Where ``1 - tanh^2`` is exactly zero, ``log sech^2 a = log 4 - 2 a`` still falls.

    The state acts through the tanh of n, or of g, alone; all other gates stand still.
    """
    volumes = []
    for activation in (40.0, 80.0):
        module: Any = build(kind, hidden_size=4)
        through = slice(8, 12)  # r, z, n of a GRU; i, f, g, o of an LSTM
        with torch.no_grad():
            for weight in module.parameters():
                weight.zero_()
            module.weight_hh_l0[through] = torch.eye(4, dtype=F64)
            module.bias_ih_l0[through] = activation
            module.bias_ih_l0[4:8] = -1e3  # z = 0: the GRU keeps nothing of its state
        system = from_torch_module(module, "hidden")
        x = torch.zeros(1, 1, INPUT_SIZE, dtype=F64)
        volumes.append(float(system.log_abs_det(system.drive(x)[0], system.initial_state(None, 1))))
    assert volumes[1] - volumes[0] == pytest.approx(-2 * 4 * 40, abs=1e-6)


def test_dead_units_have_no_volume() -> None:
    rnn: Any = build("relu")
    with torch.no_grad():
        rnn.bias_ih_l0[0] = -1e3
    system = from_torch_module(rnn)
    x = torch.randn(2, 1, INPUT_SIZE, dtype=F64)
    volume = system.log_abs_det(system.drive(x)[0], system.initial_state(None, 2))
    assert volume.tolist() == [-math.inf] * 2


def test_matrices_of_known_determinant() -> None:
    assert float(log_abs_det(torch.tensor([[0.0, 2.0], [-3.0, 0.0]]))) == pytest.approx(math.log(6))
    triangle = torch.ones(9, 9, dtype=F64).tril() * torch.linspace(1, 2, 9, dtype=F64)
    assert_near(log_abs_det(triangle), torch.linspace(1, 2, 9, dtype=F64).log().sum(), 1e-12)
    assert log_abs_det(torch.zeros(2, 3, 3)).tolist() == [-math.inf] * 2


def test_rows_of_very_different_size() -> None:
    """``det(D Q) = det D``; unscaled, the squares of e^-400 would underflow."""
    sizes = torch.linspace(0, -700, 8, dtype=F64)[torch.randperm(8)]
    q = torch.linalg.qr(torch.randn(8, 8, dtype=F64)).Q
    assert_near(log_abs_det(sizes.exp().unsqueeze(1) * q), sizes.sum(), 1e-9)
    assert log_abs_det(q.float()).dtype == F64


def test_batches_are_loops() -> None:
    matrices = torch.randn(3, 2, 5, 5)
    volumes = log_abs_det(matrices)
    assert volumes.shape == (3, 2)
    assert_near(volumes[2, 1], log_abs_det(matrices[2, 1]), 1e-12)
