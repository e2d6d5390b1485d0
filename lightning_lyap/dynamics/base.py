"""What the estimator asks of a dynamical system.

Tensor layout: batch first. A state is a tuple of tensors ``[B, ...]``; tangent vectors are the
columns of ``[B, N, K]``, kept column-major in memory (as LAPACK returns them), so that the product
with a weight shared by all sequences is one matrix product.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from lightning_lyap.qr.reflectors import Basis

State: TypeAlias = tuple[Tensor, ...]
TangentMap: TypeAlias = Callable[[Any], Tensor]
LayerTangent: TypeAlias = Callable[[Tensor | None, Any], Tensor]
DTYPES = (torch.float32, torch.float64)


@runtime_checkable
class Dynamics(Protocol):
    """A driven map ``s_t = F(s_{t-1}, x_t)`` together with its tangent map."""

    @property
    def tangent_size(self) -> int:
        """N, the dimension of the tangent space."""

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the arithmetic."""

    @property
    def device(self) -> torch.device:
        """Where the arithmetic takes place."""

    def drive(self, inputs: Tensor) -> Tensor:
        """Compute once, for all steps, what depends on the inputs alone.

        Args:
            inputs: ``[B, T, I]``.

        Returns:
            ``[T, B, ...]``, handed to `step` one time step at a time.
        """

    def initial_state(self, given: Any, batch_size: int) -> State:
        """Turn the user's initial state, or None for the default one, into a state.

        Args:
            given: The user's form of the state, or None.
            batch_size: B.

        Returns:
            A tuple of tensors ``[B, ...]``.

        Raises:
            ValueError: If ``given`` has the wrong shape, or is missing and has no default.
        """

    def export_state(self, state: State) -> Any:
        """Turn a state into the user's form, the one `initial_state` takes.

        Args:
            state: A tuple of tensors ``[B, ...]``.

        Returns:
            The user's form of the state.
        """

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        """Advance the state by one step and linearize the step.

        Args:
            drive: One time step of what `drive` returned, ``[B, ...]``.
            state: ``s_{t-1}``.

        Returns:
            ``s_t`` and the map ``Q -> J_t Q`` on ``[B, N, K]``.
        """


@runtime_checkable
class Certifiable(Protocol):
    """Dynamics whose tangent map can be checked by what is computed without it."""

    def derivative(self, drive: Tensor, state: State, vector: Tensor) -> Tensor:
        """Differentiate the step by other means than the tangent map.

        Args:
            drive: As for `Dynamics.step`.
            state: ``s_{t-1}``.
            vector: A tangent vector for each sequence, ``[B, N]``.

        Returns:
            ``J_t v``, ``[B, N]``.
        """

    def log_abs_det(self, drive: Tensor, state: State) -> Tensor:
        """Compute ``log |det J_t|`` by other means than the tangent map.

        Args:
            drive: As for `Dynamics.step`.
            state: ``s_{t-1}``.

        Returns:
            ``[B]``, nats, float64.
        """


def _steps_with_basis(kind: type) -> bool:
    """Return whether a class has a method ``step_with_basis`` that goes with its ``step``."""
    for owner in kind.__mro__:
        # The nearest class counts: a faster step further up would skip what a subclass changed.
        if vars(owner).keys() & {"step", "step_with_basis"}:
            return "step_with_basis" in vars(owner)
    return False


