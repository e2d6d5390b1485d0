"""Torch's recurrent modules in all their kinds, inputs, and their steps put together from cells.

The steps are written without the package: `nn.RNNCell`, `GRUCell` and `LSTMCell` with the module's
weights, and, for ``proj_size``, which has no cell, PyTorch's documented formula.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_lyap.dynamics import LayerChoice, StateChoice

Tensors = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensors], Tensors]
INPUT_SIZE = 3
F64 = torch.float64
LAYERS: tuple[LayerChoice, ...] = ("joint", "union")


@dataclass(frozen=True)
class Case:
    """One kind of network.

    Attributes:
        kind: ``"tanh"``, ``"relu"``, ``"gru"``, ``"lstm"``, or ``"projected"`` for an LSTM with
            ``proj_size``.
        state: The reading of an LSTM's state.
        bias: Whether there are biases.
        num_layers: L.
    """

    kind: str
    state: StateChoice
    bias: bool
    num_layers: int

    def __str__(self) -> str:
        bias = "bias" if self.bias else "no_bias"
        return f"{self.kind}-{self.state}-{bias}-{self.num_layers}"

    def module(self, *, batch_first: bool = True, dropout: float = 0.0) -> nn.RNNBase:
        """Build the module in float64 with weights twice as large as torch's."""
        return build(self.kind, self.bias, self.num_layers, batch_first, dropout)


KINDS: tuple[tuple[str, StateChoice], ...] = (
    ("tanh", "full"),
    ("relu", "full"),
    ("gru", "full"),
    ("lstm", "full"),
    ("lstm", "hidden"),
    ("projected", "full"),
    ("projected", "hidden"),
)
CASES = [
    Case(kind, state, bias, num_layers)
    for kind, state in KINDS
    for bias in (True, False)
    for num_layers in (1, 2, 3, 4)
]
ONE_OF_EACH = [Case(kind, state, True, 2) for kind, state in KINDS]


def build(
    kind: str,
    bias: bool = True,
    num_layers: int = 1,
    batch_first: bool = True,
    dropout: float = 0.0,
    hidden_size: int | None = None,
) -> nn.RNNBase:
    """Build a module of some kind in float64 with weights twice as large as torch's."""
    sizes = (INPUT_SIZE, hidden_size or (5 if kind == "projected" else 7), num_layers)
    module: nn.RNNBase
    if kind in ("tanh", "relu"):
        module = nn.RNN(
            *sizes, nonlinearity=kind, bias=bias, batch_first=batch_first, dropout=dropout
        )
    elif kind == "gru":
        module = nn.GRU(*sizes, bias=bias, batch_first=batch_first, dropout=dropout)
    else:
        proj_size = 2 if kind == "projected" else 0
        module = nn.LSTM(
            *sizes, bias=bias, batch_first=batch_first, dropout=dropout, proj_size=proj_size
        )
    return multiply_weights(module.double(), 2)


def multiply_weights(module: nn.RNNBase, factor: float) -> nn.RNNBase:
    """Multiply all weights and biases of a module, in place."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(factor)
    return module


def sequences(batch: int, steps: int = 12, dtype: torch.dtype = F64) -> Tensor:
    """Draw inputs for the modules."""
    return torch.randn(batch, steps, INPUT_SIZE, dtype=dtype)


def layer_of(module: nn.RNNBase, k: int) -> nn.RNNBase:
    """Take layer k out as a module of its own, with its weights."""
    weight: Tensor = getattr(module, f"weight_ih_l{k}")
    kind: Any = type(module)
    layer: nn.RNNBase = kind(weight.shape[1], module.hidden_size, batch_first=True).to(weight)
    layer.load_state_dict({name: getattr(module, f"{name[:-1]}{k}") for name in layer.state_dict()})
    return layer


def random_state(module: nn.RNNBase, batch_size: int) -> Tensor | tuple[Tensor, Tensor]:
    """Draw a state in the form the module takes as its second argument."""
    weight = next(module.parameters())
    shape = (module.num_layers, batch_size)
    hidden = torch.randn(*shape, module.proj_size or module.hidden_size).to(weight)
    if not isinstance(module, nn.LSTM):
        return hidden
    return hidden, torch.randn(*shape, module.hidden_size).to(weight)


def flatten_state(given: Tensor | Tensors) -> Tensors:
    """Turn ``h`` or ``(h, c)``, ``[L, B, H]`` each, into ``h_1, c_1, h_2, c_2, ...``."""
    tensors = (given,) if isinstance(given, Tensor) else given
    return tuple(tensor[k] for k in range(tensors[0].shape[0]) for tensor in tensors)


def active_tensors(module: nn.RNNBase, state: StateChoice) -> tuple[int, ...]:
    """Tell which tensors of the flattened state make up the tangent space."""
    arity = 2 if isinstance(module, nn.LSTM) else 1
    return tuple(range(0, arity * module.num_layers, arity if state == "hidden" else 1))


def step_of(module: nn.RNNBase) -> Step:
    """Put the module's step together from torch's cells, on the flattened state."""
    cells = [_cell(module, k) for k in range(module.num_layers)]
    arity = 2 if isinstance(module, nn.LSTM) else 1

    def step(x: Tensor, state: Tensors) -> Tensors:
        output, new = x, list[Tensor]()
        for k, cell in enumerate(cells):
            new.extend(cell(output, state[k * arity : (k + 1) * arity]))
            output = new[-arity]
        return tuple(new)

    return step


def _cell(module: nn.RNNBase, k: int) -> Step:
    if module.proj_size > 0:
        return _projected_cell(module, k)
    weight: Tensor = getattr(module, f"weight_ih_l{k}")
    sizes = (weight.shape[1], module.hidden_size, module.bias)
    cell: nn.RNNCell | nn.GRUCell | nn.LSTMCell
    if isinstance(module, nn.LSTM):
        cell = nn.LSTMCell(*sizes)
    elif isinstance(module, nn.GRU):
        cell = nn.GRUCell(*sizes)
    else:
        assert isinstance(module, nn.RNN)
        cell = nn.RNNCell(*sizes, nonlinearity=str(module.nonlinearity))
    cell.to(weight)
    cell.load_state_dict({n: getattr(module, f"{n}_l{k}") for n, _ in cell.named_parameters()})
    if isinstance(cell, nn.LSTMCell):
        return lambda x, state: cell(x, (state[0], state[1]))
    return lambda x, state: (cell(x, state[0]),)


def _projected_cell(module: nn.RNNBase, k: int) -> Step:
    names = ("weight_ih", "weight_hh", "weight_hr")
    weight_ih, weight_hh, weight_hr = (getattr(module, f"{n}_l{k}").detach().clone() for n in names)
    bias_ih, bias_hh = (
        getattr(module, f"{n}_l{k}").detach().clone() if module.bias else None
        for n in ("bias_ih", "bias_hh")
    )

    def step(x: Tensor, state: Tensors) -> Tensors:
        h, c = state
        gates = functional.linear(x, weight_ih, bias_ih) + functional.linear(h, weight_hh, bias_hh)
        i, f, g, o = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return functional.linear(o.sigmoid() * c.tanh(), weight_hr), c

    return step
