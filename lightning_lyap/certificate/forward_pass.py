"""Compares the states with those of a module's own forward pass, or of a step done again.

The tangent maps of step functions are compared with differences of their states.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lightning_lyap.certificate.result import Check, worst
from lightning_lyap.certificate.returned import Returned, returned_by_torch
from lightning_lyap.dynamics import AutodiffDynamics
from lightning_lyap.dynamics.base import DynamicalSystem, State
from lightning_lyap.dynamics.evaluation_mode import as_evaluated
from lightning_lyap.dynamics.stacked import StackedRecurrence

# Steps compared with a module's own forward pass, and how many eps, or how much in half precision,
# they may differ by.
FORWARD_STEPS = 4
# Steps of a forward pass of a module's own whose outputs are compared, where none was watched.
OWN_STEPS = 100
FORWARD_EPS, FORWARD_MOST = 1e3, 0.05
# Steps of two differences of states, relative to each entry, and what they may be off by. The wider
# one tells where a step rounds to half precision inside.
NARROW_STEP, WIDE_STEP, DIFFERENCE_BOUND = 2.0**-12, 2.0**-7, 1e-2

Result = TypeVar("Result")


def forward_check(
    module: Any, system: DynamicalSystem, inputs: Tensor, initial_state: Any
) -> Check | None:
    """Compare the first states with those of a torch module's or cell's own forward pass.

    Finds weights that were read wrongly, and subclasses whose forward pass does something else.
    A few steps are enough, and more would not do: chaos makes rounding errors grow. The bound is a
    thousand eps of the coarser type (0.05 in half precision), or what becomes of such a difference
    in the initial states, if that is more.

    Args:
        module: The module.
        system: The dynamics.
        inputs: The first steps of all sequences, ``[B, t, I]``.
        initial_state: As the user gave it.

    Returns:
        The check; for a step function or a module that is differentiated automatically that of
        `_repeated_step`. None for other dynamics, and for a torch module that has a forward pass of
        another form, which takes or gives no states.
    """
    if isinstance(system, AutodiffDynamics):
        return _repeated_step(system, inputs, system.initial_state(initial_state, len(inputs)))
    read = isinstance(system, StackedRecurrence)
    if not read or not isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return None
    weight = next(module.parameters())
    x = inputs.detach().to(weight.device, weight.dtype)
    start = system.initial_state(initial_state, x.shape[0])
    given = tuple(part.to(weight.dtype) for part in _parts(system.export_state(start)))
    eps = max(torch.finfo(dtype).eps for dtype in (weight.dtype, system.dtype))
    tolerance = min(FORWARD_EPS * eps, FORWARD_MOST)
    drive = system.drive(x)
    got = _last_state(system, drive, start)
    own = _own_last_state(module, x, given)
    if [part.shape for part in own] != [part.shape for part in got]:
        return None
    nearby = _last_state(system, drive, tuple(_shifted(part, tolerance) for part in start))
    residual = max(_difference(*pair) for pair in zip(got, own, strict=True))
    grown = max(_difference(*pair) for pair in zip(nearby, got, strict=True))
    return Check(residual, grown if tolerance < grown < math.inf else tolerance)


def own_pass(module: Any, system: DynamicalSystem, inputs: Tensor, state: State) -> Returned | None:
    """Run the forward pass of a torch module on some steps, and return what it returned.

    Args:
        module: The module.
        system: The dynamics.
        inputs: Steps that all sequences have, ``[B, t, I]``.
        state: What they start from, tensors ``[B, ...]``.

    Returns:
        Its outputs and its last state; None for other modules, and where it is of another form.
    """
    if not isinstance(system, StackedRecurrence) or not isinstance(module, nn.RNNBase):
        return None
    weight = next(module.parameters())
    x = inputs.detach().to(weight.device, weight.dtype)
    given = tuple(part.to(weight.dtype) for part in _parts(system.export_state(state)))
    result = _own_result(module, x, given)
    form = [part.shape for part in given]
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        return None
    outputs = result[0] if module.batch_first else result[0].transpose(0, 1)
    parts = _tried(lambda: _parts(result[1])) or ()
    if outputs.shape[:2] != x.shape[:2] or [part.shape for part in parts] != form:
        return None
    return returned_by_torch(outputs, result[1], torch.finfo(weight.dtype).eps)


def difference_check(system: DynamicalSystem, inputs: Tensor, initial_state: Any) -> Check | None:
    """Compare the tangent map of a step function with a difference of its states.

    Finds derivatives that `torch.func` does not see: of values that a step reads out
    (``s * float(s.mean())``), detaches, or gives a slope that is not their own. One random
    direction at the last of the steps; the bound, a hundredth of the largest entry, is widened by
    twice what differences to both sides and of two sizes disagree about: where the step bends or
    jumps.

    Args:
        system: The dynamics.
        inputs: The first steps of all sequences, ``[B, t, I]``.
        initial_state: As the user gave it.

    Returns:
        The check of the worst sequence; None for other dynamics, and where nothing is known: the
        states are not finite, or the step refuses those nearby.
    """
    if not isinstance(system, AutodiffDynamics):
        return None
    state = system.initial_state(initial_state, len(inputs))
    *before, drive = system.drive(inputs.detach().to(system.device))
    for earlier in before:
        state = system.step(earlier, state)[0]
    here = system.coordinates(state)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(here.shape[1], generator=generator, dtype=torch.float64, device="cpu")
    vector = weights.to(here) * here

    def states_nearby() -> list[Tensor]:
        return [
            system.coordinates(system.step(drive, system.moved(state, by * vector))[0])
            for by in (0.0, -NARROW_STEP, NARROW_STEP, -WIDE_STEP, WIDE_STEP)
        ]

    # A step may refuse states that it would never reach.
    nearby = _tried(states_nearby)
    if nearby is None:
        return None
    at, below, above, far_below, far_above = nearby
    got = system.step(drive, state)[1](vector.unsqueeze(-1))[..., 0]
    expected = (above - below) / (2 * NARROW_STEP)
    wide = (far_above - far_below) / (2 * WIDE_STEP)
    doubt = ((above - 2 * at + below) / NARROW_STEP).abs() + (wide - expected).abs()
    scale = torch.cat([at, expected], dim=-1).abs().amax(-1)
    scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
    residuals = (got - expected).abs().amax(-1) / scale
    bounds = DIFFERENCE_BOUND + 2 * doubt.amax(-1) / scale
    pairs = zip(residuals.tolist(), bounds.tolist(), strict=True)
    return worst(Check(*pair) for pair in pairs if all(map(math.isfinite, pair)))


def _repeated_step(system: AutodiffDynamics, inputs: Tensor, state: State) -> Check:
    """Do the first step again, and that of the first sequence alone: the states must be the same.

    Finds steps that keep a state of their own or mix the sequences of a batch: they are no maps
    ``s_t = F(s_{t-1}, x_t)`` of each sequence. ``inputs`` are ``[B, t, I]``, ``state`` that before
    them.
    """
    drive = system.drive(inputs.detach().to(system.device))[0]
    first, again = (system.step(drive, state)[0] for _ in range(2))
    residual = max(_difference(*pair) for pair in zip(again, first, strict=True))
    # A step may hold something of each sequence, and then take whole batches alone.
    alone = _tried(lambda: system.step(drive[:1], tuple(part[:1] for part in state))[0]) or ()
    if [part.shape for part in alone] == [part[:1].shape for part in first]:
        pairs = zip(alone, first, strict=True)
        residual = max(residual, *(_difference(got, part[:1]) for got, part in pairs))
    return Check(residual, FORWARD_EPS * torch.finfo(system.dtype).eps)


def _last_state(system: DynamicalSystem, drive: Tensor, state: State) -> tuple[Tensor, ...]:
    """Return the system's state after the steps ``[t, B, ...]``, in the form of the module's."""
    for step in drive:
        state = system.step(step, state)[0]
    return _parts(system.export_state(state))


def _own_last_state(module: Any, inputs: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a module's or a cell's own state after ``[B, t, I]``; empty if it is of another form.

    See `_own_result`.
    """
    result = _own_result(module, inputs, given)

    def last_state() -> tuple[Tensor, ...]:
        state = result[1] if isinstance(module, nn.RNNBase) else result
        return tuple(part.double() for part in _parts(state))

    # A subclass may return anything.
    return _tried(last_state) or ()


