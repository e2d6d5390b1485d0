"""Dynamical systems with their tangent maps: torch's recurrent modules, and any step function."""

from lightning_lyap.dynamics.autodiff import AutodiffDynamics
from lightning_lyap.dynamics.base import Dynamics
from lightning_lyap.dynamics.conversion import as_dynamics
from lightning_lyap.dynamics.layer_union import LayerChoice, UncoupledLayers, uncouple
from lightning_lyap.dynamics.registry import (
    Recurrence,
    is_recurrent,
    recurrence_of,
    register_recurrence,
    unregister_recurrence,
)
from lightning_lyap.dynamics.torch_modules import (
    RECURRENT_MODULES,
    StateChoice,
    check_supported,
    from_torch_cell,
    from_torch_module,
)

__all__ = [
    "RECURRENT_MODULES",
    "AutodiffDynamics",
    "Dynamics",
    "LayerChoice",
    "Recurrence",
    "StateChoice",
    "UncoupledLayers",
    "as_dynamics",
    "check_supported",
    "from_torch_cell",
    "from_torch_module",
    "is_recurrent",
    "recurrence_of",
    "register_recurrence",
    "uncouple",
    "unregister_recurrence",
]
