"""Turns a module, function or object into dynamics."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lightning_lyap._checks import check_choice
from lightning_lyap.dynamics.autodiff import AutodiffDynamics
from lightning_lyap.dynamics.base import DynamicalSystem, Dynamics, UserDynamics
from lightning_lyap.dynamics.evaluation_mode import as_evaluated
from lightning_lyap.dynamics.registry import TORCH_CELL, Recurrence, recurrence_of
from lightning_lyap.dynamics.torch_modules import (
    RECURRENT_MODULES,
    STATES,
    TORCH_CELLS,
    StateChoice,
    from_torch_cell,
    from_torch_module,
)
from lightning_lyap.dynamics.user_modules import from_user_module


def as_dynamics(
    dynamics: nn.Module | Dynamics | Callable[..., Any],
    initial_state: Any = None,
    state: StateChoice = "full",
    dtype: torch.dtype | None = None,
) -> DynamicalSystem:
    """Turn what a user has into dynamics, and leave it as it is.

    Modules are read as they are evaluated, whatever mode they are in: to read a weight that is
    parametrized is to compute it, and in training mode that may change the module (spectral norm
    takes a step of its power iteration each time).

    Args:
        dynamics: A `torch.nn.RNN`, `GRU` or `LSTM`, or a cell of these; a module of a registered
            type; an object with the `Dynamics` protocol; or a module or function
            ``step(x_t, state)`` that returns the new state or a pair (output, new state).
        initial_state: The state to start from; a step function needs it.
        state: Which state of an LSTM; see `from_torch_module`.
        dtype: Type of the arithmetic, or None.

    Returns:
        The dynamics.

    Raises:
        TypeError: If ``dynamics`` is none of these.
        ValueError: If a step function comes without an initial state, or ``state`` is no such word.
    """
    check_choice("state", state, STATES)
    if isinstance(dynamics, type):
        raise TypeError(
            f"Expected `dynamics` to be an object, but got the class {dynamics.__name__}. Make one "
            "of it, with its sizes."
        )
    if isinstance(dynamics, nn.Module):
        with as_evaluated(dynamics):
            return _of_module(dynamics, initial_state, state, dtype)
    if isinstance(dynamics, Dynamics):
        return dynamics if isinstance(dynamics, DynamicalSystem) else UserDynamics(dynamics)
    if not callable(dynamics):
        raise TypeError(
            "Expected `dynamics` to be a torch.nn.RNN, GRU or LSTM module or cell, or a module or "
            f"function step(x_t, state) -> state, but got {type(dynamics).__name__}."
        )
    if initial_state is None:
        raise ValueError(
            "Expected `initial_state` (a tensor [B, N], or a tuple or dict of such) with a step "
            "function, but got None: the size of the state can't be known otherwise."
        )
    return AutodiffDynamics(dynamics, initial_state, dtype=dtype)


def _of_module(
    module: nn.Module, initial_state: Any, state: StateChoice, dtype: torch.dtype | None
) -> DynamicalSystem:
    """Take torch's own by their analytic tangent maps, and differentiate the steps of others."""
    known = recurrence_of(module)
    if known is None and isinstance(module, RECURRENT_MODULES):
        return from_torch_module(module, state, dtype)
    if known is None and isinstance(module, Dynamics):
        return UserDynamics(module)
    if known is TORCH_CELL and isinstance(module, nn.RNNCellBase) and _steps_as_torch(module):
        return from_torch_cell(module, state, dtype)
    hidden_only = known is TORCH_CELL and isinstance(module, nn.LSTMCell) and state == "hidden"
    return from_user_module(
        module,
        known or Recurrence(),
        initial_state,
        differentiate=(0,) if hidden_only else None,
        dtype=dtype,
    )


def _steps_as_torch(cell: nn.Module) -> bool:
    """Return whether a cell computes what torch's does: a derived class may do something else."""
    forwards = {kind.forward for kind in TORCH_CELLS}
    return "forward" not in vars(cell) and type(cell).forward in forwards
