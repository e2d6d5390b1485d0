"""Faults in dynamics and networks, each planted in what a user calls."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum, spectra_of
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.qr.orthonormalize import stack_rows
from tests.certificate.test_faults import plant_map
from tests.healthy_networks import F64, FEATURES, Stack

UNITS, BATCH, STEPS = 6, 4, 40
Fault = Callable[[pytest.MonkeyPatch], SpectrumEstimate]
FAULTS: dict[str, Fault] = {}


def fault(call: Fault) -> Fault:
    FAULTS[call.__name__] = call
    return call


def inputs(steps: int = STEPS, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(BATCH, steps, FEATURES, dtype=dtype)


def stack(kind: Any = nn.GRU, layers: int = 2, dtype: torch.dtype = F64) -> Any:
    return kind(FEATURES, UNITS, layers, batch_first=True, dtype=dtype)


def inside(module: nn.Module, *batch: Any) -> SpectrumEstimate:
    """Measure the only recurrent module of a network."""
    (estimate,) = spectra_of(nn.ModuleList([module]) if not batch else module, batch).values()
    return estimate


# The tangent map.


@fault
def transposed_tangent_map(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    step = StackedRecurrence.step

    def planted(system: Any, drive: Tensor, state: Any) -> Any:
        new, push = step(system, drive, state)
        unit = torch.eye(system.tangent_size, dtype=F64).expand(len(drive), -1, -1)
        return new, lambda basis: push(unit).mT @ basis

    plant_map(patch, StackedRecurrence, planted)
    return lyapunov_spectrum(stack(), inputs())


@fault
def dropped_block_of_the_jacobian(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    def planted(system: Any, drive: Tensor, state: Any) -> Any:
        new, tangents = system._step_layers(drive, state)
        sizes = [layer.tangent_size for layer in system.layers]
        return new, lambda basis: stack_rows(
            [own(None, part) for own, part in zip(tangents, basis.split(sizes, 1), strict=True)]
        )

    plant_map(patch, StackedRecurrence, planted)
    return lyapunov_spectrum(stack(), inputs())


@fault
def tangent_map_too_large(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    step = StackedRecurrence.step

    def planted(system: Any, drive: Tensor, state: Any) -> Any:
        new, push = step(system, drive, state)
        return new, lambda basis: 1.001 * push(basis)

    plant_map(patch, StackedRecurrence, planted)
    return lyapunov_spectrum(stack(nn.LSTM, 1), inputs())


@fault
def detached_part(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    start = torch.rand(BATCH, FEATURES, dtype=F64)
    return lyapunov_spectrum(
        lambda x, h: torch.tanh(h + x) * torch.sigmoid(h).detach(), inputs(), initial_state=start
    )


@fault
def value_read_out(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    start = torch.rand(1, FEATURES, dtype=F64)
    return lyapunov_spectrum(
        lambda x, h: torch.tanh(h * float(h.mean()) + x), inputs()[:1], initial_state=start
    )


# Precision.


@fault
def float32_inside_of_float64(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    start, mix = torch.rand(BATCH, FEATURES, dtype=F64), torch.randn(FEATURES, FEATURES)
    return lyapunov_spectrum(
        lambda x, h: (h.float() @ mix).double() / 3 + x, inputs(), initial_state=start
    )


@fault
def autocast_inside(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    mix = torch.randn(FEATURES, FEATURES)

    def step(x: Tensor, h: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.tanh(h @ mix + x).float()

    start = torch.rand(BATCH, FEATURES)
    return lyapunov_spectrum(step, inputs(dtype=torch.float32), initial_state=start)


# Steps that are no maps of a state of each sequence.


@fault
def step_keeps_a_hidden_state(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    calls = [0]

    def step(x: Tensor, h: Tensor) -> Tensor:
        calls[0] += 1
        return h * (0.5 if calls[0] % 2 else 2.0) + x

    start = torch.rand(BATCH, FEATURES, dtype=F64)
    return lyapunov_spectrum(step, inputs(), initial_state=start)


@fault
def step_mixes_sequences(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    start = torch.rand(BATCH, FEATURES, dtype=F64)
    return lyapunov_spectrum(lambda x, h: h - 0.5 * h.mean(0) + x, inputs(), initial_state=start)


# Another network than the one that ran forward.


@fault
def gates_in_the_wrong_order(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    """Weights read for a network whose first half of the gates are exchanged."""
    module = stack(nn.LSTM, 1)
    forward = type(module).forward

    def exchanged(lstm: Any, x: Any, hx: Any = None) -> Any:
        twin = stack(nn.LSTM, 1)
        with torch.no_grad():
            for name, weight in lstm.named_parameters():
                i, f, rest = weight[:UNITS], weight[UNITS : 2 * UNITS], weight[2 * UNITS :]
                getattr(twin, name).copy_(torch.cat([f, i, rest]))
        return forward(twin, x, hx)

    patch.setattr(nn.LSTM, "forward", exchanged)
    return inside(Stack(module, False, False), inputs(), torch.full((BATCH,), STEPS))


class QuantizedWhileItRuns(nn.Module):
    """Rounds the weights for a forward pass, and puts them back after it."""

    def __init__(self, rnn: Any) -> None:
        super().__init__()
        self.rnn: Any = rnn

    def forward(self, x: Tensor) -> Any:
        kept = [weight.clone() for weight in self.rnn.parameters()]
        for weight in self.rnn.parameters():
            weight.copy_((8 * weight).round() / 8)
        result = self.rnn(x)
        for weight, before in zip(self.rnn.parameters(), kept, strict=True):
            weight.copy_(before)
        return result


@fault
def weights_of_another_time(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    return inside(QuantizedWhileItRuns(stack(nn.LSTM)), inputs())


@fault
def weights_of_another_time_in_a_cell(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    class Network(QuantizedWhileItRuns):
        def forward(self, x: Tensor) -> Any:
            kept = self.rnn.weight_hh.clone()
            self.rnn.weight_hh.mul_(1.5)
            state = None
            for t in range(x.shape[1]):
                state = self.rnn(x[:, t], state)
            self.rnn.weight_hh.copy_(kept)
            return state

    cell: Any = nn.GRUCell(FEATURES, UNITS, dtype=F64)
    return inside(Network(cell), inputs())


class StartsAnew(nn.GRU):
    """Forgets its state after every tenth step."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        parts = [super(StartsAnew, self).forward(part) for part in input.split(10, 1)]
        return torch.cat([outputs for outputs, _ in parts], 1), parts[-1][1]


@fault
def subclass_that_forgets(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    return lyapunov_spectrum(stack(StartsAnew), inputs())


@fault
def subclass_that_forgets_inside_of_a_network(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    return inside(Stack(stack(StartsAnew), False, False), inputs(), torch.full((BATCH,), STEPS))


@fault
def layers_driven_by_the_step_before(patch: pytest.MonkeyPatch) -> SpectrumEstimate:
    """The text of the paper: layer 2 is driven by the old output of layer 1."""

    def planted(system: Any, drive: Tensor, state: Any) -> Any:
        below, above = system.layers
        projected = above.project(state[0])
        (first, one), (second, two) = below.step(drive, state[:1]), above.step(projected, state[1:])

        def push(basis: Tensor) -> Tensor:
            lower, upper = basis.split([UNITS, UNITS], 1)
            return stack_rows([one(None, lower), two(lower, upper)])

        return (*first, *second), push

    plant_map(patch, StackedRecurrence, planted)
    return inside(Stack(stack(), False, False), inputs(), torch.full((BATCH,), STEPS))
