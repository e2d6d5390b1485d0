"""Layers on top of each other: one dynamical system with a block lower-triangular Jacobian."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_lyap.dynamics.base import (
    Layer,
    LayerTangent,
    State,
    TangentMap,
    as_state_tensors,
    stack_rows,
)


@dataclass(frozen=True, eq=False)
class StackedRecurrence:
    """A stack of recurrent layers; layer k is driven by layer k-1's output at the same step.

    The tangent space is ordered layer by layer, ``[layer 1; layer 2; ...]``. Its map is never
    formed as a matrix: each layer hands the tangents of its new output to the layer above, which
    is the product of the blocks of App. B at the cost of one block row.

    Attributes:
        layers: The layers, lowest first.
        dtype: Floating-point type of the weights.
        device: Device of the weights.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, App. B. Its text drives layer k by
        ``h_{t-1}`` of layer k-1; the composition it derives, and PyTorch, by ``h_t``.
    """

    layers: tuple[Layer, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def tangent_size(self) -> int:
        """N, summed over the layers."""
        return sum(layer.tangent_size for layer in self.layers)

    def drive(self, inputs: Tensor) -> Tensor:
        """Project the inputs ``[B, T, I]`` of all steps at once; see `Dynamics.drive`."""
        return self.layers[0].project(inputs.to(self.dtype).transpose(0, 1).contiguous())

    def initial_state(self, given: Any, batch_size: int) -> State:
        """Read PyTorch's ``h_0`` or ``(h_0, c_0)``, each ``[L, B, H]``; None means zeros.

        Args:
            given: What the torch module takes as its second argument, or None.
            batch_size: B.

        Returns:
            Each layer's tensors in turn, ``[B, H]`` each.

        Raises:
            TypeError: If it is no tensor and no tuple of such.
            ValueError: If a tensor is missing or has the wrong shape.
        """
        sizes = self.layers[0].state_sizes
        shapes = [(len(self.layers), batch_size, size) for size in sizes]
        if given is None:
            given = tuple(torch.zeros(s, dtype=self.dtype, device=self.device) for s in shapes)
        tensors = as_state_tensors(given)
        if [tuple(tensor.shape) for tensor in tensors] != shapes:
            got = [tuple(tensor.shape) for tensor in tensors]
            raise ValueError(
                f"Expected `initial_state` in the shapes {shapes} (layers, sequences, size), "
                f"but got {got}. Pass what the torch module takes as its second argument."
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
        arity = len(self.layers[0].state_sizes)
        new_state: list[Tensor] = []
        tangents: list[LayerTangent] = []
        for k, layer in enumerate(self.layers):
            projected = drive if k == 0 else layer.project(new_state[-arity])
            layer_state, tangent = layer.step(projected, state[k * arity : (k + 1) * arity])
            new_state.extend(layer_state)
            tangents.append(tangent)

        def push(basis: Tensor) -> Tensor:
            blocks: list[Tensor] = []
            d_input: Tensor | None = None
            parts = basis.split([layer.tangent_size for layer in self.layers], dim=-2)
            for layer, tangent, part in zip(self.layers, tangents, parts, strict=True):
                blocks.append(tangent(d_input, part))
                d_input = blocks[-1][..., : layer.output_size, :]
            return stack_rows(blocks)

        return tuple(new_state), push
