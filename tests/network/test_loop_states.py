"""States in a loop: of any form, but given to the cell as it returned them."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum, register_recurrence
from tests.compare import assert_near
from tests.loops import F64, INPUTS, UNITS, cell_of, inputs, record
from tests.registering import registered


def changed_in_place(cell: Any, x: Tensor) -> None:
    """Change the very tensor that the cell returned."""
    h = torch.zeros(len(x), UNITS, dtype=F64)
    for x_t in x.unbind(1):
        h = cell(x_t, h)
        h.mul_(0.5)


def normalized(cell: Any, x: Tensor) -> None:
    h = torch.zeros(len(x), UNITS, dtype=F64)
    for x_t in x.unbind(1):
        h = nn.functional.layer_norm(cell(x_t, h), (UNITS,))


@pytest.mark.parametrize("recurrence", [normalized, changed_in_place])
def test_a_state_changed_between_calls_is_no_recurrence_of_the_cell(recurrence: Any) -> None:
    cell, x = cell_of("gru"), inputs(2, 5)
    message = r"'cell' to be given the state .* more in it than this cell .*register_recurrence"
    with pytest.raises(RuntimeError, match=message):
        record(cell, lambda: recurrence(cell, x))


def test_a_cell_that_is_never_given_a_state_is_no_recurrence() -> None:
    cell, x = cell_of("gru"), inputs(2, 5)
    with pytest.raises(RuntimeError, match=r"'cell' to be called in a loop .* never was given"):
        record(cell, lambda: [cell(x_t) for x_t in x.unbind(1)])


class Traces(nn.Module):
    """Two tensors in a dict, changed in place, beside an output: ``cell(x, state)``."""

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        state["slow"].mul_(0.9).add_(state["fast"].sum(1, keepdim=True))
        state["fast"].mul_(0.5).add_(x)
        return state["fast"].sum(1), state


class Whole(nn.Module):
    """The same over whole sequences, time first."""

    batch_first = False

    def forward(self, x: Tensor, state: Any = None) -> Tensor:
        return x


@pytest.fixture
def _registered() -> Iterator[None]:
    with (
        registered(Traces),
        registered(Whole, step=lambda module: Traces(), sequences=True),
    ):
        yield


def traces(batch: int) -> dict[str, Tensor]:
    return {"fast": torch.randn(batch, INPUTS), "slow": torch.randn(batch, 1)}


@pytest.mark.usefixtures("_registered")
def test_states_of_any_form_are_recorded_before_the_cell_changes_them() -> None:
    cell, x, state = Traces(), torch.randn(3, 5, INPUTS), traces(3)
    start = {name: tensor.clone() for name, tensor in state.items()}

    def run() -> None:
        current = state
        for x_t in x.unbind(1):
            _, current = cell(x_t, current)

    recorded = record(cell, run, num_sequences=2)
    assert_near(recorded.inputs, x[:2], 0)
    torch.testing.assert_close(recorded.initial_state, {n: t[:2] for n, t in start.items()})
    final = lyapunov_spectrum(
        cell, recorded.inputs, initial_state=recorded.initial_state
    ).final_state
    torch.testing.assert_close(final, {n: t[:2] for n, t in state.items()})


@pytest.mark.usefixtures("_registered")
def test_registered_modules_of_whole_sequences_have_rows_first_states() -> None:
    module, x, state = Whole(), torch.randn(3, 5, INPUTS), traces(3)
    recorded = record(module, lambda: module(x.transpose(0, 1), state))
    assert_near(recorded.inputs, x, 0)
    torch.testing.assert_close(recorded.initial_state, state)


@pytest.mark.usefixtures("_registered")
def test_a_missing_default_among_given_states_is_named() -> None:
    module, x = Whole(), torch.randn(3, 5, INPUTS)
    with pytest.raises(RuntimeError, match=r"default state of Whole .*initial_state=lambda"):
        record(module, lambda: module(x, traces(5)), lambda: module(x))
    register_recurrence(
        Whole,
        step=lambda module: Traces(),
        sequences=True,
        initial_state=lambda module, batch_size: traces(batch_size),
    )
    recorded = record(module, lambda: module(x, traces(5)), lambda: module(x))
    assert recorded.initial_state["slow"].shape == (10, 1)
