"""What all dynamics share."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_lyap.dynamics import AutodiffDynamics, Dynamics, as_dynamics, from_torch_module
from lightning_lyap.dynamics.base import (
    Certifiable,
    State,
    TangentMap,
    as_state_tensors,
    compute_dtype,
)
from lightning_lyap.dynamics.stacked import StackedRecurrence
from lightning_lyap.qr.orthonormalize import stack_rows
from tests.cells import build, sequences
from tests.plain import plain_spectrum


def test_stacked_rows_are_column_major() -> None:
    blocks = [torch.randn(2, 3, 4), torch.randn(2, 5, 4)]
    stacked = stack_rows(blocks)
    assert torch.equal(stacked, torch.cat(blocks, dim=1))
    assert stacked.mT.is_contiguous()
    assert stack_rows(blocks[:1]) is blocks[0]


@pytest.mark.parametrize(
    ("own", "wanted", "expected"),
    [
        (torch.float32, None, torch.float32),
        (torch.float64, None, torch.float64),
        (torch.float16, None, torch.float32),
        (torch.bfloat16, None, torch.float32),
        (torch.float64, torch.float32, torch.float32),
        (torch.bfloat16, torch.float64, torch.float64),
    ],
)
def test_type_of_the_arithmetic(
    own: torch.dtype, wanted: torch.dtype | None, expected: torch.dtype
) -> None:
    assert compute_dtype(own, wanted) == expected


@pytest.mark.parametrize("wanted", [torch.float16, torch.bfloat16, torch.int64, "float32"])
def test_types_without_qr_are_refused(wanted: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected `dtype` .*, but got"):
        compute_dtype(torch.float32, wanted)


@pytest.mark.parametrize("given", [1.0, "zeros", None, np.zeros(3), [[0.0]], (torch.ones(1), 2)])
def test_states_that_are_no_tensors_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="Expected a state to be a tensor or a tuple of tensors"):
        as_state_tensors(given)


def test_both_kinds_of_dynamics_keep_the_protocol() -> None:
    assert isinstance(from_torch_module(build("lstm")), Dynamics)
    assert isinstance(AutodiffDynamics(lambda x, s: s, torch.zeros(1, 2)), Dynamics)


def halved(stepped: tuple[State, TangentMap]) -> tuple[State, TangentMap]:
    """Return half of what a step gives."""
    new, push = stepped
    return tuple(0.5 * part for part in new), lambda basis: 0.5 * push(basis)


class HalvedRecurrence(StackedRecurrence):
    """Torch's recurrence with a step of its own."""

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        return halved(super().step(drive, state))


class Halved:
    """The same as a wrapper, which hands on what it does not know."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.tangent_size = inner.tangent_size

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        return halved(self.inner.step(drive, state))


@torch.no_grad()
@pytest.mark.parametrize("wrap", [True, False])
def test_a_step_of_ones_own_is_the_one_that_is_taken(wrap: bool) -> None:
    """Not the faster one of what it is made of."""
    inner = from_torch_module(build("gru"))
    system = as_dynamics(Halved(inner) if wrap else HalvedRecurrence(inner.layers))
    x, basis = sequences(2, 1), torch.randn(2, 7, 2, dtype=torch.float64)
    drive, state = inner.drive(x)[0], inner.initial_state(None, 2)
    expected, push = halved(inner.step(drive, state))
    new, moved = system.step_with_basis(drive, state, basis)
    torch.testing.assert_close(new, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(moved, push(basis), rtol=0, atol=1e-14)


class Decay:
    """``s' = s / 2``, with the protocol alone."""

    tangent_size, dtype, device = 2, torch.float64, torch.device("cpu")

    def drive(self, inputs: Tensor) -> Tensor:
        return inputs.transpose(0, 1)

    def initial_state(self, given: Any, batch_size: int) -> State:
        return (torch.ones(batch_size, 2, dtype=torch.float64),)

    def export_state(self, state: State) -> Tensor:
        return state[0]

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        return (0.5 * state[0],), lambda basis: 0.5 * basis


@pytest.mark.parametrize("other", [None, True])
def test_an_attribute_of_the_same_name_is_not_taken_for_a_step(other: Any) -> None:
    system: Any = Decay()
    system.step_with_basis = other
    estimate = plain_spectrum(system, torch.zeros(1, 4, 0))
    assert estimate.exponents.exp().tolist() == pytest.approx([0.5, 0.5])


class Faster(Decay):
    """Decays to a quarter where it steps with a basis at once, to tell which step is taken."""

    num_blocks, takes_reflectors, runs_in_threads = 2, True, True

    def step_with_basis(self, drive: Tensor, state: State, basis: Tensor) -> tuple[State, Tensor]:
        return (0.25 * state[0],), 0.25 * basis

    def derivative(self, drive: Tensor, state: State, vector: Tensor) -> Tensor:
        return 0.5 * vector

    def log_abs_det(self, drive: Tensor, state: State) -> Tensor:
        return torch.full((len(drive),), 0.25, dtype=torch.float64).log()


class Own(Faster):
    """Goes back to a step of its own."""

    def step(self, drive: Tensor, state: State) -> tuple[State, TangentMap]:
        return super().step(drive, state)


def test_what_a_users_object_can_do_beyond_the_protocol_is_taken_by_name() -> None:
    plain, faster, own = (as_dynamics(kind()) for kind in (Decay, Faster, Own))
    assert isinstance(plain, Dynamics)
    assert as_dynamics(plain) is plain
    abilities = [(s.num_blocks, s.takes_reflectors, s.runs_in_threads) for s in (plain, faster)]
    assert abilities == [(1, False, False), (2, True, True)]
    unit, drive = torch.eye(2, dtype=torch.float64)[None], torch.zeros(1, 0)
    moved = [
        system.step_with_basis(drive, system.initial_state(None, 1), unit)[1]
        for system in (plain, faster, own)
    ]
    assert [float(m[0, 0, 0]) for m in moved] == [0.5, 0.25, 0.5]
    assert [isinstance(s, Certifiable) for s in (plain, faster)] == [False, True]
