"""Faults in what is registered and recorded of a network, each planted in what a user calls."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate
from lightning_lyap.network.sequences import CallRecording, Recording
from tests.healthy_networks import F64, FEATURES, Own, Stack
from tests.planted_faults import BATCH, FAULTS, STEPS, UNITS, fault, inputs, inside, stack
from tests.registering import registered

__all__ = ["FAULTS"]


def own(module: nn.Module, x: Tensor, kind: type = Own, **known: Any) -> SpectrumEstimate:
    """Measure a registered module inside of a network."""

    def zeros(module: Any, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, UNITS, dtype=F64)

    given: dict[str, Any] = {"step": lambda m: m.step, "initial_state": zeros, "sequences": True}
    with registered(kind, **given | known):
        return inside(nn.Sequential(module), x)


# Registered steps beside the modules' own.


@fault
def halved_step(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    module = Own(UNITS, 2.0, "final").to(F64)
    return own(module, inputs(), step=lambda m: lambda x, h: m.step(x, h) / 2)


@fault
def another_time_step(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    def step(module: Any) -> Any:
        return lambda x, h: 0.9 * h + 0.1 * torch.tanh(module.i(x) + module.h(h))

    return own(Own(UNITS, 2.0, "states").to(F64), inputs(), step=step)


@fault
def wrong_initial_state(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    def ones(module: Any, batch_size: int) -> Tensor:
        return torch.ones(batch_size, UNITS, dtype=F64)

    return own(Own(UNITS, 2.0, "as torch").to(F64), inputs(), initial_state=ones)


@fault
def wrong_outputs_of_a_pair(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    def step(module: Any) -> Any:
        return lambda x, h: module.pair(x.roll(1, -1), h)

    return own(Own(UNITS, 2.0, "outputs of a pair").to(F64), inputs(), step=step)


class Early(Own):
    """Reads the input of the step before."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> Any:
        return super().forward(x.roll(1, 1), h)


@fault
def off_by_one_in_time(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    return own(Early(UNITS, 2.0, "both").to(F64), inputs(), Early)


class Driven(nn.Module):
    """Passes an argument of its own beyond input and state."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x, None, 3.0)


class Scaled(Own):
    """Takes a gain as its third argument."""

    def forward(self, x: Tensor, h: Tensor | None = None, gain: float = 1.0) -> Any:
        return super().forward(gain * x, h)


@fault
def argument_beyond_the_state(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    return own(Driven(Scaled(UNITS, 2.0, "final").to(F64)), inputs(), Scaled)


class Ending(Own):
    """Stops at the ends of sequences, which it is told by its third argument."""

    def forward(self, x: Tensor, h: Any = None, lengths: Any = None) -> Any:
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            h = torch.where((t < lengths).unsqueeze(-1), self.step(x[:, t], h), h)
        return h


@fault
def padding_read_as_time(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    class Network(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Any:
            return self.inner(x, None, torch.tensor([40, 30, 20, 10]))

    return own(Network(Ending(UNITS, 2.0, "final").to(F64)), inputs(), Ending)


@fault
def time_first_with_a_last_state(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    return own(unmarked("final"), inputs().transpose(0, 1))


@fault
def time_first_with_outputs(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    return own(unmarked("states"), inputs().transpose(0, 1))


def unmarked(gives: str) -> nn.Module:
    """Return a module that is time first and does not say so."""
    return Own(UNITS, 2.0, gives, time_first=True, marked=False).to(F64)


class TwoSteps(nn.GRUCell):
    """Takes a time step beyond x_t and the state."""

    def forward(self, x: Tensor, h: Any = None, dt: float = 1.0) -> Tensor:
        new = super().forward(x, h)
        return new if h is None else h + dt * (new - h)


@fault
def argument_of_a_cell_beyond_the_state(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = TwoSteps(FEATURES, UNITS, dtype=F64)

        def forward(self, x: Tensor) -> Any:
            h = x.new_zeros(len(x), UNITS)
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h, 0.1)
            return h

    return inside(Network(), inputs())


# What is recorded of the forward pass.


@fault
def initial_state_lost_on_the_way(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    patch.setattr(Recording, "_state_row", lambda *_: None)
    return inside(Stack(stack(nn.LSTM), False, True), inputs(), torch.full((BATCH,), STEPS))


@fault
def rows_of_packed_sequences_exchanged(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    together = CallRecording.sequences

    def exchanged(recording: Any, name: str) -> Any:
        found = together(recording, name)
        return replace(found, inputs=found.inputs.roll(1, 0))

    patch.setattr(CallRecording, "sequences", exchanged)
    return inside(Stack(stack(nn.LSTM), True, False), inputs(), torch.full((BATCH,), STEPS))


@fault
def ends_of_packed_sequences_lost(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    together = CallRecording.sequences

    def longer(recording: Any, name: str) -> Any:
        found = together(recording, name)
        return replace(found, lengths=torch.full_like(found.lengths, STEPS))

    patch.setattr(CallRecording, "sequences", longer)
    lengths = torch.tensor([STEPS, 30, 20, 10])
    return inside(Stack(stack(nn.LSTM, 1), True, False), inputs(), lengths)
