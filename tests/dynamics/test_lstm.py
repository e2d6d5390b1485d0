"""The two readings of the LSTM's state."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_lyap.dynamics import StateChoice, from_torch_module
from tests.cells import INPUT_SIZE, build, flatten_state, random_state
from tests.compare import assert_near


@torch.no_grad()
def jacobian(lstm: nn.RNNBase, state: StateChoice) -> Tensor:
    torch.manual_seed(1)
    system = from_torch_module(lstm, state)
    given = flatten_state(random_state(lstm, 2))
    x = torch.randn(2, 1, INPUT_SIZE).double()
    _, push = system.step(system.drive(x)[0], given)
    return push(torch.eye(system.tangent_size).double().expand(2, -1, -1))


@pytest.mark.parametrize(("kind", "size"), [("lstm", 7), ("projected", 2)])
def test_hidden_is_the_upper_left_block_of_full(kind: str, size: int) -> None:
    lstm = build(kind)
    full, hidden = jacobian(lstm, "full"), jacobian(lstm, "hidden")
    assert hidden.shape == (2, size, size)
    assert_near(hidden, full[:, :size, :size], 1e-12)


def test_cell_state_is_kept_by_the_forget_gate() -> None:
    """The block dc'/dc is ``diag(f)``: with W_hh = 0 and no input, ``f = sigmoid(b_f)``."""
    lstm: Any = build("lstm")
    with torch.no_grad():
        lstm.weight_hh_l0.zero_()
        lstm.weight_ih_l0.zero_()
    full = jacobian(lstm, "full")
    forget = torch.sigmoid((lstm.bias_ih_l0 + lstm.bias_hh_l0)[7:14]).detach()
    assert_near(full[0, 7:, 7:], forget.diag(), 1e-12)
    assert bool((full[0, :, :7] == 0).all())


def test_projection_counts_the_projected_state() -> None:
    lstm = build("projected", num_layers=2)
    assert from_torch_module(lstm, "hidden").tangent_size == 4
    assert from_torch_module(lstm, "full").tangent_size == 2 * (2 + 5)
