"""What the estimator asks of a dynamical system, and of one layer of a recurrent network.

Tensor layout: batch first. A state is a tuple of tensors ``[B, ...]``; tangent vectors are the
columns of ``[B, N, K]``, kept column-major in memory (as LAPACK returns them), so that the product
with a weight shared by all sequences is one matrix product.
"""

from collections.abc import Callable
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
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the arithmetic."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the arithmetic takes place."""
        ...

    def drive(self, inputs: Tensor) -> Tensor:
        """Compute once, for all steps, what depends on the inputs alone.

        Args:
            inputs: ``[B, T, I]``.

        Returns:
            ``[T, B, ...]``, handed to `step` one time step at a time.
        """
        ...

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
        ...

    def export_state(self, state: State) -> Any:
        """Turn a state into the user's form, the one `initial_state` takes.

        Args:
            state: A tuple of tensors ``[B, ...]``.

        Returns:
            The user's form of the state.
        """
        ...

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        """Advance the state by one step and linearize the step.

        Args:
            drive: One time step of what `drive` returned, ``[B, ...]``.
            state: ``s_{t-1}``.

        Returns:
            ``s_t`` and the map ``Q -> J_t Q`` on ``[B, N, K]``.
        """
        ...


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
        ...

    def log_abs_det(self, drive: Tensor, state: State) -> Tensor:
        """Compute ``log |det J_t|`` by other means than the tangent map.

        Args:
            drive: As for `Dynamics.step`.
            state: ``s_{t-1}``.

        Returns:
            ``[B]``, nats, float64.
        """
        ...


def num_blocks(system: Dynamics) -> int:
    """Return the number of equal blocks that a tangent map does not mix, one as a rule.

    Dynamics with an attribute ``num_blocks`` larger than 1 have a basis of their own for each
    block: their tangent vectors are ``[B, N, k]``, the blocks' bases on top of each other.

    Args:
        system: The dynamics.

    Returns:
        At least 1.
    """
    return int(getattr(system, "num_blocks", 1))


def takes_reflectors(system: Dynamics) -> bool:
    """Tell whether a tangent map also takes a complete basis that is kept as reflectors.

    Dynamics say so by an attribute ``takes_reflectors``; theirs must form the matrix of their
    Jacobian, so that this pays where they would do so anyway.

    Args:
        system: The dynamics.

    Returns:
        False as a rule.
    """
    return bool(getattr(system, "takes_reflectors", False))


def advance(system: Dynamics, drive: Tensor, state: State, basis: Basis) -> tuple[State, Tensor]:
    """Advance a state and its tangent vectors by one step.

    Dynamics that can do so in less time than `Dynamics.step` and its map have a method
    ``step_with_basis``. A subclass or a wrapper with a ``step`` of its own needs one of its own,
    too: otherwise its step is taken.

    Args:
        system: The dynamics.
        drive: As for `Dynamics.step`.
        state: Tensors ``[B, ...]``.
        basis: ``[B, N, K]``.

    Returns:
        The new state, and ``J Q``, ``[B, N, K]``.
    """
    if _steps_with_basis(type(system)):
        at_once: Any = system
        moved: tuple[State, Tensor] = at_once.step_with_basis(drive, state, basis)
        return moved
    new_state, push = system.step(drive, state)
    return new_state, push(basis)


def _steps_with_basis(kind: type) -> bool:
    """Tell whether a class has a method ``step_with_basis`` that goes with its ``step``."""
    for owner in kind.__mro__:
        if "step_with_basis" in vars(owner):
            return True
        if "step" in vars(owner):
            return False
    return False


def runs_in_threads(system: Dynamics) -> bool:
    """Tell whether several threads may take steps of a system at the same time.

    Dynamics say so by an attribute ``runs_in_threads``: nothing is known of a user's own step.

    Args:
        system: The dynamics.

    Returns:
        False as a rule.
    """
    return bool(getattr(system, "runs_in_threads", False))


class Layer(Protocol):
    """One layer of a recurrent network."""

    @property
    def takes_reflectors(self) -> bool:
        """Whether its tangent map takes `Reflectors`, without tangents of the input."""
        ...

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Sizes of the tensors that make up the layer's state; its output comes first."""
        ...

    @property
    def tangent_size(self) -> int:
        """Size of the layer's tangent space; its output comes first here, too."""
        ...

    @property
    def output_size(self) -> int:
        """Number of the layer's outputs."""
        ...

    def read_weights(self) -> None:
        """Read the weights again, before a run: they may have changed since the last one."""
        ...

    def project(self, inputs: Tensor) -> Tensor:
        """Apply the input weights and those biases that act before any nonlinearity.

        Args:
            inputs: ``[..., I]``.

        Returns:
            Pre-activations, ``[..., G * H]``.
        """
        ...

    def log_abs_det(self, projected: Tensor, state: State) -> Tensor:
        """Compute ``log |det|`` of the layer's own block without its tangent map.

        Args:
            projected: Pre-activations from the input, ``[B, G * H]``.
            state: The layer's own state, tensors ``[B, H]``.

        Returns:
            ``[B]``, nats, float64.
        """
        ...

    def step(
        self, projected: Tensor, state: State, moving: Basis | None = None
    ) -> tuple[State, LayerTangent]:
        """Advance the layer by one step and linearize the step.

        Args:
            projected: Pre-activations from the input, ``[B, G * H]``.
            state: The layer's own state, tensors ``[B, H]``.
            moving: The tangents of the state that the map will be applied to, ``[B, N, K]``, where
                they are known: few of them are multiplied with the weights along with the state.
                The map then takes these alone.

        Returns:
            The new state, and the map from the tangents of the input, ``[B, I, K]`` (None where
            the input is external), and of the state, ``[B, N, K]`` or `Reflectors`, to those of
            the new state.
        """
        ...


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
            f"Expected `dtype` to be torch.float32, torch.float64 or None, but got {wanted}."
        )
    return wanted
