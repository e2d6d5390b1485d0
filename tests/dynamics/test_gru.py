"""The gated recurrent unit in closed form."""

from typing import Any

import pytest
import torch
from torch import nn

from lightning_lyap.dynamics import from_torch_module
from tests.cells import build
from tests.compare import assert_near


def at_origin(gru: nn.RNNBase) -> torch.Tensor:
    system = from_torch_module(gru)
    size = gru.hidden_size
    with torch.no_grad():
        drive = system.drive(torch.zeros(1, 1, gru.input_size).double())[0]
        _, push = system.step(drive, (torch.zeros(1, size).double(),))
        return push(torch.eye(size).double()[None])[0]


def test_jacobian_at_the_zero_fixed_point() -> None:
    """Without biases r = z = 1/2 and n = 0, so ``J = 1/2 + W_hn / 4``."""
    gru: Any = build("gru", bias=False)
    expected = torch.eye(7).double() / 2 + gru.weight_hh_l0[14:] / 4
    assert_near(at_origin(gru), expected.detach(), 1e-12)


@pytest.mark.parametrize("bias", ["bias_ih_l0", "bias_hh_l0"])
def test_each_bias_acts_in_its_own_place(bias: str) -> None:
    """At h = 0 with only one bias of n: inside the reset's reach (b_hn) or outside (b_in).

    With W_hn = 0 and r = z = 1/2, ``dn/dh = (1 - n^2) b_hn W_hr / 4``, which b_in can't make.
    """
    gru: Any = build("gru", bias=True)
    with torch.no_grad():
        gru.bias_ih_l0.zero_()
        gru.bias_hh_l0.zero_()
        gru.weight_hh_l0[7:].zero_()
        getattr(gru, bias)[14:] = 2.0
        reset = gru.weight_hh_l0[:7].clone()
    expected = torch.eye(7).double() / 2
    if bias == "bias_hh_l0":
        n = torch.tanh(torch.tensor(1.0).double())
        expected = expected + 0.5 * (1 - n**2) * 2.0 * 0.25 * reset
    assert_near(at_origin(gru), expected, 1e-12)
