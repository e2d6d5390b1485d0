"""Tangent maps by automatic differentiation: the oracle of the tests, and any other map.

`torch.func.jvp` gives ``J v`` without forming J; `torch.func.vmap` runs it over the K columns.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import jvp, vmap

from lightning_lyap.dynamics.base import (
    State,
    TangentMap,
    as_state_tensors,
    compute_dtype,
    stack_rows,
)

UserState: TypeAlias = Tensor | tuple[Tensor, ...]
StepFunction: TypeAlias = Callable[[Tensor, Any], UserState]


class AutodiffDynamics:
    """A user's step function ``step(x_t, state) -> state`` as dynamics.

    The step must treat the sequences of a batch independently and must not draw random numbers.

    Args:
        step: Takes ``x_t``, ``[B, I]``, and the state: one tensor ``[B, N]`` or a tuple of such.
            Returns the new state in the same form.
        start: The state to start from; its form and type are those of all states.
        differentiate: Indices of those tensors of the state that make up the tangent space; the
            others are carried along but held fixed in the derivative (an LSTM's cell state in the
            paper's reading). None: all.
        dtype: Type of the arithmetic; None takes that of ``start``.

    Raises:
        ValueError: If a tensor of ``start`` is not ``[B, N]``.

    Example:
        >>> half = AutodiffDynamics(lambda x, s: 0.5 * s, torch.ones(1, 2))
        >>> _, push = half.step(torch.zeros(1, 0), half.initial_state(None, 1))
        >>> push(torch.eye(2)[None])
        tensor([[[0.5000, 0.0000],
                 [0.0000, 0.5000]]])
    """

    def __init__(
        self,
        step: StepFunction,
        start: UserState,
        differentiate: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._step = step
        self._single = isinstance(start, Tensor)
        tensors = self._tensors(start)
        self.dtype = compute_dtype(tensors[0].dtype, dtype)
        self.device = tensors[0].device
        self._start = tuple(tensor.detach().to(self.dtype) for tensor in tensors)
        every = tuple(range(len(tensors)))
        self._active = every if differentiate is None else differentiate
        self._sizes = [tensors[index].shape[1] for index in self._active]
        self.tangent_size = sum(self._sizes)

    def drive(self, inputs: Tensor) -> Tensor:
        """Bring time to the front; see `Dynamics.drive`."""
        return inputs.to(self.dtype).transpose(0, 1)

    def initial_state(self, given: UserState | None, batch_size: int) -> State:
        """Take a state in the user's form, or ``start``.

        Args:
            given: ``[B, N]`` or a tuple of such; None takes ``start``.
            batch_size: B.

        Returns:
            A tuple of tensors ``[B, N_i]``.

        Raises:
            ValueError: If a shape is wrong.
        """
        state = self._start if given is None else self._tensors(given)
        expected = [(batch_size, tensor.shape[1]) for tensor in self._start]
        if [tuple(tensor.shape) for tensor in state] != expected:
            got = [tuple(tensor.shape) for tensor in state]
            raise ValueError(
                f"Expected `initial_state` in the shapes {expected} (sequences, size), as many "
                f"sequences as in `inputs`, but got {got}."
            )
        return tuple(tensor.detach().to(self.device, self.dtype) for tensor in state)

    def export_state(self, state: State) -> UserState:
        """Return the state in the form it was given."""
        return state[0] if self._single else state

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        """Advance by the user's function and linearize it with jvp; see `Dynamics.step`."""

        def advance(*part: Tensor) -> State:
            full = list(state)
            for index, tensor in zip(self._active, part, strict=True):
                full[index] = tensor
            new = self._step(drive, self.export_state(tuple(full)))
            return as_state_tensors(new)

        part = tuple(state[index] for index in self._active)

        def push_column(*column: Tensor) -> State:
            moved: State = jvp(advance, part, column)[1]
            return tuple(moved[index] for index in self._active)

        def push(basis: Tensor) -> Tensor:
            columns = basis.split(self._sizes, dim=-2)
            # Other out_dims fail where a part of the new state is constant (pytorch #178425).
            moved = vmap(push_column, in_dims=-1, out_dims=0)(*columns)
            return stack_rows([block.permute(1, 2, 0) for block in moved])

        new_state = advance(*part)
        _check_step(state, new_state)
        return new_state, push

    def _tensors(self, state: UserState) -> State:
        """Turn a state in the user's form into a tuple and check its shapes.

        Args:
            state: ``[B, N]`` or a tuple of such.

        Returns:
            A tuple of tensors ``[B, N_i]``.

        Raises:
            ValueError: If a tensor is not ``[B, N]``.
        """
        tensors = as_state_tensors(state)
        if not tensors or any(tensor.ndim != 2 for tensor in tensors):
            raise ValueError(
                "Expected the state of a step function to be a tensor [B, N] or a tuple of such, "
                f"but got the shapes {[tuple(tensor.shape) for tensor in tensors]}."
            )
        return tensors


def _check_step(state: State, new_state: State) -> None:
    """Check that a step function returned a state of the form it was given.

    Args:
        state: The old state.
        new_state: The new one.

    Raises:
        ValueError: If the number or the shapes of the tensors differ.
    """
    expected, got = ([tuple(tensor.shape) for tensor in part] for part in (state, new_state))
    if got != expected:
        raise ValueError(
            "Expected the step function to return the new state, and nothing else, in the shapes "
            f"of the old one, {expected}, but got {got}."
        )
