"""From `torch.nn.RNNCell`, `GRUCell` and `LSTMCell` to dynamics, with their analytic tangent maps.

A cell is a layer of the module of the same name; what differs is the form of its state.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lyap.dynamics.base import State, as_state_tensors, compute_dtype
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.dynamics.torch_modules import StateChoice, check_state, read_layer

TORCH_CELLS = (nn.RNNCell, nn.GRUCell, nn.LSTMCell)


@dataclass(frozen=True, eq=False)
class CellRecurrence(StackedRecurrence):
    """A single layer whose state has the cell's form: ``[B, H]``, or a pair of such."""

    def initial_state(self, given: Any, batch_size: int) -> State:
        """Read the cell's ``h`` or ``(h, c)``, each ``[B, H]``; None means zeros.

        Args:
            given: What the cell takes as its second argument, or None.
            batch_size: B.

        Returns:
            Tensors ``[B, H]``.

        Raises:
            TypeError: If it is no tensor and no tuple of such.
            ValueError: If a tensor is missing or has the wrong shape.
        """
        if given is None:
            return super().initial_state(None, batch_size)
        tensors = as_state_tensors(given)
        shapes = [(batch_size, size) for size in self.layers[0].state_sizes]
        got = [tuple(tensor.shape) for tensor in tensors]
        if got != shapes:
            raise ValueError(
                f"Expected `initial_state` in the shapes {shapes} (sequences, size), but got "
                f"{got}. Pass what the torch cell takes as its second argument."
            )
        return super().initial_state(tuple(t.unsqueeze(0) for t in tensors), batch_size)

    def export_state(self, state: State) -> Tensor | tuple[Tensor, ...]:
        """Return the cell's ``h`` or ``(h, c)``, each ``[B, H]``."""
        exported = as_state_tensors(super().export_state(state))
        tensors = tuple(tensor.squeeze(0) for tensor in exported)
        return tensors[0] if len(tensors) == 1 else tensors


def from_torch_cell(
    cell: nn.RNNCellBase, state: StateChoice = "full", dtype: torch.dtype | None = None
) -> CellRecurrence:
    """Read the weights of a torch cell into its analytic dynamics.

    Args:
        cell: `torch.nn.RNNCell`, `GRUCell` or `LSTMCell`.
        state: For LSTMCell, ``"full"`` for (h, c) or ``"hidden"`` for h alone.
        dtype: Type of the arithmetic; None takes the cell's own, float32 for half precision.

    Returns:
        The dynamics.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_state(state)
    weight = next(cell.parameters())
    dtype = compute_dtype(weight.dtype, dtype)
    return CellRecurrence((read_layer(cell, "", state, dtype),), dtype, weight.device)


def has_own_forward(cell: nn.Module) -> bool:
    """Tell whether a torch cell computes what torch's does: a subclass may do something else.

    Args:
        cell: A torch cell or an object of a class derived from one.

    Returns:
        True if its ``forward`` is another than torch's.

    Example:
        >>> has_own_forward(nn.GRUCell(2, 3))
        False
    """
    forwards = {kind.forward for kind in TORCH_CELLS}
    return "forward" in vars(cell) or type(cell).forward not in forwards


def zero_state(cell: nn.Module, batch_size: int) -> Tensor | tuple[Tensor, Tensor]:
    """Return what a torch cell starts from if it is given no state.

    Args:
        cell: A torch cell.
        batch_size: B.

    Returns:
        Zeros ``[B, H]``, or a pair of such for an LSTMCell.
    """
    weight = next(cell.parameters())
    zeros = weight.new_zeros(batch_size, int(getattr(cell, "hidden_size")))  # noqa: B009
    return (zeros, zeros.clone()) if isinstance(cell, nn.LSTMCell) else zeros