def _own_result(module: Any, inputs: Tensor, given: tuple[Tensor, ...]) -> Any:
    """Run a module's or a cell's own forward pass, as it is evaluated, and leave no trace.

    Return what it returns after ``[B, t, I]``; None if it takes other arguments.
    """

    def result() -> Any:
        state: Any = given if len(given) > 1 else given[0]
        generators = torch.random.fork_rng([inputs.device] if inputs.is_cuda else [])
        with as_evaluated(module), generators:
            # Not by a call: the hooks on the module are the user's.
            if isinstance(module, nn.RNNBase):
                x = inputs if module.batch_first else inputs.transpose(0, 1)
                return module.forward(x, state)
            for x in inputs.unbind(1):
                state = module.forward(x, state)
        return state

    cudnn, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False  # TF32, as a rule
    try:
        return _tried(result)
    finally:
        torch.backends.cudnn.enabled = cudnn


def _tried(call: Callable[[], Result]) -> Result | None:
    """Return what a call of the user's code returns, or None if it fails."""
    try:
        return call()
    except Exception:
        # The user's own code, given what it may not be made for: it may fail in any way.
        return None


def _shifted(state: Tensor, size: float) -> Tensor:
    """Shift the entries of a state up or down by a size relative to the larger of 1 and them."""
    generator = torch.Generator().manual_seed(0)
    signs = 2 * torch.randint(2, state.shape, generator=generator, device="cpu") - 1
    return state + size * signs.to(state) * state.abs().clamp(min=1)


def _difference(got: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the larger of 1 and the largest entry expected.

    Expected entries that are not finite are left out; NaN where only the other one is not finite.
    """
    known = expected.isfinite()
    scale = expected[known].abs().max().clamp(min=1) if bool(known.any()) else 1.0
    return torch.where(known, (got - expected).abs() / scale, 0.0).max().item()


def _parts(state: Any) -> tuple[Tensor, ...]:
    """Return a tensor or a tuple of tensors as a tuple."""
    return (state,) if isinstance(state, Tensor) else tuple(state)
