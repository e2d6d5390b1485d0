"""The naive twin: float64, the cells' equations, dense Jacobians by autograd, torch's own QR."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from lightning_lyap import SpectrumEstimate


def _cell(kind: str, gates: tuple[Tensor, Tensor], h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the new state of a layer.

    Args:
        kind: ``"LSTM"``, ``"GRU"`` or ``"RNN"``.
        gates: What input and state give to the gates, ``[G H]`` each.
        h: Hidden state, ``[H]``.
        c: Cell state of an LSTM, ``[H]``.

    Returns:
        Both, new.
    """
    own, recurrent = gates
    if kind == "RNN":
        return torch.tanh(own + recurrent), c
    if kind == "GRU":
        (r, z, n), (a, b, m) = own.chunk(3), recurrent.chunk(3)
        update = torch.sigmoid(z + b)
        return (1 - update) * torch.tanh(n + torch.sigmoid(r + a) * m) + update * h, c
    i, f, g, o = (own + recurrent).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class Twin:
    """A stack of layers, one step after the other.

    Args:
        network: Its weights are taken, in float64, on the CPU; without biases these are zero.
        state: Of an LSTM: ``"hidden"`` holds the cell states fixed in the derivative, ``"full"``
            takes them into the tangent space.
    """

    def __init__(self, network: nn.RNNBase, state: str = "hidden") -> None:
        self._kind = network.mode.removesuffix("_TANH")
        self._weights = [
            [
                getattr(network, f"{name}_l{layer}", torch.zeros(())).detach().double().cpu()
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            for layer in range(network.num_layers)
        ]
        self._full = state == "full" and self._kind == "LSTM"
        self._layers, self._units = network.num_layers, network.hidden_size

    def _step(self, x: Tensor, s: Tensor, held: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Advance one sequence: what is differentiated, and what is held, layer after layer.

        Args:
            x: ``[I]``.
            s: ``[N]``.
            held: Cell states ``[L H]``, of no use where they are part of s.

        Returns:
            The new s, and the form of both that `jacrev` takes.
        """
        below, moved, cells = x, [], []
        states = zip(s.chunk(self._layers), held.chunk(self._layers), strict=True)
        for (w, u, a, b), (own, cell) in zip(self._weights, states, strict=True):
            h, c = own.chunk(2) if self._full else (own, cell)
            below, c = _cell(self._kind, (w @ below + a, u @ h + b), h, c)
            moved += [below, c] if self._full else [below]
            cells.append(c)
        new = torch.cat(moved)
        return new, (new, torch.cat(cells))

    def exponents(self, inputs: Tensor, basis: Tensor | None = None, blocks: int = 1) -> Tensor:
        """Run the textbook's loop with a factorization every step.

        Args:
            inputs: ``[B, T, I]``.
            basis: To start from, ``[N, K]``. Default: the identity.
            blocks: L to take each layer by itself, with a complete basis; 1 for all together.

        Returns:
            Exponents in the order of the basis vectors, ``[B, K]``, nats per step.
        """
        inputs = inputs.detach().double().cpu()
        units = self._layers * self._units
        size = units * (1 + self._full)
        s, held = (torch.zeros(len(inputs), n, dtype=torch.float64) for n in (size, units))
        width = size // blocks
        start = torch.eye(width, dtype=torch.float64) if basis is None else basis.double().cpu()
        bases = [start.expand(len(inputs), -1, -1)] * blocks
        total = torch.zeros(len(inputs), blocks * start.shape[1], dtype=torch.float64)
        cuts = list(pairwise(range(0, size + 1, width)))
        step = vmap(jacrev(self._step, argnums=1, has_aux=True))
        for t in range(inputs.shape[1]):
            dense, (s, held) = step(inputs[:, t], s, held)
            pairs = [
                torch.linalg.qr(dense[:, i:j, i:j] @ q)
                for (i, j), q in zip(cuts, bases, strict=True)
            ]
            bases = [q for q, _ in pairs]
            total += torch.cat([r.diagonal(dim1=1, dim2=2).abs().log() for _, r in pairs], 1)
        return total / inputs.shape[1]


def largest_difference(estimate: SpectrumEstimate, exact: Tensor) -> float:
    """Compare an estimate with the twin, sequence by sequence.

    Args:
        estimate: Of at least the twin's sequences.
        exact: The twin's exponents of the first sequences, ``[b, K]``.

    Returns:
        The largest difference of a resolved exponent, nats per step.

    Raises:
        ValueError: If no exponent is resolved.
    """
    column = estimate.order.argsort().cpu()
    mine = estimate.per_sequence.cpu()[: len(exact), column]
    resolved = estimate.resolved.cpu()[column]
    if not bool(resolved.any()):
        raise ValueError("Expected exponents that are resolved, but got none. Take float64.")
    return float((mine - exact).abs()[:, resolved].max())
