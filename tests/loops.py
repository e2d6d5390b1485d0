"""Cells in the loops of a model, and what is recorded of their calls."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap.network.input_recorder import InputRecorder
from lightning_lyap.network.sequences import DrivingSequences

F64 = torch.float64
INPUTS, UNITS = 3, 4


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
