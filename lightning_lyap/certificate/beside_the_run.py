"""The checks that are made beside a run: of first steps, and of what the module itself returned."""

from typing import Any

from torch import Tensor

from lightning_lyap.certificate.forward_pass import (
    FORWARD_STEPS,
    OWN_STEPS,
    difference_check,
    forward_check,
    own_pass,
)
from lightning_lyap.certificate.precision import precision_check
from lightning_lyap.certificate.replay import replay_check
from lightning_lyap.certificate.result import Check, worst
from lightning_lyap.certificate.returned import Returned
from lightning_lyap.dynamics.base import DynamicalSystem, State


def checks_beside_the_run(
    module: Any,
    system: DynamicalSystem,
    inputs: Tensor,
    start: tuple[Tensor, State, Tensor, Tensor],
    initial_state: Any,
    returned: Returned | None,
) -> dict[str, Check | None]:
    """Check the dynamics against the module itself, and their tangent map, without the run.

    Args:
        module: What the user gave as dynamics.
        system: The dynamics.
        inputs: ``[B, T, I]``.
        start: What drives the dynamics, ``[T, B, ...]``, the state and the basis they start from,
            and the length of each sequence, ``[B]``.
        initial_state: As the user gave it.
        returned: What the module returned on these sequences; None if that is not known. Then a
            torch module is run on the first steps.

    Returns:
        Checks by identity, None where there is none.
    """
    drive, state, _, ends = start
    shortest = int(ends.min())
    first = inputs[:, : min(FORWARD_STEPS, shortest)]
    if returned is None:
        count = min(OWN_STEPS, shortest)
        returned = own_pass(module, system, inputs[:, :count], state)
        drive, ends = drive[:count], ends.clamp(max=count)
    states = [forward_check(module, system, first, initial_state)]
    if returned is not None:
        states.append(replay_check(system, drive, state, ends, returned))
    return {
        "states": worst(states),
        "tangent_map": difference_check(system, first, initial_state),
        "precision": precision_check(system, *_last_of(system, first, start)),
    }


def _last_of(
    system: DynamicalSystem, first: Tensor, start: tuple[Tensor, State, Tensor, Tensor]
) -> tuple[Tensor, State]:
    """Return the last of the first steps and the state before it; at the start much vanishes."""
    drive, state, _, _ = start
    count = first.shape[1]
    for step in drive[: count - 1]:
        state = system.step(step, state)[0]
    return drive[count - 1], state
