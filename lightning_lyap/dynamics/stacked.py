"""Layers on top of each other: one dynamical system with a block lower-triangular Jacobian."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp

from lightning_lyap.dynamics.base import (
    DynamicalSystem,
    LayerTangent,
    State,
    TangentMap,
    as_state_tensors,
    shapes_of,
)
from lightning_lyap.dynamics.gates import GateWeights
from lightning_lyap.qr.orthonormalize import stack_rows
from lightning_lyap.qr.reflectors import Basis, Reflectors


@dataclass(frozen=True, eq=False)
class Layer(ABC):
    """One layer of a recurrent network, with G gates; its output comes first in its state.

    Attributes:
        weight_ih: ``[G, H, I]``.
        weight_hh: ``[G, H, P]``; P = H but for an LSTM with a projection.
        bias: What is added to the products with the input, ``[G H]``.
    """

    weight_ih: GateWeights
    weight_hh: GateWeights
    bias: Tensor

    @cached_property
    def output_size(self) -> int:
        """P, the number of the layer's outputs."""
        return self.weight_hh.rows.shape[2]

    @cached_property
    def state_sizes(self) -> tuple[int, ...]:
        """Sizes of the tensors that make up the layer's state: the hidden state alone."""
        return (self.output_size,)

    @cached_property
    def tangent_size(self) -> int:
        """Size of the layer's tangent space; its output comes first here, too."""
        return self.output_size

    @property
    def takes_reflectors(self) -> bool:
        """Whether its tangent map takes `Reflectors`, without tangents of the input."""
        return True

    def read_weights(self) -> None:
        """Read the weights again, before a run: they may have changed since the last one."""
        self.weight_ih.read_again()
        self.weight_hh.read_again()

    def project(self, inputs: Tensor) -> Tensor:
        """Apply the input weights and those biases that act before any nonlinearity.

        Args:
            inputs: ``[..., I]``.

        Returns:
            Pre-activations, ``[..., G * H]``.
        """
        return self.weight_ih[:].applied_to(inputs) + self.bias

    @abstractmethod
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

    @abstractmethod
    def log_abs_det(self, projected: Tensor, state: State) -> Tensor:
        """Compute ``log |det|`` of the layer's own block without its tangent map.

        Args:
            projected: Pre-activations from the input, ``[B, G * H]``.
            state: The layer's own state, tensors ``[B, H]``.

        Returns:
            ``[B]``, nats, float64.
        """


