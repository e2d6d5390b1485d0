"""The metric, `spectra_of`, finding and registering modules refuse by name what they can't take."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_lyap import (
    LyapunovSpectrum,
    lyapunov_spectrum,
    register_recurrence,
    spectra_of,
    unregister_recurrence,
)
from lightning_lyap.dynamics.registry import _KNOWN
from lightning_lyap.network.find_modules import find_recurrent_modules
from tests.bad_input.strategies import (
    NO_TENSOR,
    UNREADABLE,
    assert_refused,
    bad_counts,
    bad_flags,
    bad_words,
    profile,
    unchanged,
)


class Network(nn.Module):
    """A recurrent module with a read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)
        self.read_out = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.read_out(self.rnn(x)[0])


class Cell(nn.Module):
    """To be registered."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h / 2


SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "num_exponents": bad_counts(1),
    "warmup_steps": bad_counts(0),
    "orthonormalize_every": bad_counts(1),
    "state": bad_words("full", "hidden"),
    "layers": bad_words("joint", "union"),
    "dtype": st.sampled_from([torch.float16, "float16", np.float32, 3, [torch.float32]]),
}
OF_NETWORKS = {name: kind for name, kind in SETTINGS.items() if name != "orthonormalize_every"} | {
    "num_sequences": bad_counts(1),
    "num_steps": bad_counts(1),
    "dtype": st.sampled_from([torch.float16, "float64", np.float32, 3, [torch.float32]]),
    "modules": st.sampled_from([3, [3], [None], [["rnn"]], "nobody", ["nobody"], [], b"rnn"]),
}


@profile(80)
@given(st.sampled_from(sorted(SETTINGS)), st.data())
def test_settings_of_a_metric(name: str, data: st.DataObject) -> None:
    setting: dict[str, Any] = {name: data.draw(SETTINGS[name])}
    assert_refused(lambda: LyapunovSpectrum(**setting), f"`{name}`")


UPDATES: dict[str, tuple[Callable[[], tuple[Any, ...]], str]] = {
    "nothing": (lambda: (None, torch.zeros(1, 2, 3)), "`dynamics`"),
    "no inputs": (lambda: (nn.RNN(3, 4),), "`inputs`"),
    "list": (lambda: (nn.RNN(3, 4), [[1.0]]), "`inputs`"),
    "nan": (lambda: (nn.RNN(3, 4), torch.full((1, 2, 3), math.nan)), "`inputs`"),
    "features": (lambda: (nn.RNN(3, 4), torch.zeros(1, 2, 5)), "`inputs`"),
    "state": (lambda: (nn.RNN(3, 4), torch.zeros(1, 2, 3), torch.zeros(9)), "`initial_state`"),
    "lengths": (lambda: (nn.RNN(3, 4), torch.zeros(1, 2, 3), None, [1.5]), "`lengths`"),
    "another size": (lambda: (nn.RNN(3, 5), torch.zeros(1, 2, 3)), "one metric for each"),
    "estimate and inputs": (
        lambda: (lyapunov_spectrum(nn.RNN(3, 4), torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3)),
        "`inputs`",
    ),
}


@pytest.mark.parametrize("kind", sorted(UPDATES))
def test_updates_of_a_metric_that_are_refused_change_no_sum(kind: str) -> None:
    make, argument = UPDATES[kind]
    metric = LyapunovSpectrum()
    metric.update(nn.RNN(3, 4), torch.randn(2, 5, 3))
    before: dict[str, Any] = copy.deepcopy(metric.metric_state)
    arguments = make()
    assert_refused(lambda: metric.update(*arguments), argument)
    after: dict[str, Any] = metric.metric_state
    assert all(value.equal(before[name]) for name, value in after.items())


@pytest.mark.parametrize("values", [3, {}, {"exponents": torch.zeros(2)}, "plot"])
def test_what_a_metric_can_not_draw(values: Any) -> None:
    assert_refused(lambda: LyapunovSpectrum().plot(values), "`val`")


@profile(120)
@given(st.sampled_from(sorted(OF_NETWORKS)), st.data())
def test_settings_of_spectra_of(name: str, data: st.DataObject) -> None:
    network, batch = Network().train(), torch.randn(2, 5, 3)
    setting: dict[str, Any] = {name: data.draw(OF_NETWORKS[name].filter(lambda v: v is not None))}
    with unchanged(network, batch):
        assert_refused(lambda: spectra_of(network, batch, **setting), f"`{name}`")


BATCHES: dict[str, Callable[[Tensor], Any]] = {
    **{name: UNREADABLE[name] for name in ("meta", "sparse", "mkldnn")},
    **{name: make for name, make in NO_TENSOR.items() if name != "tuple"},
    "none": lambda x: None,
    "nothing": lambda x: (),
    "two": lambda x: (x, x),
    "no sequence": lambda x: x[:0],
    "no step": lambda x: x[:, :0],
    "features": lambda x: x[..., :2],
    "dimensions": lambda x: x[None],
    "scalar": lambda x: x[0, 0, 0],
    "tokens": lambda x: x.long(),
    "double": lambda x: x.double(),
    "complex": lambda x: x + 0j,
}


@pytest.mark.parametrize("kind", sorted(BATCHES))
def test_batches_the_network_can_not_take(kind: str) -> None:
    network, batch = Network().train(), torch.randn(2, 5, 3)
    bad = BATCHES[kind](batch)
    with unchanged(network, batch):
        assert_refused(lambda: spectra_of(network, bad), "`batch`")


@pytest.mark.parametrize("name", ["nonsense", "inputs", "initial_state", "lengths"])
def test_settings_that_are_none_or_follow_from_the_batch(name: str) -> None:
    setting: dict[str, Any] = {name: None}
    assert_refused(lambda: spectra_of(Network(), torch.zeros(1, 2, 3), **setting), name)


@pytest.mark.parametrize("root", [None, Network, "network", [Network()], torch.zeros(2), 3])
def test_what_is_no_network(root: Any) -> None:
    assert_refused(lambda: find_recurrent_modules(root), "`module`")
    assert_refused(lambda: spectra_of(root, torch.zeros(1, 2, 3)), "`module`")


@profile(50)
@given(
    st.one_of(
        st.tuples(st.just("kind"), st.sampled_from(["Cell", 3, nn.RNN, nn.GRUCell, dict, Cell()])),
        st.tuples(st.just("step"), st.sampled_from(["step", 3, [len]])),
        st.tuples(st.just("initial_state"), st.sampled_from([0, "zeros", [0.0]])),
        st.tuples(st.just("sequences"), bad_flags()),
    )
)
def test_registrations(argument: tuple[str, Any]) -> None:
    before = dict(_KNOWN)
    name, value = argument
    arguments: dict[str, Any] = {"kind": Cell, name: value}
    assert_refused(lambda: register_recurrence(**arguments), f"`{name}`")
    assert before == _KNOWN
    if name == "kind":
        assert_refused(lambda: unregister_recurrence(value), "`kind`")


REGISTERED: dict[str, dict[str, Any]] = {
    "`step`": {"step": lambda cell: None},
    "calling it gave AttributeError": {"step": lambda cell: cell.nothing},
    "calling it gave TypeError": {"initial_state": lambda cell: torch.zeros(1, 2)},
    "NoneType": {"initial_state": lambda cell, batch_size: None},
    "[(2, 2)]": {"initial_state": lambda cell, batch_size: torch.zeros(batch_size + 1, 2)},
    "real numbers": {"initial_state": lambda cell, batch_size: torch.zeros(batch_size, 2) + 0j},
    "dense": {"initial_state": lambda cell, batch_size: torch.zeros(batch_size, 2).to_sparse()},
    "'meta'": {"initial_state": lambda cell, batch_size: torch.zeros(2, 2, device="meta")},
    "at least one number": {"initial_state": lambda cell, batch_size: torch.zeros(batch_size, 0)},
}


@pytest.mark.parametrize("said", sorted(REGISTERED))
def test_functions_of_a_registered_type_that_fail_later(said: str) -> None:
    functions = {"initial_state": lambda cell, batch_size: torch.zeros(batch_size, 2)}
    register_recurrence(Cell, **functions | REGISTERED[said])
    try:
        assert_refused(lambda: lyapunov_spectrum(Cell(), torch.zeros(2, 3, 1)), said)
    finally:
        unregister_recurrence(Cell)
