"""Each layer of a stack as a system of its own: what it shares with the stack, and what not."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from lightning_lyap.dynamics import (
    UncoupledLayers,
    as_dynamics,
    from_torch_module,
    uncouple,
)
from tests.cells import (
    CASES,
    F64,
    ONE_OF_EACH,
    Case,
    active_tensors,
    build,
    layer_of,
    random_state,
    sequences,
    step_of,
)
from tests.compare import assert_near
from tests.plain import plain_spectrum
from tests.registering import registered


def own_jacobian(case: Case, module: nn.RNNBase, x: Tensor, state: Any, layer: int) -> Tensor:
    """Differentiate the states of one layer by its own alone, by reverse mode on torch's cells."""
    step, active = step_of(module), active_tensors(module, case.state)
    mine = active[layer * len(active) // case.num_layers :][: len(active) // case.num_layers]
    sizes = [state[k].shape[1] for k in mine]

    def advance(vector: Tensor) -> Tensor:
        parts = list(state)
        for k, part in zip(mine, vector.split(sizes), strict=True):
            parts[k] = part[None]
        new = step(x, tuple(parts))
        return torch.cat([new[k][0] for k in mine])

    return jacobian(advance, torch.cat([state[k][0] for k in mine]))


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("case", [c for c in CASES if c.num_layers in (1, 3)], ids=str)
def test_tangent_map_and_derivative_are_the_diagonal_blocks(case: Case) -> None:
    module = case.module()
    stack = from_torch_module(module, case.state)
    system = UncoupledLayers(stack.layers)
    state, x = system.initial_state(random_state(module, 1), 1), sequences(1, 1)
    vector = torch.randn(1, system.tangent_size, 2, dtype=F64)
    with torch.no_grad():
        drive = system.drive(x)[0]
        new, push = system.step(drive, state)
        pushed, derived = push(vector), system.derivative(drive, state, vector[..., 0])
        along = system.step_with_basis(drive, state, vector)[1]
        joint = stack.step(drive, state)[0]
    assert all(map(torch.equal, new, joint))
    blocks = [own_jacobian(case, module, x[:, 0], state, k) for k in range(case.num_layers)]
    expected = torch.block_diag(*blocks) @ vector
    assert_near(pushed, expected, 1e-12)
    assert_near(along, expected, 1e-12)
    assert_near(derived, expected[..., 0], 1e-12)


@pytest.mark.parametrize("case", [c for c in ONE_OF_EACH if c.kind != "relu"], ids=str)
def test_volume_is_that_of_the_diagonal_blocks(case: Case) -> None:
    module = case.module()
    stack = from_torch_module(module, case.state)
    system = UncoupledLayers(stack.layers)
    state, x = system.initial_state(random_state(module, 1), 1), sequences(1, 1)
    with torch.no_grad():
        got = system.log_abs_det(system.drive(x)[0], state)
    blocks = [own_jacobian(case, module, x[:, 0], state, k) for k in range(2)]
    assert_near(got[0], sum(torch.linalg.svdvals(block).log().sum() for block in blocks), 1e-10)


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("steps", [1, 2, 13])
@pytest.mark.parametrize(
    "case", [c for c in CASES if c.kind != "relu" and c.num_layers in (2, 4) and c.bias], ids=str
)
def test_sums_agree_with_the_joint_basis_at_any_length(case: Case, steps: int) -> None:
    module, x = case.module(), sequences(2, steps)
    joint = plain_spectrum(module, x, state=case.state)
    union = plain_spectrum(module, x, state=case.state, layers="union")
    assert union.tangent_size == joint.tangent_size == union.num_exponents
    assert_near(union.exponents.sum(), joint.exponents.sum(), 1e-9)
    assert_near(union.final_state, joint.final_state, 0)


@pytest.mark.slow
def test_exponents_agree_with_the_joint_basis_in_the_limit() -> None:
    """They part by about 1 / T where they lie close; here by 0.02 at most over 1500 steps."""
    module, x = build("gru", num_layers=2, hidden_size=3), sequences(1, 1500)
    joint = plain_spectrum(module, x, orthonormalize_every=3)
    union = plain_spectrum(module, x, orthonormalize_every=3, layers="union")
    assert_near(union.exponents, joint.exponents, 0.03)


@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm"])
@torch.no_grad()
def test_each_exponent_tells_its_layer(kind: str) -> None:
    """Layer k alone, driven by the outputs of the one below it, has exactly layer k's exponents."""
    stack = build(kind, num_layers=3, hidden_size=4)
    current = sequences(2, 15)
    union = plain_spectrum(stack, current, layers="union")
    assert union.layer is not None
    assert union.layer.dtype == torch.int64
    for k in range(3):
        layer = layer_of(stack, k)
        alone = plain_spectrum(layer, current)
        assert_near(union.exponents[union.layer == k], alone.exponents, 1e-9)
        current = layer(current)[0]


@pytest.mark.grid(every=3)
@pytest.mark.parametrize("kind", ["tanh", "gru", "lstm", "projected"])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_fewer_exponents_are_the_largest_of_the_union(kind: str, count: int) -> None:
    """After a warm-up that turns each layer's random vectors into its leading directions.

    All but the last of a layer, which may lie close to the next: 0.007 off at most here.
    """
    module, x = build(kind, num_layers=2), sequences(2, 200)
    settings: dict[str, Any] = {"layers": "union", "warmup_steps": 150}
    whole = plain_spectrum(module, x, **settings)
    part = plain_spectrum(module, x, num_exponents=count, **settings)
    assert part.num_exponents == count
    assert part.is_complete == (count == part.tangent_size)
    size = whole.tangent_size // 2
    assert part.final_basis.shape == (2, 2 * size, min(count, size))
    assert part.layer is not None
    assert whole.layer is not None
    assert_near(part.exponents, whole.exponents[:count], 0.01)
    assert torch.equal(part.layer, whole.layer[:count])


@pytest.mark.grid(every=5)
@pytest.mark.parametrize("num_exponents", [None, 3])
@pytest.mark.parametrize("case", [c for c in ONE_OF_EACH if c.kind != "relu"], ids=str)
def test_a_split_run_goes_on_where_it_ended(case: Case, num_exponents: int | None) -> None:
    module, x = case.module(), sequences(2, 20)
    settings: dict[str, Any] = {"state": case.state, "layers": "union"}
    whole = plain_spectrum(module, x, num_exponents=num_exponents, **settings)
    first = plain_spectrum(module, x[:, :8], num_exponents=num_exponents, **settings)
    second = plain_spectrum(
        module,
        x[:, 8:],
        initial_state=first.final_state,
        initial_basis=first.final_basis,
        **settings,
    )
    assert_near(second.final_state, whole.final_state)
    assert_near(second.final_basis, whole.final_basis, 1e-8)
    if num_exponents is None:
        joined = (8 * first.exponents.sum() + 12 * second.exponents.sum()) / 20
        assert_near(joined, whole.exponents.sum())


@pytest.mark.parametrize("case", [c for c in CASES if c.num_layers == 1 and c.bias], ids=str)
def test_one_layer_is_the_joint_system(case: Case) -> None:
    module, x = case.module(), sequences(2, 12)
    joint = plain_spectrum(module, x, state=case.state)
    union = plain_spectrum(module, x, state=case.state, layers="union")
    assert torch.equal(union.exponents, joint.exponents)
    assert torch.equal(union.final_basis, joint.final_basis)


@pytest.mark.parametrize("cell", [nn.RNNCell(3, 5), nn.GRUCell(3, 5), nn.LSTMCell(3, 5)])
def test_a_cell_is_a_union_of_one_layer(cell: nn.Module) -> None:
    x = torch.randn(2, 9, 3)
    union = plain_spectrum(cell, x, layers="union")
    assert torch.equal(union.exponents, plain_spectrum(cell, x).exponents)


def test_a_basis_of_the_wrong_shape_is_refused() -> None:
    """A joint basis has as many columns as the stack is large; a layer's has no more than it."""
    module, x = build("gru", num_layers=2), sequences(2, 5)
    basis = plain_spectrum(module, x).final_basis
    with pytest.raises(ValueError, match=r"Expected `initial_basis` of shape .* K <= 7"):
        plain_spectrum(module, x, initial_basis=basis, layers="union")


def test_what_has_no_known_layers_is_one_system() -> None:
    """A step function, and a module of a registered type."""

    class Leaky(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return 0.5 * h + x

    zeros, inputs = torch.zeros(3, 2), torch.ones(3, 5, 2)
    with registered(Leaky, initial_state=lambda cell, batch_size: torch.zeros(batch_size, 2)):
        for dynamics in (lambda x, s: torch.tanh(x + s), Leaky()):
            one, other = (
                plain_spectrum(dynamics, inputs, initial_state=zeros, layers=layers)
                for layers in ("joint", "union")
            )
            assert torch.equal(one.exponents, other.exponents)
            assert one.layer is other.layer is None


def test_other_words_are_refused() -> None:
    wrong: Any = "sum"
    message = r"Expected `layers` to be one of \('joint', 'union'\), but got 'sum'"
    with pytest.raises(ValueError, match=message):
        plain_spectrum(build("gru"), sequences(1, 3), layers=wrong)
    with pytest.raises(ValueError, match=message):
        uncouple(from_torch_module(build("gru")), wrong)


def test_uncouple_leaves_joint_systems_as_they_are() -> None:
    system = as_dynamics(build("gru", num_layers=2))
    assert uncouple(system, "joint") is system
    union = uncouple(system, "union")
    assert isinstance(union, UncoupledLayers)
    assert union.num_blocks == 2