@dataclass(frozen=True, eq=False)
class StackedRecurrence(DynamicalSystem):
    """A stack of recurrent layers; layer k is driven by layer k-1's output at the same step.

    The tangent space is ordered layer by layer, ``[layer 1; layer 2; ...]``. Its map is never
    formed as a matrix: each layer hands the tangents of its new output to the layer above, which
    is the product of the blocks of App. B at the cost of one block row.

    Attributes:
        layers: The layers, lowest first.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, App. B. Its text drives layer k by
        ``h_{t-1}`` of layer k-1; the composition it derives, and PyTorch, by ``h_t``.
    """

    layers: tuple[Layer, ...]

    @cached_property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.layers[0].weight_hh.rows.dtype

    @cached_property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.layers[0].weight_hh.rows.device

    @cached_property
    def tangent_size(self) -> int:
        """N, summed over the layers."""
        return sum(layer.tangent_size for layer in self.layers)

    @property
    def runs_in_threads(self) -> bool:
        """True: a step reads weights and writes nothing but its results."""
        return True

    @property
    def couples_layers(self) -> bool:
        """Whether there are several."""
        return len(self.layers) > 1

    @property
    def takes_reflectors(self) -> bool:
        """Whether this is one layer that does: the matrix of a stack is never formed."""
        return len(self.layers) == 1 and self.layers[0].takes_reflectors

    def drive(self, inputs: Tensor) -> Tensor:
        """Project the inputs ``[B, T, I]`` of all steps at once; see `Dynamics.drive`."""
        for layer in self.layers:
            layer.read_weights()
        # Contiguous by time: every step reads its part alone.
        return self.layers[0].project(inputs.to(self.dtype).transpose(0, 1).contiguous())

    def initial_state(self, given: Any, batch_size: int) -> State:
        """Read PyTorch's ``h_0`` or ``(h_0, c_0)``, each ``[L, B, H]``; None means zeros.

        A state holds each layer's tensors in turn, ``[B, H]`` each; see `Dynamics.initial_state`.
        """
        sizes = self.layers[0].state_sizes
        shapes = [(len(self.layers), batch_size, size) for size in sizes]
        if given is None:
            given = tuple(torch.zeros(s, dtype=self.dtype, device=self.device) for s in shapes)
        tensors = as_state_tensors(given)
        if shapes_of(tensors) != shapes:
            raise ValueError(
                f"Expected `initial_state` in the shapes {shapes} (layers, sequences, size), "
                f"but got {shapes_of(tensors)}. Pass what the torch module takes as its second "
                "argument."
            )
        cast = [tensor.detach().to(self.device, self.dtype) for tensor in tensors]
        return tuple(tensor[k] for k in range(len(self.layers)) for tensor in cast)

    def export_state(self, state: State) -> Tensor | tuple[Tensor, ...]:
        """Return PyTorch's ``h_n`` or ``(h_n, c_n)``, each ``[L, B, H]``."""
        arity = len(self.layers[0].state_sizes)
        stacked = tuple(torch.stack(state[part::arity]) for part in range(arity))
        return stacked[0] if arity == 1 else stacked

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        """Advance all layers by one step and linearize the step; see `Dynamics.step`."""
        new_state, tangents = self._step_layers(drive, state)
        return new_state, lambda basis: self._push(tangents, self._parts(basis))

    def step_with_basis(self, drive: Tensor, state: State, basis: Basis) -> tuple[State, Tensor]:
        """Advance all layers and their tangent vectors at once; see `DynamicalSystem`."""
        parts = self._parts(basis)
        new_state, tangents = self._step_layers(drive, state, parts)
        return new_state, self._push(tangents, parts)

    def _parts(self, basis: Basis) -> Sequence[Basis]:
        """Split a basis, ``[B, N, K]``, by layers; reflectors are those of a single one."""
        if isinstance(basis, Reflectors):
            return [basis]
        return basis.split([layer.tangent_size for layer in self.layers], dim=-2)

    def _push(self, tangents: Sequence[LayerTangent], parts: Sequence[Basis]) -> Tensor:
        """Return ``J Q``, ``[B, N, K]``, from each layer's map and vectors, ``[B, N_k, K]``."""
        blocks: list[Tensor] = []
        d_input: Tensor | None = None
        for layer, tangent, part in zip(self.layers, tangents, parts, strict=True):
            blocks.append(tangent(d_input, part))
            d_input = blocks[-1][..., : layer.output_size, :]
        return stack_rows(blocks)

    def _step_layers(
        self, drive: Tensor, state: State, moving: Sequence[Basis] | None = None
    ) -> tuple[State, list[LayerTangent]]:
        """Return the new state and each layer's tangent map; ``moving`` as for `Layer.step`."""
        arity = len(self.layers[0].state_sizes)
        new_state: list[Tensor] = []
        tangents: list[LayerTangent] = []
        for k, layer in enumerate(self.layers):
            projected = drive if k == 0 else layer.project(new_state[-arity])
            own = None if moving is None else moving[k]
            layer_state, tangent = layer.step(projected, state[k * arity : (k + 1) * arity], own)
            new_state.extend(layer_state)
            tangents.append(tangent)
        return tuple(new_state), tangents

    def derivative(self, drive: Tensor, state: State, vector: Tensor) -> Tensor:
        """Differentiate the states of `step` by `torch.func.jvp`; see `Certifiable`."""
        with warnings.catch_warnings():
            # Torch's own, when it first loads its rules for forward mode.
            warnings.simplefilter("ignore", DeprecationWarning)
            tangents = self._spread_tangent(vector, state)
            moved: State = jvp(lambda *s: self.step(drive, s)[0], state, tangents)[1]
        return torch.cat(moved[self._active], dim=-1)

    def log_abs_det(self, drive: Tensor, state: State) -> Tensor:
        """Add those of the layers, the diagonal blocks; see `Certifiable`."""
        arity = len(self.layers[0].state_sizes)
        new_state = self.step(drive, state)[0]
        total = torch.zeros(drive.shape[0], dtype=torch.float64, device=drive.device)
        for k, layer in enumerate(self.layers):
            projected = drive if k == 0 else layer.project(new_state[(k - 1) * arity])
            total = total + layer.log_abs_det(projected, state[k * arity : (k + 1) * arity])
        return total

    def _spread_tangent(self, vector: Tensor, state: State) -> State:
        """Lay a tangent vector, ``[B, N]``, out like a state; zeros where that is held fixed."""
        spread = [torch.zeros_like(tensor) for tensor in state]
        parts = vector.split([tensor.shape[1] for tensor in state[self._active]], dim=-1)
        spread[self._active] = [part.contiguous() for part in parts]
        return tuple(spread)

    @property
    def _active(self) -> slice:
        """Which tensors of a state make up the tangent space: all, or each layer's output."""
        layer = self.layers[0]
        full = layer.tangent_size == sum(layer.state_sizes)
        return slice(None, None, 1 if full else len(layer.state_sizes))
