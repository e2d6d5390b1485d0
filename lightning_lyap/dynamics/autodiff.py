"""Tangent maps by automatic differentiation: the oracle of the tests, and any other map.

`torch.func.jvp` gives ``J v`` without forming J; `torch.func.vmap` runs it over the K columns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Signature, signature
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from lightning_lyap._checks import check_state_tensors
from lightning_lyap.dynamics.base import (
    DynamicalSystem,
    State,
    TangentMap,
    compute_dtype,
    shapes_of,
)
from lightning_lyap.dynamics.state_trees import StateForm, read_new_state
from lightning_lyap.qr.orthonormalize import stack_rows

StepFunction: TypeAlias = Callable[[Tensor, Any], Any]


class AutodiffDynamics(DynamicalSystem):
    """A user's step function ``step(x_t, state) -> state`` as dynamics.

    The step must treat the sequences of a batch independently and must not draw random numbers.
    It is given copies, so it may change its arguments in place.

    Args:
        step: Takes ``x_t``, ``[B, I]``, and the state: one tensor ``[B, N]``, or a tuple or dict of
            such. Returns the new state in the same form, or a pair (output, new state).
        start: The state to start from; its form and type are those of all states.
        differentiate: Indices of those tensors of the state that make up the tangent space; the
            others are carried along but held fixed in the derivative (an LSTM's cell state in the
            paper's reading). None: all.
        dtype: Type of the arithmetic; None takes that of ``start``.
        default: Returns the state to start from for B sequences, where none is given. None: that is
            ``start``.

    Raises:
        TypeError: If ``start`` is no tensor and no tuple or dict of such, or ``step`` takes other
            arguments.
        ValueError: If a tensor of ``start`` is not ``[B, N]``, or there is no number in them.

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
        start: Any,
        differentiate: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        default: Callable[[int], Any] | None = None,
    ) -> None:
        _check_call(step)
        self._step = step
        self._form = StateForm.of(start)
        tensors = self._tensors(start)
        chosen = compute_dtype(tensors[0].dtype, dtype)
        self._start = tuple(tensor.detach().to(chosen) for tensor in tensors)
        self._default = default
        every = tuple(range(len(tensors)))
        self._active = every if differentiate is None else differentiate
        self._sizes = [tensors[index].shape[1] for index in self._active]
        if self.tangent_size == 0:
            raise ValueError(
                "Expected the state of a step function to hold at least one number a sequence, but "
                f"got the shapes {shapes_of(tensors)}. Give `initial_state` the size of the state."
            )

    @property
    def tangent_size(self) -> int:
        """N, the numbers of a sequence in the tensors that are differentiated."""
        return sum(self._sizes)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the arithmetic."""
        return self._start[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the state to start from lies."""
        return self._start[0].device

    def drive(self, inputs: Tensor) -> Tensor:
        """Bring time to the front; see `Dynamics.drive`."""
        return inputs.to(self.dtype).transpose(0, 1)

    def initial_state(self, given: Any, batch_size: int) -> State:
        """Take a state in the user's form, or the one to start from.

        Args:
            given: ``[B, N]`` or a tuple or dict of such; None takes the one to start from.
            batch_size: B.

        Returns:
            A tuple of tensors ``[B, N_i]``.

        Raises:
            TypeError: If it is no tensor and no tuple or dict of such.
            ValueError: If its form or a shape is wrong.
        """
        if given is None and self._default is not None:
            given = self._default(batch_size)
        state = self._start if given is None else self._tensors(given)
        expected = [(batch_size, tensor.shape[1]) for tensor in self._start]
        if shapes_of(state) != expected:
            raise ValueError(
                f"Expected `initial_state` in the shapes {expected} (sequences, size), as many "
                f"sequences as in `inputs`, but got {shapes_of(state)}."
            )
        return tuple(tensor.detach().to(self.device, self.dtype) for tensor in state)

    def export_state(self, state: State) -> Any:
        """Return the state in the form it was given."""
        return self._form.build(state)

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        """Advance by the user's function and linearize it with jvp; see `Dynamics.step`."""
        part = tuple(state[index] for index in self._active)

        def advance(*active: Tensor) -> State:
            full = list(state)
            for index, tensor in zip(self._active, active, strict=True):
                full[index] = tensor
            return self._advance(drive, tuple(full))

        def push_column(*column: Tensor) -> State:
            moved: State = jvp(advance, part, column)[1]
            return tuple(moved[index] for index in self._active)

        def push(basis: Tensor) -> Tensor:
            columns = basis.split(self._sizes, dim=-2)
            with errors_explained(_not_differentiable):
                # Other out_dims fail where a part of the new state is constant (pytorch #178425).
                moved = vmap(push_column, in_dims=-1, out_dims=0)(*columns)
            return stack_rows([block.permute(1, 2, 0) for block in moved])

        return self._first(advance, part, drive), push

    def step_with_output(self, drive: Tensor, state: State) -> tuple[State, Tensor | None]:
        """Advance by the user's function, without a tangent map.

        Args:
            drive: ``[B, I]``.
            state: Tensors ``[B, N_i]``.

        Returns:
            The new state, and the output ``[B, P]`` of a function that returns (output, new state);
            None of others.
        """
        new, result = self._call(drive, state)
        pair = isinstance(result, tuple | list) and len(result) == 2
        first = result[0] if pair and self._form.tensors(result) is None else None
        is_output = isinstance(first, Tensor) and first.ndim == 2
        return new, first if is_output else None

    def find_state(self, result: Any, shapes: list[tuple[int, ...]]) -> State | None:
        """Find a state in what a module returned, as in what the step function returns.

        Args:
            result: Anything.
            shapes: Of the state's tensors there.

        Returns:
            The tensors, or None if there is no state.
        """
        return read_new_state(self._form, shapes, result)

    def coordinates(self, state: State) -> Tensor:
        """Return those parts of a state that make up the tangent space, ``[B, N]``."""
        return torch.cat([state[index] for index in self._active], dim=-1)

    def moved(self, state: State, displacement: Tensor) -> State:
        """Move a state within the tangent space.

        Args:
            state: Tensors ``[B, N_i]``.
            displacement: ``[B, N]``.

        Returns:
            Another state.
        """
        full = list(state)
        parts = displacement.split(self._sizes, dim=-1)
        for index, part in zip(self._active, parts, strict=True):
            full[index] = full[index] + part
        return tuple(full)

    def _first(self, advance: Callable[..., State], part: State, drive: Tensor) -> State:
        """Advance the active tensors outside of torch.func, and say of what shapes a step fails."""
        try:
            return advance(*part)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"Expected a step of `inputs` {tuple(drive.shape)} from `initial_state` "
                f"{shapes_of(part)}, but got {type(error).__name__}: {error}. Give both the sizes "
                "that the step takes."
            ) from error

    def _advance(self, drive: Tensor, state: State) -> State:
        """Call the user's function; return the new state."""
        return self._call(drive, state)[0]

    def _call(self, drive: Tensor, state: State) -> tuple[State, Any]:
        """Call the user's function on copies; return the new state, and all that it returned."""
        given = self._form.build(tuple(tensor.clone() for tensor in state))
        result = self._step(drive.clone(), given)
        new = read_new_state(self._form, shapes_of(state), result)
        if new is None:
            got = StateForm.of(result).tensors(result) or ()
            raise ValueError(
                "Expected the step function to return the new state, or a pair (output, new "
                f"state), in the form and the shapes of the old one, {shapes_of(state)}, but got "
                f"{shapes_of(got)} in a {type(result).__name__}."
            )
        if any(tensor.is_complex() for tensor in new):
            raise TypeError(
                "Expected the step function to return a state of real numbers, but got complex "
                "ones. Stack real and imaginary part: the tangent space is real."
            )
        return tuple(tensor.to(self.dtype) for tensor in new), result

    def _tensors(self, state: Any) -> State:
        """Take the tensors, ``[B, N_i]`` each, out of a state in the user's form."""
        check_state_tensors(state)
        own = StateForm.of(state)
        tensors = self._form.tensors(state)
        if tensors is None:
            raise ValueError(
                f"Expected `initial_state` in the form {self._form}, but got {own}. Pass it as "
                "the step function takes and returns it."
            )
        if not tensors or any(tensor.ndim != 2 for tensor in tensors):
            raise ValueError(
                "Expected the state of a step function to be a tensor [B, N] or a tuple or dict "
                f"of such, but got the shapes {shapes_of(tensors)}."
            )
        return tensors


