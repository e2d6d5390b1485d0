"""The stack as one system: block lower-triangular, driven from below at the same step."""

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from lightning_lyap.dynamics import AutodiffDynamics, from_torch_module
from tests.cells import (
    CASES,
    INPUT_SIZE,
    ONE_OF_EACH,
    Case,
    active_tensors,
    build,
    layer_of,
    random_state,
    step_of,
)
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


def directions(size: int) -> Tensor:
    return torch.randn(3, size, dtype=torch.float64)


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("case", CASES, ids=str)
@torch.no_grad()
def test_derivative_is_that_of_torchs_cells(case: Case) -> None:
    """Forward mode through the package's states against forward mode through torch's cells."""
    module = case.module()
    system = from_torch_module(module, case.state)
    state = system.initial_state(random_state(module, 3), 3)
    x = torch.randn(3, 1, INPUT_SIZE, dtype=torch.float64)
    vector = directions(system.tangent_size)
    oracle = AutodiffDynamics(
        step_of(module), state, differentiate=active_tensors(module, case.state)
    )
    expected = oracle.step(x[:, 0], state)[1](vector.unsqueeze(-1))[..., 0]
    assert_near(system.derivative(system.drive(x)[0], state, vector), expected, 1e-12)


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_a_spread_tangent_is_laid_out_like_the_state(case: Case) -> None:
    module = case.module()
    system = from_torch_module(module, case.state)
    state = system.initial_state(random_state(module, 3), 3)
    vector = directions(system.tangent_size)
    spread = system._spread_tangent(vector, state)
    assert [part.shape for part in spread] == [part.shape for part in state]
    assert torch.equal(torch.cat(spread[system._active], dim=-1), vector)
    held = set(range(len(state))) - set(active_tensors(module, case.state))
    assert all(bool((spread[k] == 0).all()) for k in held)
    assert len(held) == (2 if case.state == "hidden" else 0)


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
@torch.no_grad()
def test_step_layers_are_the_layers_of_step(case: Case) -> None:
    """Fed from below, they give the stack's tangent map block by block."""
    module = case.module()
    system = from_torch_module(module, case.state)
    state = system.initial_state(random_state(module, 3), 3)
    drive = system.drive(torch.randn(3, 1, INPUT_SIZE, dtype=torch.float64))[0]
    whole, push = system.step(drive, state)
    apart, (lower, upper) = system._step_layers(drive, state)
    assert all(map(torch.equal, whole, apart))
    basis = directions(system.tangent_size).unsqueeze(-1)
    below, above = basis.chunk(2, dim=1)
    moved = lower(None, below)
    outputs = moved[:, : system.layers[0].output_size]
    assert torch.equal(push(basis), torch.cat([moved, upper(outputs, above)], dim=1))
