"""Step functions of the user, differentiated by torch.func."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from lightning_lyap.dynamics import AutodiffDynamics, as_dynamics

X = torch.zeros(2, 0)


def jacobian_of(system: AutodiffDynamics, *state: Tensor) -> Tensor:
    _, push = system.step(X, state)
    return push(torch.eye(system.tangent_size).to(system.dtype).expand(2, -1, -1))


def test_jacobian_of_a_tuple_state_is_ordered_by_its_tensors() -> None:
    """``a' = a b_1, b' = (a_1, a_1 + b_2)``: by hand, row i, column j is d new_i / d old_j."""

    def step(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, b = state
        return a * b[:, :1], torch.cat([a, a + b[:, 1:]], dim=-1)

    a, b = torch.tensor([[2.0], [3.0]]), torch.tensor([[5.0, 7.0], [11.0, 13.0]])
    expected = torch.tensor([[5.0, 2, 0], [1, 0, 0], [1, 0, 1]])
    jacobian = jacobian_of(AutodiffDynamics(step, (a, b)), a, b)
    assert torch.equal(jacobian[0], expected)
    assert jacobian[1, 0].tolist() == [11, 3, 0]


def test_tensors_that_are_not_differentiated_are_carried_along() -> None:
    def step(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return state[0] * state[1], state[1] + state[0]

    start = torch.full((2, 1), 2.0), torch.full((2, 1), 3.0)
    system = AutodiffDynamics(step, start, differentiate=(0,))
    assert system.tangent_size == 1
    new, push = system.step(X, start)
    assert [tensor[0].item() for tensor in new] == [6, 5]
    assert push(torch.ones(2, 1, 1)).flatten().tolist() == [3, 3]


def test_a_new_state_may_be_constant_in_part() -> None:
    """A delay line forgets: ``(u, v) -> (u / 2 + v, input)``."""

    def step(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return state[0] / 2 + state[1], torch.ones(2, 1)

    start = torch.ones(2, 1), torch.ones(2, 1)
    expected = torch.tensor([[0.5, 1], [0, 0]])
    assert torch.equal(jacobian_of(AutodiffDynamics(step, start), *start)[0], expected)


@pytest.mark.parametrize("cell", [nn.RNNCell(3, 4), nn.GRUCell(3, 4)])
def test_torch_cells_as_steps(cell: nn.Module) -> None:
    x, h = torch.randn(2, 1, 3), torch.randn(2, 4)
    system = as_dynamics(lambda x, h: cell(x, h), h)
    _, push = system.step(system.drive(x)[0], (h,))
    expected = torch.autograd.functional.jacobian(lambda h: cell(x[:1, 0], h[None])[0], h[0])
    torch.testing.assert_close(push(torch.eye(4).expand(2, -1, -1))[0], expected)


def test_the_state_keeps_its_form_and_takes_the_wanted_type() -> None:
    start = torch.ones(2, 3, requires_grad=True)
    single = AutodiffDynamics(lambda x, s: s, start, dtype=torch.float64)
    state = single.initial_state(None, 2)
    assert state[0].dtype == torch.float64
    assert not state[0].requires_grad
    assert isinstance(single.export_state(state), Tensor)
    pair = AutodiffDynamics(lambda x, s: s, (start, start))
    assert isinstance(pair.export_state(pair.initial_state(None, 2)), tuple)
    assert single.drive(torch.zeros(2, 5, 3)).shape == (5, 2, 3)


@pytest.mark.parametrize("start", [(), torch.ones(3), torch.ones(2, 3, 1)])
def test_states_must_be_two_dimensional(start: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected the state of a step function .* but got the"):
        AutodiffDynamics(lambda x, s: s, start)


def test_states_for_another_number_of_sequences_are_refused() -> None:
    system = AutodiffDynamics(lambda x, s: s, torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"Expected `initial_state` in the shapes \[\(2, 4\)\]"):
        system.initial_state(None, 2)


@pytest.mark.parametrize(
    "step",
    [lambda x, s: s[:, :2], lambda x, s: (s, s, s), lambda x, s: s[:1], lambda x, s: s[0]],
    ids=["size", "number", "batch", "dimensions"],
)
def test_steps_that_return_another_form_are_refused(step: Any) -> None:
    system = AutodiffDynamics(step, torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"Expected the step function to return .*, but got \[\("):
        system.step(X, system.initial_state(None, 2))


def test_steps_that_return_no_tensor_are_refused() -> None:
    system = AutodiffDynamics(lambda x, s: s.sum().item(), torch.ones(2, 4))
    with pytest.raises(TypeError, match=r"Expected a state to be a tensor .*, but got float"):
        system.step(X, system.initial_state(None, 2))


@pytest.mark.parametrize("given", [None, 3, "gru"])
def test_what_is_no_dynamics_is_refused(given: Any) -> None:
    message = r"Expected `dynamics` to be a torch.nn.RNN, GRU or LSTM .*, but got"
    with pytest.raises(TypeError, match=message):
        as_dynamics(given, torch.ones(2, 4))


def test_a_step_function_needs_a_state() -> None:
    with pytest.raises(ValueError, match=r"Expected `initial_state` .* but got None"):
        as_dynamics(lambda x, s: s)


def test_a_wrong_word_for_the_state_is_refused_for_every_kind_of_dynamics() -> None:
    word: Any = "both"
    for dynamics in (nn.GRU(3, 4), lambda x, s: s):
        with pytest.raises(ValueError, match=r"Expected `state` to be one of .* but got 'both'"):
            as_dynamics(dynamics, torch.ones(2, 4), state=word)


class Pair(NamedTuple):
    fast: Tensor
    slow: Tensor


def leak(x: Tensor, fast: Tensor, slow: Tensor) -> tuple[Tensor, Tensor]:
    return fast / 2 + slow, slow / 4


def test_a_dict_keeps_its_form() -> None:
    """Rows follow the order of the keys at the start, whatever order the step returns them in."""

    def step(x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        fast, slow = leak(x, state["fast"], state["slow"])
        return {"slow": slow, "fast": fast}

    start = {"fast": torch.ones(2, 1), "slow": torch.ones(2, 1)}
    system = AutodiffDynamics(step, start)
    expected = torch.tensor([[0.5, 1], [0, 0.25]])
    assert torch.equal(jacobian_of(system, *start.values())[0], expected)
    new, _ = system.step(X, system.initial_state(dict(reversed(start.items())), 2))
    assert system.export_state(new)["fast"].tolist() == [[1.5], [1.5]]
    assert list(system.export_state(new)) == ["fast", "slow"]


def test_a_named_tuple_keeps_its_form() -> None:
    start = Pair(torch.ones(2, 1), torch.ones(2, 1))
    system = AutodiffDynamics(lambda x, s: Pair(*leak(x, s.fast, s.slow)), start)
    new, _ = system.step(X, system.initial_state(None, 2))
    assert isinstance(system.export_state(new), Pair)
    assert system.export_state(new).fast.tolist() == [[1.5], [1.5]]


@pytest.mark.parametrize("output", [torch.ones(2, 5), torch.ones(2, 4), None, {"loss": 1.0}])
def test_of_a_pair_the_second_part_is_the_state(output: Any) -> None:
    start = torch.randn(2, 4)
    for step in (lambda x, s: (output, s / 2), lambda x, s: [output, s / 2]):
        new, push = AutodiffDynamics(step, start).step(X, (start,))
        assert torch.equal(new[0], start / 2)
        assert torch.equal(push(torch.eye(4).expand(2, -1, -1))[0], torch.eye(4) / 2)


def test_a_pair_that_is_a_state_itself_is_the_state() -> None:
    start = torch.randn(2, 4), torch.randn(2, 4)
    new, _ = AutodiffDynamics(lambda x, s: (s[1], s[0]), start).step(X, start)
    assert torch.equal(new[0], start[1])
    new, _ = AutodiffDynamics(lambda x, s: (s[1], (s[1], s[0])), start).step(X, start)
    assert torch.equal(new[1], start[0])


def test_a_step_may_change_its_arguments_in_place() -> None:
    """It is given copies: trajectory, inputs and derivative are those of the formula."""

    def step(x: Tensor, h: Tensor) -> Tensor:
        x.mul_(2)
        h.mul_(3)
        h[:, 0] += x[:, 0] * h[:, 1]
        return h

    x, h = torch.ones(1, 1), torch.tensor([[5.0, 7.0]])
    new, push = AutodiffDynamics(step, h).step(x, (h,))
    assert new[0].tolist() == [[57, 21]]
    assert push(torch.eye(2)[None]).tolist() == [[[3, 6], [0, 3]]]
    assert (x.item(), h.tolist()) == (1, [[5, 7]])


class NoForwardMode(torch.autograd.Function):
    """Doubles; has no `jvp`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        return 2 * grads[0]


