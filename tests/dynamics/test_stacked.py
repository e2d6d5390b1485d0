"""The stack as one system: block lower-triangular, driven from below at the same step."""

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from lightning_lyap.dynamics import from_torch_module
from tests.cells import INPUT_SIZE, build, layer_of, random_state
from tests.compare import assert_near

SIZE = 7


def two_layers(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return J, and the derivative of the top's output by its input and by its own state."""
    module = build(kind, num_layers=2)
    system = from_torch_module(module)
    given = random_state(module, 1)
    assert isinstance(given, Tensor)
    x = torch.randn(1, 1, INPUT_SIZE).double()
    with torch.no_grad():
        state, push = system.step(system.drive(x)[0], system.initial_state(given, 1))
        whole = push(torch.eye(system.tangent_size).double()[None])[0]
    top = layer_of(module, 1)
    by_input, by_state = jacobian(
        lambda below, own: top(below[None, None], own[None, None])[1].flatten(),
        (state[0][0], given[1, 0]),
    )
    return whole, by_input, by_state


@pytest.mark.parametrize("kind", ["tanh", "gru"])
def test_blocks_of_app_b(kind: str) -> None:
    """``[[J_1, 0], [dF_2/dh_1 J_1, J_2]]``, with dF_2 taken at layer 1's new output."""
    whole, by_input, by_state = two_layers(kind)
    lower, upper = whole[:SIZE], whole[SIZE:]
    assert bool((lower[:, SIZE:] == 0).all())
    assert_near(upper[:, SIZE:], by_state, 1e-12)
    expected = by_input @ lower[:, :SIZE]
    assert_near(upper[:, :SIZE], expected, 1e-12)


def test_the_top_answers_to_the_bottom_within_one_step() -> None:
    """Had layer 2 been driven by ``h_{t-1}``, its block would be ``dF_2/dh_1`` without ``J_1``."""
    whole, by_input, _ = two_layers("tanh")
    assert float((whole[SIZE:, :SIZE] - by_input).abs().max()) > 0.1


@pytest.mark.parametrize(
    "shape", [(2, 1, 7), (1, 2, 7), (2, 2, 5), (2, 7)], ids=["batch", "layers", "size", "unbatched"]
)
def test_states_of_the_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    system = from_torch_module(build("gru", num_layers=2))
    message = r"Expected `initial_state` in the shapes \[\(2, 2, 7\)\].*but got \[\("
    with pytest.raises(ValueError, match=message):
        system.initial_state(torch.zeros(shape), 2)


def test_an_lstm_wants_both_states() -> None:
    system = from_torch_module(build("lstm"))
    with pytest.raises(ValueError, match="Expected `initial_state` in the shapes"):
        system.initial_state(torch.zeros(1, 2, 7), 2)
    with pytest.raises(TypeError, match=r"Expected a state to be a tensor .*, but got NoneType"):
        system.initial_state((torch.zeros(1, 2, 7), None), 2)
