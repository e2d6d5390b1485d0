"""Compares the dynamics with what a module itself returned, at all steps.

The dynamics go along the module's own trajectory: where the module tells its state after a step,
the next step starts there. Errors then grow in what it does not tell alone (lower layers, cell
states); how far, further runs tell that are disturbed by rounding errors at each step.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_lyap.certificate.result import Check
from lightning_lyap.certificate.returned import Returned
from lightning_lyap.dynamics import AutodiffDynamics
from lightning_lyap.dynamics.base import DynamicalSystem, State, as_state_tensors, shapes_of
from lightning_lyap.dynamics.stacked import StackedRecurrence

# How many eps, or how much in half precision, states may differ by.
TOLERANCE_EPS, TOLERANCE_MOST = 1e3, 0.05
# Runs that are disturbed, how many eps a step disturbs them by, and how many times the largest of
# their distances the difference may be.
DIRECTIONS, STEP_EPS, ALLOWANCE = 3, 4.0, 3.0
# A readout of the states, and no states, if the best fit by one is as good as this.
READOUT_FIT = 1e-3

Traces = dict[int, Tensor]


class _Run(NamedTuple):
    """A run along a trajectory: what it says where the module said something.

    ``traces`` are parts of the state after each step by their places in it, ``[T, B, N_i]``;
    ``outputs`` those of the step function, ``[T, B, P]``, if it has any; ``final`` is the state
    after the last step of each sequence, ``[B, N_i]`` each.
    """

    traces: Traces
    outputs: Tensor | None
    final: State


def replay_check(
    system: DynamicalSystem, drive: Tensor, state: State, ends: Tensor, returned: Returned
) -> Check | None:
    """Compare the dynamics with what a module returned, step by step.

    The bound is a thousand eps of the coarser type (0.05 in half precision), relative to the larger
    of 1 and the largest entry; or three times what becomes of rounding errors, if that is more.

    Args:
        system: The dynamics.
        drive: What drives them, ``[T, B, ...]``.
        state: What they start from, tensors ``[B, ...]``.
        ends: Length of each sequence, ``[B]``.
        returned: What the module returned on the same sequences.

    Returns:
        The check, of the worst step and sequence; None if the module returned nothing that can be
        compared.
    """
    eps = max(returned.eps, torch.finfo(system.dtype).eps)
    tolerance = min(TOLERANCE_EPS * eps, TOLERANCE_MOST)
    if returned.fault:
        return Check(math.inf, tolerance, returned.fault)
    return _Replay(system, drive, state, ends, returned, eps, tolerance).check()


class _Replay:
    """The comparison of one system with what its module returned; see `replay_check`."""

    def __init__(
        self,
        system: DynamicalSystem,
        drive: Tensor,
        state: State,
        ends: Tensor,
        returned: Returned,
        eps: float,
        tolerance: float,
    ) -> None:
        self._system, self._drive, self._state = system, drive, state
        self._ends = ends.to(system.device)
        self._are_states = returned.outputs_are_states
        self._hint, self._eps, self._tolerance = returned.hint, eps, tolerance
        self._outputs = self._own(returned.outputs)
        self._given = self._traces(returned)
        self._final = self._final_state(returned)
        self._forget(torch.stack([part.isfinite().flatten(1).all(1) for part in state]).all(0))

    def check(self) -> Check | None:
        """Compare; see `replay_check`."""
        if not self._given and self._outputs is None and self._final is None:
            return None
        run = self._run(self._drive, self._state, self._given)
        residuals = self._distances(run, None)
        if residuals is None:
            return None
        bounds = torch.full_like(residuals, self._tolerance)
        if not bool((residuals <= self._tolerance).all()):
            for seed in range(DIRECTIONS):
                grown = self._distances(self._disturbed(seed), run)
                if grown is not None:
                    # Growth that a direction escapes for a moment is still there.
                    bounds = torch.maximum(bounds, ALLOWANCE * grown.cummax(0)[0])
        if not bool((residuals <= bounds).all()) and self._is_readout():
            return None
        worst = (residuals / bounds).nan_to_num(nan=math.inf).argmax()
        residual, bound = residuals.flatten()[worst].item(), bounds.flatten()[worst].item()
        return Check(residual, bound, self._hint)

    def _own(self, tensor: Tensor | None) -> Tensor | None:
        """Bring time to the front of ``[B, T, ...]``, as many steps as there are, in our type."""
        if tensor is None or tensor.shape[:2] != (self._drive.shape[1], self._drive.shape[0]):
            return None
        return tensor.to(self._system.device, self._system.dtype).transpose(0, 1)

    def _forget(self, known: Tensor) -> None:
        """Forget what was told of sequences that are lost from the start: all but ``known``."""
        if bool(known.all()):
            return
        rows = ~known.unsqueeze(-1)
        if self._outputs is not None:
            self._outputs = self._outputs.masked_fill(rows, math.nan)
        self._given = {k: own.masked_fill(rows, math.nan) for k, own in self._given.items()}
        if self._final is not None:
            self._final = tuple(part.masked_fill(rows, math.nan) for part in self._final)

    def _traces(self, returned: Returned) -> Traces:
        """Return what the module told of its states, by their places in the state."""
        system = self._system
        if returned.steps is not None:
            return self._states_of_steps(returned.steps)
        if self._outputs is None:
            return {}
        if self._are_states is False:
            return {}
        place = 0
        if isinstance(system, StackedRecurrence):  # the hidden state of the topmost layer
            place = len(self._state) - len(system.layers[-1].state_sizes)
        elif self._output_size() == self._outputs.shape[2]:
            return {}
        same = self._outputs.shape[2] == self._state[place].shape[1]
        return {place: self._outputs} if same else {}

    def _states_of_steps(self, steps: Any) -> Traces:
        """Return the states among what a cell returned at each step."""
        count, batch = self._drive.shape[:2]
        if isinstance(self._system, AutodiffDynamics):
            shapes = [(batch, count, *shape[1:]) for shape in shapes_of(self._state)]
            tensors = self._system.find_state(steps, shapes)
        else:
            tensors = as_state_tensors(steps) if isinstance(steps, Tensor | tuple | list) else None
        found = {}
        for place, tensor in enumerate(tensors or ()):
            own = self._own(tensor)
            if own is not None and own.shape[2:] == self._state[place].shape[1:]:
                found[place] = own
        return found if len(found) == len(self._state) else {}

    def _final_state(self, returned: Returned) -> State | None:
        """Return the state that the module told last; None if it told none."""
        if returned.final is None:
            return None
        if isinstance(self._system, AutodiffDynamics):
            tensors = self._system.find_state(returned.final, shapes_of(self._state))
        else:
            form = shapes_of(as_state_tensors(self._system.export_state(self._state)))
            same = shapes_of(as_state_tensors(returned.final)) == form
            batch = self._drive.shape[1]
            tensors = self._system.initial_state(returned.final, batch) if same else None
        if tensors is None:
            return None
        return tuple(tensor.to(self._system.device, self._system.dtype) for tensor in tensors)

    def _output_size(self) -> int | None:
        """Return the number of outputs of a step function, if it has any beside its state."""
        if not isinstance(self._system, AutodiffDynamics):
            return None
        output = self._system.step_with_output(self._drive[0], self._state)[1]
        return None if output is None else output.shape[1]

    def _disturbed(self, seed: int) -> _Run:
        """Run with an error in the start and in what the module told, and rounding at each step."""
        state = tuple(_shifted(part, self._tolerance, seed) for part in self._state)
        told = {k: _shifted(own, self._tolerance, seed) for k, own in self._given.items()}
        rounding = STEP_EPS * self._eps
        return self._run(_shifted(self._drive, rounding, seed), state, told, rounding, seed)

    def _run(
        self, drive: Tensor, state: State, told: Traces, rounding: float = 0.0, seed: int = 0
    ) -> _Run:
        """Run along what the module told, with rounding errors of some size at each step."""
        if len(told) == len(self._state) and isinstance(self._system, StackedRecurrence):
            running = torch.arange(len(drive), device=drive.device).unsqueeze(1) < self._ends
            if all(bool((own.isfinite().all(-1) | ~running).all()) for own in told.values()):
                return self._run_at_once(drive, state, told)
        traces: dict[int, list[Tensor]] = {place: [] for place in told}
        outputs: list[Tensor] = []
        final = state
        for t, x in enumerate(drive):
            if isinstance(self._system, AutodiffDynamics):
                state, output = self._system.step_with_output(x, state)
                outputs += [] if output is None else [output]
            else:
                state = self._system.step(x, state)[0]
            running = (t < self._ends).unsqueeze(-1)
            final = tuple(torch.where(running, *pair) for pair in zip(state, final, strict=True))
            parts = [_shifted(part, rounding, seed) for part in state]
            for place, own in told.items():
                traces[place].append(state[place])
                parts[place] = torch.where(own[t].isnan(), parts[place], own[t])
            state = tuple(parts)
        stacked = {place: torch.stack(own) for place, own in traces.items()}
        return _Run(stacked, torch.stack(outputs) if outputs else None, final)

    def _run_at_once(self, drive: Tensor, state: State, told: Traces) -> _Run:
        """Take all steps at once, where each starts from a state that the module told."""
        shape = drive.shape[:2]
        before = tuple(
            torch.cat([first.unsqueeze(0), told[place][:-1]]).flatten(0, 1)
            for place, first in enumerate(state)
        )
        new = self._system.step(drive.flatten(0, 1), before)[0]
        traces = {place: own.unflatten(0, shape) for place, own in enumerate(new)}
        rows = torch.arange(shape[1], device=drive.device)
        final = tuple(own[self._ends - 1, rows] for own in traces.values())
        return _Run(traces, None, final)

    def _distances(self, run: _Run, other: _Run | None) -> Tensor | None:
        """Return how far a run is from what the module told, or from another run: ``[T + 1, B]``.

        The last row is that of the state after the last step. None if nothing is compared.
        """
        rows = self._drive.new_zeros(len(self._drive) + 1, self._drive.shape[1])
        compared = False
        for place, own in self._given.items():
            got = run.traces[place]
            expected = own if other is None else other.traces[place]
            rows[:-1] = torch.maximum(rows[:-1], _relative(got, expected, own.isfinite()))
            compared = True
        if run.outputs is not None and self._outputs is not None and not self._given:
            own, got = self._outputs, run.outputs
            if own.shape == got.shape:
                expected = own if other is None or other.outputs is None else other.outputs
                rows[:-1] = torch.maximum(rows[:-1], _relative(got, expected, own.isfinite()))
                compared = True
        if self._final is not None:
            for part, own in enumerate(self._final):
                expected = own if other is None else other.final[part]
                rows[-1] = torch.maximum(
                    rows[-1], _relative(run.final[part], expected, own.isfinite())
                )
            compared = True
        return rows if compared else None

    def _is_readout(self) -> bool:
        """Return whether the outputs may be an affine function of our states, and no states.

        A module of a user's own may return a readout as large as its state. Nothing is known of
        torch's modules' states but that the outputs are some.
        """
        only = set(self._given) == {0} and self._outputs is not None and self._are_states is None
        if not isinstance(self._system, AutodiffDynamics) or not only:
            return False
        states, state = [], self._state
        for x in self._drive:
            state = self._system.step(x, state)[0]
            states.append(state[0])
        own = self._given[0].flatten(0, 1).double().cpu()
        ours = torch.stack(states).flatten(0, 1).double().cpu()
        known = own.isfinite().all(-1) & ours.isfinite().all(-1)
        own, ours = own[known], ours[known]
        ours = torch.cat([ours, torch.ones_like(ours[:, :1])], dim=1)
        if len(own) < 2 * ours.shape[1]:
            return True  # anything fits, and nothing is known
        fit = ours @ torch.linalg.lstsq(ours, own, driver="gelsd").solution
        return bool((fit - own).norm() <= READOUT_FIT * (own - own.mean(0)).norm())


def _relative(got: Tensor, expected: Tensor, known: Tensor) -> Tensor:
    """Return the largest difference, ``[...]``, of ``[..., N]`` where entries are known.

    Relative to the larger of 1 and the largest entry expected; infinite where only what we got is
    not finite.
    """
    scale = torch.where(known, expected.abs(), 0.0).amax(-1).clamp(min=1)
    difference = torch.where(known & expected.isfinite(), (got - expected).abs(), 0.0).amax(-1)
    return (difference / scale).nan_to_num(nan=math.inf)


def _shifted(tensor: Tensor, size: float, seed: int) -> Tensor:
    """Shift entries up or down by a size relative to the larger of 1 and them."""
    if not size:
        return tensor
    generator = torch.Generator().manual_seed(seed)
    signs = 2 * torch.randint(2, tensor.shape[1:], generator=generator, device="cpu") - 1
    return tensor + size * signs.to(tensor) * tensor.abs().clamp(min=1)
