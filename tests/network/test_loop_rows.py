"""Rows of a batch that end, stay behind or begin anew while the others go on."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.compare import assert_near
from tests.loops import F64, UNITS, cell_of, inputs, record, start_of


@settings(deadline=None)
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
