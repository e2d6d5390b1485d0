"""How the tensors of a state are put together: one alone, or tuples and dicts of such, nested."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_lyap.dynamics.base import State


@dataclass(frozen=True)
class StateForm:
    """The form of a state, without its tensors.

    Attributes:
        kind: Type of the container; `torch.Tensor` for a tensor alone.
        keys: Keys of a mapping; empty for other kinds.
        parts: Forms of what the container holds.

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
        if isinstance(state, Mapping):
            return cls(type(state), tuple(state), tuple(map(cls.of, state.values())))
        if isinstance(state, tuple | list):
            return cls(type(state), (), tuple(map(cls.of, state)))
        raise TypeError(
            "Expected a state to be a tensor or a tuple or dict of tensors, "
            f"but got {type(state).__name__}. Make `initial_state`, and what a step returns, of "
            "tensors alone."
        )

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
        values = self._values(state)
        if values is None or len(values) != len(self.parts):
            return None
        found: list[Tensor] = []
        for part, value in zip(self.parts, values, strict=True):
            tensors = part.tensors(value)
            if tensors is None:
                return None
            found.extend(tensors)
        return tuple(found)

    def build(self, tensors: State) -> Any:
        """Put tensors together in this form.

        Args:
            tensors: As many as the form holds, in its order.

        Returns:
            The state.
        """
        return self._build(list(reversed(tensors)))

    def _values(self, state: Any) -> list[Any] | None:
        """Return what a container holds, in this form's order, or None if it is another kind."""
        if issubclass(self.kind, Mapping):
            same = isinstance(state, Mapping) and set(state) == set(self.keys)
            return [state[key] for key in self.keys] if same else None
        return list(state) if isinstance(state, tuple | list) else None

    def _build(self, left: list[Tensor]) -> Any:
        """Build from the tensors left, the next one last."""
        if self.kind is Tensor:
            return left.pop()
        values = [part._build(left) for part in self.parts]
        container: Any = self.kind
        if issubclass(self.kind, Mapping):
            return container(zip(self.keys, values, strict=True))
        return container(*values) if hasattr(container, "_fields") else container(values)


def flatten_state(state: Any) -> State:
    """Take the tensors out of a state of any form.

    Args:
        state: A tensor, or a tuple, list or mapping of states.

    Returns:
        Its tensors.

    Raises:
        TypeError: If it holds anything else.
    """
    return StateForm.of(state).tensors(state) or ()


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
    candidates = [result]
    if isinstance(result, tuple | list) and len(result) == 2:
        candidates.append(result[1])
    for candidate in candidates:
        tensors = form.tensors(candidate)
        if tensors is not None and [tuple(tensor.shape) for tensor in tensors] == shapes:
            return tensors
    return None
