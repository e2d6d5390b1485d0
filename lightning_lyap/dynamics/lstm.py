"""The long short-term memory, with both readings of its state.

``state="full"`` linearizes the map of (h, c): the true one-step linearization, twice as many
exponents as units. ``state="hidden"`` is the paper's: dh'/dh with the old cell state held fixed. It
ignores what the cell state carries from step to step, so its exponents are lower, often by far.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lightning_lyap.dynamics.base import LayerTangent, State
from lightning_lyap.dynamics.gates import mix_gates
from lightning_lyap.dynamics.numerics import log_abs_det, sigmoid_slope, tanh_slope
from lightning_lyap.dynamics.stacked import Layer
from lightning_lyap.qr.orthonormalize import stack_rows
from lightning_lyap.qr.reflectors import Basis


@dataclass(frozen=True, eq=False)
class LSTMLayer(Layer):
    """One layer of `torch.nn.LSTM`, gates in the order i, f, g, o.

    ``c' = f c + i g``, ``m = o tanh(c')``, and ``h' = m``, or ``h' = W_hr m`` with ``proj_size``.

    Attributes:
        bias: Sum of both biases, ``[4 H]``.
        weight_hr: The projection, ``[P, H]``, or None.
        full: Whether the tangent space holds (h, c) or h alone.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, App. B.1 (``hidden``; there the output of the
        cell gate is called c).
    """

    weight_hr: Tensor | None
    full: bool

    @cached_property
    def state_sizes(self) -> tuple[int, ...]:
        """Hidden state, ``P``, and cell state, ``H``."""
        return (self.output_size, self.weight_hh.rows.shape[1])

    @cached_property
    def tangent_size(self) -> int:
        """P + H for the full state, P for the hidden one."""
        return sum(self.state_sizes) if self.full else self.output_size

    @property
    def takes_reflectors(self) -> bool:
        """True for the hidden reading: the full one has blocks that are diagonal."""
        return not self.full

    def step(
        self, projected: Tensor, state: State, moving: Basis | None = None
    ) -> tuple[State, LayerTangent]:
        """Advance and linearize; see `Layer.step`.

        ``dc' = f dc + c f(1-f) df + g i(1-i) di + i (1-g^2) dg`` and
        ``dm = o (1 - tanh^2 c') dc' + tanh(c') o(1-o) do``, where ``df`` and its like are the
        tangents of the gates' pre-activations, linear in dx and dh.
        """
        hidden, cell = state
        recurrent, products = self.weight_hh[:].applied_along(hidden, moving)
        at = (projected + recurrent).unflatten(-1, (4, -1))
        i, f, _, o = torch.sigmoid(at).unbind(1)
        at_g = at[:, 2]
        g = torch.tanh(at_g)
        new_cell = f * cell + i * g
        squashed = torch.tanh(new_cell)
        new_hidden = self._read_out(o * squashed)

        def tangent(d_input: Tensor | None, d_state: Tensor) -> Tensor:
            # Of all gates at once, g's unused: one call costs less than three.
            slope_i, slope_f, _, slope_o = sigmoid_slope(at).unbind(1)
            slopes = torch.stack([g * slope_i, cell * slope_f, i * tanh_slope(at_g)], dim=1)
            slope_o = (squashed * slope_o).unsqueeze(1)
            through_cell = o * tanh_slope(new_cell)
            if not self.full:
                # No tangent of c' is kept, so that all gates make up a single sum.
                all_slopes = torch.cat([slopes * through_cell.unsqueeze(1), slope_o], dim=1)
                d_memory = self._gates(slice(4), all_slopes, d_input, d_state, products)
                return self._read_out(d_memory.mT).mT
            d_hidden, d_cell = d_state.split(self.state_sizes, dim=-2)
            d_new_cell = self._gates(slice(3), slopes, d_input, d_hidden, products)
            d_new_cell = d_new_cell + f.unsqueeze(-1) * d_cell
            d_memory = self._gates(slice(3, 4), slope_o, d_input, d_hidden, products)
            d_memory = d_memory + through_cell.unsqueeze(-1) * d_new_cell
            return stack_rows([self._read_out(d_memory.mT).mT, d_new_cell])

        return (new_hidden, new_cell), tangent

    def log_abs_det(self, projected: Tensor, state: State) -> Tensor:
        """Compute the determinant in closed form; see `Layer.log_abs_det`.

        Full, with the rows of c' taken off those of h': ``log |det W_ho|
        + sum_i log |tanh(c'_i) o_i (1 - o_i)| + sum_i log f_i``, or, with a projection,
        ``log |det (W_hr diag(tanh(c') o (1 - o)) W_ho)| + sum_i log f_i``. Hidden: the Jacobian of
        App. B.1 entry by entry.
        """
        hidden, cell = (part.double() for part in state)
        weight = self.weight_hh.rows.double()
        own = hidden @ weight.flatten(0, 1).mT
        at_i, at_f, at_g, at_o = (projected.double() + own).chunk(4, dim=-1)
        i, f, o, g = at_i.sigmoid(), at_f.sigmoid(), at_o.sigmoid(), at_g.tanh()
        new_cell = f * cell + i * g
        squashed = new_cell.tanh()
        by_o = (squashed * sigmoid_slope(at_o)).unsqueeze(-1) * weight[3]
        if self.full:
            # logsigmoid keeps log f where f rounds to zero or one.
            block, forget = by_o, torch.nn.functional.logsigmoid(at_f).sum(-1)
        else:
            through_gates = (
                (g * sigmoid_slope(at_i)).unsqueeze(-1) * weight[0]
                + (cell * sigmoid_slope(at_f)).unsqueeze(-1) * weight[1]
                + (i * tanh_slope(at_g)).unsqueeze(-1) * weight[2]
            )
            block = by_o + (o * tanh_slope(new_cell)).unsqueeze(-1) * through_gates
            forget = torch.zeros_like(f[:, 0])
        if self.weight_hr is not None:
            block = self.weight_hr.double() @ block
        return log_abs_det(block) + forget

    def _gates(
        self,
        which: slice,
        slopes: Tensor,
        d_input: Tensor | None,
        d_hidden: Tensor,
        products: Tensor | None,
    ) -> Tensor:
        """Add some gates' tangents times slopes, ``[B, G, H]``; ``products`` are of all gates."""
        known = None if products is None else products[:, :, which]
        mixed = mix_gates(self.weight_hh[which], slopes, d_hidden, products=known)
        if d_input is not None:
            mixed = mixed + mix_gates(self.weight_ih[which], slopes, d_input)
        return mixed

    def _read_out(self, memory: Tensor) -> Tensor:
        """Project ``o tanh(c')`` or tangents of it, ``[..., H]``, to ``[..., P]``."""
        return memory if self.weight_hr is None else memory @ self.weight_hr.mT
