"""Calls of a cell are put together to the sequences that the model's loop runs through."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from lightning_lyap.network.input_recorder import InputRecorder
from tests.compare import assert_near
from tests.loops import F64, INPUTS, UNITS, cell_of, inputs, loop, record, start_of


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


def test_a_process_without_a_share_records_nothing_and_disturbs_nothing() -> None:
    cell, x = nn.GRUCell(3, 4), torch.randn(2, 5, 3)
    recorder = InputRecorder({"cell": cell}, 0, 5)
    with recorder:
        h = torch.zeros(2, 4)
        for t in range(5):
            h = cell(x[:, t], h)
    assert recorder.recorded().sequences == {}