def in_place(x: Tensor, h: Tensor) -> Tensor:
    parts = torch.zeros(2, 4, dtype=h.dtype)
    torch.mul(h, 2, out=parts)
    return parts


@pytest.mark.parametrize(
    "step",
    [
        lambda x, h: NoForwardMode.apply(h),
        lambda x, h: h + torch.rand(2, 4),
        lambda x, h: nn.functional.dropout(h, training=True),
        in_place,
    ],
    ids=["no forward mode", "random", "dropout", "out="],
)
def test_steps_that_torch_func_cannot_differentiate_name_the_remedy(step: Any) -> None:
    start = torch.ones(2, 4)
    _, push = AutodiffDynamics(step, start).step(X, (start,))
    with pytest.raises(
        RuntimeError, match=r"Expected a step that torch.func can .*eval\(\)"
    ) as info:
        push(torch.eye(4).expand(2, -1, -1))
    assert info.value.__cause__ is not None


def test_a_state_in_another_form_than_the_first_is_refused() -> None:
    system = AutodiffDynamics(lambda x, s: s, {"h": torch.ones(2, 4)})
    with pytest.raises(ValueError, match=r"Expected `initial_state` in the form .*, but got"):
        system.initial_state({"c": torch.ones(2, 4)}, 2)


def test_steps_with_their_outputs() -> None:
    """The output of a pair, and none where the step returns its state alone."""
    start = torch.ones(2, 3)
    pair = AutodiffDynamics(lambda x, s: (s[:, :2], 0.5 * s), start)
    state, output = pair.step_with_output(torch.zeros(2, 0), (start,))
    assert output is not None
    assert torch.equal(state[0], start / 2)
    assert torch.equal(output, start[:, :2])
    alone = AutodiffDynamics(lambda x, s: 0.5 * s, start)
    assert alone.step_with_output(torch.zeros(2, 0), (start,))[1] is None
    assert pair.find_state((start[:, :2], start), [(2, 3)]) is not None
    assert pair.find_state(start[:, :2], [(2, 3)]) is None
