"""The vanilla recurrence ``h' = phi(W_ih x + W_hh h + b)`` with phi = tanh or relu."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lyap.dynamics.base import LayerTangent, State
from lightning_lyap.dynamics.gates import mix_gates
from lightning_lyap.dynamics.numerics import log_abs_det, tanh_slope
from lightning_lyap.dynamics.stacked import Layer
from lightning_lyap.qr.reflectors import Basis


@dataclass(frozen=True, eq=False)
class RNNLayer(Layer):
    """One layer of `torch.nn.RNN`.

    Attributes:
        bias: Sum of both biases, ``[H]``.
        nonlinearity: ``"tanh"`` or ``"relu"``.

    Reference:
        Vogt et al., On Lyapunov Exponents for RNNs, Eqs. 1 and 4.
    """

    nonlinearity: str

    def step(
        self, projected: Tensor, state: State, moving: Basis | None = None
    ) -> tuple[State, LayerTangent]:
        """Advance and linearize: ``J = diag(phi') W_hh``; see `Layer.step`."""
        (hidden,) = state
        recurrent, products = self.weight_hh[:].applied_along(hidden, moving)
        activation = projected + recurrent
        tanh = self.nonlinearity == "tanh"
        new = torch.tanh(activation) if tanh else torch.relu(activation)

        def tangent(d_input: Tensor | None, d_state: Tensor) -> Tensor:
            # Of relu at zero: that of torch, zero.
            slope = tanh_slope(activation) if tanh else (new > 0).to(new.dtype)
            slope = slope.unsqueeze(1)
            d_new = mix_gates(self.weight_hh[:], slope, d_state, products=products)
            if d_input is not None:
                d_new = d_new + mix_gates(self.weight_ih[:], slope, d_input)
            return d_new

        return (new,), tangent

    def log_abs_det(self, projected: Tensor, state: State) -> Tensor:
        """Compute ``log |det W_hh| + sum_i log phi'(a_i)``; see `Layer.log_abs_det`."""
        activation = (projected + self.weight_hh[:].applied_to(state[0])).double()
        if self.nonlinearity == "tanh":
            slopes = tanh_slope(activation)
        else:
            slopes = (activation > 0).double()
        return log_abs_det(self.weight_hh.rows[0]) + slopes.log().sum(-1)
