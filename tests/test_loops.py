"""Calls of a cell are put together to the sequences that the model's loop runs through."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum, register_recurrence, unregister_recurrence
from lightning_lyap.capture import InputRecorder
from lightning_lyap.recordings import DrivingSequences
from tests.compare import assert_near

F64 = torch.float64
INPUTS, UNITS = 3, 4
Loop = Callable[[Any, Tensor, Any], Any]


def cell_of(kind: str) -> Any:
    kinds: dict[str, Any] = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
    return kinds[kind](INPUTS, UNITS, dtype=F64)


def inputs(batch: int, steps: int) -> Tensor:
    return torch.randn(batch, steps, INPUTS, dtype=F64)


def start_of(kind: str, batch: int) -> Any:
    h, c = torch.randn(2, batch, UNITS, dtype=F64)
    return (h, c) if kind == "lstm" else h


def loop(cell: Any, x: Tensor, state: Any = None) -> Any:
    for x_t in x.unbind(1):
        state = cell(x_t, state)
    return state


def record(
    cell: nn.Module, *calls: Callable[[], Any], num_sequences: int = 10, num_steps: int = 100
) -> DrivingSequences:
    with torch.no_grad(), InputRecorder({"cell": cell}, num_sequences, num_steps) as recorder:
        for call in calls:
            call()
    return recorder.sequences()["cell"]


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_loop_is_recorded_as_its_sequences(kind: str) -> None:
    cell, x, start = cell_of(kind), inputs(3, 6), start_of(kind, 3)
    recorded = record(cell, lambda: loop(cell, x, start))
    assert_near(recorded.inputs, x, 0)
    assert recorded.lengths.tolist() == [6] * 3
    torch.testing.assert_close(recorded.initial_state, start, atol=0, rtol=0)
    assert record(cell, lambda: loop(cell, x)).initial_state is None
    expected = lyapunov_spectrum(cell, x, initial_state=start).exponents
    got = lyapunov_spectrum(cell, recorded.inputs, initial_state=recorded.initial_state)
    assert torch.equal(got.exponents, expected)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_loops_over_several_batches_add_sequences(kind: str) -> None:
    """Rows of each its own start; batches of other sizes; no more than are wanted."""
    cell, x = cell_of(kind), inputs(7, 5)
    first, second = start_of(kind, 3), start_of(kind, 2)
    recorded = record(
        cell,
        lambda: loop(cell, x[:3], first),
        lambda: loop(cell, x[3:5, :4], second),
        lambda: loop(cell, x[5:]),
        num_sequences=6,
    )
    assert recorded.lengths.tolist() == [5, 5, 5, 4, 4, 5]
    assert_near(recorded.inputs[:3], x[:3], 0)
    assert_near(recorded.inputs[3:5, :4], x[3:5, :4], 0)
    assert_near(recorded.inputs[5], x[5], 0)
    starts = [first, second] if kind == "gru" else list(zip(first, second, strict=True))
    parts = [recorded.initial_state] if kind == "gru" else recorded.initial_state
    for got, pair in zip(parts, [starts] if kind == "gru" else starts, strict=True):
        assert_near(got[:3], pair[0], 0)
        assert_near(got[3:5], pair[1], 0)
        assert not got[5].any()


def test_a_loop_from_a_fresh_state_begins_new_sequences() -> None:
    """Two batches of one size, both from zeros that the model makes."""
    cell, x = cell_of("gru"), inputs(4, 5)
    zeros = torch.zeros(2, UNITS, dtype=F64)
    recorded = record(
        cell, lambda: loop(cell, x[:2], zeros), lambda: loop(cell, x[2:], zeros.clone())
    )
    assert_near(recorded.inputs, x, 0)


def test_a_state_carried_over_batches_goes_on() -> None:
    cell, x = cell_of("lstm"), inputs(2, 6)

    def truncated() -> None:
        h, c = loop(cell, x[:, :3])
        loop(cell, x[:, 3:], (h.detach(), c.clone()))

    assert_near(record(cell, truncated).inputs, x, 0)


def test_only_the_steps_wanted_are_kept() -> None:
    cell, x = cell_of("gru"), inputs(4, 9)
    recorded = record(cell, lambda: loop(cell, x), num_sequences=2, num_steps=5)
    assert_near(recorded.inputs, x[:2, :5], 0)


def test_a_single_sequence_without_a_batch() -> None:
    cell, x, (h, c) = cell_of("lstm"), inputs(1, 6), start_of("lstm", 1)

    def unbatched() -> None:
        state = h[0], c[0]
        for x_t in x[0]:
            state = cell(x_t, state)

    recorded = record(cell, unbatched, unbatched)
    assert_near(recorded.inputs, x.expand(2, -1, -1), 0)
    assert_near(recorded.initial_state[0], h.expand(2, -1), 0)
    assert_near(recorded.initial_state[1], c.expand(2, -1), 0)


def test_arguments_by_keyword() -> None:
    cell, x = cell_of("gru"), inputs(2, 4)
    state = start_of("gru", 2)

    def by_name() -> None:
        h = state
        for x_t in x.unbind(1):
            h = cell(hx=h, input=x_t)

    recorded = record(cell, by_name)
    assert_near(recorded.inputs, x, 0)
    assert_near(recorded.initial_state, state, 0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 6), min_size=1, max_size=4), st.sampled_from(["gru", "lstm"]))
def test_rows_that_end_sooner_stay_behind_at_most_one_step(lengths: list[int], kind: str) -> None:
    """The loop keeps the old state of rows that have ended."""
    cell, x = cell_of(kind), inputs(len(lengths), 6)

    def keep(mask: Tensor, new: Any, old: Any) -> Any:
        if isinstance(new, Tensor):
            return torch.where(mask, new, old)
        return tuple(torch.where(mask, n, o) for n, o in zip(new, old, strict=True))

    def masked() -> None:
        state = start_of(kind, len(lengths))
        for t, x_t in enumerate(x.unbind(1)):
            mask = (torch.tensor(lengths) > t)[:, None]
            state = keep(mask, cell(x_t, state), state)

    recorded = record(cell, masked)
    assert len(recorded.inputs) == len(lengths)
    for row, own, length, got in zip(
        recorded.inputs, x, lengths, recorded.lengths.tolist(), strict=True
    ):
        assert length <= got <= length + 1
        assert_near(row[:length], own[:length], 0)


def test_rows_that_have_ended_take_no_place_of_later_batches() -> None:
    cell, x = cell_of("gru"), inputs(4, 6)

    def masked(part: Tensor) -> None:
        h = torch.zeros(2, UNITS, dtype=F64)
        for t, x_t in enumerate(part.unbind(1)):
            h = torch.where(torch.tensor([[t < 2], [True]]), cell(x_t, h), h)

    recorded = record(cell, lambda: masked(x[:2]), lambda: masked(x[2:]), num_sequences=4)
    assert recorded.lengths.tolist() == [3, 6, 3, 6]
    assert_near(recorded.inputs[1::2], x[1::2], 0)


def test_rows_that_are_reset_begin_anew_while_others_go_on() -> None:
    cell, x = cell_of("gru"), inputs(2, 6)

    def reset_the_first_row() -> None:
        h = torch.zeros(2, UNITS, dtype=F64)
        for t, x_t in enumerate(x.unbind(1)):
            h = h * torch.tensor([[t != 4], [True]]) if t else h
            h = cell(x_t, h)

    recorded = record(cell, reset_the_first_row)
    assert recorded.lengths.tolist() == [4, 6, 2]
    assert_near(recorded.inputs[0, :4], x[0, :4], 0)
    assert_near(recorded.inputs[1], x[1], 0)
    assert_near(recorded.inputs[2, :2], x[0, 4:], 0)


def test_states_that_are_not_finite_go_on_too() -> None:
    cell, x = cell_of("rnn"), inputs(2, 5)
    cell.weight_hh.data.fill_(float("nan"))
    assert record(cell, lambda: loop(cell, x)).lengths.tolist() == [5, 5]


def test_copies_are_kept() -> None:
    """The loop may write into its tensors."""
    cell, x, state = cell_of("gru"), inputs(2, 3), start_of("gru", 2)
    seen, start = x.clone(), state.clone()

    def overwrite() -> None:
        h = state
        for x_t in x.unbind(1):
            new = cell(x_t, h)
            x_t.zero_(), h.zero_()
            h = new

    recorded = record(cell, overwrite)
    assert_near(recorded.inputs, seen, 0)
    assert_near(recorded.initial_state, start, 0)


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


def test_a_single_step_is_enough_where_one_is_asked_for() -> None:
    cell, x = cell_of("gru"), inputs(2, 5)
    recorded = record(cell, lambda: cell(x[:, 0]), num_steps=1)
    assert_near(recorded.inputs, x[:, :1], 0)


def test_a_call_with_sequences_is_an_error_kept_for_later() -> None:
    class Sequences(nn.GRUCell):
        def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
            return input

    cell = Sequences(INPUTS, UNITS)
    with pytest.raises(RuntimeError, match=r"one step .* got \(2, 3, 3\).*sequences=True"):
        record(cell, lambda: cell(torch.zeros(2, 3, 3)))


@pytest.mark.parametrize("backend", [None, "eager"])
def test_stacked_and_compiled_cells_are_recorded_each_for_itself(backend: str | None) -> None:
    first, second = cell_of("gru"), nn.LSTMCell(UNITS, 2, dtype=F64)
    x, seen = inputs(3, 5), []
    run: Any = torch.compile(first, backend=backend) if backend else first

    def stacked() -> None:
        h, state = torch.zeros(3, UNITS, dtype=F64), None
        for x_t in x.unbind(1):
            h = run(x_t, h)
            state = second(h, state)
            seen.append(h)

    both, root = {"a": first, "b": second}, nn.ModuleList([run, second])
    with torch.no_grad(), InputRecorder(both, 2, 4, root) as recorder:
        stacked()
    recorded = recorder.sequences()
    assert_near(recorded["a"].inputs, x[:2, :4], 0)
    assert_near(recorded["b"].inputs, torch.stack(seen, 1)[:2, :4], 0)


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
    register_recurrence(Traces)
    register_recurrence(Whole, step=lambda module: Traces(), sequences=True)
    yield
    unregister_recurrence(Traces)
    unregister_recurrence(Whole)


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
