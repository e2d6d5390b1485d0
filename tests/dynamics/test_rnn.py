"""The vanilla recurrence in closed form."""

from typing import Any

import torch
from torch import Tensor

from lightning_lyap.dynamics import from_torch_module
from tests.cells import INPUT_SIZE, build
from tests.compare import assert_near


def jacobian_and_activation(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    rnn: Any = build(kind)
    system = from_torch_module(rnn)
    x, h = torch.randn(2, INPUT_SIZE).double(), torch.randn(2, 7).double()
    with torch.no_grad():
        _, push = system.step(system.drive(x[:, None])[0], (h,))
        weights = rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0 + rnn.bias_hh_l0
        activation = x @ weights[0].T + h @ weights[1].T + weights[2]
    return push(torch.eye(7).double().expand(2, -1, -1)), activation, weights[1].detach()


def test_tanh_slope_is_the_squared_hyperbolic_secant() -> None:
    jacobian, activation, weight = jacobian_and_activation("tanh")
    expected = activation.cosh().pow(-2).unsqueeze(-1) * weight
    assert_near(jacobian, expected, 1e-12)


def test_relu_slope_is_a_step_and_not_that_of_tanh() -> None:
    jacobian, activation, weight = jacobian_and_activation("relu")
    assert 0 < int((activation > 0).sum()) < activation.numel()
    expected = (activation > 0).double().unsqueeze(-1) * weight
    assert torch.equal(jacobian, expected)
