"""What a network's own forward pass returned is recorded for the sequences and steps recorded."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_lyap.certificate.returned import Returned
from lightning_lyap.network.input_recorder import InputRecorder
from tests.loops import cell_of, inputs, loop, record

F64 = torch.float64


def recorded(module: Any, *given: Any, num_sequences: int = 10, num_steps: int = 100) -> Any:
    with torch.no_grad(), InputRecorder({"rnn": module}, num_sequences, num_steps) as recorder:
        module(*given)
    return recorder.sequences()["rnn"].returned


@pytest.mark.parametrize("batch_first", [False, True])
def test_outputs_and_last_states(batch_first: bool) -> None:
    module = nn.LSTM(3, 4, 2, batch_first=batch_first, dtype=F64)
    x = inputs(5, 7)
    given = x if batch_first else x.transpose(0, 1)
    outputs, state = module(given)
    returned = recorded(module, given, num_sequences=3)
    expected = outputs if batch_first else outputs.transpose(0, 1)
    assert torch.equal(returned.outputs, expected[:3])
    assert all(torch.equal(a, b[:, :3]) for a, b in zip(returned.final, state, strict=True))
    assert returned.outputs_are_states is True
    assert returned.eps == torch.finfo(F64).eps


def test_steps_beyond_those_recorded_leave_the_last_state_unknown() -> None:
    module, x = nn.GRU(3, 4, batch_first=True, dtype=F64), inputs(2, 7)
    returned = recorded(module, x, num_steps=5)
    assert torch.equal(returned.outputs, module(x)[0][:, :5])
    assert returned.final is None
    assert returned.outputs_are_states is True


def test_packed_sequences_end_where_they_end() -> None:
    module, x = nn.GRU(3, 4, batch_first=True, dtype=F64), inputs(3, 7)
    packed = pack_padded_sequence(x, torch.tensor([2, 7, 4]), True, enforce_sorted=False)
    returned = recorded(module, packed)
    assert torch.equal(returned.final, module(packed)[1])
    ends = (~returned.outputs.isnan().any(-1)).sum(1)
    assert ends.tolist() == [2, 7, 4]


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_states_of_cells(kind: str) -> None:
    cell, x = cell_of(kind).eval(), inputs(2, 5)
    returned = record(cell, lambda: loop(cell, x)).returned
    assert isinstance(returned, Returned)
    last = loop(cell, x)
    found: Any = returned.steps
    pairs = zip(found, last, strict=True) if kind == "lstm" else [(found, last)]
    assert all(torch.equal(got[:, -1], own) for got, own in pairs)


def test_dropout_at_work_is_not_compared() -> None:
    module = nn.LSTM(3, 4, 2, batch_first=True, dropout=0.5, dtype=F64)
    assert recorded(module.train(), inputs(2, 5)) is None
    assert recorded(module.eval(), inputs(2, 5)) is not None


class Normalized(nn.GRU):
    """Returns normalized outputs beside its state."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        outputs, state = super().forward(input, hx)
        return nn.functional.layer_norm(outputs, (4,)), state


def test_outputs_that_are_no_states_are_told_from_the_last_state() -> None:
    returned = recorded(Normalized(3, 4, batch_first=True, dtype=F64), inputs(2, 5))
    assert returned.outputs_are_states is False
