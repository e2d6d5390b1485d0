"""Reads dynamics off a module as it is evaluated, whatever mode it is in."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lightning_lyap.dynamics import Dynamics, StateChoice, as_dynamics
from lightning_lyap.modes import in_evaluation_mode


def read_dynamics(
    dynamics: nn.Module | Dynamics | Callable[..., Any],
    initial_state: Any = None,
    state: StateChoice = "full",
    dtype: torch.dtype | None = None,
) -> Dynamics:
    """Turn what a user has into dynamics, and leave it as it is.

    To read a weight that is parametrized is to compute it, and in training mode that may change
    the module: spectral norm takes a step of its power iteration each time.

    Args:
        dynamics: See `as_dynamics`.
        initial_state: See `as_dynamics`.
        state: See `as_dynamics`.
        dtype: See `as_dynamics`.

    Returns:
        The dynamics.

    Raises:
        TypeError: See `as_dynamics`.
        ValueError: See `as_dynamics`.
    """
    if not isinstance(dynamics, nn.Module):
        return as_dynamics(dynamics, initial_state, state, dtype)
    with in_evaluation_mode(dynamics):
        return as_dynamics(dynamics, initial_state, state, dtype)
