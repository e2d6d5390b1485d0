"""From torch's recurrent modules (`nn.RNN`, `GRU`, `LSTM`) and cells to their analytic dynamics."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from lightning_lyap._checks import check_choice
from lightning_lyap.dynamics.base import State, as_state_tensors, compute_dtype, shapes_of
from lightning_lyap.dynamics.gates import GateWeights
from lightning_lyap.dynamics.gru import GRULayer
from lightning_lyap.dynamics.lstm import LSTMLayer
from lightning_lyap.dynamics.rnn import RNNLayer
from lightning_lyap.dynamics.stacked import Layer, StackedRecurrence

StateChoice: TypeAlias = Literal["full", "hidden"]
RECURRENT_MODULES = (nn.RNN, nn.GRU, nn.LSTM)
TORCH_CELLS = (nn.RNNCell, nn.GRUCell, nn.LSTMCell)
STATES = get_args(StateChoice)


def check_supported(module: nn.RNNBase) -> None:
    """Refuse modules that are no causal dynamical system.

    Args:
        module: A torch recurrent module.

    Raises:
        ValueError: If the module is bidirectional.
    """
    if module.bidirectional:
        raise ValueError(
            "Expected a recurrent module that runs forward in time, but got a bidirectional "
            f"{type(module).__name__}. Its output at time t depends on later inputs, so it is no "
            "causal dynamical system s_t = F(s_{t-1}, x_t) and has no Lyapunov spectrum. Measure "
            "each direction as a module of its own (bidirectional=False)."
        )


def from_torch_module(
    module: nn.RNNBase, state: StateChoice = "full", dtype: torch.dtype | None = None
) -> StackedRecurrence:
    """Read the weights of a torch recurrent module into its analytic dynamics.

    Dropout between layers is left out: the exponents are those of the network as it is evaluated.

    Args:
        module: `torch.nn.RNN`, `GRU` or `LSTM`, not bidirectional.
        state: For LSTMs, ``"full"`` for (h, c) or ``"hidden"`` for h alone, the paper's reading.
            The other cells have no other state than h; both words mean the same for them.
        dtype: Type of the arithmetic; None takes the module's own, float32 for half precision.

    Returns:
        The dynamics, sharing memory with the weights where no conversion is needed.

    Raises:
        ValueError: If the module is bidirectional or an argument is out of range.
    """
    check_supported(module)
    check_choice("state", state, STATES)
    dtype = compute_dtype(next(module.parameters()).dtype, dtype)
    suffixes = [f"_l{k}" for k in range(module.num_layers)]
    return StackedRecurrence(tuple(_read_layer(module, end, state, dtype) for end in suffixes))


def _read_layer(module: nn.Module, suffix: str, state: StateChoice, dtype: torch.dtype) -> Layer:
    """Read the layer whose weights' names end in ``"_l0"``, ``"_l1"``, ..., a cell's in nothing."""

    def read(name: str) -> Tensor:
        # `to` copies only where the type differs: else the memory is the module's own.
        return getattr(module, f"{name}{suffix}").detach().to(dtype)

    weight_ih, weight_hh = read("weight_ih"), read("weight_hh")
    zeros = weight_hh.new_zeros(weight_hh.shape[0])
    bias_ih, bias_hh = (read("bias_ih"), read("bias_hh")) if module.bias else (zeros, zeros)
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        weight_hr = read("weight_hr") if getattr(module, "proj_size", 0) else None
        gates = GateWeights(weight_ih, 4), GateWeights(weight_hh, 4)
        return LSTMLayer(*gates, bias_ih + bias_hh, weight_hr, full=state == "full")
    if isinstance(module, nn.GRU | nn.GRUCell):
        return GRULayer(GateWeights(weight_ih, 3), GateWeights(weight_hh, 3), bias_ih, bias_hh)
    gates = GateWeights(weight_ih, 1), GateWeights(weight_hh, 1)
    return RNNLayer(*gates, bias_ih + bias_hh, str(module.nonlinearity))


@dataclass(frozen=True, eq=False)
class CellRecurrence(StackedRecurrence):
    """A single layer whose state has the cell's form: ``[B, H]``, or a pair of such."""

    def initial_state(self, given: Any, batch_size: int) -> State:
        """Read the cell's ``h`` or ``(h, c)``, each ``[B, H]``; None means zeros."""
        if given is not None:
            tensors = as_state_tensors(given)
            shapes = [(batch_size, size) for size in self.layers[0].state_sizes]
            if shapes_of(tensors) != shapes:
                raise ValueError(
                    f"Expected `initial_state` in the shapes {shapes} (sequences, size), but got "
                    f"{shapes_of(tensors)}. Pass what the torch cell takes as its second argument."
                )
            given = tuple(tensor.unsqueeze(0) for tensor in tensors)
        return super().initial_state(given, batch_size)

    def export_state(self, state: State) -> Tensor | tuple[Tensor, ...]:
        """Return the cell's ``h`` or ``(h, c)``, each ``[B, H]``."""
        return state[0] if len(state) == 1 else state


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
    check_choice("state", state, STATES)
    dtype = compute_dtype(next(cell.parameters()).dtype, dtype)
    return CellRecurrence((_read_layer(cell, "", state, dtype),))
