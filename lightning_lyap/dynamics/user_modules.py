"""Turns any module that does one step into dynamics, without changing it."""

from collections.abc import Callable
from copy import copy, deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap._checks import check_state_tensors
from lightning_lyap.dynamics.autodiff import AutodiffDynamics, StepFunction, errors_explained
from lightning_lyap.dynamics.base import compute_dtype
from lightning_lyap.dynamics.registry import Recurrence
from lightning_lyap.dynamics.state_trees import StateForm


def from_user_module(
    module: nn.Module,
    known: Recurrence,
    given: Any = None,
    differentiate: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = None,
) -> AutodiffDynamics:
    """Differentiate the step of a module, in evaluation mode and in the type of the arithmetic.

    A copy of the module does the work: modes, buffers, and what the module keeps of a forward pass
    stay as they are.

    Args:
        module: The module.
        known: What is known about its type; its step is made of the copy.
        given: The state to start from, or None for the default one.
        differentiate: See `AutodiffDynamics`.
        dtype: Type of the arithmetic; None takes the module's own, float32 for half precision.

    Returns:
        The dynamics.

    Raises:
        TypeError: If no function is made of the copy, or the module can't be copied.
        ValueError: If there is no state to start from.
    """
    default = known.initial_state
    if given is None and default is None:
        raise ValueError(
            "Expected `initial_state` (a tensor [B, N], or a tuple or dict of such) with a "
            f"{type(module).__name__}, but got None: the size of its state can't be known "
            "otherwise. Pass one, let the model pass one at its first step, or give a default by "
            "`register_recurrence(..., initial_state=lambda module, batch_size: ...)`. A network "
            "with recurrent modules inside goes to `spectra_of`."
        )
    bound = None if default is None else partial(_ask, "initial_state", default, module)
    # The default for one sequence tells form and sizes.
    start = bound(1) if given is None and bound is not None else given
    check_state_tensors(start)
    form = StateForm.of(start)
    tensors = form.tensors(start) or ()
    own = next(iter(_floating_tensors(module)), tensors[0] if tensors else torch.empty(0))
    chosen = compute_dtype(own.dtype, dtype)
    twin = _evaluation_copy(module, chosen)
    step = twin if known.step is None else _ask("step", known.step, twin)
    if not callable(step):
        raise TypeError(
            f"Expected `step` of {type(module).__name__} to return a function step(x_t, state), "
            f"but got {type(step).__name__}."
        )
    start = form.build(tuple(tensor.to(own.device) for tensor in tensors))
    return AutodiffDynamics(_with_own_buffers(step, twin), start, differentiate, chosen, bound)


def _ask(name: str, function: Callable[..., Any], module: nn.Module, *arguments: Any) -> Any:
    """Call a function that was registered for a module's type under some name."""

    def failed(error: Exception) -> Exception:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        return kind(
            f"Expected `{name}` of {type(module).__name__} to be a function of the module"
            f"{' and the number of sequences' if arguments else ''}, but calling it gave "
            f"{type(error).__name__}: {error}. Correct it where the type is registered."
        )

    with errors_explained(failed):
        return function(module, *arguments)


def _evaluation_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Copy a module for evaluation in some type; parameters of that type already are shared."""
    converts = any(tensor.dtype != dtype for tensor in _floating_tensors(module))
    memo: dict[int, Any] = {}
    for part in module.modules():
        for name, value in vars(part).items():
            if "hooks" in name:
                # Some compute the weights (weight norm, pruning); their owners are not copied.
                memo[id(value)] = copy(value)
            elif isinstance(value, Tensor):
                # Tensors with a history, as weight norm leaves them, can't be copied as they are.
                memo[id(value)] = value.detach().clone()
    if not converts:
        memo |= {id(parameter): parameter for parameter in module.parameters()}

    def failed(error: Exception) -> TypeError:
        return TypeError(
            f"Expected a module that `copy.deepcopy` can copy, but got a {type(module).__name__}: "
            f"{error}. Pass a function instead: `lambda x, state: module(x, state)`."
        )

    with errors_explained(failed):
        twin = deepcopy(module, memo)
    return (twin.to(dtype) if converts else twin).eval()


def _with_own_buffers(step: StepFunction, module: nn.Module) -> StepFunction:
    """Give a step copies of the same buffers at every call, so that it depends on nothing else.

    A counter or a running mean that a module keeps is no part of its state.
    """
    parts = [part for part in module.modules() if part._buffers]
    if not parts:
        return step

    def advance(x: Tensor, state: Any) -> Any:
        kept = [dict(part._buffers) for part in parts]
        for part, buffers in zip(parts, kept, strict=True):
            part._buffers.update({n: None if b is None else b.clone() for n, b in buffers.items()})
        try:
            return step(x, state)
        finally:
            for part, buffers in zip(parts, kept, strict=True):
                part._buffers.update(buffers)

    return advance


def _floating_tensors(module: nn.Module) -> list[Tensor]:
    """Return the floating-point parameters of a module, or its buffers if it has none."""
    parameters: list[Tensor] = [p for p in module.parameters() if p.is_floating_point()]
    return parameters or [b for b in module.buffers() if b.is_floating_point()]
