"""The gated recurrent unit, with PyTorch's gates (the reset acts after the matrix product)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lyap.dynamics.base import LayerTangent, State
from lightning_lyap.dynamics.gates import mix_gates
from lightning_lyap.dynamics.numerics import log_abs_det, sigmoid_slope, tanh_slope
from lightning_lyap.dynamics.stacked import Layer
from lightning_lyap.qr.reflectors import Basis


@dataclass(frozen=True, eq=False)
class GRULayer(Layer):
    """One layer of `torch.nn.GRU`, gates in the order reset r, update z, new n.

    ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))`` and ``h' = (1 - z) n + z h``.

    Attributes:
        bias: That of the products with the input, ``[3 H]``.
        bias_hh: That of the recurrent ones, ``[3 H]``; r multiplies that of n.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, App. B, for PyTorch's variant of the GRU.
    """

    bias_hh: Tensor

    def step(
        self, projected: Tensor, state: State, moving: Basis | None = None
    ) -> tuple[State, LayerTangent]:
        """Advance and linearize; see `Layer.step`.

        ``J = diag(z) + diag((h - n) z (1 - z)) W_hz
        + diag((1 - z)(1 - n^2)) [diag(r) W_hn + diag(r (1 - r)(W_hn h + b_hn)) W_hr]``
        """
        (hidden,) = state
        given = projected.unflatten(-1, (3, -1))
        recurrent, products = self.weight_hh[:].applied_along(hidden, moving)
        recurrent = (recurrent + self.bias_hh).unflatten(-1, (3, -1))
        at, recurrent_n = given[:, :2] + recurrent[:, :2], recurrent[:, 2]
        r, z = torch.sigmoid(at).unbind(1)
        at_n = given[:, 2] + r * recurrent_n
        n = torch.tanh(at_n)
        new = (1 - z) * n + z * hidden

        def tangent(d_input: Tensor | None, d_state: Tensor) -> Tensor:
            through_r, through_z = sigmoid_slope(at).unbind(1)
            # Not 1 - z, which is zero as soon as z rounds to one.
            slope_n = torch.sigmoid(-at[:, 1]) * tanh_slope(at_n)
            slope_r = slope_n * recurrent_n * through_r
            slope_z = (hidden - n) * through_z
            slopes = torch.stack([slope_r, slope_z, slope_n * r], dim=1)
            d_new = mix_gates(self.weight_hh[:], slopes, d_state, z, products)
            if d_input is not None:
                # Without r, which acts on the recurrent product alone.
                slopes = torch.stack([slope_r, slope_z, slope_n], dim=1)
                d_new = d_new + mix_gates(self.weight_ih[:], slopes, d_input)
            return d_new

        return (new,), tangent

    def log_abs_det(self, projected: Tensor, state: State) -> Tensor:
        """Form the Jacobian of `step` entry by entry; see `Layer.log_abs_det`."""
        # In float64 and written out anew: `step` is what this checks.
        hidden, weight = state[0].double(), self.weight_hh.rows.double()
        in_r, in_z, in_n = projected.double().chunk(3, dim=-1)
        own_r, own_z, own_n = (
            hidden @ gate.mT + bias
            for gate, bias in zip(weight, self.bias_hh.double().chunk(3), strict=True)
        )
        at_r, at_z = in_r + own_r, in_z + own_z
        r, z = torch.sigmoid(at_r), torch.sigmoid(at_z)
        at_n = in_n + r * own_n
        through_r, through_z, through_n = (
            slope.unsqueeze(-1) * gate
            for slope, gate in zip(
                (sigmoid_slope(at_r) * own_n, sigmoid_slope(at_z), r), weight, strict=True
            )
        )
        jacobian = torch.diag_embed(z) + (hidden - torch.tanh(at_n)).unsqueeze(-1) * through_z
        slope_n = torch.sigmoid(-at_z) * tanh_slope(at_n)
        jacobian = jacobian + slope_n.unsqueeze(-1) * (through_r + through_n)
        return log_abs_det(jacobian)
