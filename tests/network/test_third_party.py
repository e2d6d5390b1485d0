"""Cells that the package knows nothing about against a dense loop written without it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from ncps.torch import CfCCell
from torch import Tensor, nn

from lightning_lyap import register_recurrence, unregister_recurrence
from tests.compare import assert_near
from tests.dense_loop import by_column, dense_spectrum
from tests.plain import plain_spectrum
from tests.third_party import (
    INPUTS,
    UNITS,
    AntisymmetricCell,
    LeakyReservoir,
    MinGRU,
    MinGRUCell,
    closed_form_cell,
    liquid_cell,
)

F64 = torch.float64
Step = Callable[[Tensor, Tensor], Any]
# How to make the cell, how a user writes its step, and which part of the result is the state.
CELLS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Step], int | None]] = {
    "antisymmetric": (AntisymmetricCell, lambda cell: cell, None),
    "reservoir": (LeakyReservoir, lambda cell: cell, 1),
    "minGRU": (MinGRUCell, lambda cell: cell, None),
    "CfC": (closed_form_cell, lambda cell: lambda x, h: cell(x, h, 1.0), 1),
    "LTC": (liquid_cell, lambda cell: cell, 1),
}


def exponents_by_hand(name: str, cell: nn.Module, x: Tensor, h: Tensor, basis: Tensor) -> Tensor:
    """Compute the exponents of every sequence, ``[B, K]``."""
    step, part = CELLS[name][1](cell), CELLS[name][2]

    def advance(x_t: Tensor, h_t: Tensor) -> Tensor:
        result = step(x_t[None], h_t[None])
        state: Tensor = result if part is None else result[part]
        return state[0]

    return torch.stack([dense_spectrum(advance, *row, basis) for row in zip(x, h, strict=True)])


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("count", [UNITS, 2])
@pytest.mark.parametrize("name", CELLS)
def test_spectrum_equals_the_dense_loop(name: str, count: int) -> None:
    make, make_step, _ = CELLS[name]
    cell = make().double()
    x, h = torch.randn(2, 12, INPUTS, dtype=F64), torch.randn(2, UNITS, dtype=F64)
    basis = torch.linalg.qr(torch.randn(UNITS, count, dtype=F64)).Q
    if count == UNITS:
        basis = torch.eye(UNITS, dtype=F64)
    expected = exponents_by_hand(name, cell, x, h, basis)
    got = plain_spectrum(make_step(cell), x, initial_state=h, initial_basis=basis.expand(2, -1, -1))
    assert_near(by_column(got), expected)
    assert_near(got.exponents, expected.mean(0).sort(descending=True).values)


def test_mingru_forgets_what_its_gate_says() -> None:
    """The map is diagonal: the exponents are the means of ``log(1 - z)``."""
    cell, x = MinGRUCell().double(), torch.randn(4, 30, INPUTS, dtype=F64)
    got = plain_spectrum(cell, x, initial_state=torch.zeros(4, UNITS, dtype=F64))
    expected = (1 - torch.sigmoid(cell.gate(x))).log().mean((0, 1))
    assert_near(got.exponents, expected.detach().sort(descending=True).values)


@pytest.fixture
def _registered() -> Iterator[None]:
    def zeros(module: nn.Module, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, UNITS)

    register_recurrence(
        CfCCell, step=lambda cell: lambda x, h: cell(x, h, 1.0)[1], initial_state=zeros
    )
    register_recurrence(MinGRU, step=lambda rnn: rnn.cell, initial_state=zeros, sequences=True)
    yield
    unregister_recurrence(CfCCell)
    unregister_recurrence(MinGRU)


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("name", ["CfC", "minGRU"])
def test_registered_modules_are_measured_as_they_are(name: str) -> None:
    module = (closed_form_cell() if name == "CfC" else MinGRU()).double()
    cell = module.cell if isinstance(module, MinGRU) else module
    x, h = torch.randn(2, 12, INPUTS, dtype=F64), torch.zeros(2, UNITS, dtype=F64)
    expected = exponents_by_hand(name, cell, x, h, torch.eye(UNITS, dtype=F64))
    assert_near(by_column(plain_spectrum(module, x)), expected)
    start = torch.randn(2, UNITS, dtype=F64)
    other = plain_spectrum(module, x, initial_state=start)
    assert_near(
        by_column(other), exponents_by_hand(name, cell, x, start, torch.eye(UNITS, dtype=F64))
    )
