"""The layers of a stack, each as a system of its own, driven from below."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from lightning_lyap._checks import check_choice
from lightning_lyap.dynamics.base import DynamicalSystem, LayerTangent, State, UserDynamics
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.dynamics.torch_modules import CellRecurrence
from lightning_lyap.qr.orthonormalize import stack_rows
from lightning_lyap.qr.reflectors import Basis

LayerChoice: TypeAlias = Literal["joint", "union"]
LAYERS = get_args(LayerChoice)


@dataclass(frozen=True, eq=False)
class UncoupledLayers(StackedRecurrence):
    """The diagonal blocks of a stack's tangent map, with a basis for each layer.

    A block lower-triangular system has the union of its diagonal blocks' Lyapunov spectra, in the
    limit of long sequences. Each layer is carried with its own basis along the stack's trajectory:
    for L layers L factorizations of size H in place of one of size L H, a cost L^2 times smaller,
    and every exponent tells its layer.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, App. B, for the blocks.
    """

    @cached_property
    def num_blocks(self) -> int:
        """L."""
        return len(self.layers)

    @property
    def couples_layers(self) -> bool:
        """False: each has its own."""
        return False

    @property
    def takes_reflectors(self) -> bool:
        """Whether the layers do."""
        return all(layer.takes_reflectors for layer in self.layers)

    def _parts(self, basis: Basis) -> Sequence[Basis]:
        """Split the layers' bases, ``[B, N, k]``, which lie on top of each other."""
        return basis.chunk(self.num_blocks, dim=-2)

    def _push(self, tangents: Sequence[LayerTangent], parts: Sequence[Basis]) -> Tensor:
        """Return ``J Q``, ``[B, N, k]``, from each layer's map and vectors, ``[B, N / L, k]``."""
        return stack_rows([own(None, part) for own, part in zip(tangents, parts, strict=True)])

    def derivative(self, drive: Tensor, state: State, vector: Tensor) -> Tensor:
        """Differentiate each layer's step by its own state alone; see `Certifiable`."""
        count = self.num_blocks
        # As many copies of each sequence as there are layers: each moves one of them.
        own = torch.eye(count, dtype=vector.dtype, device=vector.device)
        alone = own[:, None, :, None] * vector.unflatten(-1, (count, -1))
        copies = tuple(tensor.repeat(count, 1) for tensor in state)
        moved = super().derivative(drive.repeat(count, 1), copies, alone.flatten(0, 1).flatten(1))
        return moved.view_as(alone).diagonal(dim1=0, dim2=2).movedim(-1, 1).flatten(1)


def uncouple(system: DynamicalSystem, layers: LayerChoice) -> DynamicalSystem:
    """Take a stack's layers as one system, or each as its own.

    Args:
        system: The dynamics.
        layers: ``"joint"`` for the whole system, ``"union"`` for its diagonal blocks.

    Returns:
        The dynamics, or its uncoupled layers.

    Raises:
        ValueError: If ``layers`` is no such word, or the layers of the system are not known.
    """
    check_choice("layers", layers, LAYERS)
    if layers == "joint" or isinstance(system, CellRecurrence):  # a cell is one layer
        return system
    if not isinstance(system, StackedRecurrence):
        own = system.own if isinstance(system, UserDynamics) else system
        raise ValueError(
            "Expected a torch.nn.RNN, GRU or LSTM with `layers='union'`, but got "
            f"{type(own).__name__}, whose layers are not known. Use `layers='joint'`."
        )
    return UncoupledLayers(system.layers)
