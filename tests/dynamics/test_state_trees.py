"""States keep their form, whatever it is."""

from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_lyap.dynamics.state_trees import StateForm, read_new_state


class Named(NamedTuple):
    fast: Any
    slow: Any


leaves = st.integers(1, 4).map(lambda size: torch.rand(2, size))
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
        st.builds(Named, inner, inner),
    ),
    max_leaves=6,
)


def flatten_state(state: Any) -> tuple[Tensor, ...]:
    return StateForm.of(state).tensors(state) or ()


def same(one: Any, other: Any) -> bool:
    """Return whether two states are equal in form and, by identity, in their tensors."""
    if isinstance(one, Tensor):
        return one is other
    if type(one) is not type(other) or len(one) != len(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return all(map(same, one, other))


@given(states)
def test_taken_apart_and_put_together_it_is_the_same(state: Any) -> None:
    form = StateForm.of(state)
    assert same(form.build(flatten_state(state)), state)
    assert form == StateForm.of(state)


@given(states, states)
def test_a_state_of_another_form_is_told_from_it(state: Any, other: Any) -> None:
    form = StateForm.of(state)
    tensors = form.tensors(other)
    if tensors is not None:
        assert len(tensors) == len(flatten_state(other)) == len(flatten_state(state))
    assert form.tensors(state) is not None
    assert form.tensors((state, state, state, state)) is None


def test_tuples_pass_for_lists_and_named_ones() -> None:
    a, b = torch.rand(1, 2), torch.rand(1, 3)
    for state in ((a, b), [a, b], Named(a, b)):
        assert StateForm.of(state).tensors((a, b)) == (a, b)
        assert StateForm.of((a, b)).tensors(state) == (a, b)
    assert StateForm.of({"x": a}).tensors(OrderedDict(x=a)) == (a,)


@pytest.mark.parametrize("state", [1.0, None, "h", {"h": None}, (torch.rand(1, 1), 2)])
def test_what_holds_no_tensors_is_no_state(state: Any) -> None:
    with pytest.raises(TypeError, match="Expected a state to be a tensor or a tuple or dict"):
        StateForm.of(state)


def test_the_state_of_its_own_form_comes_before_the_second_of_a_pair() -> None:
    h, c = torch.rand(2, 3), torch.rand(2, 3)
    pair = StateForm.of((h, c))
    shapes: list[tuple[int, ...]] = [(2, 3), (2, 3)]
    assert read_new_state(pair, shapes, (c, h)) == (c, h)
    assert read_new_state(pair, shapes, (h, (c, h))) == (c, h)
    single = StateForm.of(h)
    assert read_new_state(single, [(2, 3)], (h, c)) == (c,)
    assert read_new_state(single, [(2, 3)], (h, h, c)) is None
    assert read_new_state(single, [(2, 4)], (h, c)) is None
