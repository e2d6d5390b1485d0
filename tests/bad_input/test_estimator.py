"""`lyapunov_spectrum` refuses what it can't measure, by name, and leaves everything as it was."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_lyap import lyapunov_spectrum
from tests.bad_input.strategies import (
    NO_TENSOR,
    OTHER_TYPES,
    UNREADABLE,
    assert_refused,
    bad_counts,
    bad_flags,
    bad_positives,
    bad_words,
    not_an_int,
    profile,
    shapes,
    unchanged,
)

FEATURES, SIZE, STEPS = 3, 4, 5
NETWORKS: dict[str, Any] = {
    "rnn": lambda: nn.RNN(FEATURES, SIZE),
    "gru": lambda: nn.GRU(FEATURES, 2, num_layers=2),
    "lstm": lambda: nn.LSTM(FEATURES, 2),
    "cell": lambda: nn.GRUCell(FEATURES, SIZE),
}


def halve(x: Tensor, s: Tensor) -> Tensor:
    return s / 2 + x.sum(1, keepdim=True)


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """Draw a network of N = 4 and inputs it can be measured on."""
    network = NETWORKS[draw(st.sampled_from(sorted(NETWORKS)))]()
    return network, torch.randn(draw(st.integers(1, 3)), STEPS, FEATURES)


SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "num_exponents": st.one_of(bad_counts(1), st.integers(SIZE + 1, 10**30)),
    "warmup_steps": st.one_of(bad_counts(0), st.integers(STEPS, 10**30)),
    "orthonormalize_every": st.one_of(bad_counts(1), st.none()),
    "seed": st.one_of(bad_counts(0), st.integers(min_value=2**64)),
    "state": bad_words("full", "hidden"),
    "layers": bad_words("joint", "union"),
    "dtype": st.sampled_from(
        [
            *(torch.float16, torch.int64, torch.complex64, "float64", np.float32, 3),
            *([torch.float32], np.zeros(2), torch.zeros(2), {}),
        ]
    ),
    "target_stderr": bad_positives(),
    "keep_log_stretches": bad_flags(),
    "progress": st.sampled_from([3, "bar", [], True, torch.zeros(1)]),
}


@profile(300)
@given(networks(), st.sampled_from(sorted(SETTINGS)), st.data())
def test_settings(drawn: tuple[nn.Module, Tensor], name: str, data: st.DataObject) -> None:
    network, inputs = drawn
    setting: dict[str, Any] = {name: data.draw(SETTINGS[name])}
    with unchanged(network, inputs):
        assert_refused(lambda: lyapunov_spectrum(network, inputs, **setting), f"`{name}`")


@profile(60)
@given(networks(), st.sampled_from(sorted(UNREADABLE | NO_TENSOR | OTHER_TYPES)))
def test_inputs_of_another_type(drawn: tuple[nn.Module, Tensor], kind: str) -> None:
    network, inputs = drawn
    bad = (UNREADABLE | NO_TENSOR | OTHER_TYPES)[kind](inputs)
    with unchanged(network, inputs, bad):
        assert_refused(lambda: lyapunov_spectrum(network, bad), "`inputs`")


@profile(60)
@given(networks(), shapes())
def test_inputs_of_another_shape(drawn: tuple[nn.Module, Tensor], shape: list[int]) -> None:
    assume(len(shape) != 3 or 0 in shape or shape[2] != FEATURES)
    assert_refused(lambda: lyapunov_spectrum(drawn[0], torch.zeros(shape)), "`inputs`")


@profile(40)
@given(networks(), st.data(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_inputs_that_are_not_finite(
    drawn: tuple[nn.Module, Tensor], data: st.DataObject, value: float
) -> None:
    """In every sequence; what is done about some of them: `tests/estimator/test_left_out.py`."""
    network, inputs = drawn
    for sequence in inputs:
        sequence.view(-1)[data.draw(st.integers(0, sequence.numel() - 1))] = value
    with unchanged(network, inputs):
        assert_refused(lambda: lyapunov_spectrum(network, inputs), "finite `inputs`")


BAD_LENGTHS = st.one_of(
    st.lists(st.integers(-3, STEPS + 3), max_size=5).filter(
        lambda ends: len(ends) != 2 or not all(0 < end <= STEPS for end in ends)
    ),
    st.lists(st.floats(1, STEPS), min_size=2, max_size=2),
    st.lists(st.booleans(), min_size=2, max_size=2),
    st.text(max_size=3),
    st.integers(),
    st.sampled_from([{1, 2}, {1: 2}, [[1], [2, 3]], [10**30, 1], [1j, 2], np.array([1, None])]),
    st.just(torch.tensor([4, 5]).to_sparse()),
    st.just(torch.tensor([4, 5], device="meta")),
    st.just(torch.tensor([[4], [5]])),
)


@profile(80)
@given(BAD_LENGTHS)
def test_lengths(lengths: Any) -> None:
    network, inputs = nn.RNN(FEATURES, SIZE), torch.randn(2, STEPS, FEATURES)
    said = assert_refused(lambda: lyapunov_spectrum(network, inputs, lengths=lengths), "Expected")
    assert "`lengths`" in said or "but got lengths from" in said


def _bad_state(data: st.DataObject, good: Tensor) -> Any:
    """Draw a state of another form, shape or type than the good one."""
    forms: dict[str, Any] = {
        **{name: make(good) for name, make in (UNREADABLE | NO_TENSOR).items() if name != "tuple"},
        "complex": good + 0j,
        "twice": (good, good),
        "none inside": (good, None),
        "empty": (),
        "batch": torch.cat([good, good], dim=-2),
        "size": good[..., 1:],
        "dimension": good.unsqueeze(0),
        "flat": good.flatten(),
    }
    return forms[data.draw(st.sampled_from(sorted(forms)))]


@profile(80)
@given(st.sampled_from(["rnn", "cell", "function"]), st.integers(1, 3), st.data())
def test_initial_states(kind: str, batch_size: int, data: st.DataObject) -> None:
    dynamics: Any = halve if kind == "function" else NETWORKS[kind]()
    good = torch.zeros(batch_size, SIZE)
    bad = _bad_state(data, good.unsqueeze(0) if kind == "rnn" else good)
    if kind == "function":  # the state's own form is what is given: it may hold several tensors
        assume(not isinstance(bad, tuple) or bad in ((), None) or None in bad)
        assume(not isinstance(bad, dict) and (not isinstance(bad, Tensor) or bad.ndim != 2))
    inputs = torch.randn(batch_size, STEPS, FEATURES)
    with unchanged(dynamics, inputs, bad):
        said = assert_refused(
            lambda: lyapunov_spectrum(dynamics, inputs, initial_state=bad), "Expected"
        )
    assert "state" in said


@profile(80)
@given(st.integers(1, 3), st.data())
def test_bases(batch_size: int, data: st.DataObject) -> None:
    good = torch.eye(SIZE).repeat(batch_size, 1, 1)
    forms = {name: make(good) for name, make in (UNREADABLE | NO_TENSOR).items()}
    forms |= {"complex": good + 0j, "oblique": good + 0.1, "nan": good * math.nan}
    forms |= {"flat": good[0], "empty": good[..., :0], "wide": torch.cat([good, good], -1)}
    shape = data.draw(shapes())
    assume(len(shape) != 3 or shape[:2] != [batch_size, SIZE] or shape[2] == 0)
    forms["zeros"] = torch.zeros(shape)
    bad = forms[data.draw(st.sampled_from(sorted(forms)))]
    network, inputs = nn.RNN(FEATURES, SIZE), torch.randn(batch_size, STEPS, FEATURES)
    with unchanged(network, inputs, bad):
        assert_refused(
            lambda: lyapunov_spectrum(network, inputs, initial_basis=bad), "`initial_basis`"
        )


@pytest.mark.parametrize(
    "dynamics",
    [
        *(None, 3, "rnn", nn.RNN, nn.Linear, [nn.RNN(FEATURES, SIZE)], torch.zeros(2)),
        nn.RNN(FEATURES, SIZE, device="meta"),
        nn.LazyLinear(SIZE),
        nn.Linear(FEATURES, SIZE),
        lambda x: x,
        lambda x, s, more: s,
    ],
)
def test_dynamics(dynamics: Any) -> None:
    start = None if isinstance(dynamics, nn.RNN) else torch.zeros(2, SIZE)
    inputs = torch.randn(2, STEPS, FEATURES)
    assert_refused(lambda: lyapunov_spectrum(dynamics, inputs, initial_state=start), "dynamics")


@pytest.mark.parametrize(
    ("step", "argument"),
    [
        (lambda x, s: None, "a step returns"),
        (lambda x, s: s[:, :2], "the step function to return"),
        (lambda x, s: s + 0j, "the step function to return"),
        (lambda x, s: s @ torch.ones(9, 9), "`inputs` (2, 3) from `initial_state` [(2, 4)]"),
    ],
)
def test_steps_that_are_no_maps_of_the_state(step: Any, argument: str) -> None:
    inputs, start = torch.randn(2, STEPS, FEATURES), torch.zeros(2, SIZE)
    kinds = (TypeError, ValueError, RuntimeError)
    assert_refused(lambda: lyapunov_spectrum(step, inputs, initial_state=start), argument, kinds)


def test_an_error_of_the_users_own_step_comes_through_as_it_is() -> None:
    def step(x: Tensor, s: Tensor) -> Tensor:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        lyapunov_spectrum(step, torch.zeros(1, 2, 0), initial_state=torch.ones(1, 1))


@profile(30)
@given(st.integers(1, 3), st.data())
def test_a_state_of_nan_costs_its_sequence_alone(batch_size: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, batch_size - 1))
    start, inputs = torch.zeros(1, batch_size, SIZE), torch.randn(batch_size, STEPS, FEATURES)
    start[0, lost, 0] = math.nan
    network = nn.RNN(FEATURES, SIZE)
    with pytest.warns(RuntimeWarning, match="1 of . sequences"):
        got = lyapunov_spectrum(network, inputs, initial_state=start)
    assert got.valid.tolist() == [row != lost for row in range(batch_size)]


@profile(20)
@given(not_an_int())
def test_windows_of_an_estimate(window: Any) -> None:
    estimate = lyapunov_spectrum(nn.RNN(1, 1), torch.zeros(1, 2, 1), keep_log_stretches=True)
    assert_refused(lambda: estimate.finite_time_exponents(window), "`window`")
