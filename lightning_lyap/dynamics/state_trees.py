"""How the tensors of a state are put together: one alone, or tuples and dicts of such, nested.

Not torch's pytrees: they tell lists from tuples, and take a container of a user's own type, a
subclass of dict even, for a leaf.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_lyap.dynamics.base import State, shapes_of


@dataclass(frozen=True)
class StateForm:
    """The form of a state, without its tensors.

    Attributes:
        kind: Type of the container; `torch.Tensor` for a tensor alone.
        keys: Keys of a mapping, or indices of a sequence.
        parts: Forms of what the container holds, in the order of the keys.

    Example:
        >>> from torch import ones
        >>> form = StateForm.of({"h": ones(2, 3), "traces": (ones(2, 1), ones(2, 4))})
        >>> [tensor.shape[1] for tensor in form.tensors({"traces": (ones(2, 1), ones(2, 4)),
        ...                                              "h": ones(2, 3)})]
        [3, 1, 4]
        >>> form.tensors((ones(2, 3), ones(2, 1))) is None
        True
    """

    kind: type
    keys: tuple[Any, ...] = ()
    parts: tuple["StateForm", ...] = ()

    @classmethod
    def of(cls, state: Any) -> "StateForm":
        """Read the form off a state.

        Args:
            state: A tensor, or a tuple, list or mapping of states.

        Returns:
            Its form.

        Raises:
            TypeError: If it holds anything else.
        """
        if isinstance(state, Tensor):
            return cls(Tensor)
        if not isinstance(state, Mapping | tuple | list):
            raise TypeError(
                "Expected a state to be a tensor or a tuple or dict of tensors, "
                f"but got {type(state).__name__}. Make `initial_state`, and what a step returns, "
                "of tensors alone."
            )
        keys = tuple(state if isinstance(state, Mapping) else range(len(state)))
        return cls(type(state), keys, tuple(cls.of(state[key]) for key in keys))

    def tensors(self, state: Any) -> State | None:
        """Take the tensors out of a state of this form.

        Args:
            state: Anything. A tuple passes for a list and the other way round, and the order of a
                mapping's keys does not matter.

        Returns:
            The tensors in the order of this form, or None if the state has another form.
        """
        if self.kind is Tensor:
            return (state,) if isinstance(state, Tensor) else None
        if issubclass(self.kind, Mapping):
            same = isinstance(state, Mapping) and set(state) == set(self.keys)
        else:
            same = isinstance(state, tuple | list) and len(state) == len(self.keys)
        if not same:
            return None
        found: State = ()
        for key, part in zip(self.keys, self.parts, strict=True):
            tensors = part.tensors(state[key])
            if tensors is None:
                return None
            found += tensors
        return found

    def build(self, tensors: State) -> Any:
        """Put tensors together in this form.

        Args:
            tensors: As many as the form holds, in its order.

        Returns:
            The state.
        """
        return self._build(iter(tensors))

    def _build(self, tensors: Iterator[Tensor]) -> Any:
        """Build from the next tensors."""
        if self.kind is Tensor:
            return next(tensors)
        values = [part._build(tensors) for part in self.parts]
        container: Any = self.kind
        if issubclass(self.kind, Mapping):
            return container(zip(self.keys, values, strict=True))
        return container(*values) if hasattr(container, "_fields") else container(values)


def read_new_state(form: StateForm, shapes: list[tuple[int, ...]], result: Any) -> State | None:
    """Find the new state in what a step returned.

    A result of the state's own form and shapes is the new state; else, of a pair, the second part
    is, if it has them: the convention ``cell(x, h) -> (output, h)``.

    Args:
        form: The state's form.
        shapes: The shapes of its tensors.
        result: What the step returned.

    Returns:
        The tensors of the new state, or None if it is not there.

    Example:
        >>> from torch import ones
        >>> form, h = StateForm(Tensor), ones(1, 2)
        >>> read_new_state(form, [(1, 2)], (ones(1, 5), h))[0] is h
        True
    """
    pair = isinstance(result, tuple | list) and len(result) == 2
    for candidate in (result, result[1]) if pair else (result,):
        tensors = form.tensors(candidate)
        if tensors is not None and shapes_of(tensors) == shapes:
            return tensors
    return None
