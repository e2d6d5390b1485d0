"""Dynamical systems with their tangent maps: torch's recurrent modules and any step function."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lightning_lyap.dynamics.autodiff import AutodiffDynamics
from lightning_lyap.dynamics.base import Dynamics
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.dynamics.torch_modules import (
    LAYERS,
    RECURRENT_MODULES,
    LayerChoice,
    StateChoice,
    check_state,
    check_supported,
    from_torch_module,
)
from lightning_lyap.dynamics.uncoupled import UncoupledLayers

__all__ = [
    "RECURRENT_MODULES",
    "AutodiffDynamics",
    "Dynamics",
    "LayerChoice",
    "StateChoice",
    "UncoupledLayers",
    "as_dynamics",
    "check_layers",
    "check_state",
    "check_supported",
    "from_torch_module",
    "uncouple",
]


def as_dynamics(
    dynamics: nn.Module | Dynamics | Callable[..., Any],
    initial_state: Any = None,
    state: StateChoice = "full",
    dtype: torch.dtype | None = None,
) -> Dynamics:
    """Turn what a user has into dynamics.

    Args:
        dynamics: A `torch.nn.RNN`, `GRU` or `LSTM`; an object with the `Dynamics` protocol; or a
            function ``step(x_t, state) -> state``.
        initial_state: The state to start from; a step function needs it.
        state: Which state of an LSTM; see `from_torch_module`.
        dtype: Type of the arithmetic, or None.

    Returns:
        The dynamics.

    Raises:
        TypeError: If ``dynamics`` is none of these.
        ValueError: If a step function comes without an initial state, or ``state`` is no such word.
    """
    check_state(state)
    if isinstance(dynamics, RECURRENT_MODULES):
        return from_torch_module(dynamics, state, dtype)
    if isinstance(dynamics, Dynamics):
        return dynamics
    if not callable(dynamics) or isinstance(dynamics, nn.RNNCellBase):
        raise TypeError(
            "Expected `dynamics` to be a torch.nn.RNN, GRU or LSTM module, or a function "
            f"step(x_t, state) -> state, but got {type(dynamics).__name__}. Wrap a cell as "
            "`lambda x, h: cell(x, h)`."
        )
    if initial_state is None:
        raise ValueError(
            "Expected `initial_state` (a tensor [B, N] or a tuple of such) with a step function, "
            "but got None: the size of the state can't be known otherwise."
        )
    return AutodiffDynamics(dynamics, initial_state, dtype=dtype)


def check_layers(layers: str) -> None:
    """Refuse words that name no way to take a stack's layers.

    Args:
        layers: ``"joint"`` or ``"union"``.

    Raises:
        ValueError: If it is another word.
    """
    if layers not in LAYERS:
        raise ValueError(f"Expected `layers` to be one of {LAYERS}, but got {layers!r}.")


def uncouple(system: Dynamics, layers: LayerChoice) -> Dynamics:
    """Take a stack's layers as one system, or each as its own.

    Args:
        system: The dynamics.
        layers: ``"joint"`` for the whole system, ``"union"`` for its diagonal blocks.

    Returns:
        The dynamics, or its uncoupled layers.

    Raises:
        ValueError: If ``layers`` is no such word, or the layers of the system are not known.
    """
    check_layers(layers)
    if layers == "joint":
        return system
    if not isinstance(system, StackedRecurrence):
        raise ValueError(
            "Expected a torch.nn.RNN, GRU or LSTM with `layers='union'`, but got "
            f"{type(system).__name__}, whose layers are not known. Use `layers='joint'`."
        )
    return UncoupledLayers(system)
