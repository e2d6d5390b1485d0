"""The layers of a stack, each as a system of its own, driven from below."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from lightning_lyap.dynamics.base import Dynamics, LayerTangent, State, TangentMap
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.qr.orthonormalize import stack_rows
from lightning_lyap.qr.reflectors import Basis

LayerChoice: TypeAlias = Literal["joint", "union"]
LAYERS = ("joint", "union")


@dataclass(frozen=True, eq=False)
class UncoupledLayers:
    """The diagonal blocks of a stack's tangent map, with a basis for each layer.

    A block lower-triangular system has the union of its diagonal blocks' Lyapunov spectra, in the
    limit of long sequences. Each layer is carried with its own basis along the stack's trajectory:
    for L layers L factorizations of size H in place of one of size L H, a cost L^2 times smaller,
    and every exponent tells its layer.

    Attributes:
        stack: The stack.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, App. B, for the blocks.
    """

    stack: StackedRecurrence

    @property
    def num_blocks(self) -> int:
        """L; see `dynamics.base.num_blocks`."""
        return len(self.stack.layers)

    @property
    def runs_in_threads(self) -> bool:
        """True: a step reads weights and writes nothing but its results."""
        return True

    @property
    def takes_reflectors(self) -> bool:
        """Whether the layers do."""
        return all(layer.takes_reflectors for layer in self.stack.layers)

    @property
    def tangent_size(self) -> int:
        """N, summed over the layers."""
        return self.stack.tangent_size

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.stack.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.stack.device

    def drive(self, inputs: Tensor) -> Tensor:
        """Project the inputs ``[B, T, I]`` of all steps at once; see `Dynamics.drive`."""
        return self.stack.drive(inputs)

    def initial_state(self, given: Any, batch_size: int) -> State:
        """Read PyTorch's state; see `StackedRecurrence.initial_state`."""
        return self.stack.initial_state(given, batch_size)

    def export_state(self, state: State) -> Any:
        """Return PyTorch's state; see `StackedRecurrence.export_state`."""
        return self.stack.export_state(state)

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        """Advance the stack; the tangent map takes the layers' bases ``[B, N, k]``, stacked."""
        new_state, tangents = self.stack.step_layers(drive, state)
        return new_state, lambda basis: _push(tangents, basis.chunk(self.num_blocks, dim=-2))

    def step_with_basis(self, drive: Tensor, state: State, basis: Basis) -> tuple[State, Tensor]:
        """Advance the stack and its layers' tangent vectors at once; see `advance`."""
        parts = basis.chunk(self.num_blocks, dim=-2)
        new_state, tangents = self.stack.step_layers(drive, state, parts)
        return new_state, _push(tangents, parts)

    def derivative(self, drive: Tensor, state: State, vector: Tensor) -> Tensor:
        """Differentiate each layer's step by its own state alone; see `Certifiable`."""
        count = self.num_blocks
        # As many copies of each sequence as there are layers: each moves one of them.
        own = torch.eye(count, dtype=vector.dtype, device=vector.device)
        alone = own[:, None, :, None] * vector.unflatten(-1, (count, -1))
        states = tuple(tensor.repeat(count, 1) for tensor in state)
        tangents = self.stack.spread_tangent(alone.flatten(0, 1).flatten(1), states)
        moved = self.stack.gather_tangent(self.stack.move(drive.repeat(count, 1), states, tangents))
        return moved.view_as(alone).diagonal(dim1=0, dim2=2).movedim(-1, 1).flatten(1)

    def log_abs_det(self, drive: Tensor, state: State) -> Tensor:
        """Add those of the layers; see `Certifiable`."""
        return self.stack.log_abs_det(drive, state)


def _push(tangents: Sequence[LayerTangent], parts: Sequence[Basis]) -> Tensor:
    """Apply the layers' tangent maps, each to its own part alone.

    Args:
        tangents: Of each layer.
        parts: Tangent vectors of each layer, ``[B, N / L, K]``.

    Returns:
        ``[B, N, K]``.
    """
    return stack_rows([own(None, part) for own, part in zip(tangents, parts, strict=True)])


def check_layers(layers: str) -> None:
    """Refuse words that name no way to take a stack's layers.

    Args:
        layers: ``"joint"`` or ``"union"``.

    Raises:
        ValueError: If it is another word.
    """
    if not isinstance(layers, str) or layers not in LAYERS:
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
