"""Torch's cells against the modules of the same name, and against automatic differentiation."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.dynamics import AutodiffDynamics, StateChoice, as_dynamics, from_torch_cell
from tests.compare import assert_near

F64 = torch.float64
INPUTS, UNITS, BATCH = 3, 5, 4
KINDS = ("tanh", "relu", "gru", "lstm")


def pair(kind: str, bias: bool = True, dtype: torch.dtype = F64) -> tuple[Any, Any]:
    """Build a module of one layer and the cell with its weights, twice as large as torch's."""
    kinds: dict[str, tuple[Any, Any]] = {
        "gru": (nn.GRU, nn.GRUCell),
        "lstm": (nn.LSTM, nn.LSTMCell),
    }
    module_kind, cell_kind = kinds.get(kind, (nn.RNN, nn.RNNCell))
    options = {"nonlinearity": kind} if kind in ("tanh", "relu") else {}
    module = module_kind(INPUTS, UNITS, bias=bias, dtype=dtype, **options)
    cell = cell_kind(INPUTS, UNITS, bias=bias, dtype=dtype, **options)
    with torch.no_grad():
        for name, weight in cell.named_parameters():
            weight.copy_(getattr(module, f"{name}_l0").mul_(2))
    return module, cell


def start_of(kind: str, dtype: torch.dtype = F64) -> Any:
    h, c = torch.randn(2, BATCH, UNITS, dtype=dtype)
    return (h, c) if kind == "lstm" else h


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("state", ["full", "hidden"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_has_the_spectrum_of_its_module(kind: str, bias: bool, state: StateChoice) -> None:
    module, cell = pair(kind, bias)
    x, start = torch.randn(BATCH, 15, INPUTS, dtype=F64), start_of(kind)
    layered = start[None] if isinstance(start, Tensor) else tuple(t[None] for t in start)
    got = lyapunov_spectrum(cell, x, initial_state=start, state=state)
    expected = lyapunov_spectrum(module, x, initial_state=layered, state=state)
    assert torch.equal(got.exponents, expected.exponents)
    assert torch.equal(got.per_sequence, expected.per_sequence)
    default = lyapunov_spectrum(cell, x, state=state, lengths=[15, 3, 9, 4])
    assert torch.equal(
        default.exponents,
        lyapunov_spectrum(module, x, state=state, lengths=[15, 3, 9, 4]).exponents,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_final_state_is_that_of_a_loop(kind: str) -> None:
    _, cell = pair(kind)
    x, start = torch.randn(BATCH, 7, INPUTS, dtype=F64), start_of(kind)
    final = lyapunov_spectrum(cell, x, initial_state=start).final_state
    state = start
    with torch.no_grad():
        for x_t in x.unbind(1):
            state = cell(x_t, state)
    torch.testing.assert_close(final, state, atol=1e-12, rtol=0)
    halves = lyapunov_spectrum(cell, x[:, :3], initial_state=start)
    rest = lyapunov_spectrum(
        cell, x[:, 3:], initial_state=halves.final_state, initial_basis=halves.final_basis
    )
    torch.testing.assert_close(rest.final_state, state, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_tangent_map_equals_autodiff(kind: str) -> None:
    _, cell = pair(kind)
    x, start = torch.randn(BATCH, 1, INPUTS, dtype=F64), start_of(kind)
    states: tuple[StateChoice, ...] = ("full", "hidden") if kind == "lstm" else ("full",)
    for state in states:
        system = as_dynamics(cell, state=state)
        oracle = AutodiffDynamics(
            lambda x, s: cell(x, s), start, (0,) if state == "hidden" else None
        )
        identity = torch.eye(system.tangent_size, dtype=F64).expand(BATCH, -1, -1)
        maps = [s.step(s.drive(x)[0], s.initial_state(start, BATCH))[1] for s in (system, oracle)]
        assert_near(maps[0](identity), maps[1](identity))


def test_half_precision_cells_are_computed_in_float32() -> None:
    _, cell = pair("gru", dtype=torch.bfloat16)
    assert from_torch_cell(cell).dtype == torch.float32
    assert from_torch_cell(cell, dtype=F64).dtype == F64
    assert cell.weight_hh.dtype == torch.bfloat16


class ClippedCell(nn.LSTMCell):
    """An LSTMCell with a step of its own: torch's, and half the cell state."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        h, c = super().forward(input, hx)
        return h, c / 2


@pytest.mark.parametrize("state", ["full", "hidden"])
def test_a_derived_cell_with_a_step_of_its_own_is_not_taken_for_torchs(state: StateChoice) -> None:
    cell = ClippedCell(INPUTS, UNITS).double()
    x = torch.randn(BATCH, 6, INPUTS, dtype=F64)
    zeros = torch.zeros(BATCH, UNITS, dtype=F64)

    def step(x: Tensor, s: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = nn.LSTMCell.forward(cell, x, s)
        return h, c / 2

    oracle = AutodiffDynamics(step, (zeros, zeros), (0,) if state == "hidden" else None)
    got = lyapunov_spectrum(cell, x, state=state)
    assert got.tangent_size == (2 * UNITS if state == "full" else UNITS)
    assert_near(got.exponents, lyapunov_spectrum(oracle, x).exponents)


def test_a_derived_cell_with_torchs_step_has_its_analytic_map() -> None:
    class Own(nn.GRUCell):
        pass

    assert type(as_dynamics(Own(INPUTS, UNITS))) is type(as_dynamics(nn.GRUCell(INPUTS, UNITS)))
