"""Which module types are recurrences: torch's own, and those that a user registers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from torch import Tensor, nn

from lightning_lyap._checks import check_flag
from lightning_lyap.dynamics.autodiff import StepFunction
from lightning_lyap.dynamics.torch_modules import RECURRENT_MODULES, TORCH_CELLS

Kind = TypeVar("Kind", bound=type[nn.Module])


@dataclass(frozen=True)
class Recurrence:
    """What is known about a module type.

    Attributes:
        step: Takes a module and returns ``step(x_t, state)``, whose result is the new state or a
            pair (output, new state). None: the module itself is the step.
        initial_state: Takes a module and B and returns the state it starts from where it is given
            none; None if the model always gives one.
        sequences: Whether a call of the module takes whole sequences rather than one step.
    """

    step: Callable[[Any], StepFunction] | None = None
    initial_state: Callable[[Any, int], Any] | None = None
    sequences: bool = False


def _zero_state(cell: nn.RNNCellBase, batch_size: int) -> Tensor | tuple[Tensor, Tensor]:
    """Return what a torch cell starts from, zeros ``[B, H]`` or a pair of such."""
    zeros = next(cell.parameters()).new_zeros(batch_size, cell.hidden_size)
    return (zeros, zeros.clone()) if isinstance(cell, nn.LSTMCell) else zeros


TORCH_CELL = Recurrence(initial_state=_zero_state)
_KNOWN: dict[type, Recurrence] = dict.fromkeys(TORCH_CELLS, TORCH_CELL)


@overload
def register_recurrence(
    kind: Kind,
    *,
    step: Callable[[Any], StepFunction] | None = None,
    initial_state: Callable[[Any, int], Any] | None = None,
    sequences: bool = False,
) -> Kind: ...


@overload
def register_recurrence(
    kind: None = None,
    *,
    step: Callable[[Any], StepFunction] | None = None,
    initial_state: Callable[[Any, int], Any] | None = None,
    sequences: bool = False,
) -> Callable[[Kind], Kind]: ...


def register_recurrence(
    kind: Any = None,
    *,
    step: Callable[[Any], StepFunction] | None = None,
    initial_state: Callable[[Any, int], Any] | None = None,
    sequences: bool = False,
) -> Any:
    """Teach the callback and `lyapunov_spectrum` a module type; those derived from it count, too.

    A decorator of the class, ``@register_recurrence`` or ``@register_recurrence(...)``, or a call
    with a class that somebody else wrote. A type registered again is known by the last call. What
    lies inside a registered module belongs to it and is not measured on its own.

    Args:
        kind: The module type. Its modules are called with the input first and the state second.
        step: Takes a module and returns a function ``step(x_t, state)``, with ``x_t`` ``[B, I]``
            and the state a tensor ``[B, N]`` or a tuple or dict of such, that returns the new state
            or a pair (output, new state). Default: the module itself.
        initial_state: Takes a module and B and returns the state that a call without one starts
            from. Default: there is none, and the model must pass one.
        sequences: Whether the module is called with whole sequences, ``[B, T, I]`` (``[T, B, I]``
            if its attribute ``batch_first`` is False), instead of step by step in a loop of the
            model's. A state it is given has the sequences first, ``[B, N]``, as for ``step``.

    Returns:
        The type, or a decorator.

    Raises:
        TypeError: If ``kind`` is no module type, ``step`` or ``initial_state`` no function, or
            ``sequences`` no bool.
        ValueError: If ``kind`` is one of torch's, or takes whole sequences and comes without
            ``step``.

    Example:
        >>> @register_recurrence(initial_state=lambda cell, batch_size: torch.zeros(batch_size, 2))
        ... class Leaky(nn.Module):
        ...     def forward(self, x, h):
        ...         return 0.5 * h + x
        >>> import torch
        >>> from lightning_lyap import lyapunov_spectrum
        >>> lyapunov_spectrum(Leaky(), torch.rand(3, 20, 2)).exponents
        tensor([-0.6931, -0.6931], dtype=torch.float64)
        >>> unregister_recurrence(Leaky)
    """
    if kind is None:
        return lambda decorated: register_recurrence(
            decorated, step=step, initial_state=initial_state, sequences=sequences
        )
    _check_kind(kind)
    for name, function in (("step", step), ("initial_state", initial_state)):
        if function is not None and not callable(function):
            raise TypeError(
                f"Expected `{name}` to be a function of the module, "
                f"but got {type(function).__name__}."
            )
    check_flag("sequences", sequences)
    if sequences and step is None:
        raise ValueError(
            f"Expected `step` with sequences=True, but got None: a call of {kind.__name__} takes "
            "whole sequences, so it can't be its own step. Pass step=lambda module: (a function "
            "step(x_t, state) of one step)."
        )
    _KNOWN[kind] = Recurrence(step, initial_state, sequences)
    return kind


def unregister_recurrence(kind: type[nn.Module]) -> None:
    """Forget a module type that was registered.

    Args:
        kind: The type.

    Raises:
        TypeError: If it is no module type.
        ValueError: If it is not registered, or one of torch's.
    """
    _check_kind(kind)
    if kind not in _KNOWN:
        known = sorted(own.__name__ for own in _KNOWN if own not in TORCH_CELLS)
        raise ValueError(
            f"Expected `kind` to be a type that was registered itself, but got {kind.__name__}. "
            f"Registered are: {known}."
        )
    del _KNOWN[kind]


def recurrence_of(module: nn.Module) -> Recurrence | None:
    """Look up what is known about a module's type, or the nearest type it is derived from.

    Args:
        module: Any module.

    Returns:
        What is known; None for `torch.nn.RNN`, `GRU` and `LSTM`, and for unknown types.
    """
    for kind in type(module).__mro__:
        if kind in RECURRENT_MODULES:
            return None
        if kind in _KNOWN:
            return _KNOWN[kind]
    return None


def is_recurrent(module: nn.Module) -> bool:
    """Return whether a module's type is torch's own or registered.

    Args:
        module: Any module.

    Returns:
        True if its spectrum can be measured.

    Example:
        >>> is_recurrent(nn.GRUCell(2, 3)), is_recurrent(nn.Linear(2, 3))
        (True, False)
    """
    return isinstance(module, RECURRENT_MODULES) or recurrence_of(module) is not None


def _check_kind(kind: Any) -> None:
    """Refuse what can't be registered: all but module types, and torch's own."""
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        got = kind.__name__ if isinstance(kind, type) else f"a {type(kind).__name__}"
        raise TypeError(
            f"Expected `kind` to be a class derived from torch.nn.Module, but got {got}. Register "
            "the class, not an object of it; a plain function goes to `lyapunov_spectrum` as it is."
        )
    if kind in (*RECURRENT_MODULES, *TORCH_CELLS) or kind is nn.Module:
        raise ValueError(
            f"Expected `kind` to be a module type of your own, but got {kind.__name__}: torch's "
            "are known. Derive a class from it and register that."
        )