class DynamicalSystem(Dynamics):
    """What the estimator runs: `Dynamics`, with defaults for what few of them can do."""

    @cached_property
    def num_blocks(self) -> int:
        """Number of equal blocks that the tangent map does not mix.

        Where there are several, each has a basis of its own: tangent vectors are ``[B, N, k]``, the
        blocks' bases on top of each other.
        """
        return 1

    @property
    def takes_reflectors(self) -> bool:
        """Whether the tangent map also takes a complete basis that is kept as reflectors.

        It must form the matrix of the Jacobian for that: this pays where it would do so anyway.
        """
        return False

    @property
    def couples_layers(self) -> bool:
        """Whether this is a stack whose layers have one basis together."""
        return False

    @property
    def runs_in_threads(self) -> bool:
        """Whether several threads may take steps at the same time."""
        return False

    def step_with_basis(self, drive: Tensor, state: State, basis: Basis) -> tuple[State, Tensor]:
        """Advance a state and its tangent vectors by one step.

        Args:
            drive: As for `Dynamics.step`.
            state: Tensors ``[B, ...]``.
            basis: ``[B, N, K]``.

        Returns:
            The new state, and ``J Q``, ``[B, N, K]``.
        """
        new_state, push = self.step(drive, state)
        return new_state, push(basis)

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Let a class with a ``step`` of its own take that one with tangent vectors, too."""
        super().__init_subclass__(**arguments)
        if not _steps_with_basis(cls):
            setattr(cls, "step_with_basis", DynamicalSystem.step_with_basis)  # noqa: B010


class UserDynamics(DynamicalSystem):
    """A user's object with the `Dynamics` protocol; what else it can do is looked up by name.

    Args:
        own: The object.
    """

    def __init__(self, own: Any) -> None:
        self.own = own
        self._steps_with_basis = _steps_with_basis(type(own))
        if isinstance(own, Certifiable):
            self.derivative, self.log_abs_det = own.derivative, own.log_abs_det

    @property
    def tangent_size(self) -> int:
        """N."""
        return int(self.own.tangent_size)

    @property
    def dtype(self) -> torch.dtype:
        """That of the object."""
        return self.own.dtype

    @property
    def device(self) -> torch.device:
        """That of the object."""
        return self.own.device

    @cached_property
    def num_blocks(self) -> int:
        """One, unless the object says otherwise."""
        return int(getattr(self.own, "num_blocks", 1))

    @property
    def takes_reflectors(self) -> bool:
        """False, unless the object says otherwise."""
        return bool(getattr(self.own, "takes_reflectors", False))

    @property
    def runs_in_threads(self) -> bool:
        """False, unless the object says otherwise: nothing is known of a user's own step."""
        return bool(getattr(self.own, "runs_in_threads", False))

    def drive(self, inputs: Tensor) -> Tensor:
        """Ask the object."""
        return self.own.drive(inputs)

    def initial_state(self, given: Any, batch_size: int) -> State:
        """Ask the object."""
        return self.own.initial_state(given, batch_size)

    def export_state(self, state: State) -> Any:
        """Ask the object."""
        return self.own.export_state(state)

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        """Ask the object."""
        return self.own.step(drive, state)

    def step_with_basis(self, drive: Tensor, state: State, basis: Basis) -> tuple[State, Tensor]:
        """Ask the object, if its own method of that name goes with its step."""
        if self._steps_with_basis:
            return self.own.step_with_basis(drive, state, basis)
        return super().step_with_basis(drive, state, basis)


def shapes_of(state: State) -> list[tuple[int, ...]]:
    """Return the shapes of a state's tensors."""
    return [tuple(tensor.shape) for tensor in state]


def as_state_tensors(given: Any) -> State:
    """Take a tensor or a tuple of tensors as a tuple.

    Args:
        given: A state in the user's form.

    Returns:
        A tuple of tensors.

    Raises:
        TypeError: If it is neither.
    """
    tensors = tuple(given) if isinstance(given, tuple | list) else (given,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                "Expected a state to be a tensor or a tuple of tensors, "
                f"but got {type(tensor).__name__}. Pass `initial_state` as the module takes it."
            )
    return tensors


def compute_dtype(own: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    """Choose the type of the arithmetic: QR exists in float32 and float64 only.

    Args:
        own: Type of the weights.
        wanted: The user's choice or None.

    Returns:
        float32 or float64.

    Raises:
        ValueError: If another type is asked for.
    """
    if wanted is None:
        return own if own in DTYPES else torch.float32
    if not isinstance(wanted, torch.dtype) or wanted not in DTYPES:
        raise ValueError(
            f"Expected `dtype` to be torch.float32, torch.float64 or None, but got {wanted!r}."
        )
    return wanted