def _check_call(step: Any) -> None:
    """Refuse a function or module that can't be called with an input and a state."""
    called = step.forward if isinstance(step, nn.Module) else step
    try:
        takes: Signature = signature(called)
    except (TypeError, ValueError):  # some builtins have no signature
        return
    try:
        takes.bind(None, None)
    except TypeError as error:
        raise TypeError(
            "Expected `dynamics` to be called as step(x_t, state), but got a "
            f"{type(step).__name__} that takes {takes}: {error}. Pass a function that calls it, "
            "`lambda x, state: ...`."
        ) from error


@contextmanager
def errors_explained(explain: Callable[[Exception], Exception]) -> Iterator[None]:
    """Run a user's code, and raise an error that names the remedy where it fails.

    Args:
        explain: Turns what the code raised into that error.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise explain(error) from error


def _not_differentiable(error: Exception) -> RuntimeError:
    """Say what to do about a step that torch.func can't differentiate."""
    said = str(error).strip().splitlines()
    return RuntimeError(
        "Expected a step that torch.func can differentiate forward (jvp under vmap), but got "
        f"{type(error).__name__}: {said[0] if said else 'no message'}. Write the step with torch's "
        "own operations, without random numbers (put the module in evaluation mode: "
        "`module.eval()`), without reading values out (`.item()`, `if` on a tensor) and without "
        "changing tensors in place; give a custom autograd function a `jvp`; or pass an object "
        "with the `Dynamics` protocol that knows its own tangent map."
    )
