"""Faults of all kinds, through what a user calls: the certificate fails for each of them.

And networks without a fault, of all kinds: it passes for each of them.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap import SpectrumEstimate, lyapunov_spectrum, spectra_of
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.network.sequences import CallRecording, Recording
from lightning_lyap.qr.orthonormalize import stack_rows
from tests.certificate.test_faults import plant_map
from tests.healthy_networks import F64, FEATURES, Own, Stack, draw
from tests.registering import registered

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


def own(module: nn.Module, x: Tensor, kind: type = Own, **known: Any) -> SpectrumEstimate:
    """Measure a registered module inside of a network."""

    def zeros(module: Any, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, UNITS, dtype=F64)

    given: dict[str, Any] = {"step": lambda m: m.step, "initial_state": zeros, "sequences": True}
    with registered(kind, **given | known):
        return inside(nn.Sequential(module), x)


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


@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum fails its certificate")
@pytest.mark.parametrize("name", list(FAULTS))
def test_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = FAULTS[name](monkeypatch)
    assert not estimate.certificate.passed
    if name.startswith("time_first"):
        assert "`batch_first = False`" in "".join(estimate.certificate.failures)


def alarms(seeds: range) -> list[str]:
    """Measure healthy networks; return those whose certificates fail."""
    found = []
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            healthy = draw(seed)
            with healthy.around():
                measured = spectra_of(healthy.network, healthy.batch, **healthy.settings)
        found += [
            f"{seed}: {healthy.told}: {estimate.certificate.failures}"
            for estimate in measured.values()
            if estimate.num_sequences and not estimate.certificate.passed
        ]
    return found


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_healthy_networks_pass(first: int) -> None:
    """A stack twice, a cell in a loop, a module of somebody's own."""
    assert alarms(range(first, 24, 4)) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The Lyapunov spectrum fails its certificate")
def test_all_faults_and_no_false_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for name, plant in FAULTS.items():
        with pytest.MonkeyPatch.context() as patch:
            found += [] if plant(patch).certificate.passed else [name]
    false = alarms(range(200))
    with capsys.disabled():
        print(f"\n{len(FAULTS)} faults, {len(found)} found; 200 healthy, {len(false)} alarms")
    assert len(found) == len(FAULTS) >= 20
    assert false == []
